"""Experiments on where a vector is put: the main table, layers, strides, models."""

from typing import Any

import pandas as pd

from taskvectors.experiments.catalog.shared.comparing import BASE, comparing, middle_of
from taskvectors.experiments.catalog.shared.learned_vectors import (
    recipe,
)
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.experiment import (
    LTV_PAPER,
    Experiment,
    Preset,
    register,
)
from taskvectors.methods.function_vector import FunctionVector
from taskvectors.methods.learned import Learned
from taskvectors.methods.vanilla import Vanilla
from taskvectors.models import LanguageModel
from taskvectors.results import NOT_READ, OVER_TASKS, Published
from taskvectors.results.drawing import by_configuration, by_layer
from taskvectors.results.figures import AnyFigure

_MODEL = "Llama-3.1-8B"
_TABLE = "table of configurations in the published summary of the paper; means over data sets"


# --- ltv-main-table


def _extracted_and_learned(model: LanguageModel, preset: Preset) -> tuple[Any, ...]:
    del model
    return (*BASE, Vanilla(), FunctionVector(), Learned(recipe=recipe(preset)))


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
    "rates are relative to the residual stream, but by --recipe paper. The set {0, 4, ..., 32} has "
    "the last block's output at the last token alone.",
    presets=presets(),
    **comparing(_extracted_and_learned, configurations="paper"),
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
register(MAIN_TABLE)

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
    presets=presets(cpu={"tasks": ("capital",)}),
    **comparing(_extracted_and_learned, controls=("majority", "random", "logit-bias")),
    figures=lambda rows: by_layer(rows, "Accuracy by layer", ("zero-shot", "icl", "logit-bias")),
    shows_candidates=True,
    published=(
        Published(measure="accuracy", value=NOT_READ, source="figure of the paper", model=_MODEL),
    ),
)
register(LAYER_SWEEP)

# --- ltv-stride

_STRIDE_CHOICES = (1, 2, 3, 4, 6)


def _strides(model: LanguageModel, preset: Preset) -> tuple[Any, ...]:
    n_layers, settings = model.n_layers, recipe(preset)
    # in a small model large strides have the same layers
    joint = dict.fromkeys(
        Learned(layers=("embed", *range(stride - 1, n_layers, stride)), recipe=settings)
        for stride in _STRIDE_CHOICES
    )
    return (*BASE, Learned(layers=middle_of(model), recipe=settings), *joint)


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
    presets=presets(),
    **comparing(_strides),
    figures=_strides_drawn,
    shows_candidates=True,
    published=(
        Published(
            measure="accuracy", value=0.8244, source=_TABLE, model=_MODEL, method="learned",
            layers="several", task=OVER_TASKS, note=_STRIDE_NOTE,
        ),
    ),
)  # fmt: skip
register(STRIDE)

# --- ltv-backbones


def _at_the_middle(model: LanguageModel, preset: Preset) -> tuple[Any, ...]:
    middle = middle_of(model)
    return (
        *BASE,
        Vanilla(layers=middle),
        FunctionVector(layers=middle),
        Learned(layers=middle, recipe=recipe(preset)),
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
    presets=presets(
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
    figures=_by_model,
    published=(
        *_table("", 0.3780, 0.3730, 0.8349),
        Published(
            measure="accuracy", value=NOT_READ, source="tables of the paper", model="other models"
        ),
    ),
)  # fmt: skip
register(BACKBONES)
