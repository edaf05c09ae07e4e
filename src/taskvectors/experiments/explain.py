"""Analyses of a vector, run one after the other into a folder.

A run that was cut off has the analyses it finished; the same command on the same folder goes on. An
analysis that refuses the vector is kept as refused, with what it said.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.experiments.config import Loader, ModelConfig
from taskvectors.explain import ANALYSES, Case
from taskvectors.methods import RunContext
from taskvectors.methods.controls.other_task import other_task
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.layers import layer_name
from taskvectors.models import LanguageModel
from taskvectors.progress import format_duration
from taskvectors.results import Cell, Measurement, Record, RunFolder, frame_of, open_run
from taskvectors.results.folder import now
from taskvectors.results.provenance import (
    inputs_of_model,
    inputs_of_task,
    inputs_of_versions,
    versions,
)
from taskvectors.tasks import Task
from taskvectors.trunk import resolve_budget
from taskvectors.vectors import TaskVector, VectorOrigin, check_unseen, task_of

logger = logging.getLogger(__name__)


Held = tuple[tuple[TaskVector, ...], Task | None, TaskVector | None]
"""Vectors, task and the other task's vector, of a call that has them in memory."""


class ExplainConfig(BaseModel):
    """What is explained, and by which analyses."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    vectors: tuple[str, ...] = Field(min_length=1)
    """Folders of the vectors; the first is explained, and several are compared."""
    analyses: tuple[str, ...] = ()
    """Names of analyses; all that the vectors allow by default."""
    other_vector: str | None = None
    """Folder of another task's vector, or `learn` to learn one at the same sites."""
    model: ModelConfig = ModelConfig()
    """The model."""
    task: str = ""
    """Task; the first vector's own by default."""
    template: str | None = None
    """Prompt template; the vector's own by default."""
    shots: int = Field(default=8, ge=1)
    """Demonstrations in few-shot prompts."""
    changes: dict[Literal["seed", "n_train", "n_validation", "n_test"], int] = {}
    """Seed and sizes of the split; the vector's own by default."""
    allow_overlap: bool = False
    """Use test pairs also that the vector was trained on."""
    limit: int = Field(default=100, ge=2)
    """Most prompts of a split that an analysis uses."""
    memory: str | None = None
    """Memory to use, such as 4GB."""
    chat: bool = False
    """Whether prompts go through the tokenizer's chat template."""

    @property
    def names(self) -> tuple[str, ...]:
        """The analyses to run.

        Raises:
            TaskVectorsError: There is no such analysis, or it compares vectors and one was given.
        """
        several = len(self.vectors) > 1
        for name in self.analyses:
            if ANALYSES.find(name).needs == "vectors" and not several:
                raise TaskVectorsError(f"{name} compares vectors; give several with --vectors")
        allowed = [name for name, one in ANALYSES.items() if several or one.needs == "vector"]
        return self.analyses or tuple(allowed)


def explain(
    config: ExplainConfig,
    folder: Path,
    *,
    command: Sequence[str] = (),
    load: Loader = ModelConfig.load,
    held: Held | None = None,
) -> Record:
    """Run analyses, or go on with a run that was cut off.

    Args:
        config: What to explain.
        folder: The run's folder.
        command: The command line that asked for it, where there is one.
        load: Loads a model, or has it already.
        held: Vectors, task and the other task's vector, where they are in memory.

    Returns:
        The record, in its folder; `analysis_tables` gives the table of each analysis.

    Raises:
        DataError: The folder cannot be used, or holds a run that was made from something else.
        TaskVectorsError: The model, a vector or the task cannot be loaded or do not fit.
    """
    names = config.names
    if held is None:
        held = (tuple(TaskVector.load(path) for path in config.vectors), None, None)
    vectors, task, other = held
    # what is wrong is said before the model is loaded, and before there is a folder
    held = (vectors, task or task_of(vectors[0].origin, config.task, **config.changes), other)
    asked = config.model_dump(mode="json")
    with open_run(folder, kind="explain", asked=asked) as run_folder:
        return _explain(config, names, held, run_folder, (command, load))


def _explain(
    config: ExplainConfig,
    names: Sequence[str],
    held: Held,
    run_folder: RunFolder,
    by: tuple[Sequence[str], Loader],
) -> Record:
    started = time.perf_counter()
    (command, load), (vectors, task, other) = by, held
    run_folder.check_made_from(inputs_of_versions())
    for path, vector in zip(config.vectors, vectors, strict=True):
        run_folder.check_made_from({f"the vector {path}": _hash_of(vector)})
    logger.info("Loading the model %r", config.model.source)
    case = make_case(config, load(config.model), vectors, task)
    task = case.context.task
    run_folder.check_made_from(inputs_of_task(task, config.task) | inputs_of_model(case.model))
    run_folder.begin()
    done: list[Cell] = []
    for name in names:
        cell = run_folder.cell(name)
        if cell is None:
            case = _with_other(case, config, name, other)
            cell = _cell_of(name, case)
            run_folder.keep(name, cell)
        done.append(cell)
        metadata = _describe(config, case, done) | {"command": list(command)}
        run_folder.write(_record(metadata, done))
    taken = {"seconds": time.perf_counter() - started, "finished": now()}
    return run_folder.write(_record(metadata | taken, done))


def _hash_of(vector: TaskVector) -> str:
    values = vector.values.detach().float().contiguous().cpu().numpy().tobytes()
    return hashlib.sha256(values + str(vector.sites).encode()).hexdigest()


def _record(metadata: Mapping[str, Any], done: Sequence[Cell]) -> Record:
    shared = {
        "experiment": "explain",
        "model": metadata["model"],
        "task": metadata["task"],
        "seed": metadata["seed"],
    }
    errors = [(cell.metadata["name"], cell.metadata["error"]) for cell in done]
    return Record(
        kind="explain",
        metadata=metadata,
        frame=frame_of(
            {**row, **shared, "task": row["task"] or shared["task"]}
            for cell in done
            for row in cell.rows
        ),
        figures=tuple(figure for cell in done for figure in cell.figures),
        warnings=tuple(f"{name}: {error}" for name, error in errors if error),
    )


def make_case(
    config: ExplainConfig,
    model: LanguageModel,
    vectors: Sequence[TaskVector],
    task: Task | None = None,
) -> Case:
    """The case of some vectors, in the task of the first, or in one that is loaded already.

    Raises:
        DataError: The vector does not say its task, and none was given.
        VectorMismatchError: A vector was made for another model.
    """
    vector = vectors[0]
    for one in vectors:
        one.check_model(model)
    task = task or task_of(vector.origin, config.task, **config.changes)
    if not config.allow_overlap:
        check_unseen(vector.origin, task.test)
    template = config.template or vector.origin.template
    largest = max(map(len, (task.train, task.validation, task.test)))
    if config.limit > max(largest, ExplainConfig.model_fields["limit"].default):
        logger.warning(
            "limit %d is more than any split of %s has: all of its prompts are used, at most %d",
            config.limit, task.name, largest,
        )  # fmt: skip
    return Case(
        context=_context_of(config, model, task, vector.origin, template),
        vector=vector,
        vectors=tuple(vectors),
        limit=config.limit,
    )


def _context_of(
    config: ExplainConfig, model: LanguageModel, task: Task, origin: VectorOrigin, template: str
) -> RunContext:
    """The run context of a vector's task."""
    return RunContext(
        model=model,
        task=task,
        template=template,
        shots=config.shots,
        seed=config.changes.get("seed", origin.seed or 0),
        memory=None if config.memory is None else resolve_budget(config.memory, model.device),
        chat=config.chat or bool(origin.chat),
    )


def _with_other(case: Case, config: ExplainConfig, name: str, held: TaskVector | None) -> Case:
    """The case with another task's vector, where an analysis compares with one."""
    if not ANALYSES[name].needs_other or case.other is not None or config.other_vector is None:
        return case
    if config.other_vector == "learn":
        logger.info("Learning another task's vector at the same sites, as a control")
        chosen = Candidate(method="explained", vector=case.vector)
        vector = other_task(case.context, chosen, Learned()).vector
        assert vector is not None
    else:
        vector = held or TaskVector.load(config.other_vector)
        vector.check_model(case.model)
    if vector.origin.task in ("", case.context.task.name):
        raise DataError(
            f"--other-vector is for {vector.origin.task or 'no task that it names'}; give a vector "
            f"of another task than {case.context.task.name}"
        )
    context = _context_of(
        config, case.model, task_of(vector.origin), vector.origin, vector.origin.template
    )
    return replace(case, other=Case(context=context, vector=vector, limit=case.limit))


def _cell_of(name: str, case: Case) -> Cell:
    """One analysis as what is kept of it; one that refuses the vector is kept as refused."""
    analysis = ANALYSES[name]
    started = time.perf_counter()
    about: dict[str, Any] = {
        "name": name,
        "title": analysis.title,
        "question": analysis.question,
        "citation": analysis.citation,
        "columns": asdict(analysis.record_columns),
        "summary": "",
        "error": None,
    }
    places: dict[str, Any] = {
        "method": case.vector.origin.method,
        "positions": list(case.vector.positions),
    }
    if len(case.vectors) == 1:
        places["layers"] = [layer_name(layer) for layer in case.vector.layers]
    try:
        found = analysis.run(case)
    except TaskVectorsError as error:
        logger.info("%s: %s", name, error)
        seconds = time.perf_counter() - started
        said = {"analysis": name, "error": str(error)}
        row = Measurement(measure="error", value=None, about=said, **places).as_row()
        return Cell(rows=[row], metadata=about | {"error": str(error), "seconds": seconds})
    seconds = time.perf_counter() - started
    logger.info("%s: done (%s)", name, format_duration(seconds))
    return Cell(
        rows=[one.as_row() for one in analysis.measurements(found, **places)],
        figures=[analysis.figure(found)],
        metadata=about | {"summary": analysis.summarise(found.to_frame()), "seconds": seconds},
    )


def _describe(config: ExplainConfig, case: Case, done: Sequence[Cell]) -> dict[str, Any]:
    """What was run, for `config.json` and the report."""
    model, vector, context = case.model, case.vector, case.context
    return {
        "vector": config.vectors[0],
        "vectors": list(config.vectors),
        "method": vector.origin.method,
        "layers": [layer_name(layer) for layer in vector.layers],
        "positions": list(vector.positions),
        "norm": vector.norm(),
        "other_vector": None if case.other is None else case.other.vector.origin.label,
        "model": model.source,
        "family": model.model_type,
        "engine": model.engine,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "n_layers": model.n_layers,
        "n_heads": _alike(model, "n_heads"),
        "n_key_value_heads": _alike(model, "n_key_value_heads"),
        "weights_note": model.weights_note,
        "task": context.task.name,
        "template": context.template,
        "seed": context.seed,
        "shots": context.shots,
        "analyses": [dict(cell.metadata) for cell in done],
        "versions": versions(),
    }


def _alike(model: LanguageModel, name: str) -> int | None:
    """A size of the heads, where all blocks have the same."""
    sizes = {getattr(parts.heads, name, None) for parts in model.structure.blocks}
    return sizes.pop() if len(sizes) == 1 else None
