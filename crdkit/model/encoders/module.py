"""A user's own network as a teacher, by the name of the callable that builds it."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from crdkit.errors import ConfigError, CrdkitError, unknown_name
from crdkit.model.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, EncoderConfig, encoders
from crdkit.model.layers import Levels

Moderate = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]


class ModuleConfig(EncoderConfig):
    """Options of a user's own network.

    Examples:
        >>> ModuleConfig(target="my_package.networks:build_teacher").target
        'my_package.networks:build_teacher'
    """

    name: Literal["module"] = "module"
    target: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:callable; the callable takes no argument and returns the network",
    )
    mean: tuple[Moderate, Moderate, Moderate] = Field(
        IMAGENET_MEAN, description="of the images the network was trained on"
    )
    std: tuple[Positive, Positive, Positive] = Field(IMAGENET_STD, description="likewise, the standard deviation")


@encoders.register("module")
class ModuleEncoder(Encoder):
    """A user's own nn.Module that maps (B, 3, S, S) images to a list of (B, C, H, W) maps, fine to coarse.

    Channels and strides are measured on a probe image; if the network declares them as ``channels`` and
    ``strides``, they must agree. Random weights that it draws use the seed 0. A saved detector holds the
    network's state dict, but not its code: loading it imports ``target`` again, so load detectors you trust.

    Examples:
        >>> teacher = ModuleEncoder(ModuleConfig(target="crdkit.testing.examples:TinyTeacher"))
        >>> teacher.channels, teacher.strides
        ((5, 9), (4, 8))
    """

    Config = ModuleConfig

    def __init__(self, config: ModuleConfig, *, load_weights: bool = True) -> None:
        """Build the network, regardless of ``load_weights``: which weights it reads is up to ``target``.

        Raises:
            ConfigError: ``target`` cannot be imported or called, or its network does not fit the contract.
        """
        super().__init__(config, load_weights=load_weights)
        self.network = _build(config.target)
        self.set_normalisation(config.mean, config.std)
        self.freeze()
        size = config.image_size or 224
        levels = self.probe(size)
        self.channels = tuple(level.shape[1] for level in levels)
        self.strides = tuple(round(size / level.shape[-1]) for level in levels)
        for name, measured in (("channels", self.channels), ("strides", self.strides)):
            declared = getattr(self.network, name, measured)
            if tuple(declared) != measured:
                raise ConfigError(
                    f"the network of encoder.target (={config.target}) declares {name} {tuple(declared)}, "
                    f"but images of {size} x {size} give {measured}"
                )

    def features(self, images: torch.Tensor) -> Levels:
        """Return the network's maps of normalised (B, 3, H, W) images."""
        levels: Levels | tuple[torch.Tensor, ...] = self.network(images)
        return list(levels) if isinstance(levels, tuple) else levels


def _build(target: str | None) -> nn.Module:
    """Import and call ``target``.

    Raises:
        ConfigError: a step fails, or the result is not an nn.Module; the message names the step.
    """
    if target is None:
        raise ConfigError("encoder.target is missing: give package.module:callable that returns your nn.Module")
    what = f"encoder.target (={target})"
    path, _, name = target.partition(":")
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise ConfigError(f"{what} cannot be imported: {error}; is it installed, or on PYTHONPATH?") from error
    if not hasattr(module, name):
        raise unknown_name(f"name in {path} of encoder.target:", name, (n for n in vars(module) if n[0] != "_"))
    build: Any = getattr(module, name)
    if not callable(build):
        raise ConfigError(f"{what} must be a callable that returns an nn.Module, but is a {type(build).__name__}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = build()
        except CrdkitError:
            raise
        except Exception as error:
            raise ConfigError(f"{what} failed when called without arguments: {error!r}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{what} must return an nn.Module, but returned a {type(network).__name__}")
    return network
