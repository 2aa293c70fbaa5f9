"""Configurations: what defines a run, how it is read, and what is built from it."""

from crdkit.config.run_config import BranchConfig, RunConfig, preset_names
from crdkit.config.sources import load_config

__all__ = ["BranchConfig", "RunConfig", "load_config", "preset_names"]
