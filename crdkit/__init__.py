"""Crossmodal Reverse Distillation for any number of sensors: find and localise defects, from good parts only."""

from __future__ import annotations

import importlib
import sys

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take it for typing's, whose import would take most of this one's time
if TYPE_CHECKING:
    from typing import Any

    from crdkit import hub, losses, metrics, reference, testing
    from crdkit.config import RunConfig
    from crdkit.detector import Detector, Prediction, Region
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
    "Region": "crdkit.detector",
    "RunConfig": "crdkit.config",
    "describe": "crdkit.runs.describe",
    "fit": "crdkit.runs.fit",
}
_MODULES = ("hub", "losses", "metrics", "reference", "testing")

__all__ = [
    "CRD",
    "CRDOutput",
    "CrdkitError",
    "Description",
    "Detector",
    "Prediction",
    "Region",
    "RunConfig",
    "__version__",
    "describe",
    "fit",
    "hub",
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
    from crdkit._core.moved import MOVED

    hint = f"; it is now crdkit.{MOVED[name]}" if name in MOVED else ""
    raise AttributeError(f"module 'crdkit' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _MovedModules:
    """An import finder that finds nothing: asked last, it names the new place of a module that has moved."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith("crdkit."):
            from crdkit._core.moved import refuse_moved

            refuse_moved(name)


if not any(finder.__name__ == "_MovedModules" for finder in sys.meta_path if isinstance(finder, type)):
    sys.meta_path.append(_MovedModules)
