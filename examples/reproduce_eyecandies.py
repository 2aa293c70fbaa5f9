"""Train a published model on Eyecandies and put its numbers beside the published ones.

python examples/reproduce_eyecandies.py --data /data/eyecandies --out runs/eyecandies
python examples/reproduce_eyecandies.py --data /data/eyecandies --categories CandyCane --seeds 0 --out runs/one
torchrun --nproc-per-node 8 examples/reproduce_eyecandies.py --data /data/eyecandies --out runs/eyecandies

One run directory per category and seed, and comparison.{md,csv,tex,html}. The same command, given again, continues.
"""

from __future__ import annotations

from command_line import read_arguments, run_study

from crdkit.paper.reproduce import reproduce


def main() -> None:
    """Run what is not finished, and write the tables and the page."""
    arguments = read_arguments(__doc__, preset="crd-eyecandies")
    run_study(
        arguments,
        lambda config: reproduce(
            config,
            method="CRD",
            out=arguments.out,
            categories=arguments.categories,
            seeds=arguments.seeds,
            title=f"{arguments.preset} on Eyecandies",
        ),
    )


if __name__ == "__main__":
    main()
