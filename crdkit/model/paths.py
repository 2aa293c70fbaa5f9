"""Which way a source reaches a branch's output: through its filter, or through its amplifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from crdkit.model.crd import Branch
from crdkit.model.layers import Levels


def without_amplifiers(
    branch: Branch, features: Mapping[str, Sequence[torch.Tensor]], missing: Sequence[str] = ()
) -> tuple[list[str], Levels]:
    """Run a branch once as it is, and once without the amplifier of each source.

    An amplifier that is taken away has weight 0 in every merge, and the other weights add up to 1 again, as where a
    sample lacks the source (`ReverseDecoder`). The source's *filter* stays, and with it the embedding, which is
    computed once.

    Args:
        branch: of the target.
        features: of one sample, (1, C, H, W) levels by modality.
        missing: sources that the sample lacks.

    Returns:
        The K sources whose amplifier was taken away, and the output levels, (1 + K, C, H, W), first those of the branch
        as it is.
    """
    filtered = {source: part(features[source]) for source, part in branch.filters.items()}
    amplified = {source: part(features[source]) for source, part in branch.amplifiers.items()}
    taken = [source for source in amplified if source not in missing]
    device = features[branch.target][0].device

    def flags(*values: bool) -> torch.Tensor:
        return torch.tensor(values, device=device)

    has_filter = [flags(source not in missing) for source in filtered] if missing else None
    embedding = branch.student.bottleneck(features[branch.target], list(filtered.values()), has_filter)
    count = 1 + len(taken)
    has_amplifier = [
        flags(*(source not in missing and source != away for away in ("", *taken))) for source in amplified
    ]
    levels = [[level.expand(count, -1, -1, -1) for level in found] for found in amplified.values()]
    _, output = branch.student.decoder(embedding.expand(count, -1, -1, -1), levels, has_amplifier)
    return taken, output
