"""``python -m crdkit.cli``."""

from crdkit.cli import entry_point

if __name__ == "__main__":
    entry_point()
