# %% [markdown]
# # Gallery
#
# What crdkit computes between a scan and a decision, in pictures. One figure for
# each idea. All are drawn anew whenever this site is built, from synthetic scans.
#
# ## One part in every view
#
# A view turns what a sensor measured into an image between 0 and 1. This is one gear
# with a dent. `depth`, `normals`, `curvature`, `roughness` and `xyz` see the same scan.
# `lights`, `albedo` and `photometric_normals` see photographs under several lights:
# what changes with the light is shape, what stays is colour.

# %% fold="Draw every view" alt="Where the dent is, and the dented gear as each view shows it"
import matplotlib.pyplot as plt
import numpy as np

from crdkit.data.synthetic import (
    SENSORS,
    make_scene,
    render_sensors,
    sample_key,
    scanner_camera,
)
from crdkit.views import views

scene = make_scene(
    "gear",
    camera=scanner_camera(160),
    key=sample_key(0, "gear", "test", "dent", 1),
    defect="dent",
)
sensors = render_sensors(scene, SENSORS)
seen = {}
for name in views.names():
    options = {"range": [28500, 31500]} if name == "infrared" else {}
    view = views.build(views.build_config({"name": name, **options}))
    seen[name] = view.array(sensors, image_size=160)
del seen["single_channel"]  # what infrared is made of

height = -(-(len(seen) + 1) // 4)
figure, axes = plt.subplots(height, 4, figsize=(7.4, 2.05 * height))
for place in axes.flat:
    place.set_axis_off()
axes[0, 0].imshow(
    np.where(
        scene.mask[..., None], [255, 255, 255], sensors["rgb"] // 3
    ).astype(np.uint8)
)
axes[0, 0].set_title("where the dent is")
for place, (name, image) in zip(axes.flat[1:], seen.items(), strict=False):
    place.imshow(image.transpose(1, 2, 0).repeat(3 // len(image), axis=2))
    place.set_title(name)
plt.show()

# %% [markdown]
# ## A detector to look into
#
# The other figures come from one small detector of colour, depth and heat. It is
# `quick` with a third branch, trained on 24 good gears.

# %%
from pathlib import Path

import crdkit
from crdkit.data.synthetic import write_folder

write_folder(
    Path("scans"),
    categories=["gear"],
    train=24,
    validation=8,
    test_good=6,
    test_per_defect=2,
    size=96,
    sensors=["rgb", "xyz", "infrared"],
)
run = crdkit.RunConfig.preset("quick").with_overrides(
    {
        "data": {
            "name": "folder",
            "root": "scans",
            "category": "gear",
            "image_size": 96,
        },
        "modalities.heat": {
            "name": "single_channel",
            "range": [28500, 31500],
            "encoder": "efficientnet_lite0",
        },
    },
    "training.epochs=8",
    "scoring.sigma=2",
)
detector = crdkit.fit(run)
detector

# %% [markdown]
# ## What filter and amplifier give
#
# Depth helps the branch of rgb twice. The **filter** squeezes depth's features
# through a bottleneck: what only a defect has is gone behind it. The **amplifier**
# widens them: what only a defect has comes through. Both are trained to imitate the
# features of rgb's teacher. Bright is where they fail.

# %% fold="Draw the terms of one branch" alt="For a good gear and two defects: the photo, and where filter, amplifier, decoder and output differ from rgb's teacher"
import torch

from crdkit.config.build import build_dataset
from crdkit.report.gallery import Scale, heat
from crdkit.scoring.maps import anomaly_map
from crdkit.views.split import load_split

splits = {
    name: load_split(build_dataset(run), name, views=detector.views)
    for name in ("validation", "test")
}
with torch.no_grad():
    outputs = {
        name: detector.model(split.inputs) for name, split in splits.items()
    }
kinds = [record.defect_type for record in splits["test"].records]
rows = {
    kind: kinds.index(kind)
    for kind in ("good", "stain", "dent", "crack", "void")
}
photos = (
    (splits["test"].inputs["rgb"].permute(0, 2, 3, 1) * 255)
    .to(torch.uint8)
    .numpy()
)


def grid(columns, chosen, *, side):
    """Draw a column of maps for each name, each with one scale, over the photos."""
    figure, axes = plt.subplots(
        len(chosen),
        len(columns) + 1,
        figsize=(side * (len(columns) + 1), side * len(chosen)),
    )
    for line, (kind, row) in zip(axes, chosen.items(), strict=True):
        line[0].imshow(photos[row])
        line[0].set_ylabel(kind)
        for place, maps in zip(line[1:], columns.values(), strict=True):
            place.imshow(
                heat(
                    maps[row].numpy(),
                    scale=Scale.of(maps.numpy()),
                    underlay=photos[row],
                    side=96,
                )
            )
    for place, title in zip(axes[0], ["photo", *columns], strict=True):
        place.set_title(title, size=8)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
    plt.show()


out = outputs["test"]
terms = {
    "filter": out.filtered["rgb"]["depth"],
    "amplifier": out.amplified["rgb"]["depth"],
    "decoder": out.decoder["rgb"],
    "output": out.output["rgb"],
}
maps = {
    name: anomaly_map(out.teacher["rgb"], levels, size=96)
    for name, levels in terms.items()
}
grid(
    maps, {kind: rows[kind] for kind in ("good", "stain", "dent")}, side=1.4
)

# %% [markdown]
# The stain is bright for both: depth knows nothing of it. The dent stands out more
# clearly behind the amplifier, which lets it through. `decoder` is the student before
# amplifiers are merged in, `output` after. The map of a branch is that of its output.
#
# ## The map of every branch
#
# Each branch has a map of its own. A stain is seen in colour, a dent in depth, and
# a void only in heat.

# %% fold="Draw the branches' maps" alt="Five gears, and the maps of the branches rgb, depth and heat"
raw = {
    name: detector.scorer.raw_maps(found.teacher, found.output)
    for name, found in outputs.items()
}
grid(
    {
        name: detector.scorer.smoothing(found)
        for name, found in raw["test"].items()
    },
    rows,
    side=1.3,
)

# %% [markdown]
# ## The map of every aggregation
#
# An aggregation makes one map of three. A sum lets the branch with the largest
# numbers win. The normalised ones weigh a branch by what is usual for it.
# `tail_norm`, the default of `quick`, asks how rare a value is among good parts.

# %% fold="Draw the aggregations' maps" alt="Five gears, and the fused map of each aggregation"
from crdkit.config.build import build_scorer
from crdkit.scoring.aggregations import aggregations

scorers = {}
for name in aggregations.names():
    options = (
        {"weights": {"rgb": 2, "depth": 1, "heat": 1}}
        if name == "weighted"
        else {}
    )
    scorers[name] = build_scorer(
        run.with_overrides({"aggregation": {"name": name, **options}})
    )
    scorers[name].calibrate(raw["validation"])
fused = {name: scorer(raw["test"]) for name, scorer in scorers.items()}
grid(
    {name: found.anomaly_map for name, found in fused.items()},
    rows,
    side=1.05,
)

# %% [markdown]
# ## From a map to a score
#
# The score of an image decides whether it is an alarm. Each dot is a test part,
# with its score by each rule from the same maps. The line is the highest score of a
# good part: what lies right of it is told from all good ones.

# %% fold="Draw the scores" alt="Scores of good and defective parts by each rule, on one axis for each"
from crdkit.scoring.scores import scores

names = scores.names()
figure, axes = plt.subplots(1, len(names), figsize=(7.6, 2.6), sharey=True)
types = sorted(
    set(kinds), key=lambda kind: (kind != "good", kind), reverse=True
)
for place, name in zip(axes, names, strict=True):
    scorer = build_scorer(run.with_overrides(f"scoring.score.name={name}"))
    scorer.calibrate(raw["validation"])
    values = scorer(raw["test"]).pred_score.numpy()
    colours = ["#1e88e5" if kind == "good" else "#f4511e" for kind in kinds]
    place.scatter(
        values, [types.index(kind) for kind in kinds], c=colours, s=14
    )
    place.axvline(
        max(
            value
            for value, kind in zip(values, kinds, strict=True)
            if kind == "good"
        ),
        color="#80868f",
        lw=0.8,
    )
    place.set_title(name)
axes[0].set_yticks(range(len(types)), types)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - [The method](method.md): how these pieces belong together.
# - [Compose a branch](tutorials/compose-a-branch.py): choose each of them yourself.
# - [Configure a run](configure.md): the options of every part.
