"""Find defects with an exported detector, without crdkit and PyTorch: needs numpy, pillow, tifffile and onnxruntime.

    python predict_onnx.py part.onnx rgb=a.png depth_view=a.npy --mask a_mask.png
    python predict_onnx.py part.onnx --selftest       # exit code 1 where outputs differ from PyTorch's

part.json, beside the model, says what each input is. A sensor is read as it was delivered; a prepared view, such as
depth_view, is a .npy file that prepare_views.py made from the scan.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
import tifffile
from PIL import Image

READERS = {".npy": np.load, ".tif": tifffile.imread, ".tiff": tifffile.imread}


def read(file, entry):
    """Return one input, as a batch of one; a prepared view is not converted again."""
    array = READERS.get(Path(file).suffix.lower(), lambda name: np.asarray(Image.open(name)))(file)
    if entry["kind"] == "sensor" and entry.get("registration"):
        raise SystemExit(f"{file}: {entry['name']} must be registered first, which this program does not do")
    if entry["kind"] == "sensor" and entry.get("stored_invalid") is not None:
        array = np.where(array == entry["stored_invalid"], np.float32(np.nan), array).astype(np.float32)
    if entry["kind"] == "sensor" and entry.get("scale"):  # files hold another unit than the detector reads
        array = array.astype(np.float32) * np.float32(entry["scale"])
    fixed = [have for have, side in zip(array.shape, entry["shape"][1:], strict=False) if not isinstance(side, str)]
    wanted = [side for side in entry["shape"][1:] if not isinstance(side, str)]
    if array.ndim + 1 != len(entry["shape"]) or fixed != wanted or not np.can_cast(array, entry["dtype"], "same_kind"):
        form = f"{entry['dtype']} {entry['shape'][1:]}"
        raise SystemExit(f"{file}: {entry['name']} is {form}, found {array.dtype} {array.shape}; {entry['meaning']}")
    return array[None].astype(entry["dtype"])


def selftest(session, folder, saved):
    """Return 1 if outputs differ from those that PyTorch computed, else 0."""
    inputs, outputs = ({name: np.load(folder / f"{name}.npy") for name in saved[k]} for k in ("inputs", "outputs"))
    gaps = {}
    for (name, wanted), found in zip(outputs.items(), session.run(list(outputs), inputs), strict=True):
        gaps[name] = np.abs(found - wanted.astype(float)).max() / max(np.abs(wanted).max(), 1e-12)
        print(f"{name}: differs by {gaps[name]:.1e}")
    return int(not all(gap <= saved["tolerance"] for gap in gaps.values()))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path, help="part.onnx")
parser.add_argument("inputs", nargs="*", metavar="NAME=FILE", help="of the model, as part.json names them")
parser.add_argument("--threshold", type=float, help="of the score; without it that of the detector")
parser.add_argument("--mask", type=Path, help="PNG file to write")
parser.add_argument("--selftest", action="store_true", help="compare with the sample that came with the model")
options = parser.parse_args()
about = json.loads(options.model.with_suffix(".json").read_text(encoding="utf-8"))
settings = onnxruntime.SessionOptions()
settings.log_severity_level = 3  # errors: it would warn that thresholds can be changed
session = onnxruntime.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
if options.selftest:
    raise SystemExit(selftest(session, options.model.with_name(about["selftest"]["folder"]), about["selftest"]))

entries = {entry["name"]: entry for entry in about["inputs"]}
needed = [name for name, entry in entries.items() if entry["kind"] in ("sensor", "view")]
files = dict(text.partition("=")[::2] for text in options.inputs)
if set(files) - set(needed) or not files or ("present" not in entries and set(needed) - set(files)):
    parser.error(f"give {' '.join(f'{name}=FILE' for name in needed)}; prepare_views.py makes views such as depth_view")
arrays = {name: read(file, entries[name]) for name, file in files.items()}
if "present" in entries:  # a detector that can do without some sensors: what the others' inputs hold is ignored
    seen = {sensor for name in files for sensor in entries[name].get("sensors", [name])}
    arrays["present"] = np.array([[sensor in seen for sensor in entries["present"]["sensors"]]])
    for name in set(needed) - set(files):
        shape = [1 if side == "N" else 64 if isinstance(side, str) else side for side in entries[name]["shape"]]
        arrays[name] = np.zeros(shape, entries[name]["dtype"])
if options.threshold is not None:
    arrays["threshold"] = np.array(options.threshold, np.float32)
score, label, mask = session.run(["score", "label", "mask"], arrays)
print(f"score {score[0]:.6g}: {'anomalous' if label[0] else 'normal'}, {mask.mean():.2%} of the pixels anomalous")
if options.mask:
    Image.fromarray(mask[0, 0].astype(np.uint8) * 255).save(options.mask)
