"""Registration: moves against brute force, a scan against a camera that is known, files, data sets and detectors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from scipy import ndimage
from two_cameras import MARKS, is_marked, scanner, side_camera

import crdkit
from crdkit.data.adapters.folder import Folder
from crdkit.data.registration import RegisteredSensors, Registration
from crdkit.data.registration._pinhole import project
from crdkit.data.synthetic import write_folder
from crdkit.detector._export_description import _registration
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.views._cache import find_entry

TURNED = [[0.9, -0.2, 3.0], [0.15, 0.8, 1.5], [0.002, -0.001, 1.0]]
ENLARGED = [[1.1, -0.2, 3.0], [0.15, 1.2, 1.5], [0.002, -0.001, 1.0]]
QUARTER = [[0, -1, 11], [1, 0, 0]]  # of an image 12 rows high


def registration(sensor="moved", reference="grid", *, size=None, masks=None, **move):
    return Registration.model_validate(
        {"reference": reference, "sensors": {sensor: move}, "size": size, "masks": masks}
    )


def moved(array, grid, **move):
    return registration(size=grid, **move).bring({"moved": array})[0]["moved"]


def places(matrix, grid):
    """Return where each pixel of the grid lies in the source, by the centres of pixels."""
    rows, columns = np.mgrid[: grid[0], : grid[1]].astype(float)
    full = np.vstack([matrix, [[0, 0, 1]]]) if len(matrix) == 2 else np.array(matrix)
    x, y, w = np.linalg.inv(full) @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    return (y / w).reshape(grid), (x / w).reshape(grid)


def test_a_matrix_is_not_used_on_images_of_another_size():
    shift = {"method": "affine", "matrix": [[1, 0, 2], [0, 1, 0]]}
    image = np.zeros((8, 6, 3), np.uint8)
    assert moved(image[:4], (8, 6), **shift).shape == (8, 6, 3)  # none was said
    known = Registration.model_validate({"reference": "grid", "sensors": {"moved": shift | {"size": [8, 6]}}})
    assert known.bring({"grid": image, "moved": image})[0]["moved"].shape == (8, 6, 3)
    for array in (np.zeros((4, 3, 3), np.uint8), np.zeros((4, 3), np.float32)):
        with pytest.raises(DataError, match=r"sensors\.moved\.size is \[8, 6\], but .* \[4, 3\], for which the matrix"):
            known.bring({"grid": image, "moved": array})


@pytest.mark.parametrize("matrix", [[[1, 0, 2], [0, 1, -1]], QUARTER, TURNED], ids=["shift", "quarter", "homography"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_all_but_8_bit_images_take_the_nearest_pixel(matrix, dtype):
    array = np.arange(1, 12 * 9 + 1).reshape(12, 9).astype(dtype)
    rows, columns = places(matrix, (10, 13))
    found = moved(array, (10, 13), method="affine" if len(matrix) == 2 else "homography", matrix=matrix)
    expected = np.full((10, 13), np.nan if dtype == "float32" else 0, dtype)
    for place in np.ndindex(10, 13):
        row, column = round(rows[place]), round(columns[place])
        if 0 <= row < 12 and 0 <= column < 9:
            expected[place] = array[row, column]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, expected)


def test_scans_are_0_where_nothing_is():
    scan = np.ones((4, 5, 3), np.float32)
    scan[1, 1] = np.nan  # and stays, whatever lies beside it
    found = moved(scan, (4, 5), method="affine", matrix=[[1, 0, 1.3], [0, 1, 0]])
    assert (found[:, 0] == 0).all()
    assert np.isnan(found[1, 2]).all()
    assert np.isfinite(found).sum() == 57


@pytest.mark.parametrize("channels", [(), (2,), (3,)], ids=str)
def test_8_bit_images_are_interpolated(channels):
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((40, 50, *channels)) * 255, (2, 2, *([0] * len(channels)))).astype("u1")
    rows, columns = places(ENLARGED, (30, 35))
    found = moved(image, (30, 35), method="homography", matrix=ENLARGED)
    inside = (rows > 0) & (rows < 39) & (columns > 0) & (columns < 49)
    for plane, seen in zip(np.atleast_3d(image).T, np.atleast_3d(found).T, strict=True):
        expected = ndimage.map_coordinates(plane.T.astype(float), [rows, columns], order=1)
        assert np.abs(seen.T - expected)[inside].max() <= 1.01
    outside = (rows < -0.5) | (columns < -0.5) | (rows > 39.5) | (columns > 49.5)
    assert outside.any()
    assert (found[outside] == 0).all()


def test_a_coarser_grid_averages():
    stripes = np.tile(np.array([0, 255], np.uint8), (40, 60))
    halved = moved(stripes, (20, 60), method="affine", matrix=[[0.5, 0, -0.25], [0, 0.5, -0.25]])
    assert halved[5:15, 5:55].min() > 100
    assert halved[5:15, 5:55].max() < 155


@pytest.mark.parametrize("grid", [(20, 30), (7, 5), (31, 64)], ids=str)
def test_resize_lays_corners_on_corners(grid):
    rng = np.random.default_rng(1)
    image, floats = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8), rng.random((16, 24))
    expected = np.asarray(Image.fromarray(image).resize(grid[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(moved(image, grid, method="resize").astype(int) - expected).max() <= 2  # rounded twice
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(grid, (16, 24), strict=True))
    np.testing.assert_array_equal(moved(floats, grid, method="resize"), floats[rows][:, columns])


def pinhole(camera, **options):
    values = {"intrinsics": camera.intrinsics, "rotation": camera.rotation, "translation": camera.translation}
    return {"method": "pinhole", **{name: array.tolist() for name, array in values.items()}, **options}


@pytest.fixture(scope="module")
def scene():
    scan, camera = scanner(), side_camera()
    return scan.see().astype(np.float32), camera, camera.see()


def test_a_scan_ends_within_half_a_pixel_of_where_the_camera_sees_it(scene):
    xyz, camera, truth = scene
    drawn = np.where(is_marked(xyz[..., 0], xyz[..., 1]), np.uint8(255), np.uint8(0))
    found, mask = registration(masks="moved", size=camera.size, **pinhole(camera)).bring({"moved": xyz}, drawn)
    scan = found["moved"].astype(np.float64)
    valid = scan[..., 2] != 0
    rows, columns = np.mgrid[: camera.size[0], : camera.size[1]]
    off = np.abs(camera.project(scan) - np.stack([columns, rows], -1))[valid]
    assert off.max() <= 0.5
    assert valid.mean() > 0.7
    apart = np.linalg.norm(scan - truth, axis=-1)[valid]  # what the camera sees there, and not what is hidden from it
    assert np.quantile(apart, 0.99) < 0.002
    assert (apart > 0.005).mean() < 0.005
    marks, count = ndimage.label(is_marked(truth[..., 0], truth[..., 1]))
    assert count == len(MARKS)
    for mark in range(1, count + 1):
        around = ndimage.binary_dilation(marks == mark, iterations=2)
        centre, expected = (np.array(ndimage.center_of_mass(each)) for each in (mask * around, marks == mark))
        assert np.abs(centre - expected).max() < 0.5, mark


def test_closing_fills_holes_and_hides_what_shows_through(scene):
    _, camera, truth = scene
    coarse = scanner((60, 75)).see().astype(np.float32)  # the camera is finer
    found = {}
    for close in (0, 2):
        scan = moved(coarse, camera.size, **pinhole(camera, close=close))
        valid = scan[..., 2] != 0
        found[close] = valid.mean(), (np.linalg.norm(scan - truth, axis=-1)[valid] > 0.008).mean()
    assert found[0][0] < 0.35
    assert found[2][0] > 0.6
    assert found[2][1] < 0.03


def test_points_that_meet_hide_each_other_and_those_behind_are_not_seen():
    scan = np.zeros((1, 6, 3))
    scan[0, :, 2] = [2.0, 1.0, 3.0, -1.0, 0.0, np.nan]
    scan[0, 3, 0] = 4
    camera = {"intrinsics": [[10, 0, 2], [0, 10, 1], [0, 0, 1]]}
    found = moved(scan, (3, 5), method="pinhole", **camera)
    assert (found[..., 2] == 1).sum() == 1
    assert (found[..., 2] != 0).sum() == 1
    assert found[1, 2, 2] == 1
    shown_through = np.array([[[0.0, 0, 1], [0.4, 0, 2], [0.2, 0, 1], [-0.4, 0, 2]]])  # columns 2, 4, 4, 0
    closed = moved(shown_through, (3, 5), method="pinhole", close=2, **camera)
    np.testing.assert_array_equal(closed[1, :, 2], [0, 0, 1, 1, 1])


def test_a_lens_distorts_as_that_of_opencv_does():
    # cv2.projectPoints of opencv-python-headless 5.0.0; the rotation is the vector (0.1, -0.2, 0.05)
    rotation = [
        [0.9788428062071254, -0.0595199734937639, -0.1957655063893064],
        [0.03960732051223486, 0.9937772959432721, -0.10410545725138103],
        [0.20074366963468865, 0.0941491307606165, 0.9751091837730888],
    ]
    points = np.array([[0.01, 0.02, 0.5], [-0.1, 0.08, 0.4], [0.2, -0.15, 0.6]])
    camera = {"intrinsics": [[500, 0, 320], [0, 505, 240], [0, 0, 1]], "rotation": rotation}
    camera["translation"] = [0.01, -0.02, 0.03]
    lens = (-0.2, 0.05, 0.001, -0.002, 0.01, 0.1, -0.02, 0.003)
    expected = {
        8: [[244.6557617416421, 190.33876852096893], [120.19928095519683, 256.4821724371745]],
        5: [[244.40911942610582, 190.17607478644052], [116.79109243092799, 256.7620464296165]],
    }
    for count, pixels in expected.items():
        found, _ = project(points, distortion=lens[:count], **camera)
        np.testing.assert_allclose(found[:2], pixels, atol=1e-6)


@pytest.mark.parametrize("lens", [(-0.5,), (-0.2, 0, 0, 0, 0, -0.4, 0, -0.1), (0.1, 0.2, 0, 0, -0.3, 0.3, 0.1, 0.05)])
def test_what_is_too_far_aside_for_the_lens_is_not_seen(lens):
    k1, k2, _, _, k3, k4, k5, k6 = (*lens, *[0.0] * (8 - len(lens)))
    r = np.linspace(0, 4, 4001)
    below = 1 + k4 * r**2 + k5 * r**4 + k6 * r**6
    seen = r * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / below
    turn = int(np.argmax((np.diff(seen, append=np.inf) <= 0) | (below <= 0)))  # brute force
    assert 0.5 < r[turn] < 4
    camera = {"intrinsics": [[10, 0, 0], [0, 10, 0], [0, 0, 1]]}
    points = np.stack([r, np.zeros_like(r), np.ones_like(r)], axis=1)
    pixels, _ = project(points, distortion=lens, rotation=np.eye(3), translation=(0, 0, 0), **camera)
    np.testing.assert_allclose(pixels[: turn - 1, 0], 10 * seen[: turn - 1])
    assert np.isnan(pixels[turn + 2 :]).all()


def test_points_beside_the_picture_are_not_folded_into_it():
    scan = np.array([[[0, 0, 1], [0.5, 0, 1], [1.3, 0, 1], [1, 1, 1e-200]]])
    # with k1 = -0.5 the third would be seen at 0.2
    found = moved(scan, (32, 32), method="pinhole", intrinsics=[[20, 0, 16], [0, 20, 16], [0, 0, 1]], distortion=[-0.5])
    assert sorted(found[found[..., 2] != 0][:, 0]) == [0, 0.5]


CALIBRATIONS = {
    "plain.yaml": "intrinsics: [[9, 0, 2], [0, 9, 1], [0, 0, 1]]\ntranslation: [0, 0, 1]\n",
    "other.json": json.dumps({"moved": {"K": [[9, 0, 2], [0, 9, 1], [0, 0, 1]], "t": [[0], [0], [1]]}}),
    "opencv.yml": "camera_matrix: {rows: 3, cols: 3, data: [9, 0, 2, 0, 9, 1, 0, 0, 1]}\nT: [0, 0, 1]\n",
    "ros.yaml": """
image_width: 5
image_height: 3
camera_name: side
camera_matrix: {rows: 3, cols: 3, data: [9, 0, 2, 0, 9, 1, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [9, 0, 2, 0, 0, 9, 1, 0, 0, 0, 1, 0]}
t: [0, 0, 1]
""",
}


@pytest.mark.parametrize("name", [*CALIBRATIONS, "arrays.npz"])
def test_values_come_from_a_calibration_file(tmp_path, name):
    file = tmp_path / name
    if name in CALIBRATIONS:
        file.write_text(CALIBRATIONS[name])
    else:
        np.savez(file, K=np.array([[9, 0, 2], [0, 9, 1], [0, 0, 1]]), t=np.array([[0], [0], [1]]))
    found = registration(method="pinhole", file=str(file)).sensors["moved"]
    assert found.intrinsics == ((9, 0, 2), (0, 9, 1), (0, 0, 1))
    assert found.translation == (0, 0, 1)
    assert "file" not in found.model_dump()  # the values themselves are kept


def test_calibration_files_that_are_refused(tmp_path):
    def refused(content, match, name="c.yaml", **more):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ValueError, match=match):
            registration(method="affine", file=file, **more)

    refused(b"[1, 2]", r"expected a mapping such as {matrix")
    refused(b"{", r"c.json: the calibration cannot be read", name="c.json")
    refused(b"not a zip", r"c.npz: the calibration cannot be read", name="c.npz")
    refused(b"x" * (2**20 + 1), "a calibration is a few numbers")
    refused(b"matrix: [[1, 0, 0], [0, 1, 0]]", "is given here and elsewhere", matrix=QUARTER)
    for data in ("{rows: 2, cols: 3, data: [1, 0, 0]}", "{rows: '2', cols: 3, data: 7}"):
        refused(b"M: " + data.encode(), r"c.yaml: 'M': expected rows and cols above 0, and as data a list")
    refused(b"M: {rows: 1000000000000, cols: 0, data: []}", "'M': expected rows and cols above 0")
    refused(b"distortion_model: equidistant", "distortion_model 'equidistant' is not known; expected plumb_bob or")
    np.savez(tmp_path / "o.npz", matrix=np.array([{}], dtype=object))
    refused((tmp_path / "o.npz").read_bytes(), "c.npz: the calibration cannot be read.*pickle", name="c.npz")
    for name in (tmp_path / "none.yaml", "~nobody_of_this_name/none.yaml"):
        with pytest.raises(ValueError, match=r"none\.yaml: the calibration cannot be read"):
            registration(method="affine", file=name)


def test_a_matrix_may_shift_by_thousands_of_pixels():
    far = [[0.1, 0, 3000], [0, 0.1, 2000], [0, 0, 1]]
    assert registration(method="homography", matrix=far).sensors["moved"].matrix[0][2] == 3000
    with pytest.raises(ValueError, match="cannot be inverted"):
        registration(method="homography", matrix=[[0.1, 0.2, 3000], [0.2, 0.4, 2000], [0, 0, 1]])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"sensors": {"a": {"method": "resize"}}}, "the reference 'a' cannot be moved"),
        ({"sensors": {}}, "at least 1"),
        ({"sensors": 3}, "sensors"),
        ({"sensors": {"b": "resize"}}, "sensors.b"),
        ({"sensors": {"b": {"method": "warp"}}}, "'resize', 'affine', 'homography', 'pinhole'"),
        ({"sensors": {"b": {"method": "affine", "matrix": [[1, 0, 0], [2, 0, 0]]}}}, "cannot be inverted"),
        ({"sensors": {"b": {"method": "homography", "matrix": [[0, 0, 0]] * 3}}}, "cannot be inverted"),
        ({"sensors": {"b": {"method": "resize", "matrix": QUARTER}}}, "unknown key 'matrix'"),
        ({"sensors": {"b": {"method": "pinhole", "intrinsics": TURNED}}}, "intrinsics must be"),
        (
            {"sensors": {"b": {"method": "pinhole", "intrinsics": np.eye(3).tolist(), "rotation": TURNED}}},
            "rotation must be",
        ),
    ],
)
def test_options_that_are_refused(values, match):
    with pytest.raises(CrdkitError, match=match):
        crdkit.RunConfig.preset("quick").with_overrides({"data.registration": {"reference": "a", **values}})


def test_samples_that_are_refused():
    with pytest.raises(DataError, match=r"'grid' is missing.* data.registration.size"):
        registration(method="resize").bring({"moved": np.ones((4, 4))})
    with pytest.raises(DataError, match=r"size is \[3, 4\], but sensor 'grid' has height and width \[4, 4\]"):
        registration(method="resize", size=[3, 4]).bring({"grid": np.ones((4, 4))})
    for array in (np.zeros(4), np.zeros((0, 4), np.uint8), np.float32(3), np.zeros((2, 2, 2, 2))):
        for sensors in ({"moved": array, "grid": np.ones((4, 4))}, {"moved": np.ones((4, 4)), "grid": array}):
            with pytest.raises(DataError, match=r"sensor '(moved|grid)': expected \(H, W\) or \(H, W, C\), found "):
                registration(method="resize").bring(sensors)
    horizon = [[1, 0, 0], [0, 1, 0], [0.5, 0, -1]]
    with pytest.raises(DataError, match=r"sensors.moved: the horizon"):
        moved(np.ones((9, 9)), (9, 9), method="homography", matrix=horizon)
    with pytest.raises(DataError, match=r"'moved': 'pinhole' moves scans, float \(H, W, 3\)"):
        moved(np.ones((9, 9)), (9, 9), method="pinhole", intrinsics=np.eye(3).tolist())
    camera = {"method": "pinhole", "intrinsics": np.eye(3).tolist(), "masks": "moved", "size": [4, 4]}
    with pytest.raises(DataError, match=r"the mask has \(3, 3\) pixels, but sensor 'moved' has \(4, 4\)"):
        registration(**camera).bring({"moved": np.ones((4, 4, 3))}, np.zeros((3, 3), np.uint8))


SHIFT = {"method": "affine", "matrix": [[1, 0, 3], [0, 1, 0]]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder whose infrared images are half as large as the others."""
    options = {"train": 3, "validation": 2, "test_good": 1, "test_per_defect": 1, "size": 64}
    folder = write_folder(tmp_path_factory.mktemp("data") / "parts", categories=["gear"], **options)
    for path in folder.glob("gear/**/infrared/*.png"):
        Image.fromarray(np.asarray(Image.open(path))[::2, ::2]).save(path)
    return folder


def dataset(root, **given):
    values = {"reference": "rgb", "sensors": {"infrared": {"method": "resize"}}, **given}
    return Folder(Folder.Config(root=root, category="gear", registration=Registration.model_validate(values)))


def test_a_data_set_reads_registered_sensors_and_masks(root):
    plain = Folder(Folder.Config(root=root, category="gear"))
    normal = plain.records("train")[0]
    with pytest.raises(DataError, match=r"same height x width.*data\.registration"):
        plain.read(normal)
    data = dataset(root)
    record = next(record for record in data.records("test") if record.label == 1)
    sample = data.read(record)
    assert {array.shape[:2] for array in [*sample.sensors.values(), sample.mask]} == {(64, 64)}
    assert isinstance(sample.sensors, RegisteredSensors)
    alone = data.read(record, ["infrared"])  # the reference is read for its size
    assert list(alone.sensors) == ["infrared"]
    np.testing.assert_array_equal(alone.sensors["infrared"], sample.sensors["infrared"])
    sized = dataset(root, size=[32, 32], reference="xyz", sensors={"rgb": {"method": "resize"}})
    with pytest.raises(DataError, match=r"sample 'dent/000': data.registration.size is \[32, 32\]|sample .*size is"):
        sized.read(record)
    assert data.read(data.records("train")[0]).mask.shape == (64, 64)


def test_masks_may_have_been_drawn_on_a_sensor_that_is_moved(root):
    both = {"infrared": {"method": "resize"}, "xyz": SHIFT}
    plain, drawn = dataset(root, sensors=both), dataset(root, sensors=both, masks="xyz")
    record = next(record for record in plain.records("test") if record.defect_type == "dent")
    before, after = plain.read(record), drawn.read(record, ["rgb", "infrared"])
    assert before.mask.any()
    np.testing.assert_array_equal(after.mask[:, 3:], before.mask[:, :-3])
    assert not after.mask[:, :3].any()
    camera = {"method": "pinhole", "intrinsics": [[277, 0, 31.5], [0, 277, 31.5], [0, 0, 1]]}
    seen = dataset(root, sensors={**both, "xyz": camera}, masks="xyz").read(record, ["rgb", "infrared"])
    assert list(seen.sensors) == ["rgb", "infrared"]
    overlap = (seen.mask > 0) & (before.mask > 0)
    assert overlap.sum() > 0.7 * (before.mask > 0).sum()


def test_the_cache_knows_the_registration(root, tmp_path):
    names = set()
    for sensors in ({"infrared": {"method": "resize"}}, {"infrared": SHIFT}):
        data = dataset(root, sensors=sensors)
        data = Folder(data.config.model_copy(update={"cache": tmp_path}))
        names.add(find_entry(data, data.records("train"), views={}).path)
    assert len(names) == 2


TEACHER = "{name: timm, model: test_resnet, pretrained: false}"
INFRARED = "{name: single_channel, sensor: infrared, range: [29000, 32000], encoder: " + TEACHER + "}"


def test_a_detector_registers_what_it_is_given(root, tmp_path):
    kept = [text for text in TINY if not text.startswith(("data.category", "training.epochs"))]
    run = crdkit.RunConfig.preset("quick").with_overrides(
        "data.name=folder",
        f"data.root={root}",
        "data.category=gear",
        *kept,
        "training.epochs=1",
        f"modalities.infrared={INFRARED}",
    )
    given = {"reference": "rgb", "sensors": {"infrared": {"method": "resize"}, "xyz": SHIFT}}
    run = run.with_overrides({"data.registration": given})
    crdkit.fit(run).save(tmp_path / "detector")
    detector = crdkit.Detector.load(tmp_path / "detector")
    data = dataset(root, **given)
    record = data.records("test")[-1]
    sample = data.read(record)
    expected = detector.predict(sample.sensors)
    assert expected.anomaly_map.shape == (64, 64)
    arrays = detector.read(record.files)
    assert arrays["infrared"].shape == (32, 32)
    for sensors in (record.files, arrays, detector.register(arrays), detector.register(record.files)):
        assert replace(detector.predict(sensors), image_path=None) == expected
    np.testing.assert_array_equal(detector.register(arrays)["xyz"], sample.sensors["xyz"])
    described = _registration(["rgb", "infrared"], detector.config)
    assert list(described["sensors"]) == ["infrared"]
    assert described["reference"] == "rgb"
    assert _registration(["rgb"], detector.config) is None
    assert _registration(["rgb"], crdkit.RunConfig.preset("quick")) is None
    unread = run.with_overrides({"data.registration": given, "modalities.rgb": None})
    with pytest.raises(ConfigError, match=r"reference \(='rgb'\) is read by no modality.*registration.size"):
        crdkit.fit(unread)
    unknown = run.with_overrides({"data.registration.sensors": {"ir": {"method": "resize"}}})
    with pytest.raises(DataError, match=r"data.registration: unknown sensor 'ir'"):
        crdkit.fit(unknown)
