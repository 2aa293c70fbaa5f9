"""What is refused before a training begins: devices, ranks and batches that cannot work."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit._core.distributed import Ranks
from crdkit.errors import ConfigError
from crdkit.model.crd import CRD
from crdkit.model.shapes import empty_features
from crdkit.training._cuda_graph import uses_graph
from crdkit.training._data_parallel import own_rows, require_own_gpu
from crdkit.training._fused_loss import require_fused_loss
from crdkit.training.config import TrainingConfig
from crdkit.training.shift import require_movable
from crdkit.views import View


def require_trainable(config: TrainingConfig, device: torch.device, ranks: Ranks, *, views: Mapping[str, View]) -> None:
    """Refuse what this device, number of ranks or choice of views cannot do, before anything is read.

    Raises:
        ConfigError: ranks would share a GPU, the config asks for a graph or a fused loss where none is possible, or
            for shifts of the only sensor.
    """
    if config.shift:
        require_movable({name: view.sensors for name, view in views.items()}, pixels=config.shift)
    require_own_gpu(device, ranks)
    require_fused_loss(config, device)
    uses_graph(config, device, ranks=ranks.world_size)


def require_two_values_per_channel(model: CRD, config: TrainingConfig, *, samples: int, ranks: Ranks) -> None:
    """Run one sample's shapes through every branch if a rank may get one: BatchNorm needs two values per channel.

    Raises:
        ConfigError: some map has one position.
    """
    sizes = {min(config.batch_size, samples), samples % config.batch_size or config.batch_size}
    last = Ranks(rank=ranks.world_size - 1, world_size=ranks.world_size)  # has the smallest share, or one with weight 0
    if all(own_rows(size, last).stop - own_rows(size, last).start > 1 for size in sizes):
        return
    for name in model.modalities:
        branch = model.branch(name)
        state = dict([*branch.named_parameters(), *branch.named_buffers()])
        shapes = {key: value.to("meta") for key, value in state.items()}
        try:
            torch.func.functional_call(branch, shapes, (empty_features(model.specs),))
        except RuntimeError:
            continue  # a user's own part that needs values, not only shapes: the first step will show
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"training.batch_size (={config.batch_size}) leaves a batch with one of {samples} samples, whose maps "
                f"in branch {name!r} shrink to 1 x 1: BatchNorm needs two values; choose another batch size, or "
                "larger maps"
            ) from error
