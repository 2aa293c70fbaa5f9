"""One YAML file per preset; its opening comment is its summary."""
