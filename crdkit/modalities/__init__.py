"""Contract of a modality: a view of one or more raw sensors as an image that an encoder can read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from crdkit.datasets import Sensors
from crdkit.registry import Component, ComponentConfig, Registry


class ModalityConfig(ComponentConfig):
    """Options every modality has; each adds its own in a subclass."""


class Modality(Component, ABC):
    """Turns raw sensors into a (C, S, S) float32 tensor in [0, 1], with C = 1 or 3.

    The encoder, not the modality, expands one channel to three and normalises with its own mean and std.
    """

    Config: ClassVar[type[ModalityConfig]] = ModalityConfig

    def __init__(self, config: ModalityConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that this view reads."""

    @abstractmethod
    def __call__(self, sensors: Sensors, *, image_size: int) -> torch.Tensor:
        """Return the view of one sample, squashed to ``image_size`` x ``image_size``.

        Raises:
            DataError: a sensor's shape or dtype is not one this modality reads.
        """


modalities: Registry[Modality] = Registry("modality", package=__name__)
