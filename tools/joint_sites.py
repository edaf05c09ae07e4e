"""Are sites that are trained together as good as the best single one among them?

    python tools/joint_sites.py [--tasks ...] [--seeds 4 5 6] [--runs RUNS] [--write FILE.csv]

On the embedded model: layers embed, 3, 7, 11, 15 at the last token; positions -5 to -1 at layer 8;
and all of these layers at all of these positions. Each is trained from scratch with the steps of a
single site. Of the single sites the best is chosen on validation, and the test split is scored
once, in float32. A run that was cut off goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from evidence import write_rows

from taskvectors.evaluate import paired_difference
from taskvectors.experiments.config import ModelConfig
from taskvectors.methods import METHODS, Candidate, RunContext, load_recipe
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.shared.layers import layer_name
from taskvectors.models import LanguageModel
from taskvectors.results import OVER_TASKS, Cell, Measurement, frame_of, open_run
from taskvectors.tasks import load_task

TASKS = ("capital", "capitalize", "antonym", "present-past", "english-french", "sentiment")
SEEDS = (4, 5, 6)
"""Whose test splits were not seen when it was decided how sites share a rate."""
LAYERS = ("embed", 3, 7, 11, 15)
MIDDLE = 8
"""The paper's middle layer: the input of block 9 of 18."""
POSITIONS = (-5, -4, -3, -2, -1)
JOINT: dict[str, dict[str, Any]] = {
    "layers": {"layers": LAYERS},
    "positions": {"layers": (MIDDLE,), "positions": POSITIONS},
    "both": {"layers": LAYERS, "positions": POSITIONS},
}
RECIPE = load_recipe("from-zero", steps=60)
SIZES = {"n_validation": 60, "n_test": 120}


def find(context: RunContext, **where: Any) -> list[Candidate]:
    """Vectors learned at some sites."""
    return METHODS["learned"].find(context, Learned(recipe=RECIPE, **where))


def run(model: LanguageModel, exact: LanguageModel, task: str, seed: int) -> dict[str, Any]:
    """Accuracy of everything on one task and seed, with the answers that are right."""
    context = RunContext(
        model=model, task=load_task(task, seed=seed, **SIZES), seed=seed, test_model=exact
    )
    single: dict[str, list[Candidate]] = {
        "layers": find(context, layers=LAYERS, each_layer=True),
        "positions": [
            found
            for position in POSITIONS
            for found in find(context, layers=(MIDDLE,), positions=(position,))
        ],
    }
    single["both"] = single["layers"] + single["positions"]
    chosen: dict[str, Candidate] = {}
    for name, where in JOINT.items():
        validation = score_candidates(context, "validation", single[name])
        chosen[f"best single of {name}"] = single[name][choose(validation)]
        (chosen[f"joint {name}"],) = find(context, each_layer=False, **where)
    on_validation, on_test = (
        score_candidates(context, split, list(chosen.values())) for split in ("validation", "test")
    )
    return {
        name: {
            "sites": [[layer_name(site.layer), site.position] for site in one.sites],
            "accuracy": float(on_test[number].is_correct.double().mean()),
            "validation_accuracy": float(on_validation[number].is_correct.double().mean()),
            "correct": "".join("01"[bool(right)] for right in on_test[number].is_correct[0]),
        }
        for number, (name, one) in enumerate(chosen.items())
    }


def rows_of(cells: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tidy rows: accuracies by task and seed, paired differences by task and over all tasks."""
    rows = [
        Measurement(
            measure=measure,
            value=float(cell[who][measure]),
            method="learned",
            configuration=who,
            layers=[layer for layer, _ in cell[who]["sites"]],
            positions=[position for _, position in cell[who]["sites"]],
        ).as_row(experiment="joint-sites", model="embedded", task=task, seed=seed)
        for (task, seed), cell in cells.items()
        for who in cell
        for measure in ("accuracy", "validation_accuracy")
    ]
    by_task = {task: [cells[key] for key in cells if key[0] == task] for task, _ in cells}
    for task, of_task in {**by_task, OVER_TASKS: list(cells.values())}.items():
        for name in JOINT:
            best, joint = (
                [torch.tensor([mark == "1" for mark in cell[who]["correct"]]) for cell in of_task]
                for who in (f"best single of {name}", f"joint {name}")
            )
            gap = paired_difference(joint, best)
            row = Measurement(
                measure="difference_to_best_single",
                value=gap.mean,
                low=gap.low,
                high=gap.high,
                method="learned",
                configuration=f"joint {name}",
            )
            rows.append(row.as_row(experiment="joint-sites", model="embedded", task=task))
    return rows


@cache
def _loaded(dtype: Literal["auto", "float32"]) -> LanguageModel:
    return ModelConfig(dtype=dtype).load()


def main() -> None:
    """Run what is missing, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/joint-sites"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--write", type=Path, default=Path("docs/results/data/joint-sites.csv"))
    asked = parser.parse_args()
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    settings = {"recipe": RECIPE.model_dump(), **SIZES}
    with open_run(asked.runs, kind="experiment", asked=settings) as run_folder:
        for task, seed in product(asked.tasks, asked.seeds):
            cell = run_folder.cell(f"{task}-{seed}")
            if cell is None:
                sys.stderr.write(f"{task}, seed {seed}\n")
                gave = run(_loaded("auto"), _loaded("float32"), task, seed)
                cell = Cell(metadata=gave)
                run_folder.keep(f"{task}-{seed}", cell)
            found[task, seed] = cell.metadata
    write_rows([frame_of(rows_of(found))], asked.write)


if __name__ == "__main__":
    main()
