"""Are sites that are trained together as good as the best single one among them?

    python tools/joint_sites.py [--tasks ...] [--seeds 4 5 6] [--write docs/results/joint-sites.md]

On the embedded model: layers embed, 3, 7, 11, 15 at the last token; positions -5 to -1 at layer 8;
and all of these layers at all of these positions. Each is trained from scratch with the steps of a
single site. Of the single sites the best is chosen on validation, and the test split is scored
once, in float32. A run that was cut off goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch

from taskvectors.evaluate import paired_difference
from taskvectors.experiments.config import ModelConfig
from taskvectors.methods import METHODS, Candidate, Learned, Recipe, RunContext
from taskvectors.methods.choosing import choose, score_candidates
from taskvectors.methods.run_context import layer_name
from taskvectors.models import LanguageModel
from taskvectors.results import Cell, open_run
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
RECIPE = Recipe(steps=60)
SIZES = {"n_validation": 60, "n_test": 120}
MARGIN = -0.02


def find(context: RunContext, **where: Any) -> list[Candidate]:
    """Vectors learned at some sites."""
    return METHODS["learned"].find(context, Learned(settings=RECIPE, **where))


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
            "validation_accuracy": float(on_validation[number].is_correct.double().mean()),
            "correct": "".join("01"[bool(right)] for right in on_test[number].is_correct[0]),
        }
        for number, (name, one) in enumerate(chosen.items())
    }


def compared(cells: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
    """What some cells say of joint sites, and their columns of the table."""
    best, joint = f"best single of {name}", f"joint {name}"
    rights = {
        who: [torch.tensor([mark == "1" for mark in cell[who]["correct"]]) for cell in cells]
        for who in (best, joint)
    }
    gap = paired_difference(rights[joint], rights[best])
    verdict = "at least" if gap.low > MARGIN else "worse" if gap.high < 0 else "open"
    test = {
        who: mean(float(one.double().mean()) for one in of_cells)
        for who, of_cells in rights.items()
    }
    validation = {who: mean(cell[who]["validation_accuracy"] for cell in cells) for who in rights}
    return verdict, (
        f"{test[best]:.3f} | {test[joint]:.3f} | {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] "
        f"| {verdict} | {validation[best]:.3f} | {validation[joint]:.3f}"
    )


def page(found: Mapping[tuple[str, int], Mapping[str, Any]], command: str) -> str:
    """The results as Markdown."""
    tasks = list(dict.fromkeys(task for task, _ in found))
    seeds = list(dict.fromkeys(seed for _, seed in found))
    lines = [
        "# Sites trained together, against the best single one",
        "",
        f"Command: `{command}`. Embedded model, seeds {', '.join(map(str, seeds))}; {RECIPE.steps} "
        f"steps of batch {RECIPE.batch_size}; layers {', '.join(map(str, LAYERS))}; positions -5 "
        f"to -1 at layer {MIDDLE}. The best single site is chosen on validation, for each seed; of "
        "`both`, among the ten single sites that were trained. Accuracy on the test split in "
        "float32; paired differences with 95 % intervals, a bootstrap over seeds and items. "
        f"`at least`: the lower end is above {MARGIN}; `worse`: the upper end is below 0; between "
        "them it stays open. The last row draws tasks, too.",
    ]
    for name in JOINT:
        verdicts = []
        table = []
        for task in tasks:
            cells = [found[task, seed] for seed in seeds]
            verdict, numbers = compared(cells, name)
            verdicts.append(verdict)
            sites = " ".join(
                f"{layer}@{position}"
                for cell in cells
                for layer, position in cell[f"best single of {name}"]["sites"]
            )
            table.append(f"| {task} | {numbers} | {sites} |")
        _, numbers = compared([found[task, seed] for task in tasks for seed in seeds], name)
        lines += [
            "",
            f"## {name.capitalize()}: worse on {verdicts.count('worse')} of {len(tasks)}, at least "
            f"as good on {verdicts.count('at least')}",
            "",
            "| task | best single | joint | difference | joint is | validation: single | joint | "
            "best site by seed (layer@position) |",
            "|---|--:|--:|---|---|--:|--:|---|",
            *table,
            f"| all {len(tasks)} | {numbers} | |",
        ]
    return "\n".join([*lines, ""])


@cache
def _loaded(dtype: Literal["auto", "float32"]) -> LanguageModel:
    return ModelConfig(dtype=dtype).load()


def main() -> None:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/joint-sites"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--write", type=Path)
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
    command = "python tools/joint_sites.py --write docs/results/joint-sites.md"
    text = page(found, command)
    if asked.write is None:
        sys.stdout.write(text)
    else:
        asked.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
