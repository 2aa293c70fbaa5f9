"""How the students are trained, as data."""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from crdkit._core.registry import StrictConfig
from crdkit.errors import ConfigError, shorten
from crdkit.training.losses import LossKind

_logger = logging.getLogger(__name__)

Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(StrictConfig):
    """How the students are trained.

    Examples:
        >>> TrainingConfig(epochs=50, schedule="cosine").model_dump(include={"epochs", "batch_size", "schedule"})
        {'epochs': 50, 'batch_size': 16, 'schedule': 'cosine'}
    """

    epochs: int = Field(200, ge=1, le=1_000_000, description="passes over the training samples")
    batch_size: int = Field(16, ge=1, le=65_536, description="samples per step, and per prediction of a folder")
    seed: int = Field(0, ge=0, lt=2**63, description="of initial weights, the order of samples and dropout")
    device: str = Field("auto", description="auto (CUDA if available), cpu, cuda, cuda:1, ...")
    learning_rate: float = Field(0.005, gt=0, le=1000, description="of Adam, one for each branch")
    betas: tuple[Decay, Decay] = Field((0.5, 0.999), description="of Adam: decay of the mean and of the square")
    schedule: Literal["exponential", "cosine", "constant"] = Field("exponential", description="stepped per epoch")
    gamma: float = Field(0.95, gt=0, le=1, description="factor per epoch of the exponential schedule")
    loss: LossKind = Field(
        "flattened", description="one cosine per sample and level, one per position, or more weight on hard positions"
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a training sample lacks a sensor; above 0 the detector can do without one",
    )
    shift: int = Field(
        0,
        ge=0,
        le=65_536,
        description="in each epoch anew, training samples show every sensor but the first moved by up to this many "
        "pixels of the views; above 0 the detector minds less how exactly sensors lie on each other",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="of the students' forward pass; auto: bf16 where the device computes it natively"
    )
    features: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="precision in which teacher features are kept; auto: that of the students' forward pass"
    )
    resident_gib: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="what views and teacher features may take on the device, GiB; features that do not fit are kept in "
        "host memory, if the device is not the CPU, or recomputed each step; auto: half of a GPU's free memory, 8 on a "
        "CPU",
    )
    pinned_gib: float = Field(
        16.0,
        ge=0,
        description="what teacher features may take in pinned host memory, GiB, if a GPU cannot hold them; each level "
        "takes the next power of two there",
    )
    graph: Literal["auto", "on", "off"] = Field(
        "auto",
        description="replay each step as one captured CUDA graph; auto: on a GPU that trains a detector alone",
    )

    fused_loss: Literal["on", "off"] = Field(
        "off", description="on a GPU: compute the losses' cosines in one pass over memory, with kernels of Triton"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_removed_keys(cls, value: Any) -> Any:
        """Accept the removed keys of complete 0.1.0 configurations, and report what replaces them."""
        if not isinstance(value, dict):
            return value
        if value.get("optimizers", "per_branch") != "per_branch":
            raise ConfigError(
                f"training.optimizers (={value['optimizers']!r}) was removed: each branch has its own Adam, which "
                "equals a joint one, as branches share no parameter; leave the key out"
            )
        if value.get("compile"):
            _logger.warning("training.compile is ignored: steps are no longer compiled; leave the key out")
        return {key: option for key, option in value.items() if key not in ("optimizers", "compile")}

    @field_validator("resident_gib", mode="before")
    @classmethod
    def _gib_or_auto(cls, value: Any) -> Any:
        """Refuse other values in one sentence; those of a union name its members."""
        try:
            if value == "auto" or (not isinstance(value, bool) and 0 <= float(value) < math.inf):
                return value
        except (TypeError, ValueError, OverflowError):
            pass
        raise ValueError(f"training.resident_gib (={shorten(repr(value))}) must be auto or a number of GiB, 0 or more")

    @field_validator("graph", "fused_loss", mode="before")
    @classmethod
    def _yaml_reads_on_as_true(cls, value: Any) -> Any:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
