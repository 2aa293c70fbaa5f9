"""What docs/reliability.md promises, tested."""
