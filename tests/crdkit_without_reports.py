"""The command line without report.html, whose figures take most of the time of a tiny run."""

import crdkit.run
from crdkit.cli import entry_point

crdkit.run.write_report = lambda *_args, **_options: None

if __name__ == "__main__":
    entry_point()
