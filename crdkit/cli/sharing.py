"""Commands whose samples many processes share."""

from __future__ import annotations

from pathlib import Path

from crdkit._core.distributed import Ranks
from crdkit._core.progress import is_quiet, set_quiet
from crdkit.errors import ConfigError


def begin_sharing(share: bool, out: Path | None) -> Ranks | None:
    """Return the place of this process among those that share its samples; None if it works alone.

    Rank 0 shows progress and results, the others only warnings and errors; a process that no launcher has started, too.

    Args:
        share: whether it was asked for; ranks share without being asked.
        out: where the results go.

    Raises:
        ConfigError: there is no folder that all could write to.
    """
    ranks = Ranks.from_environment()
    if not share and ranks.world_size == 1:
        return None
    if out is None:
        raise ConfigError("processes that share samples write one folder: give --out, where all of them see it")
    ranks.use_local_device()
    set_quiet(is_quiet() or not ranks.is_main)
    return ranks
