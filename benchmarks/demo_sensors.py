"""What the demo's sensors see together and alone: three seeds, two objects, one Markdown table.

    python -m benchmarks.demo_sensors --out OUT

Same data, preset and overrides as `crdkit demo`; "alone" is a detector trained on that one sensor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.runs import tabulate
from crdkit.cli.demo import CATEGORIES, OVERRIDES, write_demo_data
from crdkit.config import RunConfig

VARIANTS = {"RGB + depth": [], "RGB alone": ["modalities.depth=null"], "depth alone": ["modalities.rgb=null"]}


def main() -> None:
    """Write the demo's data, train nine detectors per object, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = arguments.out / "data"
    if not data.exists():
        write_demo_data(data)
    base = RunConfig.preset("quick").with_overrides(f"data.root={data}", *OVERRIDES)
    print(tabulate(base, variants=VARIANTS, categories=CATEGORIES, seeds=[0, 1, 2], out=arguments.out / "runs"))


if __name__ == "__main__":
    main()
