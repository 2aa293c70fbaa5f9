"""Complete runs: trained, evaluated, swept, described, and what they leave on disk."""

from crdkit._core.distributed import Ranks

__all__ = ["Ranks"]
