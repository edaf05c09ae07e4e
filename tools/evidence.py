r"""The numbers behind docs/results: tidy rows of finished runs, as one CSV file.

    taskvectors reproduce all --preset cpu --out repro
    taskvectors report repro/ltv-main-table   # draws figures/*.svg; so for each that is shown
    python tools/evidence.py repro/* --write docs/results/data/reproduction.csv \
        --figures docs/images
    python tools/evidence.py emb-*-explained sm-*-explained --write docs/results/data/mechanism.csv

A row is one measurement, with the columns of every `results.parquet`; what else tells rows apart is
said in words in `configuration`. Of a method's candidates there is the one chosen on validation.
"""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from taskvectors.results import COLUMNS, chosen, read_run

FIGURES = {
    "ltv-main-table": "by-configuration-embedded",
    "ltv-layer-sweep": "by-layer-embedded-capital",
    "ltv-ov": "frozen-paths-embedded-antonym-seed0",
    "ltv-key-heads": "head-ablation-embedded-capital-seed0",
    "ltv-rotation": "rotation-embedded-capital-seed0",
    "tvp-loss": "recovery-linear",
    "tvp-emergence": "recovery-by-step-offset",
}
"""Which of an experiment's figures its page shows."""
DIGITS = 6


def write_rows(frames: Iterable[pd.DataFrame], path: Path) -> None:
    """Write the chosen rows of runs to one CSV file."""
    rows = pd.concat([chosen(frame).reindex(columns=list(COLUMNS)) for frame in frames])
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


def copy_figures(runs: Sequence[Path], folder: Path) -> None:
    """Copy the figure of each experiment that a page shows."""
    for run in runs:
        if run.name in FIGURES:
            drawn = run / "figures" / f"{FIGURES[run.name]}.svg"
            shutil.copyfile(drawn, folder / f"{run.name}.svg")


def main() -> None:
    """Write the file, and the figures where they are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--write", type=Path, required=True, help="the CSV file")
    parser.add_argument("--figures", type=Path, help="folder that figures are copied to")
    given = parser.parse_args()
    write_rows((read_run(run).frame for run in given.runs), given.write)
    if given.figures is not None:
        copy_figures(given.runs, given.figures)


if __name__ == "__main__":
    main()
