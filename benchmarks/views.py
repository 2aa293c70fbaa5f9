"""How long each view takes of one synthetic sample: CPU time of one process, which other processes hardly change.

    python -m benchmarks.views --size 256 --repeats 9

prints the median of ``--repeats`` calls after one that does not count, in milliseconds, as rows of a table. Set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import process_time

from crdkit.testing import example_sensors
from crdkit.views import View, views


def milliseconds(view: View, *, size: int, repeats: int) -> float:
    """Return how long a view of ``size`` x ``size`` pixels takes of sensors of that size."""
    sensors = example_sensors(view.sensors, size=(size, size))
    seconds = []
    for _ in range(repeats + 1):
        start = process_time()
        view.array(sensors, image_size=size)
        seconds.append(process_time() - start)
    return 1000 * median(seconds[1:])


def main() -> None:
    """Print a row per registered view."""
    parser = argparse.ArgumentParser(description="How long each view takes of one synthetic sample.")
    parser.add_argument("--size", type=int, default=256, help="pixels a side, of the sensors and of the view")
    parser.add_argument("--repeats", type=int, default=9, help="calls that count")
    options = parser.parse_args()
    for name in views.names():
        view = views.build(views.build_config(name))
        print(f"| `{name}` | {milliseconds(view, size=options.size, repeats=options.repeats):.1f} |")


if __name__ == "__main__":
    main()
