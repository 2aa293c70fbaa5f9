"""Prints how far the fused loss is from the eager one, on a CPU: `TRITON_INTERPRET=1 python fused_loss_interpreted.py`.

For each case one line: the largest relative differences of the losses and of their gradients.
"""

from __future__ import annotations

import json

import torch

from crdkit.model.crd import BranchOutput
from crdkit.training._fused_loss import fused_distance_from
from crdkit.training.losses import branch_losses, distance_from

SHAPES = ((3, 5, 2, 2), (3, 17, 1, 1))  # channels and positions that fill no block, and a single one
LONG = ((1, 65, 16, 16),)  # a sample's vector takes two parts
LAST, FIRST = torch.channels_last, torch.contiguous_format
CASES = (
    {"kind": "flattened", "dtype": torch.float32, "counted": True, "shapes": SHAPES, "order": LAST},
    {"kind": "flattened", "dtype": torch.bfloat16, "counted": False, "shapes": SHAPES, "order": LAST},
    {"kind": "flattened", "dtype": torch.float32, "counted": False, "shapes": LONG, "order": FIRST},
    {"kind": "per_position", "dtype": torch.float32, "counted": False, "shapes": SHAPES, "order": FIRST},
    {"kind": "hard_position", "dtype": torch.bfloat16, "counted": True, "shapes": SHAPES, "order": LAST},
)


def levels(shapes, *, seed, dtype, order, device):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator).to(device, dtype).contiguous(memory_format=order).requires_grad_()
        for shape in shapes
    ]


def losses_and_gradients(compare, *, kind, dtype, shapes, order, counted, device="cpu"):
    teacher = [level.detach() for level in levels(shapes, seed=0, dtype=torch.float32, order=order, device=device)]
    parts = [levels(shapes, seed=seed, dtype=dtype, order=order, device=device) for seed in (1, 2, 3, 4)]
    with torch.no_grad():
        parts[3][0][0] = 0  # a student of zeros: its norm is bounded
        if kind != "hard_position":  # which would weigh positions by what rounding leaves
            parts[2][0].copy_(teacher[0])  # one that has nothing to learn
    out = BranchOutput(filtered={"b": parts[0]}, amplified={"b": parts[1]}, decoder=parts[2], output=parts[3])
    flags = None
    if counted:
        flags = {source: torch.arange(len(teacher[0]), device=device) != 1 for source in (None, "b")}
    found = branch_losses(teacher, out, kind=kind, counted=flags, weights={None: 0.5, "b": 2.0}, compare=compare)
    torch.stack([*found.values()]).sum().backward()
    return [*found.values()], [level.grad for part in parts for level in part]


def difference(found, expected):
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        distance = (one - other).detach().float().norm() / other.detach().float().norm().clamp_min(1e-3)
        largest = max(largest, float(distance))
    return largest


def main():
    for case in CASES:
        fused, eager = (losses_and_gradients(compare, **case) for compare in (fused_distance_from, distance_from))
        losses, gradients = (difference(*pair) for pair in zip(fused, eager, strict=True))
        shown = {name: str(value) for name, value in case.items()}
        print(json.dumps({**shown, "losses": losses, "gradients": gradients}))


if __name__ == "__main__":
    main()
