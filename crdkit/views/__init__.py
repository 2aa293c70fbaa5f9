"""Contract of a view: one or more raw sensors as an image that an encoder can read; a modality is a named view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crdkit._core.registry import Component, ComponentConfig, Registry
from crdkit.data import Sensors

if TYPE_CHECKING:
    import torch


class ViewConfig(ComponentConfig):
    """Options every view has; each adds its own in a subclass."""


class View(Component, ABC):
    """Turns raw sensors into a (C, S, S) float32 image in [0, 1], C = 1 or 3; encoders expand and normalise it.

    A view defines `array`, and then works where PyTorch is not installed; or it defines ``__call__``, on tensors.
    """

    Config: ClassVar[type[ViewConfig]] = ViewConfig
    channels: ClassVar[int] = 3  # 1: grey in every sample
    background_is_zero: ClassVar[bool] = False  # in every channel, and nothing else is: it shows where the object is

    def __init__(self, config: ViewConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that this view reads."""

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return the view of one sample, squashed to ``image_size`` x ``image_size``, as an array of its own.

        Raises:
            DataError: a sensor's shape or dtype is not one this view reads.
        """
        if type(self).__call__ is View.__call__:
            raise NotImplementedError(f"{type(self).__qualname__} must define array, or __call__")
        return self(sensors, image_size=image_size).numpy()

    def __call__(self, sensors: Sensors, *, image_size: int) -> torch.Tensor:
        """Return `array` as a tensor.

        Raises:
            DataError: see `array`.
        """
        import torch

        return torch.from_numpy(self.array(sensors, image_size=image_size))


_REMOVED = {"thermal": "use single_channel with sensor: thermal"}
views: Registry[View] = Registry("modality", package=__name__, removed=_REMOVED)
