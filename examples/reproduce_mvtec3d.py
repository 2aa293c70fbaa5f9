"""Train a published model on MVTec 3D-AD and put its numbers beside the published ones.

python examples/reproduce_mvtec3d.py --data /data/mvtec3d --out runs/mvtec3d
python examples/reproduce_mvtec3d.py --data /data/mvtec3d --categories bagel rope --seeds 0 --out runs/two
torchrun --nproc-per-node 8 examples/reproduce_mvtec3d.py --data /data/mvtec3d --out runs/mvtec3d

One run directory per category and seed, and comparison.{md,csv,tex,html}. The same command, given again, continues.
"""

from __future__ import annotations

from command_line import read_arguments, run_study

from crdkit.paper.reproduce import reproduce


def main() -> None:
    """Run what is not finished, and write the tables and the page."""
    arguments = read_arguments(__doc__, preset="crd-mvtec3d")
    trd = arguments.preset.startswith("trd")
    method = "TRD, RGB+normals" if trd else "CRD, normalised sum (Table 13)"  # CRD's one row with every metric
    run_study(
        arguments,
        lambda config: reproduce(
            config,
            method=method,
            out=arguments.out,
            categories=arguments.categories,
            seeds=arguments.seeds,
            title=f"{arguments.preset} on MVTec 3D-AD",
        ),
    )


if __name__ == "__main__":
    main()
