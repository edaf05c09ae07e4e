"""Methods side by side: found, chosen on validation, tested once, written to a folder."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from taskvectors._version import __version__
from taskvectors.experiments.config import CompareConfig, Loader, ModelConfig
from taskvectors.experiments.one_seed import OneSeed, Say
from taskvectors.experiments.rows import Row, with_differences
from taskvectors.experiments.store import RunFolder
from taskvectors.methods import RunContext
from taskvectors.models import LanguageModel
from taskvectors.progress import Throughput
from taskvectors.prompts import shared_first_tokens
from taskvectors.tasks import Task, load_task
from taskvectors.trunk import resolve_budget

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A finished comparison."""

    folder: Path
    summary: Mapping[str, Any]
    """What was run, as `config.json` holds it."""
    table: Sequence[Row]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows for machines."""
        return [row.as_dict() for row in self.table]

    def as_json(self) -> dict[str, Any]:
        """One object with what was run and `rows`."""
        kept = ("model", "family", "dtype", "task", "template", "seed", "shots", "n_train",
                "n_validation", "n_test")  # fmt: skip
        return {name: self.summary[name] for name in kept} | {"rows": self.rows}


def compare(
    config: CompareConfig,
    folder: Path,
    *,
    say: Say = logger.info,
    command: Sequence[str] = (),
    load: Loader = ModelConfig.load,
) -> Comparison:
    """Run a comparison, or go on with one that was cut off.

    Args:
        config: What to compare.
        folder: The run's folder; a folder of the same run goes on where it stopped.
        say: Told in a sentence what is to be done, before it is done, and what it gave.
        command: The command line that asked for it, where there is one.
        load: Loads a model, or has it already.

    Raises:
        TaskVectorsError: The model or the task cannot be loaded.
    """
    started = time.perf_counter()
    store = RunFolder(folder)
    store.open(config.model_dump(mode="json"))
    say(
        f"Loading the model {config.model.source!r}: some seconds, and a minute more where it has "
        "to be converted"
    )
    model = load(config.model)
    test_model = None
    if config.test_dtype == "float32" and model.dtype != torch.float32:
        test_model = load(config.model.model_copy(update={"dtype": "float32"}))
    rows: list[Row] = []
    metrics: list[Mapping[str, Any]] = []
    shown: list[Mapping[str, Any]] = []
    summary: dict[str, Any] = {}
    throughput = Throughput()
    for seed in config.seeds:
        task = load_task(
            config.task,
            seed=seed,
            n_train=config.n_train,
            n_validation=config.n_validation,
            n_test=config.n_test,
        )
        context = RunContext(
            model=model,
            task=task,
            template=config.template or "",
            shots=config.shots,
            seed=seed,
            memory=None if config.memory is None else resolve_budget(config.memory, model.device),
            chat=config.chat,
            test_model=test_model,
        )
        if not summary:
            summary = describe(config, model, task, context) | {"command": list(command)}
        one = OneSeed(context=context, config=config, store=store, throughput=throughput, say=say)
        rows += one.run()
        metrics += one.metrics
        store.write_results(with_differences(rows))
        store.write_lines("metrics.jsonl", metrics)
        if not shown and config.n_shown:
            say(
                f"Writing answers to {config.n_shown} test items by each method, a few seconds each"
            )
            shown = one.shown()
            store.write_lines("examples.jsonl", shown)
    table = with_differences(rows)
    store.write_results(table)
    summary["seconds"] = time.perf_counter() - started
    store.write_json("config.json", summary)
    return Comparison(folder=folder, summary=summary, table=table)


def describe(
    config: CompareConfig, model: LanguageModel, task: Task, context: RunContext
) -> dict[str, Any]:
    """What is run, for `config.json` and the report."""
    import datetime
    import platform

    import transformers

    notes = list(task.notes)
    shared = shared_first_tokens(context.prompts("train"))
    if shared:
        notes.append(
            f"{len(shared)} group(s) of answers begin with the same token, e.g. "
            f"{', '.join(shared[0][:3])}; accuracy is on whole answers"
        )
    return {
        "asked": config.model_dump(mode="json"),
        "model": model.source,
        "revision": model.revision,
        "family": model.model_type,
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
        "versions": {
            "taskvectors": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "notes": notes,
    }
