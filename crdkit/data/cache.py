"""Where decoded splits, and the hashes of files, are kept for later runs."""

from __future__ import annotations

import os
from pathlib import Path

from crdkit.data import DatasetConfig

VARIABLE = "CRDKIT_CACHE"
"""Environment variable with the folder that is used if ``data.cache`` is not set."""


def cache_folder(config: DatasetConfig) -> Path | None:
    """Return the folder that ``data.cache`` or the environment names; None for no cache.

    Examples:
        >>> cache_folder(DatasetConfig(name="mvtec3d", cache="/scratch/crdkit"))
        PosixPath('/scratch/crdkit')
    """
    folder = config.cache or os.environ.get(VARIABLE)
    return Path(folder).expanduser().absolute() if folder else None
