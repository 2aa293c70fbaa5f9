"""The files of one specimen of M2AD, by view: a photograph for each light, and the mask."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from crdkit.data import PairedFiles
from crdkit.data._folders import files_by_stem, pair_files
from crdkit.data._names import MASK, is_litter, subfolders
from crdkit.data.images import read_mask
from crdkit.errors import DataError

GOOD_FOLDER, DEFECTIVE, MASKS = "Good", "NG", "GT"
_SUFFIXES = (".png", ".jpg", ".bmp")
_MASK = "_mask.png"
_LENGTH = 8  # of a name without its ending: V001_I04
_VIEW, _LIGHT = slice(1, 4), slice(6, 8)


def lights_of(folder: Path) -> list[str]:
    """Return the lights of the first specimen of a class that has images.

    Raises:
        DataError: there is none, or a file is badly named.
    """
    for part in (GOOD_FOLDER, DEFECTIVE):
        for specimen in subfolders(folder / part) if (folder / part).is_dir() else ():
            if images := _images(folder / part / specimen):
                return sorted({stem[_LIGHT] for stem in images})
    raise DataError(f"{folder}: holds no specimens; expected folders like {GOOD_FOLDER}/001 with images V001_I01.png")


def sensor_of(light: str) -> str:
    """Return the name of a light's sensor.

    Examples:
        >>> sensor_of("04")
        'light_04'
    """
    return f"light_{light}"


def views_of(
    home: Path,
    *,
    lights: Sequence[str],
    chosen: bool,
    views: Collection[str] | None,
    masks: Path | None,
    need_masks: bool,
    keep_incomplete: bool,
) -> list[PairedFiles]:
    """Pair the photographs of each view of a specimen, and its mask.

    Args:
        home: the specimen's folder.
        lights: those that are sensors.
        chosen: whether they were chosen, so that there may be others; else these are those of the first specimen.
        views: those that are wanted; None: all.
        masks: the folder of the specimen's masks, which need not exist; None: there are none.
        need_masks: whether a view without a mask is incomplete.
        keep_incomplete: whether incomplete views are listed all the same.

    Raises:
        DataError: a name is none of a view and a light, a file is missing or there twice, a light was not chosen and is
            not the first specimen's, or a mask has no photograph.
    """
    images = _images(home)
    if not images:
        raise DataError(f"{home}: holds no images; expected names like V001_I01.png, a view and a light")
    if other := next((path for stem, path in images.items() if not chosen and stem[_LIGHT] not in lights), None):
        raise DataError(
            f"{other}: is of a light that the first specimen does not have ({', '.join(lights)}); add its photographs "
            f"there, remove these, or choose lights, e.g. data.lights=[{lights[0]!r}]"
        )
    wanted = {stem[_VIEW] for stem in images} if views is None else views
    found = {
        sensor_of(light): {stem[_VIEW]: path for stem, path in images.items() if stem[_LIGHT] == light}
        for light in lights
    }
    marks = _mask_files(masks)
    example = next(iter(images.values()))

    def place(name: str, view: str) -> Path:
        if name == MASK:
            return (masks or home) / f"{example.name[:1]}{view}_mask.png"
        light = next(light for light in lights if sensor_of(light) == name)
        stem = example.stem
        return example.with_name(f"{stem[:1]}{view}{stem[4:6]}{light}{example.suffix}")

    return pair_files(
        {name: {view: files.get(view, place(name, view)) for view in wanted} for name, files in found.items()},
        {view: path for view, path in marks.items() if views is None or view in views},
        need_masks=need_masks,
        place=place,
        keep_incomplete=keep_incomplete,
    )


def shows_defect(mask: Path) -> bool:
    """Whether a view's mask marks anything.

    Raises:
        DataError: the mask is missing or cannot be read.
    """
    return bool(read_mask(mask).any())


def refuse_orphans(folder: Path) -> None:
    """Refuse masks of a specimen that a class does not have.

    Raises:
        DataError: there are some.
    """
    for specimen in subfolders(folder / MASKS) if (folder / MASKS).is_dir() else ():
        homes = [folder / part / specimen for part in (DEFECTIVE, GOOD_FOLDER)]
        if not any(home.is_dir() for home in homes):
            raise DataError(
                f"{folder / MASKS / specimen}: the masks have no images {homes[0]}; add them or remove the masks"
            )


def _images(home: Path) -> dict[str, Path]:
    images = files_by_stem(home, _SUFFIXES)
    seen: dict[tuple[str, str], Path] = {}
    for stem, path in images.items():
        if len(stem) != _LENGTH:
            raise DataError(f"{path}: expected a name like V001_I01.png: view 001, light 01; rename it")
        other = seen.setdefault((stem[_VIEW], stem[_LIGHT]), path)
        if other != path:
            raise DataError(f"{path}: has the view and the light of {other.name}; remove one of the two")
    return images


def _mask_files(folder: Path | None) -> dict[str, Path]:
    """Return the masks of a specimen by view; other files may lie beside them."""
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        if path.name.lower().endswith(_MASK) and not is_litter(path.name):
            view = path.name[_VIEW]
            if view in masks:
                raise DataError(f"{path}: has the view of {masks[view].name}; remove one of the two")
            masks[view] = path
    return masks
