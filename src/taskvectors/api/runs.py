"""Runs in Python: compare, explain, train, reproduce.

Each runs what the verb of its name runs. With `out` the run is kept in that folder, where the same
call goes on if it is cut off; without, it is held in memory, and `save` writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from taskvectors.api.border import as_tuple
from taskvectors.api.result import RunResult
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments import CompareConfig, ExplainConfig, ModelConfig, check_any_ran
from taskvectors.experiments import compare as run_compare
from taskvectors.experiments import explain as run_explain
from taskvectors.experiments.reproduce import ALL, ReproduceConfig
from taskvectors.experiments.reproduce import reproduce as run_reproduce
from taskvectors.learners.devices import Devices
from taskvectors.learners.families import DEFAULT_PRESET, variants_config
from taskvectors.learners.tracking import TrackerName
from taskvectors.learners.variants import train_variants
from taskvectors.methods import METHODS
from taskvectors.methods.shared.method import checked
from taskvectors.models import as_model
from taskvectors.report import write_report
from taskvectors.results import BEST_VECTOR, Record
from taskvectors.tasks import Task, as_task
from taskvectors.vectors import TaskVector, as_vector

if TYPE_CHECKING:
    Vector = TaskVector | str | PathLike[str]
_METHODS = ("zero-shot", "icl", "vanilla", "learned")


def compare(  # noqa: PLR0913  (what the verb takes)
    model: Any,
    task: Any,
    methods: str | BaseModel | Sequence[str | BaseModel] = _METHODS,
    *,
    layers: Any = None,
    each_layer: bool | None = None,
    positions: Any = None,
    controls: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    shots: int = 8,
    template: str | None = None,
    chat: bool = False,
    by_examples: bool = False,
    n_shown: int = 12,
    memory: str | None = None,
    tracker: TrackerName | None = None,
    out: str | Path | None = None,
) -> RunResult:
    """Methods side by side on one task: chosen on validation, tested once, with their controls.

    Args:
        model: What `load_model` returns.
        task: A task, or what `load_task` takes. Where its source is known it is split anew for
            each seed; pairs in memory keep their split, and demonstrations and starts change.
        methods: Names, or configs where a method is to have settings of its own.
        layers: Layers of the vectors of methods given by name; every layer by default.
        each_layer: One vector at each of `layers`, in place of one at all of them.
        positions: Their token positions; the last one by default.
        controls: Baselines that must score lower; `majority`, and `random` where a method gives a
            vector.
        seeds: How many, counted from the task's own, or the seeds themselves.
        shots: Demonstrations in a few-shot prompt.
        template: Prompt template; the task's own by default.
        chat: Whether prompts go through the tokenizer's chat template.
        by_examples: Also run each method on 4, 8, 16, ... of the training pairs.
        n_shown: Test items whose generated answers are kept.
        memory: Memory to use, such as `4GB`.
        tracker: An experiment tracker to tell the curves of training, too; `wandb` needs `out`.
        out: Folder of the run; held in memory by default.

    Raises:
        TaskVectorsError: There is no such method or control, or a value is not one that it takes.

    Example:
        result = tv.compare(model, "capital", ["icl", "learned"], layers=9, seeds=3)
    """
    model, task = as_model(model), as_task(task)
    places = {"layers": layers, "positions": positions}
    given: dict[str, Any] = {
        name: as_tuple(value) for name, value in places.items() if value is not None
    }
    given |= {} if each_layer is None else {"each_layer": each_layer}
    configs: tuple[Any, ...] = tuple(_method(one, given) for one in as_tuple(methods))
    has_vector = any(METHODS[config.kind].gives_vector for config in configs)
    own = ("majority", "random") if has_vector else ("majority",)
    if isinstance(seeds, int):
        seeds = range(task.seed, task.seed + seeds)
    config = checked(
        CompareConfig,
        {
            "model": ModelConfig(source=model.source),
            "task": _named(task),
            "template": template,
            "shots": shots,
            "n_train": len(task.train),
            "n_validation": len(task.validation),
            "n_test": len(task.test),
            "seeds": tuple(seeds),
            "methods": configs,
            "controls": own if controls is None else tuple(controls),
            "by_examples": by_examples,
            "n_shown": n_shown,
            "memory": memory,
            "chat": chat,
        },
    )
    tasks = [task.with_seed(seed) for seed in config.seeds]
    with _folder(out) as folder:
        record = run_compare(config, folder, load=lambda _: model, tasks=tasks, tracker=tracker)
        best = folder / BEST_VECTOR
        vector = TaskVector.load(best) if best.is_dir() else None
        return RunResult(record=_kept(record, out), vector=vector)


def explain(  # noqa: PLR0913  (what the verb takes)
    model: Any,
    vector: "Vector | Sequence[Vector]",
    *,
    analyses: str | Sequence[str] = (),
    task: Any = None,
    other: "Vector | None" = None,
    template: str | None = None,
    shots: int = 8,
    limit: int = 100,
    allow_overlap: bool = False,
    memory: str | None = None,
    out: str | Path | None = None,
) -> RunResult:
    """How a model uses a vector: through which heads, along which paths, where they look.

    Effects add up best in float32: `tv.load_model(source, dtype="float32")`.

    Args:
        model: What `load_model` returns.
        vector: The vector; of several the first is explained and compared with the others.
        analyses: Names of analyses; all that the vectors allow by default.
        task: A task, or what `load_task` takes; the vector's own by default.
        other: Another task's vector, as a control; `learn` learns one at the same sites.
        template: Prompt template; the vector's own by default.
        shots: Demonstrations in few-shot prompts.
        limit: Most prompts of a split that an analysis uses.
        allow_overlap: Use test pairs also that the vector was trained on.
        memory: Memory to use, such as `4GB`.
        out: Folder of the run; held in memory by default.

    Raises:
        TaskVectorsError: There is no such analysis, or the vector does not say its task.
    """
    model = as_model(model)
    vectors = tuple(map(as_vector, as_tuple(vector)))
    learns = isinstance(other, str) and other == "learn"
    compared = None if other is None or learns else as_vector(other)
    config = checked(
        ExplainConfig,
        {
            "model": ModelConfig(source=model.source),
            "vectors": tuple(f"{n}: {one.origin.label}" for n, one in enumerate(vectors, start=1)),
            "analyses": as_tuple(analyses),
            "other_vector": "learn" if learns else compared and compared.origin.label,
            "template": template,
            "shots": shots,
            "limit": limit,
            "allow_overlap": allow_overlap,
            "memory": memory,
        },
    )
    with _folder(out) as folder:
        record = run_explain(
            config,
            folder,
            load=lambda _: model,
            held=(vectors, None if task is None else as_task(task), compared),
        )
        return RunResult(record=_kept(record, out))


def train(  # noqa: PLR0913  (what the verb takes)
    task: str,
    *,
    preset: str = DEFAULT_PRESET,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    compile: bool = False,
    tracker: TrackerName | None = None,
    out: str | Path | None = None,
    **changes: Any,
) -> RunResult:
    """Train a small learner from scratch, with and without the TVP-loss, and measure it.

    Args:
        task: A family, such as `offset`, or the path of a file that has one.
        preset: Settings to start from.
        settings: Values of the family's fields.
        device: Where to train; the first GPU, else the CPU, by default.
        compile: Compile the training step.
        tracker: An experiment tracker to tell the metrics, too.
        out: Folder of the run with its learners; without it the learners are gone afterwards.
        changes: Fields of `VariantsConfig` (`seeds`, `tvp_layers`, `n_trials`), `TrainingConfig`
            (`steps`, `batch_size`) and `LearnerShape` (`n_layers`, `d_model`) in place of the
            preset's.

    Raises:
        TaskVectorsError: There is no such family or field, or a value is not one that it takes.
    """
    config = checked(
        lambda **given: variants_config(task, preset, **given),
        changes | {"settings": dict(settings or {})},
    )
    devices = Devices(device, compile=compile)
    with _folder(out) as folder:
        record = train_variants(config, folder, devices=devices, tracker=tracker)
        return RunResult(record=_kept(record, out))


def reproduce(  # noqa: PLR0913  (what the verb takes)
    experiment: str,
    *,
    preset: str = "cpu",
    models: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    seeds: int | Sequence[int] = (),
    memory: str | None = None,
    ray: str | None = None,
    tracker: TrackerName | None = None,
    out: str | Path | None = None,
) -> RunResult:
    """A table or figure of either paper.

    Args:
        experiment: Its name; `taskvectors reproduce --list` has them.
        preset: `smoke`, `cpu` or `paper`.
        models: Models in place of the preset's.
        tasks: Tasks in place of the preset's.
        seeds: Seeds in place of the preset's.
        memory: Memory to use, such as `4GB`.
        ray: Address of a Ray cluster that runs the groups.
        tracker: An experiment tracker to tell the curves of training, too; `wandb` needs `out`.
        out: Folder of the run; held in memory by default.

    Raises:
        TaskVectorsError: There is no such experiment, or nothing of it could be run.
    """
    if experiment == ALL:
        raise TaskVectorsError(
            "tv.reproduce runs one experiment; give its name, or use taskvectors reproduce all"
        )
    config = checked(
        ReproduceConfig,
        {
            "experiment": experiment,
            "preset": preset,
            "models": as_tuple(models),
            "tasks": as_tuple(tasks),
            "seeds": as_tuple(seeds),
            "memory": memory,
            "ray": ray,
        },
    )
    with _folder(out) as folder:
        (record,) = run_reproduce(config, folder, tracker=tracker)
        return RunResult(record=_kept(record, out))


def _method(method: Any, given: Mapping[str, Any]) -> BaseModel:
    """The config of a method: its own, or that of a name with the places it has a choice of."""
    if not isinstance(method, str):
        return method  # type: ignore[no-any-return]
    kind = METHODS.find(method).config
    own = {name: value for name, value in given.items() if name in kind.model_fields}
    return checked(kind, own)  # type: ignore[no-any-return]


def _named(task: Task) -> str:
    return task.name if task.request is None else task.request.source


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out).expanduser().absolute()
        return
    with TemporaryDirectory(prefix="taskvectors-") as scratch:
        yield Path(scratch) / "run"


def _kept(record: Record, out: str | Path | None) -> Record:
    """The record with its report beside it, or in memory."""
    if record.kind in ("compare", "explain"):
        check_any_ran(record)
    if out is None:
        return replace(record, folder=None)
    write_report(record)
    return record
