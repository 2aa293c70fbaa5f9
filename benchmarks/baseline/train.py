"""Training as published code does it: teachers run every step, branches one after the other, losses read per step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.baseline.data import training_loader
from benchmarks.baseline.losses import branch_terms
from crdkit._core.device import select_device
from crdkit.config import RunConfig
from crdkit.config.build import build_graph
from crdkit.model import CRD
from crdkit.model.encoders import Encoder, encoders
from crdkit.model.layers import Levels
from crdkit.training.loop import learning_rate
from crdkit.training.losses import TERMS


class Baseline:
    """A CRD with a teacher per modality, its optimisers, and the losses that it has seen.

    Its students start with the weights of ``build_model(config)``.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.device = select_device(config.training.device)
        size = config.data.image_size
        self.teachers: dict[str, Encoder] = {}
        for name, branch in config.modalities.items():
            options = branch.encoder.at(size)
            self.teachers[name] = encoders.build(options).to(self.device)
        specs = {name: teacher.spec(size) for name, teacher in self.teachers.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            self.model = CRD(
                specs=specs, graph=build_graph(config), merge=config.graph.merge, student=config.student
            ).to(self.device)
        self.optimizers = {
            name: torch.optim.Adam(
                self.model.branch(name).parameters(), lr=config.training.learning_rate, betas=config.training.betas
            )
            for name in self.model.modalities
        }

    def features(self, images: Mapping[str, torch.Tensor]) -> dict[str, Levels]:
        """Run every modality's own teacher on a batch that comes from the host."""
        return {name: teacher(images[name].to(self.device)) for name, teacher in self.teachers.items()}

    def train(self) -> list[dict[str, Any]]:
        """Train all epochs and return their logs."""
        loader = training_loader(self.config)
        return [self.train_epoch(loader, epoch) for epoch in range(self.config.training.epochs)]

    def train_epoch(self, loader: DataLoader[dict[str, Any]], epoch: int) -> dict[str, Any]:
        """Train one epoch and return ``{"loss", "losses": {modality: {term: mean}}, "seconds"}``."""
        start = time.perf_counter()
        self.model.train()
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config.training, epoch)
        sums = {name: dict.fromkeys(TERMS, 0.0) for name in self.model.modalities}
        samples = 0
        for batch in loader:
            count = len(batch["label"])
            for name, terms in self.step(batch["images"]).items():
                for term, value in terms.items():
                    sums[name][term] += value * count
            samples += count
        losses = {name: {term: total / samples for term, total in terms.items()} for name, terms in sums.items()}
        loss = sum(sum(terms.values()) for terms in losses.values())
        return {"loss": loss, "losses": losses, "seconds": time.perf_counter() - start}

    def step(self, images: Mapping[str, torch.Tensor]) -> dict[str, dict[str, float]]:
        """Run one step and return the losses, each read to the host."""
        features = self.features(images)
        values = {}
        for name, optimizer in self.optimizers.items():
            out = self.model.branch(name)(features)
            terms = branch_terms(features[name], out, kind=self.config.training.loss)
            optimizer.zero_grad()
            torch.stack([terms[term] for term in TERMS]).sum().backward()
            optimizer.step()
            values[name] = {term: terms[term].item() for term in TERMS}
        return values
