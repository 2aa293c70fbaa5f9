"""MVTec AD: colour images in the folder layout of the published archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crdkit.data import GOOD, PairedFiles, SampleRecord, Split, datasets, records_by_defect
from crdkit.data._folders import category_folder
from crdkit.data._names import subfolders
from crdkit.data.adapters._colour import ColourImages, holds_images, pair_images
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.errors import DataError

_MASKS = "ground_truth"


@datasets.register("mvtec_ad")
class MVTecAD(ColourImages):
    """Reads the folders of MVTec AD as they were downloaded, and others that are arranged so.

    ``<root>/<category>/{train/good,test/<defect>}/000.png`` and ``<category>/ground_truth/<defect>/000_mask.png``.
    The sensor is "rgb", uint8 (H, W, 3). Some categories are grey, which is repeated over the channels. Images may be
    JPEG or BMP too, and masks may be called as their images; without the folder ``ground_truth`` there are no masks.
    There is no validation split: a share of ``train/good`` is held out, see `crdkit.data.held_out`.
    Source: Bergmann et al., The MVTec Anomaly Detection Dataset (IJCV 129, 2021).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> options = {"train": 8, "validation": 2, "test_per_defect": 1, "size": 32}
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["mvtec_ad"](Path(scratch, "images"), categories=["gear"], **options)
        ...     dataset = MVTecAD(MVTecAD.Config(root=root, category="gear"))
        ...     [len(dataset.records(split)) for split in ("train", "validation")]
        [9, 1]
    """

    class Config(HeldOutConfig):
        """Options of ``mvtec_ad``."""

        name: str = "mvtec_ad"

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether ``train/good`` holds images, and there is no split that would not be read."""
        others = any((folder / name).exists() for name in ("validation", "test_public"))
        return holds_images(folder / "train" / GOOD) and not others

    @property
    def held_out(self) -> Mapping[str, Any]:
        """The share of ``train/good`` that is held out."""
        return describe_share(self.config)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` sorted by defect type, then by file name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place.
        """
        folder = category_folder(self.config.root, self.config.category, is_category=_is_category)
        if (folder / "validation").exists():
            raise DataError(
                f"{folder / 'validation'}: would not be read, as MVTec AD has no validation split; move it elsewhere, "
                "or read the category as another layout: crdkit data check says which fit"
            )
        masks = folder / _MASKS if (folder / _MASKS).exists() else None
        if split == "test" and masks is not None:
            _refuse_orphans(masks, folder / "test")

        def pair(images: Path) -> list[PairedFiles]:
            good, beside = images.name == GOOD, None if masks is None or split != "test" else masks / images.name
            if good and beside is not None and not beside.is_dir():  # the archive has no masks of good parts
                beside = None
            keep = self.config.on_bad_sample == "skip"
            return pair_images(images, beside, keep_incomplete=keep, need_masks=not good)

        if split == "test":
            return records_by_defect(folder / "test", split, pair)
        normals = records_by_defect(folder / "train", "train", pair)
        return hold_out(normals, split, self.config)


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in ("train", "test"))


def _refuse_orphans(masks: Path, test: Path) -> None:
    """Refuse masks of a defect type that has no images."""
    for defect in subfolders(masks):
        if defect != GOOD and not (test / defect).is_dir():
            raise DataError(f"{masks / defect}: the masks have no images {test / defect}; add them or remove the masks")
