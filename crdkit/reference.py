"""`crdkit.paper.checkpoints`, under the name that scripts import."""

from crdkit.paper.checkpoints import load_into, load_students, read_checkpoint

__all__ = ["load_into", "load_students", "read_checkpoint"]
