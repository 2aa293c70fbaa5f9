"""Configurations: what defines a run, how it is read, and what is built from it."""

from crdkit.config.run_config import BranchConfig, RunConfig, load_config, preset_names

__all__ = ["BranchConfig", "RunConfig", "load_config", "preset_names"]
