"""Bytes of image files to arrays: PNG, TIFF, NumPy, and the palettes of masks; read through `crdkit.data.images`."""
