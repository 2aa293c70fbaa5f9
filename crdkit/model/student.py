"""One branch's student: one-class bottleneck and reverse decoder, helped by K incoming edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import nn

from crdkit._core.registry import StrictConfig
from crdkit.errors import ConfigError, shorten
from crdkit.model.graph import Merge
from crdkit.model.layers import FeatureSpec, Levels, Presence, ResidualBlock, conv_bn_relu, resize_features


class StudentConfig(StrictConfig):
    """Size of the student; the defaults give the published one for a WideResNet-50-2 teacher."""

    depths: int | tuple[int, ...] | None = Field(
        None,
        description="residual blocks per decoder stage: one for all, or one each, coarse to fine; None: 3, 4, then 6",
    )
    embedding_blocks: int = Field(3, ge=1, le=64, description="residual blocks of the one-class embedding")
    min_width: int = Field(
        1, ge=1, le=4096, description="minimum channels inside a residual block; else half of the level's channels"
    )

    def stage_depths(self, levels: int) -> tuple[int, ...]:
        """Return the number of residual blocks of each decoder stage, coarse to fine.

        Raises:
            ConfigError: ``depths`` does not have one entry of 1 to 64 per level.
        """
        published = tuple((3, 4, 6)[min(stage, 2)] for stage in range(levels))
        depths = published if self.depths is None else self.depths
        if isinstance(depths, int):
            depths = (depths,) * levels
        if len(depths) != levels or not 1 <= min(depths) <= max(depths) <= 64:
            raise ConfigError(
                f"student.depths (={shorten(str(list(depths)))}) needs an entry of 1 to 64 per teacher level ({levels})"
            )
        return depths


class OneClassBottleneck(nn.Module):
    """Fuses all levels at the coarsest size and embeds them at half of it.

    Per level: the teacher's features, concatenated with those of each filter or with the filters' mean, then 3x3
    stride-2 convolutions down to the coarsest size; then residual blocks over the concatenated levels (RD's OCBE;
    CRD section 4.2). The features of a filter whose source a sample lacks are zeros, and do not count in the mean.
    """

    def __init__(self, spec: FeatureSpec, *, filters: int, merge: Merge, config: StudentConfig) -> None:
        super().__init__()
        self.merge = merge
        self.size = spec.sizes[-1]
        inputs = 1 + (min(filters, 1) if merge == "mean" else filters)
        self.levels = nn.ModuleList(_reduction(spec, level, inputs=inputs) for level in range(len(spec.channels)))
        fused = spec.channels[-1] * len(spec.channels)
        embedded = 2 * spec.channels[-1]
        width = max(spec.channels[-1], config.min_width)
        blocks = [ResidualBlock(fused, width, embedded, resample="down" if self.size > 1 else None)]
        blocks += [ResidualBlock(embedded, width, embedded) for _ in range(config.embedding_blocks - 1)]
        self.embedding = nn.Sequential(*blocks)

    def forward(
        self,
        teacher: Sequence[torch.Tensor],
        filtered: Sequence[Sequence[torch.Tensor]],
        present: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Embed the target's levels and those of K filters into (B, 2 * C_last, S_last / 2, S_last / 2).

        Args:
            teacher: the target's levels.
            filtered: the levels of each filter.
            present: for each filter, (B,) bool: which samples have its source; None: all.
        """
        if present:
            filtered = [
                [level * _per_sample(has, level) for level in levels]
                for has, levels in zip(present, filtered, strict=True)
            ]
        if self.merge == "mean" and len(filtered) > 1:
            filtered = [[_mean_of_present(maps, present) for maps in zip(*filtered, strict=True)]]
        reduced = [
            resize_features(module(torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]), self.size)
            for module, *maps in zip(self.levels, teacher, *filtered, strict=True)
        ]
        embedded: torch.Tensor = self.embedding(torch.cat(reduced, dim=1))
        return embedded


def _per_sample(has: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return (B,) as (B, 1, 1, 1) of the dtype of ``like``."""
    return has.to(like.dtype)[:, None, None, None]


def _mean_of_present(maps: Sequence[torch.Tensor], present: Sequence[torch.Tensor] | None) -> torch.Tensor:
    """Return the mean of (B, C, H, W) maps, in which those of missing sources are zeros."""
    if not present:
        return torch.stack(list(maps)).mean(dim=0)
    count = torch.stack(list(present)).sum(dim=0).clamp_min(1)
    return torch.stack(list(maps)).sum(dim=0) / _per_sample(count, maps[0])


def _reduction(spec: FeatureSpec, level: int, *, inputs: int) -> nn.Sequential:
    """Return the convolutions that bring one level to the coarsest size and its channels.

    Without filters the widths run through those of the levels on the way (RD: 256-512-1024); with filters
    the first convolution already has the last level's (the published code: 512-1024-1024).
    """
    last = len(spec.channels) - 1
    if level == last and not inputs - 1:
        return nn.Sequential()
    halvings = (spec.sizes[level] // spec.sizes[-1]).bit_length() - 1
    before = spec.channels[level] * inputs
    if not halvings:
        return nn.Sequential(*conv_bn_relu(before, spec.channels[-1], kernel=3))
    passes_levels = inputs == 1 and halvings == last - level
    through = spec.channels[level + 1 :] if passes_levels else [spec.channels[-1]] * halvings
    layers: list[nn.Module] = []
    for after in through:
        layers += conv_bn_relu(before, after, kernel=3, stride=2)
        before = after
    return nn.Sequential(*layers)


class ReverseDecoder(nn.Module):
    """Decodes the embedding coarse to fine; at each level the amplifiers' features are merged in.

    The merged features of a level are the branch's output there *and* the next stage's input. The merge
    is a softmax over one learned weight per contribution (CRD Eq. 3): entry 0 weighs the decoder, entry
    k the k-th amplifier. An amplifier whose source a sample lacks has weight 0, and the others' add up to 1.
    """

    def __init__(self, spec: FeatureSpec, *, amplifiers: int, config: StudentConfig) -> None:
        super().__init__()
        depths = config.stage_depths(len(spec.channels))
        self.sizes = spec.sizes[::-1]
        stages, before, size = [], 2 * spec.channels[-1], max(spec.sizes[-1] // 2, 1)
        for channels, target_size, depth in zip(spec.channels[::-1], self.sizes, depths, strict=True):
            width = max(channels // 2, config.min_width)
            resample = "up" if target_size >= 2 * size else None
            blocks = [ResidualBlock(before, width, channels, resample=resample, relu=depth > 1 or not spec.signed)]
            blocks += [
                ResidualBlock(channels, width, channels, relu=block < depth or not spec.signed)
                for block in range(2, depth + 1)
            ]
            stages.append(nn.Sequential(*blocks))
            before, size = channels, target_size
        self.stages = nn.ModuleList(stages)
        self.merge_weights = nn.ParameterList(
            nn.Parameter(torch.ones(amplifiers + 1)) for _ in (spec.channels if amplifiers else ())
        )

    def forward(
        self,
        embedding: torch.Tensor,
        amplified: Sequence[Sequence[torch.Tensor]],
        present: Sequence[torch.Tensor] | None = None,
    ) -> tuple[Levels, Levels]:
        """Return the levels before and after the merge with K amplifiers' levels, both fine to coarse.

        Args:
            embedding: of the bottleneck.
            amplified: the levels of each amplifier.
            present: for each amplifier, (B,) bool: which samples have its source; None: all.
        """
        decoded: Levels = []
        merged: Levels = []
        x = embedding
        for level, (stage, size) in enumerate(zip(self.stages, self.sizes, strict=True)):
            x = resize_features(stage(x), size)
            decoded.append(x)
            if amplified:
                weights = self._merge_shares(level, present, like=x)
                x = weights[0] * x
                for weight, levels in zip(weights[1:], amplified, strict=True):
                    x = x + weight * levels[-1 - level]
            merged.append(x)
        return decoded[::-1], merged[::-1]

    def _merge_shares(self, level: int, present: Sequence[torch.Tensor] | None, *, like: torch.Tensor) -> torch.Tensor:
        """Return the weights of decoder and amplifiers: (K + 1,), or (K + 1, B, 1, 1, 1) where samples differ."""
        weights: torch.Tensor = self.merge_weights[level]
        if not present:
            return weights.softmax(dim=0)
        missing = torch.stack([torch.zeros_like(present[0]), *(~has for has in present)])
        shares = weights[:, None].masked_fill(missing, -torch.inf).softmax(dim=0)
        return shares.to(like.dtype)[:, :, None, None, None]


class Student(nn.Module):
    """Bottleneck and decoder of one target modality."""

    def __init__(
        self, spec: FeatureSpec, *, filters: int, amplifiers: int, merge: Merge, config: StudentConfig
    ) -> None:
        super().__init__()
        self.bottleneck = OneClassBottleneck(spec, filters=filters, merge=merge, config=config)
        self.decoder = ReverseDecoder(spec, amplifiers=amplifiers, config=config)

    def forward(
        self,
        teacher: Sequence[torch.Tensor],
        *,
        filtered: Mapping[str, Sequence[torch.Tensor]],
        amplified: Mapping[str, Sequence[torch.Tensor]],
        present: Presence | None = None,
    ) -> tuple[Levels, Levels]:
        """Return the target's decoder and output levels from its teacher's and its sources' features.

        Args:
            teacher: the target's levels.
            filtered: the filters' levels by source.
            amplified: the amplifiers' levels by source.
            present: which samples have each source; None: all.
        """
        has_filter = None if present is None else [present[source] for source in filtered]
        has_amplifier = None if present is None else [present[source] for source in amplified]
        embedding = self.bottleneck(teacher, list(filtered.values()), has_filter)
        decoder, output = self.decoder(embedding, list(amplified.values()), has_amplifier)
        return decoder, output
