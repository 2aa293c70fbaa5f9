"""YAML in which no key is given twice: of two equal keys, plain YAML silently keeps the last."""

from __future__ import annotations

from typing import Any

import yaml


class UniqueKeyLoader(yaml.SafeLoader):
    """Reads what `yaml.SafeLoader` reads, but for mappings with a repeated key."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a mapping that has a key twice; what ``<<`` brings may be given again."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise yaml.YAMLError(f"the key {key.value!r} is given twice, in line {lines[name]} and in line {line}")
            lines[name] = line
        return node


def load_yaml(text: str) -> Any:
    r"""Return what a YAML document holds.

    Raises:
        yaml.YAMLError: it is not valid YAML, or a mapping has a key twice; the message says in which lines.

    Examples:
        >>> load_yaml("training: {epochs: 3}")
        {'training': {'epochs': 3}}
        >>> load_yaml("epochs: 3\nepochs: 30")
        Traceback (most recent call last):
            ...
        yaml.error.YAMLError: the key 'epochs' is given twice, in line 1 and in line 2
    """
    return yaml.load(text, Loader=UniqueKeyLoader)
