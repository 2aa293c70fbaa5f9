"""A training of small random features, alone or as one of several ranks; `python together.py OUT` is such a rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from crdkit._core.device import to_device
from crdkit._core.distributed import Ranks
from crdkit._core.progress import set_quiet
from crdkit.errors import CrdkitError
from crdkit.model import CRD
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import projections
from crdkit.model.student import StudentConfig
from crdkit.training import TrainingConfig
from crdkit.training import _checkpoint as checkpoint
from crdkit.training.loop import train

SAMPLES = 7
SPEC = FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True)
PLAIN = TrainingConfig(epochs=4, batch_size=3, learning_rate=0.01, device="cpu")  # batches of 3, 3 and 1
DROPOUT = PLAIN.model_copy(update={"modality_dropout": 0.3, "loss": "hard_position"})


class RandomFeatures:
    """Stands for `TeacherFeatures`."""

    def __init__(self, names=("a", "b"), samples=SAMPLES, spec=SPEC, device="cpu"):
        generator = torch.Generator().manual_seed(3)
        self.levels = {
            name: [
                torch.randn(samples, channels, size, size, generator=generator).to(device)
                for channels, size in zip(spec.channels, spec.sizes, strict=True)
            ]
            for name in names
        }

    def batch(self, indices):
        return {name: [level[indices] for level in levels] for name, levels in self.levels.items()}

    def batches(self, order, batch_size, shifts=None):
        assert shifts is None, "random features show no images"
        device = next(iter(self.levels.values()))[0].device
        for indices in to_device(order, device).split(batch_size):
            yield indices, self.batch(indices)


def build_model(names=("a", "b"), spec=SPEC):
    parts = {"filter": projections.get("bottleneck").Config(size=2), "amplifier": projections.build_config("identity")}
    edges = tuple(Edge(source=s, target=t, **parts) for s in names for t in names if s != t)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return CRD(
            specs=dict.fromkeys(names, spec),
            graph=CrossmodalGraph(modalities=tuple(names), edges=edges),
            student=StudentConfig(depths=1, embedding_blocks=1),
        )


def trained(config, *, stop_after=None, **options):
    """Return the model and the losses of each epoch; ``stop_after``: raise after that epoch."""
    model, losses = build_model(), []

    def on_epoch(log):
        losses.append([value for terms in log["losses"].values() for value in terms.values()])
        if log["epoch"] == stop_after:
            raise CrdkitError("stopped")

    train(model, RandomFeatures(), config, samples=SAMPLES, on_epoch=on_epoch, **options)
    return model, torch.tensor(losses)


def main(out, *, failing_rank):
    set_quiet(True)
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    checkpoint.EVERY_SECONDS = checkpoint.LEAST_TRAINING_PER_WRITING = 0
    with ranks.group():
        if failing_rank is not None:
            trained(PLAIN, ranks=ranks, stop_after=2 if ranks.rank == failing_rank else None)
        for name, config in {"plain": PLAIN, "dropout": DROPOUT}.items():
            model, losses = trained(config, ranks=ranks)
            save_file({**model.state_dict(), "losses": losses}, out / f"{name}-{ranks.rank}.safetensors")
        try:
            trained(DROPOUT, ranks=ranks, checkpoints=checkpoint.Checkpoints(out), stop_after=3)
        except CrdkitError:
            ranks.follow_main(lambda: None)
        model, losses = trained(DROPOUT, ranks=ranks, checkpoints=checkpoint.Checkpoints(out))
        save_file({**model.state_dict(), "losses": losses}, out / f"resumed-{ranks.rank}.safetensors")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), failing_rank=int(sys.argv[2]) if len(sys.argv) > 2 else None)
    except CrdkitError as error:
        sys.exit(f"error: {error}")
