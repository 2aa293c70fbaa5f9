"""Crossmodal Reverse Distillation for any number of sensors: find and localise defects, from good parts only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from crdkit import losses, metrics, published, reference, testing
    from crdkit.config import RunConfig
    from crdkit.description import Description, describe
    from crdkit.detector import Detector
    from crdkit.errors import CrdkitError
    from crdkit.inference import Prediction
    from crdkit.model import CRD, CRDOutput
    from crdkit.run import fit

_WHERE = {
    "CRD": "crdkit.model",
    "CRDOutput": "crdkit.model",
    "CrdkitError": "crdkit.errors",
    "Description": "crdkit.description",
    "Detector": "crdkit.detector",
    "Prediction": "crdkit.inference",
    "RunConfig": "crdkit.config",
    "describe": "crdkit.description",
    "fit": "crdkit.run",
}
_MODULES = ("losses", "metrics", "published", "reference", "testing")

__all__ = [
    "CRD",
    "CRDOutput",
    "CrdkitError",
    "Description",
    "Detector",
    "Prediction",
    "RunConfig",
    "__version__",
    "describe",
    "fit",
    "losses",
    "metrics",
    "published",
    "reference",
    "testing",
]


def __getattr__(name: str) -> Any:
    # importing crdkit costs milliseconds; each public name loads its module when it is first used
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"crdkit.{name}")
    raise AttributeError(f"module 'crdkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
