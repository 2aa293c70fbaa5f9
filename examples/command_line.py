"""What the studies in this folder have in common on the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from crdkit.config import RunConfig, load_config
from crdkit.errors import CrdkitError
from crdkit.runs.sweep import Sweep


def read_arguments(text: str | None, *, preset: str) -> argparse.Namespace:
    """Read the options of a study; ``text`` is its module's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the category folders")
    parser.add_argument("--categories", nargs="+", help="default: all in --data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--preset", default=preset, help=f"preset or YAML file; default: {preset}")
    parser.add_argument("--out", type=Path, required=True, help="new folder, or one to continue in")
    parser.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", help="config keys to change")
    return parser.parse_args()


def run_study(arguments: argparse.Namespace, study: Callable[[RunConfig], Sweep]) -> None:
    """Run ``study`` on the configuration that the arguments give, print its tables, and exit as `crdkit sweep` does."""
    logging.basicConfig(format="%(message)s")  # on standard error: what is run, and why a run is skipped
    logging.getLogger("crdkit").setLevel(logging.INFO)
    try:
        config = load_config(arguments.preset).with_overrides(f"data.root={arguments.data}", *arguments.overrides)
        outcome = study(config)
        if outcome.is_main:
            print((arguments.out / "comparison.md").read_text(encoding="utf-8"))
            print(f"page: {arguments.out / 'comparison.html'}")
            outcome.raise_if_skipped()
    except CrdkitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
