"""Crossmodal Reverse Distillation for any number of sensors: find and localise defects, from good parts only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crdkit._core.moved import MOVED, announce

__version__ = "0.1.0"

announce()

if TYPE_CHECKING:
    from crdkit import losses, metrics, reference, testing
    from crdkit.config import RunConfig
    from crdkit.detector import Detector, Prediction
    from crdkit.errors import CrdkitError
    from crdkit.model import CRD, CRDOutput
    from crdkit.runs.describe import Description, describe
    from crdkit.runs.fit import fit

_MODULE_OF = {
    "CRD": "crdkit.model",
    "CRDOutput": "crdkit.model",
    "CrdkitError": "crdkit.errors",
    "Description": "crdkit.runs.describe",
    "Detector": "crdkit.detector",
    "Prediction": "crdkit.detector",
    "RunConfig": "crdkit.config",
    "describe": "crdkit.runs.describe",
    "fit": "crdkit.runs.fit",
}
_MODULES = ("losses", "metrics", "reference", "testing")

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
    "reference",
    "testing",
]


def __getattr__(name: str) -> Any:
    # importing crdkit takes milliseconds; each public name loads its module when it is first used
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"crdkit.{name}")
    hint = f"; it is now crdkit.{MOVED[name]}" if name in MOVED else ""
    raise AttributeError(f"module 'crdkit' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
