# %% [markdown]
# # Reproduce a table
#
# At the end you have the paper's ablation of filters and amplifiers, run anew, with
# the published values beside yours. Here it is run on synthetic gears in a few minutes,
# to show the way. Its numbers say nothing about the paper: they are of other data.
#
# ## 1. What was published
#
# The tables of the papers are in the package, with the place that each number comes
# from.

# %%
from crdkit.paper.numbers import lookup

for value in lookup(name="4", metric="I-AUROC"):
    print(
        f"{value.row.variant:10}{value.percent:6.1f}   "
        f"Table {value.table.name}, {value.category}"
    )

# %% [markdown]
# `neither` is multi-branch distillation, `CF` has only filters, `CA` only
# amplifiers.
#
# ## 2. The variants
#
# Each variant is the same run with other overrides. So the table is data, too: its
# rows name a variant, and the published row that stands beside it.

# %%
from crdkit.paper.ablation import AblationRow

FILTER, AMPLIFIER = (
    "{name: bottleneck, size: 8}",
    "{name: inverted_bottleneck, expansion: 2}",
)
variants = {
    "neither": ["graph.filter=null", "graph.amplifier=null"],
    "filter": [f"graph.filter={FILTER}", "graph.amplifier=null"],
    "amplifier": ["graph.filter=null", f"graph.amplifier={AMPLIFIER}"],
    "both": [f"graph.filter={FILTER}", f"graph.amplifier={AMPLIFIER}"],
}
names = {
    "neither": "neither",
    "filter": "CF",
    "amplifier": "CA",
    "both": "both",
}
rows = {
    name: AblationRow(variant=name, published=f"CRD, {paper} (Table 4)")
    for name, paper in names.items()
}

# %% [markdown]
# ## 3. The scans
#
# With MVTec 3D-AD on your disk, skip this and set `data.root` to it.

# %%
from pathlib import Path

from crdkit.data.synthetic import write_mvtec3d

write_mvtec3d(
    Path("scans"),
    categories=["gear"],
    train=24,
    validation=6,
    test_good=6,
    test_per_defect=2,
    size=96,
)
print(
    *sorted(str(folder) for folder in Path("scans").glob("*/*/*")), sep="\n"
)

# %% [markdown]
# ## 4. Run it
#
# One run for each variant, category and seed. The same call again goes on where an
# earlier one stopped. Real studies take three seeds at least.

# %%
import crdkit
from crdkit.paper.ablation import ablate

base = crdkit.RunConfig.preset("quick").with_overrides(
    "data.root=scans",
    "data.image_size=96",
    "training.epochs=8",
    "scoring.sigma=2",
)
study = ablate(
    base,
    variants=variants,
    tables={"Crossmodal assistants (Table 4)": rows},
    method="CRD",
    out=Path("study"),
    categories=["gear"],
    seeds=[0],
    title="Filters and amplifiers on synthetic gears",
)
print(*sorted(str(path) for path in Path("study").glob("*")), sep="\n")

# %% [markdown]
# ## 5. Read it
#
# The tables are written as Markdown, CSV and LaTeX, and as a page. Measured and
# published values never share a column. This is the first table; the page below holds
# all of them, with the metrics of every category and pictures.

# %%
from IPython.display import Markdown

text = Path("study/comparison.md").read_text(encoding="utf-8")
blocks = text.split("\n\n")
Markdown(next(block for block in blocks if block.startswith("|")))

# %% publish="study/comparison.html"

# %% [markdown]
# ## 6. The real one
#
# On the published data one command runs all ablations of the paper, Tables 3 to 7. It
# wants a GPU.
#
# ```sh
# python examples/ablations.py --data /data/mvtec3d --out runs/ablations
# ```
#
# ## Next
#
# - [Reproduce the papers](../reproduce.md): presets, checkpoints and commands.
# - [Fidelity to the published code](../fidelity.md): where code and paper differ,
#   row by row.
# - [Judge how certain a metric is](../certainty.md): when a difference means
#   something.
