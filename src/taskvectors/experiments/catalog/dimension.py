"""How many numbers a task is: vectors in random subspaces, and rounded to a few bits each."""

from collections.abc import Iterator, Sequence
from math import log2

import pandas as pd

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.learned_vectors import (
    context_of,
    layers_at,
    meta_model,
    model_of,
    recipe,
)
from taskvectors.experiments.catalog.shared.measuring import difference, share
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.methods import RunContext
from taskvectors.methods.shared.plan import training_work
from taskvectors.methods.training.subspaces import Subspaces
from taskvectors.methods.training.vectors import train_vectors
from taskvectors.results import OVER_TASKS, Measurement
from taskvectors.results.drawing import curves
from taskvectors.results.figures import AnyFigure
from taskvectors.trunk import Edit
from taskvectors.trunk.work import Work, work_of
from taskvectors.vectors import sites_at

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
TRUE, SHUFFLED = "true", "shuffled"
_SEED = 29_000_011


def sizes_for(d_model: int) -> tuple[int, ...]:
    """1, 2, 4, ... numbers, and as many as the stream is wide.

    Example:
        >>> sizes_for(12)
        (1, 2, 4, 8, 12)
    """
    doubled = [2**power for power in range(d_model.bit_length()) if 2**power < d_model]
    return (*doubled, d_model)


def _places(d_model: int, layers: Sequence[int]) -> list[tuple[int, int]]:
    """Layer and size of each vector that is trained, in one pass."""
    return [(layer, size) for layer in layers for size in sizes_for(d_model)]


def _dimension(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    context = context_of(model, unit.task, unit.seed, preset)
    layers = layers_at(model, preset.depths)
    measurements: list[Measurement] = []
    for answers, trained_on in _by_answers(context):
        measurements += _measured(context, trained_on, layers, answers, preset)
    return GroupResult(measurements=measurements)


def _by_answers(context: RunContext) -> Iterator[tuple[str, RunContext]]:
    """What vectors are trained on: the task, and the same inputs with their answers permuted."""
    yield TRUE, context
    yield SHUFFLED, context.with_task(context.task.shuffled(context.seed))


def _measured(
    context: RunContext,
    trained_on: RunContext,
    layers: Sequence[int],
    answers: str,
    preset: Preset,
) -> list[Measurement]:
    """Accuracy of every vector, as it is and rounded, beside that of k = d at its layer."""
    width = context.model.d_model
    places = _places(width, layers)
    subspaces = Subspaces.random(width, [size for _, size in places], context.seed + _SEED)
    groups = [sites_at((layer,), (-1,)) for layer, _ in places]
    trained = train_vectors(trained_on, groups, recipe(preset), subspaces=subspaces)
    asked: list[tuple[int, int, int | None]] = []
    branches = []
    for number, ((layer, size), one) in enumerate(zip(places, trained, strict=True)):
        vector = one.values[0]
        for bits in (None, *BITS):
            asked.append((layer, size, bits))
            value = vector if bits is None else subspaces.rounded(vector, number, bits)
            branches.append([Edit(layer=layer, value=value)])
    tested = context.score("test", 0, branches)
    learned_from = trained_on.score("train", 0, branches)
    found: list[Measurement] = []
    for number, (layer, size, bits) in enumerate(asked):
        row = Measurement(
            measure="", value=None, method="learned", layers=(layer,), positions=(-1,),
            about={"k": size, "bits": bits, "answers": answers},
        )  # fmt: skip
        found += [
            share(row, "accuracy", tested.is_correct[number]),
            share(row, "train_accuracy", learned_from.is_correct[number]),
            difference(row, "difference", tested.is_correct[number],
                       tested.is_correct[asked.index((layer, width, None))], context.seed),
        ]  # fmt: skip
    return found


def _dimension_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    model = meta_model(unit, estimator)
    context = context_of(model, unit.task, unit.seed, preset)
    joins = tuple(layer for layer, _ in _places(model.d_model, layers_at(model, preset.depths)))
    scored = [join for join in joins for _ in (None, *BITS)]
    works: list[Work] = []
    for _, trained_on in _by_answers(context):
        train, checked = trained_on.prompts("train"), trained_on.prompts("validation")
        works += training_work(context, recipe(preset), (train, checked), (-1,), joins)
        works += [
            work_of(f"scores, {split}", prompts, (-1,), scored, model.n_layers)
            for split, prompts in (("test", context.prompts("test")), ("train", train))
        ]
    return estimator.works(model, works, preset.memory)


def _drawn(rows: pd.DataFrame) -> list[AnyFigure]:
    """Accuracy against k with unrounded numbers, and against bits."""
    own = rows[rows["k"].notna() & rows["task"].ne(OVER_TASKS)]
    own = own.assign(
        log_k=own["k"].map(log2),
        line=[
            f"layer {layers.strip('[]')}" + (", answers permuted" if answers == SHUFFLED else "")
            for layers, answers in zip(own["layers"], own["answers"], strict=True)
        ],
        numbers=[f"{k:.0f} numbers" for k in own["k"]],
    )
    whole = own[own["bits"].isna()]
    in_bits = own[own["answers"].eq(TRUE)]
    return [
        *curves(
            whole, "dimension", "Accuracy by how many numbers a vector has", x="log_k",
            y="accuracy", labels=("log2 of the numbers", "Accuracy (test)", "line"),
        ),
        *curves(
            in_bits, "bits", "Accuracy by bits of each number, over layers", x="bits",
            y="accuracy", labels=("Bits of each number", "Accuracy (test)", "numbers"),
        ),
    ]  # fmt: skip


DIMENSION = Experiment(
    name="ltv-dimension",
    title="How many numbers a task is",
    question="In how few numbers, of how few bits, is a task's vector as good as a whole one?",
    paper="ours; after Li et al. 2018, arXiv 1804.08838, on learned vectors of arXiv 2509.24169",
    what_the_paper_did="Networks were trained in random subspaces of their weights; the smallest "
    "that reaches nine tenths of the whole is the task's dimension. Not done for task vectors.",
    what_we_do_otherwise="A vector is trained in k random dimensions of the residual stream, all k "
    "side by side in one pass with the same step length, beside answers permuted; then its numbers "
    "are rounded. Differences to k = d, which is `learned`, are paired, with intervals.",
    presets=presets(
        cpu={"tasks": ("capital", "antonym", "sentiment"), "depths": (0.3, 0.6, 0.9)},
        paper={"depths": (0.3, 0.6, 0.9)},
    ),
    run=_dimension,
    estimate=_dimension_cost,
    figures=_drawn,
    shown=("accuracy", "difference", "train_accuracy"),
)
register(DIMENSION)
