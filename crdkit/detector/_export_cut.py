"""The part of an exported file from views to maps: nobody resizes what a detector's own views have resized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def cut(model: Any, views: Mapping[str, int], outputs: Sequence[str], *, size: int) -> None:
    """Change an ONNX model so that it reads the values ``views``, and computes no more than ``outputs``.

    Args:
        model: as the package ``onnx`` reads it.
        views: names of the values, with their numbers of channels, (N, C, size, size) float32.
        outputs: names.
        size: of the views, pixels.

    Raises:
        KeyError: there is no such value.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    given = {value.name for value in graph.input} | {value.name for value in graph.initializer}
    read: set[str] = set()
    waiting = [*views, *outputs]
    if unknown := [name for name in waiting if name not in makers and name not in given]:
        raise KeyError(", ".join(unknown))
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        read.add(name)
        if name in makers and name not in views:
            waiting.extend(_reads(makers[name]))
    nodes = [node for node in graph.node if read.intersection(node.output) and not set(views).intersection(node.output)]
    shapes: dict[str, list[str | int | None]] = {name: ["N", channels, size, size] for name, channels in views.items()}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    inputs += [value for value in graph.input if value.name in read and value.name not in views]
    _replace(graph.input, inputs)
    _replace(graph.output, [value for value in graph.output if value.name in outputs])
    _replace(graph.initializer, [value for value in graph.initializer if value.name in read])
    _replace(graph.node, nodes)


def _reads(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, and those that graphs inside it do."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") or attribute.graphs else []:
            for part in inner.node:
                yield from _reads(part)


def _replace(values: Any, by: Sequence[Any]) -> None:
    kept = list(by)
    del values[:]
    values.extend(kept)
