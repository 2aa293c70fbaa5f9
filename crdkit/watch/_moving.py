"""Files of decided samples on their way out of the watched folder; none is overwritten, and none is lost."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from pathlib import Path

from crdkit._core.files import new_file


def move_file(source: Path, target: Path) -> Path:
    """Move a file, also to another disk, and return where it is now: ``target``, or a sibling where that is taken.

    A copy that an earlier attempt left complete is not copied again.

    Raises:
        OSError: it cannot be moved; then it is where it was.
        CrdkitError: the copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    place, number = target, 1
    while place.exists():
        if filecmp.cmp(source, place, shallow=False):
            source.unlink()
            return place
        number += 1
        place = target.with_name(f"{target.stem}~{number}{target.suffix}")
    try:
        source.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with new_file(place) as partial:
            shutil.copy2(source, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        source.unlink()
    return place
