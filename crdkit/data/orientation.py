"""The orientation tag of photographs: pixels are read as they are stored, so files with different tags do not fit."""

from __future__ import annotations

from pathlib import Path

UPRIGHT = 1
_TAG = 274  # of EXIF and TIFF alike
_JPEG, _TIFF = (".jpg", ".jpeg"), (".tif", ".tiff")


def read_orientation(path: Path) -> int:
    """Return the orientation tag of a JPEG or TIFF file, 1 to 8; 1, which is upright, where there is none.

    Only the header is read. A file that cannot be read has no tag either: reading its pixels says what is wrong.
    """
    try:
        if path.suffix.lower() in _JPEG:
            from PIL import Image

            with Image.open(path, formats=("JPEG",)) as image:
                found = image.getexif().get(_TAG, UPRIGHT)
        elif path.suffix.lower() in _TIFF:
            import tifffile

            with tifffile.TiffFile(path) as tiff:
                found = tiff.pages.first.tags.valueof(_TAG, default=UPRIGHT)
        else:
            return UPRIGHT
    except Exception:  # damaged headers raise many types
        return UPRIGHT
    return int(found) if found in range(1, 9) else UPRIGHT
