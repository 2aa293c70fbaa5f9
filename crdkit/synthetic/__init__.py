"""Synthetic inspection scenes: one object on a table, from which every sensor is rendered consistently.

`make_scene` draws a scene, the ``render_*`` functions measure it, `write_mvtec3d` and `write_eyecandies`
write whole datasets in the layouts of the public ones.
"""

from __future__ import annotations

from crdkit.synthetic.defects import DEFECTS
from crdkit.synthetic.objects import OBJECT_KINDS, ObjectKind
from crdkit.synthetic.scene import Camera, Scene, make_scene, sample_key, scanner_camera
from crdkit.synthetic.sensors import (
    LIGHT_TENT,
    SIX_LIGHTS,
    Lighting,
    Spot,
    render_depth,
    render_infrared,
    render_lights,
    render_normals,
    render_rgb,
    render_xyz,
)
from crdkit.synthetic.write import MASK_VALUES, write_eyecandies, write_mvtec3d

__all__ = [
    "DEFECTS",
    "LIGHT_TENT",
    "MASK_VALUES",
    "OBJECT_KINDS",
    "SIX_LIGHTS",
    "Camera",
    "Lighting",
    "ObjectKind",
    "Scene",
    "Spot",
    "make_scene",
    "render_depth",
    "render_infrared",
    "render_lights",
    "render_normals",
    "render_rgb",
    "render_xyz",
    "sample_key",
    "scanner_camera",
    "write_eyecandies",
    "write_mvtec3d",
]
