"""MVTec AD 2: colour and grey images with a public and two private test sets, as downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from crdkit.data import GOOD, UNLABELLED, DatasetConfig, PairedFiles, SampleRecord, Split, datasets, records_by_defect
from crdkit.data._folders import category_folder
from crdkit.data._names import found_folders, subfolders
from crdkit.data.adapters._colour import ColourImages, pair_images
from crdkit.errors import DataError, MissingSplitError

_MASKS = "ground_truth"


@datasets.register("mvtec_ad_2")
class MVTecAD2(ColourImages):
    """Reads the folders of MVTec AD 2 as they were downloaded.

    ``<root>/<category>/{train/good,validation/good,test_public/{good,bad}}/*.png`` with masks in
    ``test_public/ground_truth/bad/*_mask.png``, and ``test_private`` and ``test_private_mixed``, images without
    labels. The category may lie in a folder of its own name, ``<root>/<category>/<category>``. The sensor is "rgb",
    uint8 (H, W, 3); grey is repeated over the channels. The defect type is "bad", as there are no others.
    Source: Heckler-Kram et al., The MVTec AD 2 Dataset (arXiv 2503.21622).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["mvtec_ad_2"](
        ...         Path(scratch, "images"), categories=["gear"], train=2, test_per_defect=1, size=32
        ...     )
        ...     dataset = MVTecAD2(MVTecAD2.Config(root=root, category="gear"))
        ...     sorted({record.defect_type for record in dataset.records("test")})
        ['bad', 'good']
    """

    class Config(DatasetConfig):
        """Options of ``mvtec_ad_2``."""

        name: str = "mvtec_ad_2"
        test_set: Literal["public", "private", "private_mixed"] = Field(
            "public", description="which test set: the public one has labels and masks, the private ones have neither"
        )

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether there is one of the three test sets."""
        return any((_inner(folder) / name).is_dir() for name in ("test_public", "test_private", "test_private_mixed"))

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` sorted by defect type, then by file name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place.
        """
        folder = _inner(category_folder(self.config.root, self.config.category, is_category=_is_category))
        keep = self.config.on_bad_sample == "skip"
        if split != "test":
            return records_by_defect(folder / split, split, lambda part: pair_images(part, None, keep_incomplete=keep))
        test = folder / f"test_{self.config.test_set}"
        if not test.is_dir():
            raise MissingSplitError(f"{test}: the test set does not exist; {found_folders(folder)}")
        if self.config.test_set != "public":
            found = _records("", pair_images(test, None, keep_incomplete=keep), label=None)
        else:
            parts = [name for name in subfolders(test) if name != _MASKS]
            if not {*parts} <= {GOOD, "bad"}:
                raise DataError(f"{test}: expected the folders good, bad and {_MASKS}; {found_folders(test)}")
            found = [record for part in parts for record in self._public(test, part)]
        if not found:
            raise DataError(f"{test}: holds no samples; expected files like good/000_regular.png")
        return found

    def _public(self, test: Path, part: str) -> list[SampleRecord]:
        masks = None if part == GOOD else test / _MASKS / part
        pairs = pair_images(test / part, masks, keep_incomplete=self.config.on_bad_sample == "skip")
        return _records(f"{part}/", pairs, label=int(part != GOOD))


def _records(before: str, pairs: Sequence[PairedFiles], *, label: int | None) -> list[SampleRecord]:
    return [
        SampleRecord(
            sample_id=f"{before}{pair.stem}",
            split="test",
            label=label,
            defect_type=UNLABELLED if label is None else "bad" if label else GOOD,
            files=pair.files,
            mask_file=pair.mask,
        )
        for pair in pairs
    ]


def _inner(folder: Path) -> Path:
    """Return the folder of the same name inside a category's folder, if the archive was unpacked into it."""
    return folder / folder.name if (folder / folder.name).is_dir() else folder


def _is_category(folder: Path) -> bool:
    return any((_inner(folder) / split).is_dir() for split in ("train", "validation", "test_public"))
