# %% [markdown]
# # An unusual graph
#
# At the end three views help each other along edges that you drew, and you know what
# each edge costs and what came through it. The paper joins two sensors both ways. A
# graph is free: any direction, a filter, an amplifier, or both.
#
# ## 1. Draw the edges
#
# Depth and colour help each other in full. Heat only lends colour its amplifier: it
# shall point to what is hidden, and no more. Colour only lends heat its filter: it
# shows where the part lies, and must not carry stains into the heat.

# %%
import crdkit

edges = [
    {"source": "depth", "target": "rgb"},
    {"source": "heat", "target": "rgb", "filter": None},
    {"source": "rgb", "target": "depth"},
    {"source": "rgb", "target": "heat", "amplifier": None},
]
base = crdkit.RunConfig.preset("quick").with_overrides(
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
unusual = base.with_overrides(
    {"graph": {"topology": "edges", "edges": edges}}
)

# %% alt="The graph: arrows between rgb, depth and heat, with filter, amplifier or both" fold="Draw the graph"
import matplotlib.pyplot as plt

PLACES = {"rgb": (0, 0), "depth": (-1, 0.8), "heat": (1, 0.8)}
COLOURS = {"filter": "#1e88e5", "amplifier": "#f4511e", "both": "#00897b"}
figure, axes = plt.subplots(figsize=(5.4, 2.4))
for edge in crdkit.describe(unusual).graph.edges:
    parts = ["filter"] * bool(edge.filter) + ["amplifier"] * bool(
        edge.amplifier
    )
    kind = "both" if len(parts) == 2 else parts[0]
    arrow = {
        "arrowstyle": "-|>",
        "color": COLOURS[kind],
        "lw": 2,
        "shrinkA": 24,
        "shrinkB": 24,
    }
    arrow["connectionstyle"] = "arc3,rad=0.16"
    axes.annotate(
        "",
        xy=PLACES[edge.target],
        xytext=PLACES[edge.source],
        arrowprops=arrow,
    )
for name, (x, y) in PLACES.items():
    axes.text(x, y, name, ha="center", va="center", size=11)
for kind, colour in COLOURS.items():
    axes.plot([], [], color=colour, label=kind)
axes.set(xlim=(-1.4, 2.3), ylim=(-0.2, 1))
axes.set_axis_off()
axes.legend(loc="center right")
plt.show()

# %% [markdown]
# ## 2. Look at the cost before you train
#
# `describe` builds every part without its weights. Here are four graphs over the
# same views:

# %%
graphs = {
    "none": base.with_overrides("graph.topology=none"),
    "yours": unusual,
    "star around rgb": base.with_overrides(
        {"graph": {"topology": "star", "hub": "rgb", "merge": "mean"}}
    ),
    "full": base,
}
print(f"{'graph':18}{'edges':>6}{'parameters':>13}{'GFLOP':>8}")
for name, run in graphs.items():
    described = crdkit.describe(run)
    total = described.table()[-1]
    print(
        f"{name:18}{len(described.graph.edges):6}"
        f"{total['parameters']:13,}{total['gflop']:8.2f}"
    )

# %% [markdown]
# With `merge: mean` a bottleneck costs the same for any number of filters. With
# `concat`, the paper's way, it grows.
#
# ## 3. Train it

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
detector = crdkit.fit(unusual, "runs/unusual")

print(f"{'map':10}{'I-AUROC':>10}{'AU-PRO@30%':>12}")
for name, found in {
    "fused": detector.metrics["aggregate"],
    **detector.metrics["branches"],
}.items():
    print(
        f"{name:10}{100 * found['image_auroc']:10.1f}"
        f"{100 * found['aupro_0.30']:12.1f}"
    )

# %% [markdown]
# ## 4. See what came through which edge
#
# A void lies below the surface, and only heat shows it. Its share may reach the
# fused map through the branch of heat, or through the amplifier into the branch of
# rgb. The prediction tells the two apart.

# %%
from crdkit.data.images import read_file

part = {
    sensor: read_file(
        next(Path(f"scans/gear/test/void/{sensor}").glob("000.*"))
    )
    for sensor in detector.sensors
}
detector.attribution = "always"  # otherwise of alarms only
found = detector.predict(part)
branches = list(detector.views)
print(f"{'from':10}" + "".join(f"{'via ' + name:>14}" for name in branches))
for source, paths in found.attribution_paths.items():
    print(
        f"{source:10}"
        + "".join(
            f"{100 * paths[name]:12.0f} %" if name in paths else f"{'':14}"
            for name in branches
        )
    )

# %% alt="The part with a void: the view and the map of every branch, and the fused map" fold="Draw views and maps"
import torch

from crdkit.report.gallery import Scale, heat

figure, axes = plt.subplots(2, 4, figsize=(6.4, 3.6))
for (above, below), (name, view) in zip(
    axes.T, detector.views.items(), strict=False
):
    picture = (
        (view(part, image_size=96).expand(3, -1, -1).permute(1, 2, 0) * 255)
        .to(torch.uint8)
        .numpy()
    )
    above.imshow(picture)
    above.set_title(name)
    values = found.maps[name]
    below.imshow(
        heat(values, scale=Scale.of(values), underlay=picture, side=96)
    )
axes[0, 3].set_axis_off()
axes[1, 3].imshow(
    heat(
        found.anomaly_map,
        scale=Scale.of(found.anomaly_map),
        underlay=None,
        side=96,
    )
)
axes[1, 3].set_title("fused")
for place in axes.flat:
    place.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Every map has its own scale here, from its median up.
#
# ## 5. Take an edge away
#
# Whether an edge helps is a question for `crdkit sweep` with several seeds, not for
# one small run. In the configuration it is one line:
#
# ```yaml
# graph:
#   topology: edges
#   edges:
#     - {source: depth, target: rgb}
#     - {source: heat, target: rgb, filter: null}    # an amplifier alone
#     - {source: rgb, target: heat, amplifier: null} # a filter alone
# ```
#
# ## Next
#
# - [Reproduce a table](reproduce-a-table.py): variants side by side, with the
#   paper's beside them.
# - [The gallery](../gallery.py): what filters and amplifiers give, in pictures.
# - [Configure a run](../configure.md): every option of a graph.
