"""Analyses of a vector, run one after the other into a folder.

A run that was cut off has the analyses it finished; the same command on the same folder goes on. An
analysis that refuses the vector is kept as refused, with what it said.
"""

import datetime
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from taskvectors._version import __version__
from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.experiments.config import Loader, ModelConfig
from taskvectors.experiments.store import RunFolder, write_table
from taskvectors.explain import ANALYSES, Case
from taskvectors.methods import Learned, RunContext
from taskvectors.methods.candidate import Candidate
from taskvectors.methods.controls import other_task
from taskvectors.methods.run_context import layer_name
from taskvectors.models import LanguageModel
from taskvectors.tasks import Task, load_task
from taskvectors.trunk import resolve_budget
from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


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
    seed: int | None = None
    """Of the split; the vector's own by default."""
    n_train: int = Field(default=300, ge=1)
    """Training pairs."""
    n_validation: int = Field(default=100, ge=1)
    """Validation pairs."""
    n_test: int = Field(default=200, ge=1)
    """Test pairs."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A finished run."""

    folder: Path
    summary: Mapping[str, Any]
    """What was run, as `config.json` holds it."""
    rows: Sequence[Mapping[str, Any]]
    """Rows of all analyses; `analysis` says which."""


def explain(
    config: ExplainConfig,
    folder: Path,
    *,
    say: Say = logger.info,
    load: Loader = ModelConfig.load,
) -> Explanation:
    """Run analyses, or go on with a run that was cut off.

    Args:
        config: What to explain.
        folder: The run's folder.
        say: Told in a sentence what is being done.
        load: Loads a model, or has it already.

    Raises:
        TaskVectorsError: The model, a vector or the task cannot be loaded or do not fit.
    """
    started = time.perf_counter()
    names = config.names
    vectors = tuple(TaskVector.load(path) for path in config.vectors)
    store = RunFolder(folder)
    store.open(config.model_dump(mode="json"))
    say(f"Loading the model {config.model.source!r}")
    case = make_case(config, load(config.model), vectors)
    done: list[dict[str, Any]] = []
    for name in names:
        cell = store.cell(name)
        if cell is None:
            case = _with_other(case, config, name, say)
            cell = _run(name, case, say)
            store.write_json(f"cells/{name}.json", cell)
        done.append(cell)
        _write(store, done)
    summary = _describe(config, case, done)
    summary["seconds"] = time.perf_counter() - started
    store.write_json("config.json", summary)
    rows = [row for cell in done for row in cell["rows"]]
    return Explanation(folder=folder, summary=summary, rows=rows)


def make_case(config: ExplainConfig, model: LanguageModel, vectors: Sequence[TaskVector]) -> Case:
    """The case of some vectors, in the task of the first.

    Raises:
        DataError: The vector does not say its task, and none was given.
        VectorMismatchError: A vector was made for another model.
    """
    vector = vectors[0]
    for one in vectors:
        one.check_model(model)
    name = config.task or vector.origin.task
    if not name:
        raise DataError(
            f"{config.vectors[0]} does not say which task it is for; name the task with --task"
        )
    seed = config.seed if config.seed is not None else vector.origin.seed or 0
    task = load_task(
        name,
        seed=seed,
        n_train=config.n_train,
        n_validation=config.n_validation,
        n_test=config.n_test,
    )
    return Case(
        context=bench_for(config, model, task, seed, config.template or vector.origin.template),
        vector=vector,
        vectors=tuple(vectors),
        limit=config.limit,
    )


def bench_for(
    config: ExplainConfig, model: LanguageModel, task: Task, seed: int, template: str
) -> RunContext:
    """The run context of a task."""
    return RunContext(
        model=model,
        task=task,
        template=template,
        shots=config.shots,
        seed=seed,
        memory=None if config.memory is None else resolve_budget(config.memory, model.device),
        chat=config.chat,
    )


def _with_other(case: Case, config: ExplainConfig, name: str, say: Say) -> Case:
    """The case with another task's vector, where an analysis compares with one."""
    if not ANALYSES[name].needs_other or case.other is not None or config.other_vector is None:
        return case
    if config.other_vector == "learn":
        say("Learning another task's vector at the same sites, as a control")
        chosen = Candidate(method="explained", vector=case.vector)
        vector = other_task(case.context, chosen, Learned()).vector
        assert vector is not None
    else:
        vector = TaskVector.load(config.other_vector)
        vector.check_model(case.model)
    if vector.origin.task in ("", case.context.task.name):
        raise DataError(
            f"--other-vector is for {vector.origin.task or 'no task that it names'}; give a vector "
            f"of another task than {case.context.task.name}"
        )
    seed = vector.origin.seed or 0
    task = load_task(
        vector.origin.task,
        seed=seed,
        n_train=config.n_train,
        n_validation=config.n_validation,
        n_test=config.n_test,
    )
    context = bench_for(config, case.model, task, seed, vector.origin.template)
    return replace(case, other=Case(context=context, vector=vector, limit=case.limit))


def _run(name: str, case: Case, say: Say) -> dict[str, Any]:
    """One analysis as what is kept of it."""
    analysis = ANALYSES[name]
    started = time.perf_counter()
    about: dict[str, Any] = {
        "name": name,
        "title": analysis.title,
        "question": analysis.question,
        "source": analysis.citation,
        "rows": [],
        "figure": None,
        "summary": "",
        "error": None,
    }
    try:
        found = analysis.run(case)
    except TaskVectorsError as error:
        say(f"{name}: {error}")
        return about | {"error": str(error), "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    say(f"{name}: done ({seconds:.0f} s)")
    frame = found.to_frame()
    kept: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    rows = [{"analysis": name, **{k: _plain(v) for k, v in row.items()}} for row in kept]
    figure = analysis.figure(found)
    drawn = {"kind": type(figure).__name__, **asdict(figure)}
    summary = analysis.summarise(frame)
    return about | {"rows": rows, "figure": drawn, "summary": summary, "seconds": seconds}


def _plain(value: Any) -> Any:
    """A cell as JSON knows it."""
    return value.item() if hasattr(value, "item") else value


def _write(store: RunFolder, done: Sequence[Mapping[str, Any]]) -> None:
    """The table and the figures of all analyses so far."""
    figures = {cell["name"]: cell["figure"] for cell in done if cell["figure"] is not None}
    store.write_json("figures.json", figures)
    rows = [row for cell in done for row in cell["rows"]]
    if rows:
        write_table(pd.DataFrame(rows), store.path / "results.parquet")


def _describe(
    config: ExplainConfig, case: Case, done: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What was run, for `config.json` and the report."""
    import transformers

    model, vector, context = case.model, case.vector, case.context
    kept = ("name", "title", "question", "source", "summary", "seconds", "error")
    return {
        "asked": config.model_dump(mode="json"),
        "command": "explain",
        "vector": config.vectors[0],
        "vectors": list(config.vectors),
        "method": vector.origin.method,
        "layers": [layer_name(layer) for layer in vector.layers],
        "positions": list(vector.positions),
        "norm": vector.norm(),
        "other_vector": None if case.other is None else case.other.vector.origin.label,
        "model": model.source,
        "family": model.model_type,
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
        "analyses": [{name: cell[name] for name in kept} for cell in done],
        "versions": {
            "taskvectors": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _alike(model: LanguageModel, name: str) -> int | None:
    """A size of the heads, where all blocks have the same."""
    sizes = {getattr(parts.heads, name, None) for parts in model.structure.blocks}
    return sizes.pop() if len(sizes) == 1 else None
