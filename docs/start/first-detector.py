# %% [markdown]
# # First detector in five minutes
#
# At the end you have a trained detector, its report, and a prediction that says
# where a defect is and which sensor saw it. You need crdkit
# ([Install](../install.md)) and an empty folder. The scans are synthetic, and two
# CPU cores will do.
#
# ## 1. Make some scans
#
# A camera and a 3D scanner look at gears. The detector learns from good gears only.
# The defective ones are for the test.

# %% language="bash"
# crdkit -q data make gear --layout mvtec3d --train 24 --validation 19 --test-good 6 --test-per-defect 3 --size 128 \
#     --out data
# ls data/gear/test

# %% [markdown]
# This is what both sensors see. A stain leaves the shape untouched, and a dent
# hardly changes the colour. So neither sensor alone finds every defect.

# %% fold="Draw it" alt="A good gear and three defective ones: colour above, height below"
from pathlib import Path

import matplotlib.pyplot as plt

from crdkit.data.images import read_file

kinds = ["good", "stain", "dent", "crack"]
figure, axes = plt.subplots(2, 4, figsize=(7.2, 3.9))
for kind, (above, below) in zip(kinds, axes.T, strict=True):
    height = read_file(Path(f"data/gear/test/{kind}/xyz/000.tiff"))[..., 2]
    above.imshow(read_file(Path(f"data/gear/test/{kind}/rgb/000.png")))
    below.imshow(
        height,
        cmap="viridis_r",
        vmin=height[height > 0].min(),
        vmax=height.max(),
    )
    above.set(title=kind, xticks=[], yticks=[])
    below.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("rgb")
axes[1, 0].set_ylabel("xyz, its height")
plt.show()

# %% [markdown]
# ## 2. Check them
#
# The check reads every file once. It ends with the command that trains.

# %% language="bash"
# crdkit -q data check data/gear

# %% [markdown]
# ## 3. Train
#
# `quick` is a preset: colour and depth, a small teacher, small students. A few
# epochs are enough for a first look. Leave the last three options out for real
# scans.

# %% language="bash"
# crdkit -q train quick data.root=data data.category=gear --out runs/gear \
#     data.image_size=96 training.epochs=8 scoring.sigma=2

# %% [markdown]
# Each row is a map. `fused` is the one that counts: it joins both branches, and
# ranks more gears rightly than either.
#
# ## 4. Read the report
#
# `runs/gear/report.html` is one file without a network. Move its threshold, filter
# by defect, or open a sample.

# %% publish="runs/gear/report.html"
sorted(path.name for path in Path("runs/gear").iterdir())

# %% [markdown]
# ## 5. Ask about one part
#
# A prediction says how anomalous the part is, where, and which sensor raised the
# alarm. Here the part has a
# dent.

# %% language="bash"
# crdkit -q predict runs/gear rgb=data/gear/test/dent/rgb/000.png xyz=data/gear/test/dent/xyz/000.tiff

# %% [markdown]
# The same in Python. The last line shows the map:

# %%
import crdkit

detector = crdkit.Detector.load("runs/gear/detector")
result = detector.predict(
    {
        "rgb": "data/gear/test/dent/rgb/000.png",
        "xyz": "data/gear/test/dent/xyz/000.tiff",
    }
)
result

# %% [markdown]
# ## Next
#
# - [Your own scans, step by step](own-scans.py): a folder with sensors of any name.
# - [The method](../method.md): what happened between the scans and the map.
# - [Good or bad](../predict.md#good-or-bad): where the threshold comes from.
