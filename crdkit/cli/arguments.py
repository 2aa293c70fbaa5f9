"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Config keys to change.")]

AllowPlugins = Annotated[
    bool,
    typer.Option("--allow-plugins", help="Import and run the code that the file or run names; only if you trust it."),
]
"""For every command that reads a configuration or a detector from a file."""


class ListsOfValues(TyperCommand):
    """A command whose repeatable options take several values each: ``--seeds 0 1 2`` is ``--seeds 0 --seeds 1 ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each of its values; the next option or KEY=VALUE ends the list."""
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        repeated: list[str] = []
        current, empty = "", ""
        for place, argument in enumerate([*args, "--"]):
            if current and not argument.startswith("-") and "=" not in argument:
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
