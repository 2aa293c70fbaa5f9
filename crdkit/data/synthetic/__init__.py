"""Synthetic inspection scenes: one object on a table, from which every sensor is rendered consistently.

`make_scene` draws a scene, the ``render_*`` functions measure it, and the writers in `LAYOUTS` write whole datasets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from crdkit.data.synthetic.defects import DEFECTS, INFRARED_DEFECTS
from crdkit.data.synthetic.objects import OBJECT_KINDS, ObjectKind
from crdkit.data.synthetic.public import STYLES, category_folders, write_public
from crdkit.data.synthetic.scene import Camera, Scene, make_scene, sample_key, scanner_camera
from crdkit.data.synthetic.sensors import (
    LIGHT_TENT,
    POLARISERS,
    SENSORS,
    SIX_LIGHTS,
    Lighting,
    Spot,
    render_depth,
    render_infrared,
    render_lights,
    render_normals,
    render_polarised,
    render_rgb,
    render_sensors,
    render_xyz,
)
from crdkit.data.synthetic.write import FOLDER_SENSORS, MASK_VALUES, write_eyecandies, write_folder, write_mvtec3d

LAYOUTS: dict[str, Callable[..., Path]] = {
    "mvtec3d": write_mvtec3d,
    "eyecandies": write_eyecandies,
    "folder": write_folder,
    **{name: partial(write_public, name) for name in STYLES},
}
"""The writer of each layout; all take the arguments of `write_mvtec3d`, but images of Eyecandies are square."""

__all__ = [
    "DEFECTS",
    "FOLDER_SENSORS",
    "INFRARED_DEFECTS",
    "LAYOUTS",
    "LIGHT_TENT",
    "MASK_VALUES",
    "OBJECT_KINDS",
    "POLARISERS",
    "SENSORS",
    "SIX_LIGHTS",
    "Camera",
    "Lighting",
    "ObjectKind",
    "Scene",
    "Spot",
    "category_folders",
    "make_scene",
    "render_depth",
    "render_infrared",
    "render_lights",
    "render_normals",
    "render_polarised",
    "render_rgb",
    "render_sensors",
    "render_xyz",
    "sample_key",
    "scanner_camera",
    "write_eyecandies",
    "write_folder",
    "write_mvtec3d",
    "write_public",
]
