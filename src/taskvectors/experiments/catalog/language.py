"""The TVP-loss on a pretrained language model."""

import hashlib
from typing import Any, get_args

import pandas as pd
import torch

from taskvectors.costs import Cost
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    TVP_PAPER,
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
    tasks_together,
)
from taskvectors.learners.costs import continued_cost
from taskvectors.learners.language import LanguageConfig, VariantName, train_language
from taskvectors.methods import RunContext
from taskvectors.results import NOT_READ, Measurement, Published
from taskvectors.results.drawing import curves
from taskvectors.results.figures import AnyFigure
from taskvectors.tasks import load_task
from taskvectors.trunk.work import run_of, work_of

_TRAINED = LanguageConfig.model_fields["trained"].default
_HELD_OUT = LanguageConfig.model_fields["held_out"].default
_HELD_OUT_SETS = ("snli", "rte")
"""Data sets of the hub that are held out: all of natural-language inference."""
_MEASURES: dict[str, tuple[str, str] | None] = {
    "icl_error": None,
    "zero_shot_error": None,
    "base_error": None,
    "tvp_error": None,
    "wrong_task_error": None,
    "recovery": ("recovery_low", "recovery_high"),
}
_OF_THE_VARIANT = frozenset({"icl_error", "zero_shot_error", "base_error"})


def _config(unit: RunUnit, preset: Preset, n_layers: int) -> LanguageConfig:
    """The group's tasks, those that are held out by default being held out here, too."""
    assert unit.model is not None
    held_out = tuple(task for task in unit.tasks if _is_held_out(task))
    return LanguageConfig(
        model=unit.model.source,
        trained=tuple(task for task in unit.tasks if task not in held_out),
        held_out=held_out,
        shots=preset.shots,
        tvp_layer=n_layers // 2,
        steps=preset.steps,
        n_test=preset.n_test,
        seed=unit.seed,
    )


def _is_held_out(task: str) -> bool:
    """Whether a task is of a group that is measured on only."""
    return task in _HELD_OUT or task.removeprefix("hub:").split("@")[0] in _HELD_OUT_SETS


def _run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """All variants, by task and layer."""
    assert unit.model is not None
    config = _config(unit, preset, work_dir.load(unit.model).n_layers)
    word = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
    with work_dir.locked(f"language-{word}") as folder:
        rows = train_language(config, folder)
    found = []
    for row in rows:
        for name, ends in _MEASURES.items():
            is_repeated = name in _OF_THE_VARIANT and row["layer"] > 0
            if is_repeated or row[name] is None:
                continue
            found.append(_measurement(row, name, ends, shots=preset.shots))
    return GroupResult(measurements=found)


def _cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """Vanilla runs as many tokens as the TVP-loss does; all three variants are measured alike."""
    assert unit.model is not None
    model = estimator.model(unit.model.model_copy(update={"dtype": "float32"}))
    config = _config(unit, preset, model.n_layers)
    if not config.trained:
        raise TaskVectorsError(
            f"{', '.join(unit.tasks)}: all of them are held out, so there is nothing to train on; "
            f"give others beside them, such as {', '.join(_TRAINED[:2])}"
        )
    contexts = {
        task: RunContext(model=model, task=load_task(task, seed=unit.seed), shots=preset.shots)
        for task in unit.tasks
    }
    shown, asked = (
        [prompt for task in config.trained for prompt in contexts[task].prompts("train", shots)]
        for shots in (preset.shots, 0)
    )
    tokens = [sum(len(prompt.token_ids) for prompt in some) for some in (shown, asked)]
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    about: dict[str, Any] = {"batch": config.batch_size, "device": estimator.device(dtype)}
    longer = round(config.steps * (1 + tokens[1] / tokens[0]))
    trained = [
        continued_cost(model, shown, asked, steps=config.steps, **about),
        continued_cost(model, shown, (), steps=longer, **about),
    ]
    works = []
    for context in contexts.values():
        test = {
            shots: context.prompts("test", shots)[: config.n_test] for shots in (preset.shots, 0)
        }
        # the plain run, and the vectors of two tasks at every layer
        joins = [model.n_layers - 1, *range(model.n_layers), *range(model.n_layers)]
        shown_once = work_of("in context", test[preset.shots], (-1,), joins[:1], model.n_layers)
        works += [
            run_of("vectors", test[preset.shots]),
            shown_once,
            work_of("with a vector", test[0], (-1,), joins, model.n_layers),
        ]
    return [*trained, *estimator.works(model, works) * len(get_args(VariantName))]


def _measurement(
    row: dict[str, Any], name: str, ends: tuple[str, str] | None, *, shots: int
) -> Measurement:
    low, high = (row[end] for end in ends) if ends else (None, None)
    about = {"tvp_layer": row["tvp_layer"], "split": row["split"]}
    if name not in _OF_THE_VARIANT:
        about["layer"] = row["layer"]
    return Measurement(
        measure=name,
        value=row[name],
        low=low,
        high=high,
        n=row["n"],
        method=row["variant"],
        task=row["task"] if row["task"] != "all" else f"all {row['split']}",
        layers=() if name in _OF_THE_VARIANT else (row["layer"],),
        shots=shots,
        about=about,
    )


def _figures(rows: pd.DataFrame) -> list[AnyFigure]:
    pooled = rows[rows["task"].astype(str).str.startswith("all ")]
    return curves(
        pooled,
        "recovery",
        "Recovery by layer",
        x="layer",
        y="recovery",
        labels=("Layer whose state is put into the query", "Recovery", "method"),
    )


LANGUAGE = Experiment(
    name="tvp-language",
    title="Natural language",
    question="Does the TVP-loss form a vector in a pretrained language model, on tasks that it "
    "was not trained on, too?",
    paper=TVP_PAPER,
    what_the_paper_did="Continued training on MetaICL's tasks with the loss; models and "
    "numbers are not known to us.",
    what_we_do_otherwise="A small pretrained model with frozen embeddings; ten built-in word "
    "tasks, and five of two other groups held out; of data sets of the hub, natural-language "
    "inference is held out; L_ICL over the query's answer; vanilla sees as many tokens; the "
    "pretrained model stands beside.",
    presets=presets(
        smoke={"tasks": (*_TRAINED[:2], _HELD_OUT[0])},
        cpu={"tasks": (*_TRAINED, *_HELD_OUT), "steps": 300, "n_test": 60},
        paper={"tasks": (*_TRAINED, *_HELD_OUT), "steps": 2000, "n_test": 200},
    ),
    run=_run,
    estimate=_cost,
    units=tasks_together,
    figures=_figures,
    published=(
        Published(
            measure="recovery", value=NOT_READ, source="arXiv 2501.09240", model=NOT_READ,
            method="tvp",
        ),
    ),
    shown=("icl_error", "zero_shot_error", "tvp_error", "recovery"),
)  # fmt: skip
register(LANGUAGE)
