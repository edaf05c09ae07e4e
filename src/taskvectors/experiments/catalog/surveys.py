"""Experiments that put many methods side by side: adapters, and all of this library."""

from dataclasses import replace
from typing import Any

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.comparing import (
    BASE,
    asked,
    compared,
    comparing,
    middle_of,
)
from taskvectors.experiments.catalog.shared.inference import inference_costs, inference_works
from taskvectors.experiments.catalog.shared.learned_vectors import (
    context_of,
    recipe,
    vector_costs,
    vectors_of,
)
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    LTV_PAPER,
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.methods import METHODS
from taskvectors.methods.bitfit import BitFit
from taskvectors.methods.ia3 import IA3
from taskvectors.methods.learned import Learned
from taskvectors.methods.library import Library, plan_of_retrieving
from taskvectors.methods.lora import Lora
from taskvectors.methods.prefix_tuning import PrefixTuning
from taskvectors.methods.prompt_tuning import PromptTuning
from taskvectors.methods.shared.adapters import AdapterConfig
from taskvectors.methods.shared.trained_sites import SiteTraining
from taskvectors.models import LanguageModel
from taskvectors.results import Published
from taskvectors.results.drawing import by_configuration
from taskvectors.vectors import TaskVector

_MODEL = "Llama-3.1-8B"


# --- ltv-peft


def _rates(steps: int) -> tuple[float, ...]:
    """Of every method: those of the grid that move it far enough in so many steps."""
    if steps < 10:
        return (0.01,)
    return (0.01, 0.1) if steps < 100 else (0.001, 0.01, 0.1)


def _vector_and_adapters(model: LanguageModel, preset: Preset) -> tuple[Any, ...]:
    middle = middle_of(model)
    vectors = [
        Learned(
            layers=middle,
            positions=positions,
            recipe=recipe(preset).model_copy(update={"learning_rate": rate}),
        )
        for positions in ((-1,), ("all",))
        for rate in _rates(preset.steps)
    ]
    return (*BASE, *vectors, *_adapters(preset))


def _adapters(preset: Preset) -> list[AdapterConfig]:
    grid: dict[str, Any] = {
        "steps": preset.steps,
        "check_every": min(10, preset.steps),
        "learning_rates": _rates(preset.steps),
    }
    return [kind(**grid) for kind in (PromptTuning, PrefixTuning, Lora, IA3, BitFit)]


_COMPARING = comparing(_vector_and_adapters)


def _peft(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """The comparison, and what an answer costs by each of its ways."""
    assert unit.model is not None
    found: GroupResult = _COMPARING["run"](unit, preset, work_dir)
    model = work_dir.load(unit.model)
    context = context_of(model, unit.task, unit.seed, preset)
    costs = inference_costs(context, middle_of(model)[0], _adapters(preset))
    return replace(found, measurements=tuple(costs))


def _peft_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    assert unit.model is not None
    model = estimator.model(unit.model)
    context = context_of(model, unit.task, unit.seed, preset)
    works = inference_works(context, middle_of(model)[0], _adapters(preset))
    return [
        *_COMPARING["estimate"](unit, preset, estimator),
        *estimator.works(model, works, preset.memory),
    ]


def _peft_row(method: str, *values: float) -> list[Published]:
    measures = ("accuracy", "seconds_per_step", "peak_bytes")
    source = "table against fine-tuning in the published summary of the paper; SST-2"
    notes = (
        "",
        "latency of training",
        "peak memory, the model included; ours is on top of it",
    )
    return [
        Published(
            measure=measure, value=value, source=source, model=_MODEL, method=method, task="sst2",
            note=note,
        )
        for measure, value, note in zip(measures, values, notes, strict=True)
    ]  # fmt: skip


PEFT = Experiment(
    name="ltv-peft",
    title="A learned vector against adapters",
    question="Is one vector as good as an adapter of the same size, and cheaper?",
    paper=LTV_PAPER,
    what_the_paper_did="Prefix tuning (d parameters) and LoRA (2d) against a learned vector (d) on "
    "SST-2: accuracy, latency of a training step, peak memory.",
    what_we_do_otherwise="All adapters in their size nearest to a vector and in their own. For "
    "every method one grid of learning rates (of vectors relative to the stream) and one budget of "
    "steps, chosen on validation; a vector at every position beside the one at the last. Peak "
    "memory is on top of the model.",
    presets=presets(
        smoke={"tasks": ("sentiment",)},
        cpu={"tasks": ("sentiment",), "steps": 40},
        paper={"tasks": ("hub:sst2",), "n_test": 872},
    ),
    run=_peft,
    estimate=_peft_cost,
    figures=lambda rows: by_configuration(
        rows.assign(configuration=rows["method"], method="chosen on validation"),
        "Accuracy by method",
    ),
    published=(
        *_peft_row("prefix-tuning", 0.8567, 0.050, 16.31e9),
        *_peft_row("lora", 0.9163, 0.053, 16.37e9),
        *_peft_row("learned", 0.9289, 0.049, 16.36e9),
    ),
    shown=(
        *("accuracy", "parameters", "seconds", "seconds_per_step", "peak_bytes"),
        *("inference_seconds", "inference_peak_bytes"),
    ),
    shows_candidates=True,
)
register(PEFT)

# --- methods-all

_FROM_OTHERS = ("english-french", "present-past")
"""Tasks of the library beside a group's own."""


def _methods_all(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    assert unit.model is not None
    model = work_dir.load(unit.model)
    middle = middle_of(model)
    shelf = work_dir.folder / "library"
    for task in _on_the_shelf(unit):
        context = context_of(model, task, unit.seed, preset)
        (path,) = vectors_of(context, preset, work_dir, middle)
        to = shelf / context.task.name
        if not to.is_dir():
            TaskVector.load(path).save(to)
    methods = [_sized(name, preset, middle, str(shelf)) for name in METHODS]
    return compared(unit, preset, work_dir, methods)


def _methods_all_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """The library's folder is not there yet; what is known of it is how many vectors it gets."""
    assert unit.model is not None
    model = estimator.model(unit.model)
    middle, tasks = middle_of(model), _on_the_shelf(unit)
    costs: list[Cost] = []
    for task in tasks:
        context = context_of(model, task, unit.seed, preset)
        costs += vector_costs([context], preset, estimator, middle)
    methods = [_sized(name, preset, middle, "") for name in METHODS if name != "library"]
    config = asked(unit, preset, methods)
    context = estimator.context(config, unit.seed)
    retrieved = plan_of_retrieving(context, Library(), [*middle] * len(tasks))
    return [
        *costs,
        *estimator.comparison(config),
        *estimator.plan(context, retrieved, preset.memory),
    ]


def _on_the_shelf(unit: RunUnit) -> list[str]:
    """Tasks whose vectors the library has."""
    return [unit.task, *(name for name in _FROM_OTHERS if name != unit.task)]


def _sized(name: str, preset: Preset, layers: tuple[int, ...], shelf: str) -> Any:
    """A method's config: ours; what is trained sits at the middle layer and has the preset's steps.

    Of what is extracted each layer is a candidate.
    """
    kind: Any = METHODS[name].config
    if name == "library":
        return Library(folder=shelf)
    given: dict[str, Any] = {}
    fields = kind.model_fields
    if issubclass(kind, SiteTraining):
        given |= {"recipe": recipe(preset), "layers": layers}
    if "steps" in fields:
        given["steps"] = min(preset.steps, fields["steps"].default)
    if "sizes" in fields:
        given |= {"sizes": ("matched",), "learning_rates": _rates(preset.steps)}
    if "check_every" in fields:
        given["check_every"] = min(10, preset.steps)
    return kind(**given)


METHODS_ALL = Experiment(
    name="methods-all",
    title="Every method of this library on one task",
    question="Which way to a task vector is best, and at what cost?",
    paper="ours; each method's own paper is on its page of the documentation",
    what_the_paper_did="Vanilla and function vectors alone; reviewers asked for newer baselines.",
    what_we_do_otherwise="What is extracted has its layer chosen on validation, what is trained "
    "sits at the middle one; the same pairs, steps and validation for all.",
    presets=presets(cpu={"tasks": ("capital",), "steps": 30}),
    run=_methods_all,
    estimate=_methods_all_cost,
    shown=("accuracy", "examples", "steps", "forward_tokens", "seconds"),
    figures=lambda rows: by_configuration(
        rows.assign(configuration=rows["method"], method="as chosen on validation"),
        "Accuracy by method",
    ),
)
register(METHODS_ALL)
