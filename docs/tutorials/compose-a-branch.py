# %% [markdown]
# # Compose a branch
#
# At the end a third branch stands beside colour and depth, made of parts that you
# chose, and one of them is your own. A branch is a view, a frozen teacher, the
# edges that reach it, and a student. The tables show what each choice costs and
# brings.
#
# ## 1. The scans
#
# Gears, seen by a camera, a 3D scanner and a heat camera.

# %%
from pathlib import Path

from crdkit.data.synthetic import write_folder

write_folder(
    Path("scans"),
    categories=["gear"],
    train=24,
    validation=10,
    test_good=6,
    test_per_defect=2,
    size=96,
    sensors=["rgb", "xyz", "infrared"],
)
print(*sorted(folder.name for folder in Path("scans/gear/test").iterdir()))

# %% [markdown]
# ## 2. Start from two branches
#
# A run is data. Here `quick`, made small:

# %%
import crdkit

two = crdkit.RunConfig.preset("quick").with_overrides(
    {
        "data": {
            "name": "folder",
            "root": "scans",
            "category": "gear",
            "image_size": 96,
        }
    },
    "training.epochs=10",
    "scoring.sigma=2",
)
for name, modality in two.modalities.items():
    print(
        f"{name:8} view {modality.view.name:8} teacher {modality.encoder.name}"
    )

# %% [markdown]
# ## 3. Write a part
#
# A projection carries one modality's features to another. On an edge it can be the
# filter or the amplifier. The published amplifier is a chain of three convolutions.
# This one is lighter: each channel by itself, then a mix.

# %%
from torch import nn

from crdkit.model.layers import conv_bn_relu
from crdkit.model.projections import Projection, projections


@projections.register("depthwise")
class Depthwise(Projection):
    """Per level a 3x3 convolution of each channel, then one that mixes them."""

    def __init__(self, config, *, source, target):
        super().__init__(config, source=source, target=target)
        self.levels = nn.ModuleList()
        for level, channels in zip(
            self.source_levels, target.channels, strict=True
        ):
            depthwise = nn.Conv2d(
                own := source.channels[level], own, 3, padding=1, groups=own
            )
            self.levels.append(
                nn.Sequential(
                    depthwise,
                    *conv_bn_relu(
                        own, channels, kernel=1, relu=not target.signed
                    ),
                )
            )

    def forward(self, source):
        """Return the source's levels in the target's shapes."""
        return self.apply_levels(self.levels, source)


# %% [markdown]
# It never names a number of channels or levels: both ends of its edge tell. The
# contract tries it on pyramids of other shapes.

# %%
import crdkit.testing

crdkit.testing.check("amplifier", "depthwise")
print("depthwise keeps every promise of an amplifier")

# %% [markdown]
# ## 4. Add the branch
#
# One mapping holds the view and the teacher. The graph joins every branch with
# every other, now with your amplifier.

# %%
heat = {
    "name": "single_channel",
    "sensor": "infrared",
    "range": [28500, 31500],
    "encoder": "efficientnet_lite0",
}
three = two.with_overrides(
    {"modalities.heat": heat}, "graph.amplifier=depthwise"
)
for name, run in {"two": two, "three": three}.items():
    print(
        f"{name:6}",
        ", ".join(str(edge) for edge in crdkit.describe(run).graph.edges),
    )

# %% [markdown]
# ## 5. Ask what it costs
#
# `describe` builds every part without weights and counts. These are the parts of
# the new branch:

# %%
for part in crdkit.describe(three).table():
    if part["modality"] in ("heat", ""):
        print(
            f"{part['modality']:6}{part['part']:20}"
            f"{part['parameters'] or 0:12,}{part['gflop']:8.2f} GFLOP"
        )

# %% [markdown]
# ## 6. Train both, and compare
#
# Voids lie below the surface. Two branches cannot see them, the third can. All
# other defects were visible before.

# %%
detectors = {
    name: crdkit.fit(run, f"runs/{name}")
    for name, run in {"two": two, "three": three}.items()
}
kinds = list(detectors["three"].metrics["defect_types"])
print("I-AUROC  " + "".join(f"{kind:>8}" for kind in ["all", *kinds]))
for name, detector in detectors.items():
    found = [
        detector.metrics["aggregate"],
        *(detector.metrics["defect_types"][kind] for kind in kinds),
    ]
    print(
        f"{name:9}"
        + "".join(f"{100 * one['image_auroc']:8.1f}" for one in found)
    )

# %% [markdown]
# Two parts of each kind show that it works, not how well. For that, use your own
# scans and several seeds ([Train many runs](../sweep.md)).
#
# ## 7. Look at the maps

# %% alt="A gear with a void: its photo, and the fused map with two and with three branches" fold="Draw them"
import matplotlib.pyplot as plt

from crdkit.data.images import read_file
from crdkit.report.gallery import Scale
from crdkit.report.gallery import heat as coloured

sensors = {
    name: read_file(
        next(Path(f"scans/gear/test/void/{name}").glob("000.*"))
    )
    for name in ("rgb", "xyz", "infrared")
}
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.2))
axes[0].imshow(sensors["rgb"])
axes[0].set_title("rgb")
axes[1].imshow(sensors["infrared"], cmap="gray")
axes[1].set_title("infrared")
for place, (name, detector) in zip(
    axes[2:], detectors.items(), strict=True
):
    found = detector.predict(sensors)
    scale = Scale(low=0, high=2 * found.pixel_threshold)
    place.imshow(
        coloured(
            found.anomaly_map, scale=scale, underlay=sensors["rgb"], side=96
        )
    )
    place.set_title(
        f"{name} branches: {'alarm' if found.label else 'passed'}"
    )
for place in axes:
    place.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Next
#
# - [Compose your own parts](../compose.md): all kinds of parts in one file, from
#   the command line.
# - [An unusual graph](unusual-graph.py): edges that you draw one by one.
# - [A sensor of your own](own-sensor.py) and [a teacher of your
#   own](own-teacher.py).
