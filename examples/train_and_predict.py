"""Train a two-sensor detector in Python and use it on one scan.

python examples/train_and_predict.py --data /data/mvtec3d --category bagel --out runs/bagel
python examples/train_and_predict.py --out runs/gear          # without --data: on synthetic scans
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import crdkit
from crdkit.config.build import build_dataset
from crdkit.data.synthetic import write_mvtec3d


def main() -> None:
    """Train, score one test sample, and print where its most anomalous pixel is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds the category folders of MVTec 3D-AD")
    parser.add_argument("--category", default="gear")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("overrides", nargs="*", help="key.path=value")
    arguments = parser.parse_args()
    out = arguments.out
    data = arguments.data or write_mvtec3d(
        out / "data", categories=[arguments.category], train=16, validation=4, test_good=4, test_per_defect=2
    )
    run = crdkit.RunConfig.preset("quick").with_overrides(
        f"data.root={data}", f"data.category={arguments.category}", *arguments.overrides
    )
    crdkit.fit(run, out / "run")

    detector = crdkit.Detector.load(out / "run" / "detector")
    dataset = build_dataset(run)
    record = dataset.records("test")[0]
    result = detector.predict(dataset.read(record).sensors)
    row, column = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    print(f"{record.sample_id}: score {result.score:.2f}, most anomalous at row {row}, column {column}")
    print(f"report: {out / 'run' / 'report.html'}")


if __name__ == "__main__":
    main()
