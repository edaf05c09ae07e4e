"""Methods side by side: made, chosen on validation, tested once, written to a folder."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.config import CompareConfig, Loader, ModelConfig
from taskvectors.experiments.one_seed import OneSeed
from taskvectors.experiments.works import about_methods
from taskvectors.learners.tracking import TrackerName, check_tracker, track_curves
from taskvectors.methods import RunContext
from taskvectors.methods.shared.possible import check_possible
from taskvectors.models import LanguageModel
from taskvectors.progress import Throughput
from taskvectors.prompts import shared_first_tokens
from taskvectors.results import (
    BEST_VECTOR,
    AnsweredItem,
    ComparisonRow,
    Record,
    RunFolder,
    comparison_rows,
    frame_of,
    open_run,
)
from taskvectors.results.folder import now
from taskvectors.results.pooling import with_differences
from taskvectors.results.provenance import (
    inputs_of_model,
    inputs_of_task,
    inputs_of_versions,
    versions,
)
from taskvectors.tasks import Task
from taskvectors.trunk import resolve_budget

logger = logging.getLogger(__name__)

_IN_JSON = ("model", "family", "dtype", "task", "template", "seed", "shots", "n_train",
            "n_validation", "n_test")  # fmt: skip


def compare(
    config: CompareConfig,
    folder: Path,
    *,
    command: Sequence[str] = (),
    load: Loader = ModelConfig.load,
    tasks: Sequence[Task] = (),
    tracker: TrackerName | None = None,
) -> Record:
    """Run a comparison, or go on with one that was cut off.

    Args:
        config: What to compare.
        folder: The run's folder; a folder of the same run goes on where it stopped.
        command: The command line that asked for it, where there is one.
        load: Loads a model, or has it already.
        tasks: The task on each seed, where it is loaded already.
        tracker: An experiment tracker to tell the curves of training, too.

    Returns:
        The record, in its folder; `comparison_rows` gives its wide rows.

    Raises:
        DataError: The folder cannot be used, or holds a run that was made from something else.
        TaskVectorsError: The model or the task cannot be loaded.
    """
    if tracker is not None:
        check_tracker(tracker)  # before the work, not after it
    # what is wrong is said before the model is loaded, and before there is a folder
    tasks = tasks or [config.load_task(seed) for seed in config.seeds]
    with open_run(folder, kind="compare", asked=config.model_dump(mode="json")) as run_folder:
        record = _Comparison(config, run_folder, command, load).run(tasks)
    if tracker is not None:
        track_curves(tracker, folder, record.curves)
    return record


def check_any_ran(record: Record) -> Record:
    """The record of a run of which something could be run.

    Raises:
        TaskVectorsError: Not one method, or analysis, could; the message is that of the first.
    """
    if record.kind == "compare":
        rows = [row for row in comparison_rows(record.frame) if not row.is_control]
        errors = [row.error for row in rows]
    else:
        errors = [one["error"] for one in record.metadata["analyses"]]
    if all(errors):
        raise TaskVectorsError(f"nothing could be run: {errors[0]}")
    return record


def comparison_json(record: Record) -> dict[str, Any]:
    """The documented form of `compare --json`: one object with what was run and `rows`."""
    about = {name: record.metadata[name] for name in _IN_JSON}
    return about | {"rows": [row.as_dict() for row in comparison_rows(record.frame)]}


class _Comparison:
    """A comparison in hand."""

    def __init__(
        self, config: CompareConfig, folder: RunFolder, command: Sequence[str], load: Loader
    ) -> None:
        self.config, self.folder, self.command, self.load = config, folder, command, load
        self.started = time.perf_counter()
        self.rows: list[ComparisonRow] = []
        self.curves: list[Mapping[str, Any]] = []
        self.examples: tuple[AnsweredItem, ...] = ()
        self.seeds: list[OneSeed] = []

    def run(self, tasks: Sequence[Task]) -> Record:
        config = self.config
        for task in tasks:
            self.folder.check_made_from(inputs_of_task(task, config.task))
        self.folder.check_made_from(inputs_of_versions())
        logger.info("Loading the model %r", config.model.source)
        model = self.load(config.model)
        self.folder.check_made_from(inputs_of_model(model))
        test_model = None
        if config.test_dtype == "float32" and model.dtype != torch.float32:
            test_model = self.load(config.model.model_copy(update={"dtype": "float32"}))
        contexts = [self._context(model, task, test_model) for task in tasks]
        self._check_possible(contexts)
        self.folder.begin()
        throughput = Throughput()
        record: Record | None = None
        for task, context in zip(tasks, contexts, strict=True):
            if not self.seeds:
                metadata = describe(config, model, task, context) | {"command": list(self.command)}
            one = OneSeed(
                context=context, config=config, run_folder=self.folder, throughput=throughput
            )
            self.seeds.append(one)
            self.rows += one.run()
            self.curves += one.metrics
            if not self.examples and config.n_shown:
                logger.info("Writing answers to %d test items by each method", config.n_shown)
                self.examples = tuple(AnsweredItem(**item) for item in one.shown())
            record = self._record(metadata)
            self.folder.write(record)
        assert record is not None
        self._write_best_vector()
        taken = {"seconds": time.perf_counter() - self.started, "finished": now()}
        return self.folder.write(self._record(metadata | taken))

    def _check_possible(self, contexts: Sequence[RunContext]) -> None:
        """Check what methods are asked for, where their own places are what they are run at."""
        for config in self.config.methods:
            is_placed = {"layers", "positions"} <= set(type(config).model_fields)
            if self.config.configurations == "own" or not is_placed:
                for context in contexts:
                    check_possible(context, config, ("train", "validation", "test"))

    def _context(
        self, model: LanguageModel, task: Task, test_model: LanguageModel | None
    ) -> RunContext:
        config = self.config
        return RunContext(
            model=model,
            task=task,
            template=config.template or "",
            shots=config.shots,
            seed=task.seed,
            memory=None if config.memory is None else resolve_budget(config.memory, model.device),
            chat=config.chat,
            end_of_answer=config.end_of_answer,
            test_model=test_model,
        )

    def _record(self, metadata: Mapping[str, Any]) -> Record:
        shared = {"experiment": "compare", "model": metadata["model"], "task": metadata["task"]}
        tidy = [
            one.as_row(**shared)
            for row in with_differences(self.rows)
            for one in row.measurements()
        ]
        failed = [f"{row.method}: {row.error}" for row in self.rows if row.error]
        return Record(
            kind="compare",
            metadata={**metadata, "methods": about_methods(row.method for row in self.rows)},
            frame=frame_of(tidy),
            curves=pd.DataFrame(self.curves),
            examples=self.examples,
            warnings=(*metadata["notes"], *dict.fromkeys(failed)),
        )

    def _write_best_vector(self) -> None:
        """Keep the vector with the highest validation accuracy; a learned one of equals."""
        found = [
            (one.reached[method], method == "learned", choice.vector, choice.strength)
            for one in self.seeds
            for method, choice in one.chosen.items()
            if choice.vector is not None
        ]
        if found:
            _, _, vector, strength = max(found, key=lambda item: item[:2])
            (vector if strength == 1 else vector * strength).save(self.folder.path / BEST_VECTOR)


def describe(
    config: CompareConfig, model: LanguageModel, task: Task, context: RunContext
) -> dict[str, Any]:
    """What is run, for `config.json` and the report."""
    notes = [*task.notes, *model.verified.notes(model.source)]
    shared = shared_first_tokens(context.prompts("train"))
    if shared:
        notes.append(
            f"{len(shared)} group(s) of answers begin with the same token, e.g. "
            f"{', '.join(shared[0][:3])}; accuracy is on whole answers"
        )
    notes += context.notes_on_ends("test")
    return {
        "model": model.source,
        "revision": model.revision,
        "family": model.model_type,
        "engine": model.engine,
        "dtype": str(model.dtype).removeprefix("torch."),
        "test_dtype": "float32" if context.test_model is not None else str(model.dtype)[6:],
        "device": str(model.device),
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "weights_note": model.weights_note,
        "task": task.name,
        "description": task.description,
        "source": task.source,
        "template": context.template,
        "seed": config.seeds[0] if len(config.seeds) == 1 else list(config.seeds),
        "n_train": len(task.train),
        "n_validation": len(task.validation),
        "n_test": len(task.test),
        "shots": config.shots,
        "end_of_answer": config.end_of_answer,
        "versions": versions(),
        "started": now(),
        "notes": notes,
    }
