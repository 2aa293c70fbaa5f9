# %% [markdown]
# # Your own scans, step by step
#
# At the end a folder of scans has become a detector, with pictures of what it
# found. The sensors have names of their own, one of them stores tenths of a
# millimetre, and another one heat. Do the same with your folder: only the first
# step differs.
#
# ## 1. Put the files into folders
#
# One folder for each sensor, whatever it is called. Files of one part have one
# name. Good parts for training are enough; test parts let crdkit measure how good
# the detector is. All sensors must show the same view, pixel by pixel.
#
# Here the page draws its own scans. You have yours.

# %% fold="Draw scans of three sensors"
from pathlib import Path

import numpy as np
from PIL import Image

from crdkit.data.synthetic import (
    make_scene,
    render_sensors,
    sample_key,
    scanner_camera,
)


def write_part(folder, index, *, split, defect=None):
    """Write one part: a photo, heat in 16 bits, tenths of a millimetre."""
    key = sample_key(5, "capsule", split, defect or "good", index)
    scene = make_scene(
        "capsule", camera=scanner_camera(128), key=key, defect=defect
    )
    seen = render_sensors(scene, ["rgb", "infrared", "depth"])
    files = {
        "cam-left": seen["rgb"],
        "ir2": seen["infrared"],
        "laser": (seen["depth"] * 10_000).round().astype(np.uint16),
    }
    if defect:
        files["mask"] = scene.mask.astype(np.uint8) * 255
    for sensor, pixels in files.items():
        (folder / sensor).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(
            folder / sensor / f"part{index:02d}.png"
        )


for split in ("train", "validation"):
    for number in range(20):
        write_part(Path(f"parts/{split}/good"), number, split=split)
for number in range(6):
    write_part(Path("parts/test/good"), number, split="test")
for kind in ("stain", "dent", "void"):
    for number in range(3):
        write_part(
            Path(f"parts/test/{kind}"), number, split="test", defect=kind
        )

# %% [markdown]
# The folder then looks like this:

# %%
for folder in sorted(
    place
    for place in Path("parts").rglob("*/*")
    if any(place.glob("*.png"))
):
    files = sorted(file.name for file in folder.iterdir())
    print(f"{folder!s:28}{files[0]} ... {files[-1]}")

# %% [markdown]
# ## 2. Check the folder
#
# The check reads every file once. It needs to know the unit of the laser: a stored
# 1 is 0.0001 m.

# %% language="bash"
# crdkit -q data check parts data.scale.laser=0.0001

# %% [markdown]
# The last line is the training that fits these sensors. It was found by looking at
# them: a colour image becomes the view `rgb`, a depth image `depth`, and one
# channel of 16 bits `single_channel` with a range from the good parts.
#
# ## 3. Look at what the networks will see
#
# A view turns a sensor into an image between 0 and 1. Look for a part that is cut
# off, upside down or flat.

# %% alt="Three sensors as stored, and below the views that are made of them" fold="Draw sensors and views"
import matplotlib.pyplot as plt

from crdkit.data.images import read_file
from crdkit.views.depth import Depth
from crdkit.views.rgb import RGB
from crdkit.views.single_channel import SingleChannel

sensors = {
    name: read_file(Path(f"parts/test/dent/{name}/part00.png"))
    for name in ("cam-left", "ir2", "laser")
}
low, high = np.quantile(sensors["ir2"], (0.001, 0.999))
metres = {**sensors, "laser": sensors["laser"] * np.float32(0.0001)}
views = {
    "left": RGB(RGB.Config(sensor="cam-left")),
    "ir2": SingleChannel(
        SingleChannel.Config(sensor="ir2", range=(low, high))
    ),
    "laser": Depth(Depth.Config(sensor="laser")),
}
figure, axes = plt.subplots(2, 3, figsize=(6, 4.2))
for (above, below), (sensor, stored), view in zip(
    axes.T, sensors.items(), views.values(), strict=True
):
    above.imshow(stored, cmap="gray")
    above.set(title=f"{sensor}: {stored.dtype}", xticks=[], yticks=[])
    below.imshow(
        view.array(metres, image_size=128).transpose(1, 2, 0),
        cmap="gray",
        vmin=0,
        vmax=1,
    )
    below.set(title=f"view {view.config.name}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 4. Train
#
# This is the command of the check, with three options in the last line that make it
# small. Leave them out for real scans.

# %% language="bash"
# crdkit -q train quick data.name=folder data.root=parts data.scale.laser=0.0001 \
#     modalities.rgb=null modalities.depth=null \
#     "modalities.cam_left={name: rgb, sensor: cam-left, encoder: efficientnet_lite0}" \
#     "modalities.ir2={name: single_channel, sensor: ir2, range: [28660, 31760],
#                      encoder: efficientnet_lite0}" \
#     "modalities.laser={name: depth, sensor: laser, encoder: efficientnet_lite0}" \
#     --out runs/parts data.image_size=96 training.epochs=8 scoring.sigma=2

# %% [markdown]
# ## 5. Look at the pictures
#
# The report holds every test part, worst mistakes first. `runs/parts/figures` has
# pictures to paste elsewhere:

# %% alt="Test parts as columns: what each sensor sees, the true mask, the map of each branch and the fused map"
from IPython.display import Image as Picture

Picture("runs/parts/figures/gallery.png")

# %% publish="runs/parts/report.html"

# %% [markdown]
# ## 6. Judge new parts
#
# `predict` takes a folder of parts without labels. It writes scores, maps and
# overlays.

# %% language="bash"
# mkdir new && cp -r parts/test/void/cam-left parts/test/void/ir2 parts/test/void/laser new
# crdkit -q predict runs/parts new --out found
# cut -d, -f1,4,7-11 found/scores.csv

# %% [markdown]
# A void lies below the surface, so only the heat shows it. The overlays mark it on
# the photo:

# %% alt="Three capsules, each with a marked region where the heat sensor found a void" fold="Draw the overlays"
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
for place, file in zip(
    axes, sorted(Path("found/overlays").rglob("*.png")), strict=True
):
    place.imshow(plt.imread(file))
    place.set(title=file.stem, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Next
#
# - [Describe your data](../own-data.md): every layout, table and option.
# - [A sensor of your own](../tutorials/own-sensor.py): where no view fits.
# - [On the line](../tutorials/on-the-line.py): from a run to decisions while parts
#   arrive.
