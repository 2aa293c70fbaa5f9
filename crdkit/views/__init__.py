"""Contract of a view: one or more raw sensors as an image that an encoder can read; a modality is a named view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from crdkit._core.registry import Component, ComponentConfig, Registry
from crdkit.data import Sensors


class ViewConfig(ComponentConfig):
    """Options every view has; each adds its own in a subclass."""


class View(Component, ABC):
    """Turns raw sensors into a (C, S, S) float32 tensor in [0, 1], C = 1 or 3; encoders expand and normalise it."""

    Config: ClassVar[type[ViewConfig]] = ViewConfig
    background_is_zero: ClassVar[bool] = False  # in every channel, and nothing else is: it shows where the object is

    def __init__(self, config: ViewConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that this view reads."""

    @abstractmethod
    def __call__(self, sensors: Sensors, *, image_size: int) -> torch.Tensor:
        """Return the view of one sample, squashed to ``image_size`` x ``image_size``.

        Raises:
            DataError: a sensor's shape or dtype is not one this view reads.
        """


_REMOVED = {name: f"use single_channel with sensor: {name}" for name in ("thermal", "polarisation")}
views: Registry[View] = Registry("modality", package=__name__, removed=_REMOVED)
