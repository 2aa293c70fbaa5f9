"""Modules of crdkit 0.1.0 before its rooms: importing one raises an error that names the new place."""

from __future__ import annotations

import sys

_PROJECTIONS = (
    "model.projections: filters and amplifiers are the registry projections there, CrossmodalFilter and "
    "CrossmodalAmplifier are Projection, FilterConfig and AmplifierConfig are ProjectionConfig"
)
MOVED = {
    "ablation": "paper.ablation",
    "aggregations": "scoring.aggregations",
    "amplifiers": _PROJECTIONS,
    "anomaly_map": "scoring.maps",
    "background": "views",
    "catalogue": "config.catalogue",
    "check": "data.check",
    "comparison": "paper.reproduce",
    "datasets": "data",
    "decoding": "data.decode",
    "description": "runs.describe",
    "encoders": "model.encoders",
    "evaluation": "scoring.scorer",
    "filters": _PROJECTIONS,
    "graph": "model.graph",
    "images": "data.images",
    "inference": "detector",
    "layers": "model.layers",
    "modalities": "views: the registry modalities is views there, Modality is View, ModalityConfig is ViewConfig",
    "overrides": "config.overrides",
    "plugins": "config.plugins",
    "predict": "detector.files",
    "presence": "training.dropout",
    "published": "paper.numbers",
    "rescore": "runs.evaluate",
    "resident": "views.split",
    "results": "runs.summary",
    "run": "runs.fit",
    "run_directory": "runs.directory",
    "scans": "data.scans",
    "similarity": "model.similarity",
    "step": "training.step",
    "student": "model.student",
    "sweep": "runs.sweep",
    "synthetic": "data.synthetic",
}
"""Where the content of each former module is, below ``crdkit``."""


class MovedModules:
    """An import finder that finds nothing: asked last, it names the new place of a module that has moved."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Do nothing for any other module.

        Raises:
            ModuleNotFoundError: ``name`` has moved.
        """
        package, _, module = name.partition(".")
        former = module.partition(".")[0]
        if package == "crdkit" and former in MOVED:
            raise ModuleNotFoundError(f"crdkit.{former} is now crdkit.{MOVED[former]}", name=name)


def announce() -> None:
    """Make imports of moved modules report the new place; needed once per process."""
    if MovedModules not in sys.meta_path:
        sys.meta_path.append(MovedModules)
