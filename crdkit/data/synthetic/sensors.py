"""What each sensor measures of a scene, with its own noise: colour, geometry, heat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdkit.data.synthetic.polarised import behind_polariser
from crdkit.data.synthetic.scene import Scene
from crdkit.data.synthetic.surface import MM, Field, blur, stream
from crdkit.errors import unknown_name

Colour8 = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A distant light; directions are (right, up, towards the camera), of unit length."""

    direction: tuple[float, float, float]
    strength: float
    casts_shadow: bool = False


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """A diffuse dome and any number of spots."""

    dome: float
    spots: tuple[Spot, ...]


LIGHT_TENT = Lighting(
    dome=0.83,
    spots=(
        Spot(direction=(-0.50, 0.62, 0.605), strength=0.07),
        Spot(direction=(0.0, 0.0, 1.0), strength=0.12),
    ),
)
"""Diffuse inspection light: it shows colours evenly and flattens shapes, as in most machine-vision cells."""

BOUNCE = 0.55
"""Share of the dome's light that comes back from below the horizon."""

VIGNETTE = 6.0
"""How fast the light falls off over the table, per square metre."""

_SPOT_Z = 0.62
_SIDES: tuple[tuple[float, float], ...] = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
_SPOTS = tuple(
    Spot(
        direction=(x * (1.0 - _SPOT_Z**2) ** 0.5, y * (1.0 - _SPOT_Z**2) ** 0.5, _SPOT_Z),
        strength=1.0,
        casts_shadow=True,
    )
    for x, y in _SIDES
)
_DIM_SPOTS = tuple(Spot(direction=spot.direction, strength=0.3, casts_shadow=True) for spot in _SPOTS)

SIX_LIGHTS: tuple[Lighting, ...] = (
    Lighting(dome=0.10, spots=_DIM_SPOTS),
    *(Lighting(dome=0.08, spots=(spot,)) for spot in _SPOTS),
    Lighting(dome=0.10, spots=(*_DIM_SPOTS, Spot(direction=(0.0, 0.0, 1.0), strength=0.25))),
)
"""The six lightings of Eyecandies: all spots, bottom, right, top, left, all spots and the camera's light."""


def render_normals(scene: Scene) -> Field:
    """Compute unit normals (right, up, towards the camera) from the noise-free surface, (H, W, 3)."""
    return np.stack(_normals(scene), axis=-1)


def encode_normals(scene: Scene) -> Colour8:
    """Store the normals as Eyecandies does, (H, W, 3) uint8: n = p / 127.5 - 1."""
    return np.rint((render_normals(scene) + 1.0) * 127.5).astype(np.uint8)


def _normals(scene: Scene) -> tuple[Field, Field, Field]:
    depth, focal_length = scene.depth(), scene.camera.focal_length
    ray_x, ray_y = scene.camera.rays()
    down, right = np.gradient(depth * focal_length)
    # The cross product of the two tangents of the point ray * depth, without its common factor.
    towards = depth + ray_x * right + ray_y * down
    length = np.sqrt(right**2 + down**2 + towards**2)
    return right / length, -down / length, towards / length


def render_rgb(scene: Scene, lighting: Lighting = LIGHT_TENT, *, name: str = "rgb") -> Colour8:
    """Take a colour image, (H, W, 3) uint8, under ``lighting``; ``name`` seeds the sensor's noise."""
    return render_lights(scene, [lighting], names=[name])[0]


def render_lights(scene: Scene, lightings: Sequence[Lighting] = SIX_LIGHTS, *, names: Sequence[str]) -> list[Colour8]:
    """Take one colour image, (H, W, 3) uint8, per lighting, all of the same exposure."""
    mood = stream(scene.key, "light")
    gain, tint = mood.uniform(0.95, 1.05), 1.0 + mood.normal(0.0, 0.012, (3, 1, 1))
    normals, occlusion = _normals(scene), _sky_visibility(scene)
    ray_x, ray_y = scene.camera.rays()
    vignette = 1.0 - VIGNETTE * (ray_x**2 + ray_y**2) * scene.camera.distance**2
    images = []
    for lighting, name in zip(lightings, names, strict=True):
        light = _shade(scene, lighting, normals=normals, occlusion=occlusion)
        linear = light * (gain * tint) * vignette
        encoded = np.clip(linear, 0.0, 1.0) ** (1.0 / 2.2)
        noise = stream(scene.key, name).normal(0.0, 2.2, encoded.shape)
        levels = np.clip(np.rint(blur(encoded, sigma=0.45) * 255.0 + noise), 0, 255).astype(np.uint8)
        images.append(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    return images


def _shade(scene: Scene, lighting: Lighting, *, normals: tuple[Field, Field, Field], occlusion: Field) -> Field:
    """Light that reaches the camera, linear, (3, H, W): Lambert's law and a broad specular lobe."""
    right, up, front = normals
    diffuse = lighting.dome * 0.5 * (1.0 + front + BOUNCE * (1.0 - front)) * occlusion
    specular = np.zeros_like(diffuse)
    for spot in lighting.spots:
        x, y, z = spot.direction
        lit = spot.strength * (shadow(scene, towards=spot.direction) if spot.casts_shadow else occlusion)
        diffuse += lit * np.maximum(x * right + y * up + z * front, 0.0)
        halfway = (x * right + y * up + (z + 1.0) * front) / (x * x + y * y + (z + 1.0) ** 2) ** 0.5
        specular += lit * np.maximum(halfway, 0.0) ** 24
    shaded: Field = scene.albedo * diffuse + 0.2 * scene.gloss * specular
    return shaded


def _sky_visibility(scene: Scene) -> Field:
    """Share of the dome that is not hidden by higher surroundings, (H, W); shallow hollows stay bright."""
    pitch = scene.camera.pitch
    visible = np.ones_like(scene.height)
    for reach, weight, shallow in ((3.0 * MM, 30.0, 0.9 * MM), (9.0 * MM, 75.0, 2.2 * MM)):
        above = blur(scene.height, sigma=reach / pitch) - scene.height
        visible *= np.exp(-weight * np.maximum(above - shallow, 0.0))
    return visible


def shadow(scene: Scene, *, towards: tuple[float, float, float]) -> Field:
    """1 where light from ``towards`` (right, up, towards the camera) arrives and 0 in its shadow, (H, W).

    Light comes along a row or a column: the larger of the two horizontal components counts.
    """
    axis = 1 if abs(towards[0]) >= abs(towards[1]) else 0
    # Walk from the light's side: right and bottom are the ends of their axes.
    reverse = towards[0] > 0 if axis == 1 else towards[1] < 0
    height = np.flip(scene.height, axis) if reverse else scene.height
    drop = towards[2] / np.hypot(towards[0], towards[1]) * scene.camera.pitch
    steps = np.arange(height.shape[axis]) * drop
    level = height + (steps if axis == 1 else steps[:, None])
    lit = 1.0 - np.clip((np.maximum.accumulate(level, axis=axis) - level) / (0.8 * MM), 0.0, 1.0)
    return np.flip(lit, axis) if reverse else lit


def render_xyz(scene: Scene) -> NDArray[np.float32]:
    """Scan points in metres with structured light, (H, W, 3) float32; (0, 0, 0) where nothing was measured.

    X and Y are the pixel's ray times Z. Noise is about 0.1 mm; points are missing where the projector,
    left of the camera, is hidden or grazes the surface, and as rare speckle.
    """
    rng = stream(scene.key, "xyz")
    shape = scene.height.shape
    smooth = blur(rng.normal(0.0, 1.0, shape), sigma=1.2)
    noise = 0.07 * MM * smooth / smooth.std() + 0.03 * MM * rng.normal(0.0, 1.0, shape)
    depth = scene.depth() + noise
    chance, edge = rng.random(shape), blur(rng.random(shape), sigma=0.8)
    steepness = 1.0 - _normals(scene)[2]
    lit = shadow(scene, towards=(-0.42, 0.0, 0.9075))
    missing = (lit < 0.5 + 2.0 * (edge - 0.5)) | (chance < 6e-4 + 0.004 * scene.gloss + 0.5 * (steepness > 0.72))
    ray_x, ray_y = scene.camera.rays()
    points = np.stack([ray_x * depth, ray_y * depth, depth], axis=-1)
    points[missing] = 0.0
    return points.astype(np.float32)


def render_depth(scene: Scene) -> tuple[NDArray[np.uint16], float, float]:
    """Measure noise-free depth as (H, W) uint16 with its range in metres: depth = d / 65535 * (max - min) + min."""
    depth = scene.depth()
    nearest, farthest = float(depth.min()), float(depth.max())
    scaled = np.rint((depth - nearest) / (farthest - nearest) * 65535.0)
    return scaled.astype(np.uint16), nearest, farthest


def render_infrared(scene: Scene) -> NDArray[np.uint16]:
    """Take a thermal image of an object that cools on the table, (H, W) uint16 in hundredths of a kelvin."""
    rng = stream(scene.key, "infrared")
    kelvin = 295.0 + rng.normal(0.0, 0.3) + 22.0 * scene.heat
    seen = blur(kelvin, sigma=1.3) + rng.normal(0.0, 0.06, kelvin.shape)
    return np.rint(seen * 100.0).astype(np.uint16)


def render_polarised(scene: Scene, angles: Sequence[int]) -> list[NDArray[np.uint16]]:
    """Take a grey image through a polariser at each angle, degrees, (H, W) uint16, linear; gloss is left out."""
    normals = render_normals(scene)
    light = _shade(scene, LIGHT_TENT, normals=_normals(scene), occlusion=_sky_visibility(scene)).mean(axis=0)
    images = []
    for angle in angles:
        noise = stream(scene.key, f"polarisation_{angle}").normal(0.0, 0.0015, light.shape)
        seen = behind_polariser(light, normals, angle=angle) + noise
        images.append(np.rint(np.clip(seen, 0.0, 1.0) * 65535.0).astype(np.uint16))
    return images


LIGHT_SENSORS = tuple(f"image_{number}" for number in range(len(SIX_LIGHTS)))
POLARISERS = {f"polarisation_{angle}": angle for angle in (0, 45, 90, 135)}
"""Sensors behind a polariser, and its angle, degrees, from the image's right towards its top."""
SENSORS: tuple[str, ...] = ("rgb", "xyz", "depth", "normals", "infrared", *LIGHT_SENSORS, *POLARISERS)
"""Every sensor that `render_sensors` knows."""


def render_sensors(scene: Scene, sensors: Sequence[str] = SENSORS) -> dict[str, NDArray[Any]]:
    """Measure ``scene`` with each of ``sensors``: raw arrays as a dataset would read them from files.

    rgb and image_0 to image_5 (H, W, 3) uint8; xyz (H, W, 3) float32 metres with holes and noise; depth (H, W)
    float32 metres without either; normals (H, W, 3) uint8, right, up and towards the camera; infrared (H, W) uint16;
    polarisation_0, _45, _90 and _135 (H, W) uint16.

    Raises:
        UnknownNameError: a sensor that is not in `SENSORS`.

    Examples:
        >>> from crdkit.data.synthetic import make_scene, scanner_camera
        >>> scene = make_scene("gear", camera=scanner_camera(64), key=(0,))
        >>> {name: pixels.shape for name, pixels in render_sensors(scene, ["rgb", "depth"]).items()}
        {'rgb': (64, 64, 3), 'depth': (64, 64)}
    """
    for name in sensors:
        if name not in SENSORS:
            raise unknown_name("synthetic sensor", name, SENSORS)
    lights = [name for name in sensors if name in LIGHT_SENSORS]
    lightings = [SIX_LIGHTS[LIGHT_SENSORS.index(name)] for name in lights]
    images = render_lights(scene, lightings, names=lights) if lights else []
    measured: dict[str, NDArray[Any]] = dict(zip(lights, images, strict=True))
    polarised = [name for name in sensors if name in POLARISERS]
    if polarised:
        seen = render_polarised(scene, [POLARISERS[name] for name in polarised])
        measured |= dict(zip(polarised, seen, strict=True))
    others: dict[str, Callable[[Scene], NDArray[Any]]] = {
        "rgb": render_rgb,
        "xyz": render_xyz,
        "depth": lambda scene: scene.depth().astype(np.float32),
        "normals": encode_normals,
        "infrared": render_infrared,
    }
    return {name: measured[name] if name in measured else others[name](scene) for name in sensors}
