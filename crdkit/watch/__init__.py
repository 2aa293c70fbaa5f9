"""Watching a folder: samples are scored as they arrive, journalled, and shown on a page."""

from crdkit.watch.watcher import Pace, Watched, watch

__all__ = ["Pace", "Watched", "watch"]
