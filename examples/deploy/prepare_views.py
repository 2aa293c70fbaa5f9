"""Make the prepared views that an exported detector reads, such as depth_view, with crdkit but without PyTorch.

    python prepare_views.py part.onnx xyz=a.tiff --out views        # writes views/depth_view.npy

``pip install --no-deps crdkit`` and numpy, pillow, tifffile, scipy, scikit-learn and pydantic are enough. Files are
read as the detector's data set reads them, with its scale and its value for "not measured".
"""

import argparse
import json
from pathlib import Path

import numpy as np

from crdkit.data import UNLABELLED, SampleRecord, datasets
from crdkit.errors import CrdkitError
from crdkit.views import views

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path, help="part.onnx")
parser.add_argument("sensors", nargs="+", metavar="SENSOR=FILE")
parser.add_argument("--out", type=Path, required=True, help="folder for the views")
options = parser.parse_args()

about = json.loads(options.model.with_suffix(".json").read_text(encoding="utf-8"))
files = {name: Path(file) for name, _, file in (text.partition("=") for text in options.sensors)}
record = SampleRecord(sample_id="sample", split="test", label=None, defect_type=UNLABELLED, files=files)
try:
    dataset = datasets.build(datasets.build_config(about["detector"]["config"]["data"]))
    options.out.mkdir(parents=True, exist_ok=True)
    for entry in about["inputs"]:
        if entry["kind"] == "view" and set(entry["sensors"]) <= set(files):
            view = views.build(views.build_config(entry["options"]))
            image = view.array(dataset.read(record, entry["sensors"]).sensors, image_size=about["image_size"])
            np.save(options.out / entry["name"], image)
            print(options.out / f"{entry['name']}.npy")
except CrdkitError as error:
    parser.exit(2, f"{error}\n")
