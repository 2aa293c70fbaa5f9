# %% [markdown]
# # On the line
#
# At the end a detector judges parts while they arrive, with a rate of false alarms
# that you chose, and says when something has moved. You see the page that hangs
# beside the line. All of it runs on a CPU.
#
# ## 1. A detector
#
# Trained on 24 good gears. On your line, take the run that you have.

# %%
from pathlib import Path

import crdkit
from crdkit.data.synthetic import write_mvtec3d

write_mvtec3d(
    Path("scans"),
    categories=["gear"],
    train=24,
    validation=10,
    test_good=4,
    test_per_defect=1,
    size=96,
)
run = crdkit.RunConfig.preset("quick").with_overrides(
    "data.root=scans",
    "data.category=gear",
    "data.image_size=96",
    "training.epochs=8",
    "scoring.sigma=2",
)
detector = crdkit.fit(run)
detector

# %% [markdown]
# ## 2. Choose the rate of false alarms
#
# The threshold comes from good parts alone. Ten of them support one false alarm in
# eleven parts, and no less. So let the line run for a while, take parts that are
# known to be good, and give them to the detector. Nothing is trained.

# %% fold="Parts as the line delivers them"
import numpy as np
import tifffile
from PIL import Image

from crdkit.data.synthetic import (
    make_scene,
    render_sensors,
    sample_key,
    scanner_camera,
)


def part(number, *, defect=None, light=1.0):
    """Return what both sensors measure; ``light`` is what is left of the lamp's."""
    key = sample_key(7, "gear", "line", defect or "good", number)
    seen = render_sensors(
        make_scene(
            "gear", camera=scanner_camera(96), key=key, defect=defect
        ),
        ["rgb", "xyz"],
    )
    return {
        "rgb": (seen["rgb"] * light).astype(np.uint8),
        "xyz": seen["xyz"],
    }


def arrive(number, **options):
    """Put the files of one part where the watch looks for them."""
    for sensor, pixels in part(number, **options).items():
        folder = Path("line") / sensor
        folder.mkdir(parents=True, exist_ok=True)
        if sensor == "rgb":
            Image.fromarray(pixels).save(folder / f"{number:04d}.png")
        else:
            tifffile.imwrite(folder / f"{number:04d}.tiff", pixels)


# %%
def say(title):
    """Print the threshold as it is."""
    decided = detector.thresholds.images["rgb", "depth"]
    print(
        f"{title:28}{decided.rate:5.1%} false alarms, threshold "
        f"{decided.value:.1f}, {decided.normals} good parts"
    )


say("after training")
detector.decide(0.02, normals=[part(number) for number in range(100, 149)])
say("from 49 parts of the line")
detector.save("detector")

# %% [markdown]
# ## 3. Watch the folder
#
# Twenty-four parts arrive, and three of them are not good. `once=True` ends when
# all are judged; on a line leave it out. The command does the same: `crdkit watch
# detector line --out watched`.

# %%
from crdkit.watch import watch

for number in range(24):
    arrive(
        number, defect={5: "stain", 12: "crack", 19: "broken"}.get(number)
    )
events = []
found = watch(
    detector,
    Path("line"),
    Path("watched"),
    once=True,
    on_event=events.append,
)
print(f"{found.decided} decided, {found.anomalous} anomalous")
for event in events:
    if event.get("pred_label"):
        shares = ", ".join(
            f"{name} {share:.0%}"
            for name, share in event["attribution"].items()
        )
        print(
            f"alarm: part {event['sample']}, "
            f"score {event['pred_score']:.1f}, raised by {shares}"
        )

# %% [markdown]
# Each event is a line of `watched/journal.jsonl`, on the disk before anything else
# happens. After a power cut the same command goes on where the journal ends.
#
# ## 4. The lamp ages
#
# Forty good parts arrive under a lamp that has lost a fifth of its light. A watch
# compares sensors and scores with the training, and says what has moved.

# %%
for number in range(24, 64):
    arrive(number, light=0.8)
events.clear()
found = watch(
    detector,
    Path("line"),
    Path("watched"),
    once=True,
    on_event=events.append,
)
for event in events:
    if event["event"] == "drift":
        print(event["detail"])

# %% [markdown]
# ## 5. The page beside the line
#
# `watched/watch.html` shows the last parts, the rate of alarms, and the warning. It
# reloads itself.

# %% publish="watched/watch.html"

# %% [markdown]
# ## 6. Without Python
#
# `crdkit export detector --out part.onnx --check` writes one file for ONNX Runtime
# or OpenVINO and compares it with the detector on real parts
# ([Export](../export.md)). Programs in Python, C++ and C# that run it are in [Run
# it without crdkit](../deploy.md).
#
# ## Next
#
# - [Watch a folder](../watch.md): every event, half-written files, what a restart
#   does.
# - [How many good parts a rate needs](../decisions.md#how-many-good-parts-a-rate-needs).
# - [Reliability](../reliability.md): what was tested to break.
