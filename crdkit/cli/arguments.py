"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from crdkit.cli.completion import complete_override, complete_preset
from crdkit.errors import ConfigError

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Config keys to change.", autocompletion=complete_override),
]

AllowPlugins = Annotated[
    bool,
    typer.Option("--allow-plugins", help="Import and run the code that the file or run names; only if you trust it."),
]
"""For every command that reads a configuration or a detector from a file."""
T = TypeVar("T")


def one_choice(
    option: str,
    chosen: Sequence[T] | None,
    key: str,
    value: T | None,
    overrides: Sequence[str] | None,
    *,
    before: T | None = None,
) -> Sequence[T] | None:
    """Return what an option lists, or the one value that an override sets instead; None for neither.

    Args:
        option: its name.
        chosen: its values; None or empty if it was not given.
        key: of the configuration, which the option replaces.
        value: of that key.
        overrides: as given.
        before: the key's value without them.

    Raises:
        ConfigError: an override sets a value that the option does not list.

    Examples:
        >>> one_choice("--seeds", None, "training.seed", 3, ["training.seed=3"], before=0)
        [3]
        >>> one_choice("--seeds", [0, 1], "training.seed", 3, ["training.epochs=9"], before=3)
        [0, 1]
    """
    if value == before and not any(override.partition("=")[0].strip() == key for override in overrides or ()):
        return chosen or None
    if not chosen:
        return None if value is None else [value]
    if value not in chosen:
        listed = " ".join(map(str, chosen))
        raise ConfigError(
            f"{key}={value} is not among {option} {listed}; a sweep runs what the option lists: leave one out"
        )
    return chosen


UnusualSensors = Annotated[
    str,
    typer.Option(
        "--unusual",
        metavar="error|warn|ignore",
        help="What to do about sensors of another unit, dtype or number of channels than in training.",
    ),
]

CompileFirst = Annotated[
    bool, typer.Option("--compile", help="Compile for some seconds first, to predict faster on a CPU.")
]

Attributed = Annotated[
    str,
    typer.Option(metavar="alarms|always|never", help="Which samples to say for, which modality raised the fused map."),
]

Share = Annotated[
    bool,
    typer.Option(
        "--share",
        help="Share the samples with all processes that run this command, and do only what is missing; ranks do.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; its keys are documented.")]
"""For every command that prints a table."""
Preset = Annotated[
    str,
    typer.Argument(metavar="PRESET|FILE.yaml", help="See `crdkit list presets`.", autocompletion=complete_preset),
]


class ListsOfValues(TyperCommand):
    """A command whose repeatable options take several values each: ``--seeds 0 1 2`` is ``--seeds 0 --seeds 1 ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each of its values; the next option or KEY=VALUE ends the list."""
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        repeated: list[str] = []
        current, empty = "", ""
        for place, argument in enumerate([*args, "--"]):
            if current and (not argument.startswith("-") or _is_negative(argument)) and "=" not in argument:
                repeated += [current, argument]
                empty = ""
                continue
            if empty:
                raise typer.BadParameter(f"{empty} needs at least one value")
            current = empty = argument if argument in lists else ""
            if argument == "--":
                return list(super().parse_args(ctx, [*repeated, *args[place:]]))
            repeated += [] if current else [argument]
        return repeated


def _is_negative(argument: str) -> bool:
    """Return whether an argument is a number below zero, which the option itself will refuse, and no option."""
    return argument[:1] == "-" and argument[1:].isdigit()
