"""Experiments that put methods side by side: the main table, layers, strides, models, adapters."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from taskvectors.costs import Cost, retrieving
from taskvectors.experiments.catalog.learned_vectors import (
    bench_of,
    recipe,
    vector_costs,
    vectors_of,
)
from taskvectors.experiments.catalog.scales import scales
from taskvectors.experiments.compare import compare
from taskvectors.experiments.config import CompareConfig, ModelConfig
from taskvectors.experiments.drawing import by_configuration, by_layer
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    LTV_PAPER,
    NOT_READ,
    Experiment,
    Found,
    Group,
    Published,
    Room,
    Scale,
    one_task_each,
)
from taskvectors.experiments.measurements import OVER_TASKS, of_comparison
from taskvectors.figures import AnyFigure
from taskvectors.methods import (
    IA3,
    METHODS,
    BitFit,
    FunctionVector,
    InContext,
    Learned,
    Library,
    Lora,
    PrefixTuning,
    PromptTuning,
    Vanilla,
    ZeroShot,
)
from taskvectors.methods.placed import Placed
from taskvectors.models import LanguageModel
from taskvectors.vectors import TaskVector

_MODEL = "Llama-3.1-8B"
_TABLE = "table of configurations in the published summary of the paper; means over data sets"
_BASE = (ZeroShot(), InContext())


def compared(group: Group, scale: Scale, room: Room, methods: Sequence[Any], **about: Any) -> Found:
    """A comparison on a group's model, task and seed."""
    config = _asked(group, scale, methods, **about)
    found = compare(config, room.folder / "compare", say=room.say, load=room.load)
    notes = [str(note) for note in found.summary["notes"]]
    failed = [f"{row.method}: {row.error}" for row in found.table if row.error]
    return Found(measurements=of_comparison(found.table), warnings=[*notes, *failed])


def comparing(
    methods: Callable[[LanguageModel, Scale], Sequence[Any]], **about: Any
) -> dict[str, Any]:
    """How an experiment that compares methods is run, and what that takes.

    Args:
        methods: Configs of the methods, for a model at some scale.
        about: Fields of the comparison's config.
    """

    def run(group: Group, scale: Scale, room: Room) -> Found:
        assert group.model is not None
        return compared(group, scale, room, methods(room.load(group.model), scale), **about)

    def estimate(group: Group, scale: Scale, estimator: Estimator) -> list[Cost]:
        assert group.model is not None
        asked = methods(estimator.model(group.model), scale)
        return estimator.comparison(_asked(group, scale, asked, **about))

    return {"run": run, "estimate": estimate}


def _asked(group: Group, scale: Scale, methods: Sequence[Any], **about: Any) -> CompareConfig:
    assert group.model is not None
    # a second copy in float32 has room beside a model whose type was left open
    is_open = group.model.dtype == "auto" and group.model.quantization is None
    return CompareConfig(
        model=group.model,
        task=group.task,
        shots=scale.shots,
        n_train=scale.n_train,
        n_validation=scale.n_validation,
        n_test=scale.n_test,
        seeds=(group.seed,),
        methods=tuple(methods),
        test_dtype="float32" if is_open else "same",
        memory=scale.memory,
        n_shown=0,
        **{"controls": ("majority", "random")} | about,
    )


def _middle(model: LanguageModel) -> tuple[int, ...]:
    return (model.n_layers // 2 - 1,)


# --- ltv-main-table


def _extracted_and_learned(model: LanguageModel, scale: Scale) -> tuple[Any, ...]:
    del model
    return (*_BASE, Vanilla(), FunctionVector(), Learned(settings=recipe(scale)))


def _table(configuration: str, *values: float) -> list[Published]:
    """A row of the published table: vanilla vector, function vector, learned vector.

    Without a configuration it stands beside any.
    """
    return [
        Published(
            measure="accuracy", value=value, source=_TABLE, model=_MODEL, method=method,
            configuration=configuration, task=OVER_TASKS,
        )
        for method, value in zip(("vanilla", "function-vector", "learned"), values, strict=True)
    ]  # fmt: skip


_STRIDE_NOTE = "the paper's text has layers 0, 4, ... and its table 0, 2, ...: both are run"
MAIN_TABLE = Experiment(
    name="ltv-main-table",
    title="Learned, vanilla and function vectors in six configurations",
    question="Does a learned vector beat extracted ones wherever it is put?",
    paper=LTV_PAPER,
    what_the_paper_did="One vector at layer 16 of 32 and the last token; then at position 4, at "
    "the last five positions, at every fourth layer, at both, and on an eight-shot prompt. Means "
    "over seven data sets, eight backbones.",
    what_we_do_otherwise="Both strides are run, since text and table of the paper differ; the "
    "few-shot row has vectors trained on zero-shot and on few-shot prompts; strengths of extracted "
    "vectors are chosen on validation; whole answers are scored over the full vocabulary; learning "
    "rates are relative to the residual stream.",
    scales=scales(),
    **comparing(_extracted_and_learned, configurations="paper"),
    groups=one_task_each,
    figures=lambda rows: by_configuration(rows, "Accuracy by configuration"),
    published=(
        *_table("last token, middle layer", 0.3780, 0.3730, 0.8349),
        *_table("position 4", 0.0216, 0.0268, 0.7839),
        *_table("positions -5 to -1", 0.1797, 0.3188, 0.8643),
        *_table("layers 0, 4, ...", 0.1918, 0.0605, 0.8244),
        *_table("layers 0, 4, ... at positions -5 to -1", 0.1815, 0.0038, 0.5139),
        *_table("on 8 shots", 0.5612, 0.7478, 0.8461),
    ),
)

# --- ltv-layer-sweep

LAYER_SWEEP = Experiment(
    name="ltv-layer-sweep",
    title="Accuracy by layer",
    question="Is there a critical depth beyond which vectors no longer work?",
    paper=LTV_PAPER,
    what_the_paper_did="A learned, a vanilla and a function vector at every layer; the learned one "
    "is ahead at each, most at late layers.",
    what_we_do_otherwise="All layers are trained in one pass; a bias on the logits, fitted on the "
    "same data, is what a late vector has to beat.",
    scales=scales(cpu={"tasks": ("capital",)}),
    **comparing(_extracted_and_learned, controls=("majority", "random", "logit-bias")),
    groups=one_task_each,
    figures=lambda rows: by_layer(rows, "Accuracy by layer", ("zero-shot", "icl", "logit-bias")),
    shows_candidates=True,
    published=(
        Published(measure="accuracy", value=NOT_READ, source="figure of the paper", model=_MODEL),
    ),
)

# --- ltv-stride

_STRIDE_CHOICES = (1, 2, 3, 4, 6)


def _strides(model: LanguageModel, scale: Scale) -> tuple[Any, ...]:
    n_layers, settings = model.n_layers, recipe(scale)
    # in a small model large strides have the same layers
    joint = dict.fromkeys(
        Learned(layers=("embed", *range(stride - 1, n_layers - 1, stride)), settings=settings)
        for stride in _STRIDE_CHOICES
    )
    return (*_BASE, Learned(layers=_middle(model), settings=settings), *joint)


def _strides_drawn(rows: pd.DataFrame) -> list[AnyFigure]:
    learned = rows[rows["method"].eq("learned")].assign(
        configuration=lambda part: [f"{text.count(',') + 1} layers" for text in part["layers"]]
    )
    return by_configuration(learned, "Accuracy by number of layers of one vector", selected=False)


STRIDE = Experiment(
    name="ltv-stride",
    title="Which layers a vector of several layers has",
    question="Does it matter how far apart the layers of one vector are?",
    paper=LTV_PAPER,
    what_the_paper_did="One schedule of layers; reviewers found {0, 4, ...} in the text and "
    "{0, 2, ...} in a table, and asked how sensitive results are.",
    what_we_do_otherwise=f"Strides {', '.join(map(str, _STRIDE_CHOICES))}, trained jointly with "
    "the step budget of a single site; block inputs 0, s, 2s ... are our embed, s - 1, 2s - 1 ...",
    scales=scales(),
    **comparing(_strides),
    groups=one_task_each,
    figures=_strides_drawn,
    shows_candidates=True,
    published=(
        Published(
            measure="accuracy", value=0.8244, source=_TABLE, model=_MODEL, method="learned",
            configuration="several layers", task=OVER_TASKS, note=_STRIDE_NOTE,
        ),
    ),
)  # fmt: skip

# --- ltv-backbones


def _at_the_middle(model: LanguageModel, scale: Scale) -> tuple[Any, ...]:
    middle = _middle(model)
    return (
        *_BASE,
        Vanilla(layers=middle),
        FunctionVector(layers=middle),
        Learned(layers=middle, settings=recipe(scale)),
    )


def _by_model(rows: pd.DataFrame) -> list[AnyFigure]:
    whole = rows[rows["task"].eq(OVER_TASKS)]
    return by_configuration(whole.assign(configuration=whole["model"]), "Accuracy by model")


BACKBONES = Experiment(
    name="ltv-backbones",
    title="The same comparison on several models",
    question="Does it hold on other models?",
    paper=LTV_PAPER,
    what_the_paper_did="Eight backbones, of the Llama 2, 3, 3.1 and 3.2 families, Qwen2.5-32B and "
    "Yi-34B.",
    what_we_do_otherwise="The preset cpu has the embedded model alone; name others with --model. "
    "The middle layer of each is used.",
    scales=scales(
        smoke={
            "models": (
                ModelConfig(source="random", dtype="float32"),
                ModelConfig(source="random-gpt2", dtype="float32"),
            )
        },
        cpu={"tasks": ("capital",)},
        paper={
            "models": tuple(
                ModelConfig(source=source, device_map="auto")
                for source in (
                    "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf",
                    "meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-70B",
                    "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-3B", "Qwen/Qwen2.5-32B",
                    "01-ai/Yi-34B",
                )
            )
        },
    ),
    **comparing(_at_the_middle),
    groups=one_task_each,
    figures=_by_model,
    published=(
        *_table("", 0.3780, 0.3730, 0.8349),
        Published(
            measure="accuracy", value=NOT_READ, source="tables of the paper", model="other models"
        ),
    ),
)  # fmt: skip

# --- ltv-peft


def _rates(steps: int) -> tuple[float, ...]:
    """Of adapters: those of the grid that move one far enough in so many steps."""
    if steps < 10:
        return (0.01,)
    return (0.01, 0.1) if steps < 100 else (0.001, 0.01, 0.1)


def _vector_and_adapters(model: LanguageModel, scale: Scale) -> tuple[Any, ...]:
    middle = _middle(model)
    grid: dict[str, Any] = {
        "steps": scale.steps,
        "check_every": min(10, scale.steps),
        "learning_rates": _rates(scale.steps),
        "sizes": ("matched",),
    }
    learned = Learned(layers=middle, settings=recipe(scale))
    everywhere = Learned(layers=middle, positions=("all",), settings=recipe(scale))
    adapters = [kind(**grid) for kind in (PromptTuning, PrefixTuning, Lora, IA3, BitFit)]
    return (*_BASE, learned, everywhere, *adapters)


def _peft_row(method: str, *values: float) -> list[Published]:
    measures = ("accuracy", "seconds_per_step", "peak_gigabytes")
    source = "table against fine-tuning in the published summary of the paper; SST-2"
    notes = ("", "latency of training", "peak memory, the model included; ours is on top of it")
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
    what_we_do_otherwise="All adapters in their size nearest to a vector, one grid of learning "
    "rates and one budget of steps chosen on validation, and a vector at every position beside the "
    "one at the last. Peak memory is on top of the model.",
    scales=scales(
        smoke={"tasks": ("sentiment",)},
        cpu={"tasks": ("sentiment",), "steps": 40},
        paper={"tasks": ("hub:sst2",)},
    ),
    **comparing(_vector_and_adapters),
    groups=one_task_each,
    figures=lambda rows: by_configuration(
        rows.assign(configuration=rows["method"], method="matched size"), "Accuracy by method"
    ),
    published=(
        *_peft_row("prefix-tuning", 0.8567, 0.050, 16.31),
        *_peft_row("lora", 0.9163, 0.053, 16.37),
        *_peft_row("learned", 0.9289, 0.049, 16.36),
    ),
    shown=("accuracy", "parameters", "seconds_per_step", "peak_bytes"),
    shows_candidates=True,
)

# --- methods-all

_FROM_OTHERS = ("english-french", "present-past")
"""Tasks of the library beside a group's own."""


def _methods_all(group: Group, scale: Scale, room: Room) -> Found:
    assert group.model is not None
    model = room.load(group.model)
    middle = _middle(model)
    shelf = room.folder / "library"
    for task in _on_the_shelf(group):
        bench = bench_of(model, task, group.seed, scale)
        (path,) = vectors_of(bench, scale, room, middle)
        to = shelf / bench.task.name
        if not to.is_dir():
            TaskVector.load(path).save(to)
    methods = [_sized(name, scale, middle, str(shelf)) for name in METHODS]
    return compared(group, scale, room, methods)


def _methods_all_cost(group: Group, scale: Scale, estimator: Estimator) -> list[Cost]:
    """The library's folder is not there yet; what is known of it is how many vectors it gets."""
    assert group.model is not None
    model = estimator.model(group.model)
    middle, tasks = _middle(model), _on_the_shelf(group)
    costs: list[Cost] = []
    for task in tasks:
        bench = bench_of(model, task, group.seed, scale)
        costs += vector_costs(bench, scale, estimator, middle)
    methods = [_sized(name, scale, middle, "") for name in METHODS if name != "library"]
    config = _asked(group, scale, methods)
    bench = estimator.bench(config, group.seed)
    retrieved = retrieving(bench, Library(), [*middle] * len(tasks))
    return [*costs, *estimator.comparison(config), *estimator.plan(bench, retrieved, scale.memory)]


def _on_the_shelf(group: Group) -> list[str]:
    """Tasks whose vectors the library has."""
    return [group.task, *(name for name in _FROM_OTHERS if name != group.task)]


def _sized(name: str, scale: Scale, layers: tuple[int, ...], shelf: str) -> Any:
    """A method's config: ours; what is trained sits at the middle layer and has the scale's steps.

    Of what is extracted each layer is a candidate.
    """
    kind: Any = METHODS[name].config
    if name == "library":
        return Library(folder=shelf)
    given: dict[str, Any] = {}
    fields = kind.model_fields
    if issubclass(kind, Placed):
        given |= {"settings": recipe(scale), "layers": layers}
    if "steps" in fields:
        given["steps"] = min(scale.steps, fields["steps"].default)
    if "sizes" in fields:
        given |= {"sizes": ("matched",), "learning_rates": _rates(scale.steps)}
    if "check_every" in fields:
        given["check_every"] = min(10, scale.steps)
    return kind(**given)


METHODS_ALL = Experiment(
    name="methods-all",
    title="Every method of this library on one task",
    question="Which way to a task vector is best, and at what cost?",
    paper="ours; each method's own paper is on its page of the documentation",
    what_the_paper_did="Vanilla and function vectors alone; reviewers asked for newer baselines.",
    what_we_do_otherwise="What is extracted has its layer chosen on validation, what is trained "
    "sits at the middle one; the same pairs, steps and validation for all.",
    scales=scales(cpu={"tasks": ("capital",), "steps": 30}),
    run=_methods_all,
    estimate=_methods_all_cost,
    groups=one_task_each,
    figures=lambda rows: by_configuration(
        rows.assign(configuration=rows["method"], method="as chosen on validation"),
        "Accuracy by method",
    ),
)

ALL = (MAIN_TABLE, LAYER_SWEEP, STRIDE, BACKBONES, PEFT, METHODS_ALL)
