"""Layouts of colour images alone: how they are read, and how images and masks in two folders are paired."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crdkit.data import Dataset, PairedFiles, RawSample, SampleRecord, read_sample
from crdkit.data._folders import files_by_stem, pair_files
from crdkit.data._names import MASK, is_litter
from crdkit.data.images import check_array, read_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class ColourImages(Dataset):
    """A dataset with one sensor, "rgb": uint8 (H, W, 3); grey images are repeated over the three channels."""

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return ``("rgb",)``."""
        return ("rgb",)

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode the image of one sample, and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated, or not 8-bit grey or colour, or the mask has another size.
            UnknownNameError: a sensor other than "rgb".
        """
        wanted = self.sensors if sensors is None else sensors
        return read_sample(record, lambda _, path: read_colour(path), wanted, registration=self.config.registration)


def read_colour(path: Path) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3); a grey one is repeated over the three channels.

    Raises:
        DataError: the file is missing, truncated, or not 8-bit grey or colour.
    """
    image = read_image(path)
    if image.ndim == 2 and image.dtype == np.uint8:
        image = np.repeat(image[..., None], 3, axis=2)
    check_array(image, source=path, channels=3, dtype=np.uint8, hint="convert it to an 8-bit RGB or grey image")
    return image


def pair_images(
    folder: Path, masks: Path | None, *, keep_incomplete: bool, need_masks: bool = True
) -> list[PairedFiles]:
    """Pair the images in ``folder`` with the masks ``<stem>_mask.png`` or ``<stem>.png`` in ``masks``.

    Args:
        folder: holds images only.
        masks: holds one mask for each image; None: there are none.
        keep_incomplete: whether incomplete samples are listed all the same.
        need_masks: whether an image without a mask in ``masks`` is incomplete.

    Raises:
        DataError: a folder is missing or holds other files, an image lacks its mask, or a mask its image.
    """
    images = files_by_stem(folder, IMAGE_SUFFIXES)
    ending = next((path.suffix for path in images.values()), IMAGE_SUFFIXES[0])
    found = {} if masks is None else files_by_stem(masks, (".png",))

    def place(kind: str, stem: str) -> Path:
        return folder / f"{stem}{ending}" if kind != MASK or masks is None else masks / f"{stem}_mask.png"

    return pair_files(
        {"rgb": images},
        {stem.removesuffix("_mask"): path for stem, path in found.items()},
        need_masks=masks is not None and need_masks,
        place=place,
        keep_incomplete=keep_incomplete,
    )


def holds_images(folder: Path) -> bool:
    """Whether ``folder`` holds images itself, not in folders of sensors."""
    return folder.is_dir() and any(
        path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir() if not is_litter(path.name)
    )
