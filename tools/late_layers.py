"""Are learned vectors at least as good as extracted ones, and as those without a shortlist?

    python tools/late_layers.py [--model embedded] [--tasks ...] [--seeds 0 1 2] [--layers 9 13 16]
        [--vectors ours from-zero full-vocabulary] [--runs RUNS] [--write FILE.csv]

At each of some layers: the vector that `vanilla` extracts (strength 1), and vectors learned by a
recipe, the best check on validation kept; all are scored on the validation and the test split.
`full-vocabulary` is the recipe `ours` with losses over all tokens. Differences are paired, on the
test split: by layer to the extracted vector, over the layers between `ours` and `full-vocabulary`.
Vectors are kept beside the run. A run that was cut off goes on where it stopped; seeds are the
outer loop, so that all tasks have one first.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from evidence import write_rows
from torch import Tensor

from taskvectors.evaluate import paired_difference
from taskvectors.experiments.config import ModelConfig
from taskvectors.methods import METHODS, RunContext, load_recipe
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.training import vocabulary
from taskvectors.methods.vanilla import Vanilla
from taskvectors.models import LanguageModel
from taskvectors.results import OVER_TASKS, Cell, Measurement, frame_of, open_run
from taskvectors.tasks import load_task

TASKS = ("capital", "capitalize", "antonym", "present-past", "english-french", "sentiment")
SIZES: dict[str, Any] = {"n_train": 100, "n_validation": 40, "n_test": 100}
STEPS = 40
EXTRACTED, FULL = "vanilla", "full-vocabulary"


def find(context: RunContext, layers: list[int], name: str) -> list[Any]:
    """One vector at each layer."""
    where: dict[str, Any] = {"layers": tuple(layers), "each_layer": True}
    if name == EXTRACTED:
        return METHODS[EXTRACTED].find(context, Vanilla(strengths=(1.0,), **where))
    recipe = load_recipe("ours" if name == FULL else name, steps=STEPS)
    share = vocabulary.LARGEST_SHARE
    try:
        if name == FULL:
            vocabulary.LARGEST_SHARE = 0.0  # no list is short enough
        return METHODS["learned"].find(context, Learned(recipe=recipe, **where))
    finally:
        vocabulary.LARGEST_SHARE = share


def run(
    model: LanguageModel, task: str, seed: int, layers: list[int], names: list[str], keep: Path
) -> Any:
    """What each vector answers rightly, by split, name and layer; the vectors go to a folder."""
    context = RunContext(model=model, task=load_task(task, seed=seed, **SIZES), seed=seed)
    found = {}
    for name in (EXTRACTED, *names):
        started = time.process_time()
        found[name] = find(context, layers, name)
        sys.stderr.write(f"  {name}: {time.process_time() - started:.0f} s\n")
        for layer, one in zip(layers, found[name], strict=True):
            one.vector.save(keep / f"{task}-{seed}" / f"{name}-{layer}")
    made: dict[str, Any] = {}
    for split in ("validation", "test"):
        scores = score_candidates(context, split, [c for some in found.values() for c in some])
        each = iter(scores)
        made[split] = {
            name: {
                str(layer): {
                    "marks": "".join("01"[bool(mark)] for mark in one.is_correct[0]),
                    "log_probability": float(one.log_probability.mean()),
                }
                for layer, one in zip(layers, each, strict=False)
            }
            for name in found
        }
    return made


def rows_of(
    model: str, cells: Mapping[tuple[str, int], Mapping[str, Any]], layers: list[int]
) -> Iterator[dict[str, Any]]:
    """Tidy rows: accuracies, and paired differences by layer and task and over all tasks."""

    def row(task: str, measure: str, value: float, **about: Any) -> dict[str, Any]:
        seed = {"seed": about.pop("seed")} if "seed" in about else {}
        made = Measurement(measure=measure, value=value, **about)
        return made.as_row(experiment="late-layers", model=model, task=task, **seed)

    names = list(next(iter(cells.values()))["test"])
    for (task, seed), cell in cells.items():
        for name, layer in product(names, layers):
            yield row(
                task, "accuracy", float(marks(cell, name, layer).float().mean()),
                method=EXTRACTED if name == EXTRACTED else "learned", configuration=name,
                layers=[layer], seed=seed,
            )  # fmt: skip
            held_out = marks(cell, name, layer, "validation")
            yield row(
                task, "validation_accuracy", float(held_out.float().mean()),
                method=EXTRACTED if name == EXTRACTED else "learned", configuration=name,
                layers=[layer], seed=seed,
            )  # fmt: skip
    by_task = {task: [cells[key] for key in cells if key[0] == task] for task, _ in cells}
    for task, some in {**by_task, OVER_TASKS: list(cells.values())}.items():
        for name, layer in product(names[1:], layers):
            ours, theirs = ([marks(c, who, layer) for c in some] for who in (name, EXTRACTED))
            gap = paired_difference(ours, theirs)
            yield row(
                task, "difference_to_vanilla", gap.mean, low=gap.low, high=gap.high,
                method="learned", configuration=name, layers=[layer],
            )  # fmt: skip
        if {"ours", FULL} <= {*names}:
            ours, theirs = (
                [torch.cat([marks(c, who, layer) for layer in layers]) for c in some]
                for who in ("ours", FULL)
            )
            gap = paired_difference(ours, theirs)
            yield row(
                task, "difference_to_full_vocabulary", gap.mean, low=gap.low, high=gap.high,
                method="learned", configuration="ours",
            )  # fmt: skip


def marks(cell: Mapping[str, Any], name: str, layer: int, split: str = "test") -> Tensor:
    """Whether each prompt is answered rightly."""
    return torch.tensor([mark == "1" for mark in cell[split][name][str(layer)]["marks"]])


def main() -> None:
    """Run what is missing, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--runs", type=Path, default=Path("runs/late-layers"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--layers", nargs="+", type=int, default=[9, 13, 16])
    parser.add_argument("--vectors", nargs="+", default=["ours", "from-zero"])
    parser.add_argument("--write", type=Path, default=Path("docs/results/data/late-layers.csv"))
    asked = parser.parse_args()
    settings = {
        "model": asked.model,
        "recipes": {n: load_recipe(n).model_dump() for n in asked.vectors if n != FULL},
        "vectors": asked.vectors,
        "layers": asked.layers,
        "steps": STEPS,
        **SIZES,
    }
    model, cells = None, {}
    with open_run(asked.runs, kind="experiment", asked=settings) as folder:
        for seed, task in product(asked.seeds, asked.tasks):
            cell = folder.cell(f"{task}-{seed}")
            if cell is None:
                model = model or ModelConfig(source=asked.model).load()
                sys.stderr.write(f"{task}, seed {seed}\n")
                keep = asked.runs.with_name(f"{asked.runs.name}-vectors")
                cell = Cell(metadata=run(model, task, seed, asked.layers, asked.vectors, keep))
                folder.keep(f"{task}-{seed}", cell)
            cells[task, seed] = cell.metadata
            rows = list(rows_of(Path(asked.model).stem, cells, asked.layers))
            write_rows([frame_of(rows)], asked.write)


if __name__ == "__main__":
    main()
