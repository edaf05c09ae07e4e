"""A vector on one split of its task at several strengths, beside the same prompts without it."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from taskvectors.evaluate import dose_response, side_effects
from taskvectors.experiments.config import Loader, ModelConfig
from taskvectors.experiments.works import about_methods
from taskvectors.methods import RunContext
from taskvectors.methods.shared.layers import layer_name
from taskvectors.models import LanguageModel
from taskvectors.results import Record, frame_of
from taskvectors.results.evaluation import evaluation_measurements
from taskvectors.results.folder import kept_in, now
from taskvectors.results.provenance import versions
from taskvectors.tasks import Task
from taskvectors.trunk import resolve_budget
from taskvectors.vectors import TaskVector, check_unseen, task_of


class EvaluateConfig(BaseModel):
    """What is measured. What is not given is as the vector was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    vector: str
    """Folder of the vector, or of a run that has one."""
    model: ModelConfig
    """The model."""
    split: Literal["train", "validation", "test"] = "test"
    """The pairs to measure on."""
    strengths: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """Factors of the vector."""
    task: str = ""
    """Task."""
    changes: dict[Literal["seed", "n_train", "n_validation", "n_test"], int] = {}
    """Seed and sizes of the split."""
    template: str | None = None
    """Prompt template."""
    shots: int | None = Field(default=None, ge=0)
    """Demonstrations in the prompts."""
    chat: bool = False
    """Whether prompts go through the tokenizer's chat template."""
    end_of_answer: bool = False
    """Count an answer as right only if the next token ends it."""
    side_effects: bool = False
    """Measure what each strength does to unrelated text, too."""
    allow_overlap: bool = False
    """Measure also on pairs that the vector was trained on."""
    memory: str | None = None
    """Memory to use, such as 4GB."""


def evaluate_vector(
    config: EvaluateConfig,
    folder: Path | None = None,
    *,
    command: Sequence[str] = (),
    load: Loader = ModelConfig.load,
) -> Record:
    """Measure a vector.

    Args:
        config: What to measure.
        folder: Where to keep the record; it is not written by default.
        command: The command line that asked for it, where there is one.
        load: Loads a model, or has it already.

    Raises:
        DataError: The vector, its task or the folder cannot be used, or the pairs trained it.
        VectorMismatchError: The vector was made for another model.
    """
    started = time.perf_counter()
    vector = TaskVector.load(config.vector)
    with kept_in(folder, kind="evaluate", asked=config.model_dump(mode="json")) as keep:
        task = unseen_task(config, vector)
        context = context_of(config, vector, load(config.model), task)
        prompts = context.prompts(config.split, context.shots)
        found = dose_response(
            context.model, prompts, vector, config.strengths, labels=context.labels,
            memory=context.memory,
        )  # fmt: skip
        rows = [
            _row(vector, strength, context.shots)
            | asdict(measures)
            | _elsewhere(config, context, vector, strength)
            for strength, measures in found
        ]
        shared = {"experiment": "evaluate", "model": context.model.source,
                  "task": context.task.name, "seed": context.seed}  # fmt: skip
        tidy = [one.as_row(**shared) for row in rows for one in evaluation_measurements(row)]
        about = _describe(config, context, vector)
        about |= {"command": list(command), "seconds": time.perf_counter() - started}
        return keep(Record(kind="evaluate", metadata=about, frame=frame_of(tidy)))


def unseen_task(config: EvaluateConfig, vector: TaskVector) -> Task:
    """The task, of which the vector has not seen the split that it is measured on.

    Raises:
        DataError: It has, and that was not allowed.
    """
    task = task_of(vector.origin, config.task, **config.changes)
    if not config.allow_overlap:
        check_unseen(vector.origin, getattr(task, config.split))
    return task


def context_of(
    config: EvaluateConfig, vector: TaskVector, model: LanguageModel, task: Task
) -> RunContext:
    """The run context of the pairs, as the vector was made where nothing else is said."""
    origin = vector.origin
    return RunContext(
        model=model,
        task=task,
        template=config.template or origin.template,
        shots=(origin.used_shots or 0) if config.shots is None else config.shots,
        seed=config.changes.get("seed", origin.seed or 0),
        memory=None if config.memory is None else resolve_budget(config.memory, model.device),
        chat=config.chat or bool(origin.chat),
        end_of_answer=config.end_of_answer,
    )


def _elsewhere(
    config: EvaluateConfig, context: RunContext, vector: TaskVector, strength: float
) -> dict[str, Any]:
    """What a strength does to unrelated text, if that was asked for."""
    if not config.side_effects or strength == 0:
        return {}
    found = side_effects(context.model, vector, strength=strength, memory=context.memory)
    return asdict(found)


def _describe(config: EvaluateConfig, context: RunContext, vector: TaskVector) -> dict[str, Any]:
    model = context.model
    return {
        "vector": config.vector,
        "method": vector.origin.method,
        "model": model.source,
        "family": model.model_type,
        "engine": model.engine,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights_note": model.weights_note,
        "task": context.task.name,
        "template": context.template,
        "split": config.split,
        "shots": context.shots,
        "seed": context.seed,
        "end_of_answer": config.end_of_answer,
        "notes": context.notes_on_ends(config.split),
        "methods": about_methods([vector.origin.method]),
        "versions": versions(),
        "finished": now(),
    }


def _row(vector: TaskVector, strength: float, shots: int) -> dict[str, Any]:
    if strength == 0:
        method = "icl" if shots else "zero-shot"
        return {"method": method, "layers": [], "positions": [], "shots": shots, "strength": 0.0}
    return {
        "method": vector.origin.method,
        "layers": [layer_name(layer) for layer in vector.layers],
        "positions": list(vector.positions),
        "shots": shots,
        "strength": strength,
    }
