"""Repeat the paper's ablations (CRD, Tables 3 to 7): eleven variants of nine trainings, per category and seed.

python examples/ablations.py --data /data/mvtec3d --out runs/ablations
python examples/ablations.py --data /data/mvtec3d --categories bagel rope --seeds 0 --preset quick --out runs/quick
torchrun --nproc-per-node 8 examples/ablations.py --data /data/mvtec3d --out runs/ablations

One run directory per variant, category and seed, and comparison.{md,csv,tex,html}. The same command, given again,
continues.
Branches share no trained parameter, so a branch of the variant "neither" is a single-sensor detector: Table 3 needs
no runs of its own. The filters' sizes are compared without amplifiers and the expansions without filters, as the
equal rows of the paper's tables show. Aggregations are compared on the same students. The table "Changes" shows which
of our changes have the same sign as the paper's.
"""

from __future__ import annotations

from command_line import read_arguments, run_study

from crdkit.paper.ablation import AblationRow, ablate


def variant(*, filters: str = "null", amplifier: str = "null", aggregation: str = "normalised_sum") -> list[str]:
    """Return the overrides of a variant; everything that varies is set explicitly, whatever the preset has."""
    parts = [f"graph.filter={filters}", f"graph.amplifier={amplifier}", f"aggregation.name={aggregation}"]
    return ["graph.topology=full", *parts]


def size(side: int) -> str:
    """Return a filter that compresses to ``side`` x ``side``."""
    return f"{{name: bottleneck, size: {side}}}"


def times(factor: int) -> str:
    """Return an amplifier that expands ``factor`` times."""
    return f"{{name: inverted_bottleneck, expansion: {factor}}}"


VARIANTS = {
    "neither": variant(),
    "filter 8x8": variant(filters=size(8)),
    "filter identity": variant(filters="{name: identity}"),
    "filter 16x16": variant(filters=size(16)),
    "filter 4x4": variant(filters=size(4)),
    "amplifier 2x": variant(amplifier=times(2)),
    "amplifier identity": variant(amplifier="{name: identity}"),
    "amplifier 4x": variant(amplifier=times(4)),
    "sum": variant(filters=size(8), amplifier=times(2), aggregation="sum"),
    "product": variant(filters=size(8), amplifier=times(2), aggregation="product"),
    "both": variant(filters=size(8), amplifier=times(2)),
}


def row(of: str, table: int, name: str, *, branch: str | None = None, against: str = "") -> AblationRow:
    """Return a row of the paper's ``table`` that is called ``name`` there, a change from the row ``against``."""
    return AblationRow(variant=of, branch=branch, published=f"CRD, {name} (Table {table})", against=against)


TABLES = {
    "Branches (Table 3)": {
        "RGB": row("neither", 3, "RGB", branch="rgb"),
        "RGB, assisted": row("both", 3, "RGB+Crossmodal", branch="rgb", against="RGB"),
        "depth": row("neither", 3, "Depth", branch="depth"),
        "depth, assisted": row("both", 3, "Depth+Crossmodal", branch="depth", against="depth"),
        "RGB + depth": row("neither", 3, "RGB+Depth"),
        "RGB + depth, assisted": row("both", 3, "RGB+Depth+Crossmodal", against="RGB + depth"),
    },
    "Crossmodal assistants (Table 4)": {
        "neither": row("neither", 4, "neither"),
        "filter": row("filter 8x8", 4, "CF"),
        "amplifier": row("amplifier 2x", 4, "CA"),
        "both": row("both", 4, "both"),
    },
    "Bottleneck size of the filter (Table 5)": {
        "identity": row("filter identity", 5, "identity", against="8 x 8"),
        "16 x 16": row("filter 16x16", 5, "16x16", against="8 x 8"),
        "8 x 8": row("filter 8x8", 5, "8x8", against="8 x 8"),
        "4 x 4": row("filter 4x4", 5, "4x4", against="8 x 8"),
    },
    "Expansion of the amplifier (Table 6)": {
        "identity": row("amplifier identity", 6, "identity", against="2x"),
        "2x": row("amplifier 2x", 6, "2x", against="2x"),
        "4x": row("amplifier 4x", 6, "4x", against="2x"),
    },
    "Aggregation (Table 7)": {
        "normalised sum": row("both", 7, "normalised sum"),
        "sum": row("sum", 7, "sum"),
        "product": row("product", 7, "product"),
    },
}


def main() -> None:
    """Run what is not finished, and write the tables and the page."""
    arguments = read_arguments(__doc__, preset="crd-mvtec3d")
    run_study(
        arguments,
        lambda config: ablate(
            config,
            variants=VARIANTS,
            tables=TABLES,
            method="CRD",
            out=arguments.out,
            categories=arguments.categories,
            seeds=arguments.seeds,
            title=f"Ablations of {arguments.preset}",
        ),
    )


if __name__ == "__main__":
    main()
