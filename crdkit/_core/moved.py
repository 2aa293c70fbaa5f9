"""Modules that have another place now: importing one by its former name raises an error that names the new place."""

from __future__ import annotations

_PROJECTIONS = (
    "model.projections: filters and amplifiers are the registry projections there, CrossmodalFilter and "
    "CrossmodalAmplifier are Projection, FilterConfig and AmplifierConfig are ProjectionConfig"
)
_ADAPTERS = ("adam3d", "eyecandies", "folder", "m2ad", "mvtec3d", "mvtec_ad", "mvtec_ad_2", "real_iad_d3", "visa")
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
    **{f"data.{name}": f"data.adapters.{name}" for name in _ADAPTERS},
}
"""Where the content of each former module is, both below ``crdkit``."""


def refuse_moved(name: str) -> None:
    """Name the new place of ``name``, a module that no finder found; do nothing for one that never was.

    Raises:
        ModuleNotFoundError: ``name`` has moved.
    """
    parts = name.split(".")[1:]
    former = next((place for n in (1, 2) if (place := ".".join(parts[:n])) in MOVED), None)
    if former is not None:
        place = (
            f"crdkit.{MOVED[former]}"  # as the error's name too: ``from crdkit import`` hides errors of its own name
        )
        raise ModuleNotFoundError(f"crdkit.{former} is now {place}", name=place.partition(":")[0])
