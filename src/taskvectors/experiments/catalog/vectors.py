"""Experiments with vectors of several tasks: geometry, transfer, composition, bijections."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.learned_vectors import (
    context_of,
    layers_at,
    meta_model,
    model_of,
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
    tasks_together,
)
from taskvectors.experiments.paper_configurations import LAST_FIVE
from taskvectors.explain import ANALYSES, Sizes
from taskvectors.explain.bijections import Configuration, both_ways, map_both_ways
from taskvectors.explain.composition import PARTS, TASK, compose
from taskvectors.explain.geometry import compare_vectors
from taskvectors.explain.transfer import transfer_matrix, two_by_two
from taskvectors.methods import Plan, RunContext
from taskvectors.models import LanguageModel
from taskvectors.results import NOT_READ, Measurement, Published
from taskvectors.tasks.derived import copying, relabelled
from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)

_MODEL = "Llama-3.1-8B"

# --- ltv-geometry

_VECTORS_PER_TASK = 3


def _geometry(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    layers = layers_at(model, preset.depths)
    vectors = []
    for task in unit.tasks:
        for seed in range(unit.seed, unit.seed + _VECTORS_PER_TASK):
            context = context_of(model, task, seed, preset)
            vectors += [
                TaskVector.load(path) for path in vectors_of(context, preset, work_dir, layers)
            ]
    found = compare_vectors(vectors, seed=unit.seed)
    points = [
        Measurement(
            measure=f"component_{number}",
            value=value,
            method="learned",
            layers=(point.layer,),
            about={"layer": point.layer, "one_task": point.task, "vector_seed": point.seed},
        )
        for point in found.points
        for number, value in (("1", point.first), ("2", point.second))
    ]
    return _found("geometry", found, points, positions=(-1,))


def _found(
    analysis: str, found: Any, more: Sequence[Measurement] = (), **places: Any
) -> GroupResult:
    """An analysis of learned vectors as a group's result: its numbers, and more, and its figure."""
    measurements = ANALYSES[analysis].measurements(found, method="learned", **places)
    return GroupResult(measurements=[*measurements, *more], figures=(found.figure(),))


def _geometry_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """Vectors are compared as they are: what is run is their learning."""
    model = meta_model(unit, estimator)
    layers = layers_at(model, preset.depths)
    contexts = [
        context_of(model, task, seed, preset)
        for task in unit.tasks
        for seed in range(unit.seed, unit.seed + _VECTORS_PER_TASK)
    ]
    return vector_costs(contexts, preset, estimator, layers)


GEOMETRY = Experiment(
    name="ltv-geometry",
    title="Where vectors of several tasks lie",
    question="Do vectors of one task lie together, and those of different tasks apart?",
    paper=LTV_PAPER,
    what_the_paper_did="High alignment of vectors of one task, clear separation of tasks; only "
    "SNLI and RTE, which share label words, lie close. Its formulas are not known to us.",
    what_we_do_otherwise="Mean cosines within and across tasks, against task names shuffled; "
    f"{_VECTORS_PER_TASK} vectors of each task, from splits and batches of their own.",
    presets=presets(
        smoke={"tasks": ("capital", "antonym")},
        cpu={"tasks": ("capital", "antonym", "entailment", "inference"), "steps": 40},
    ),
    run=_geometry,
    estimate=_geometry_cost,
    shown=("intra", "inter", "separation", "nearest_cosine", "p_value", "smallest_p_value"),
    units=tasks_together,
    published=(
        Published(measure="separation", value=NOT_READ, source="figure of the paper", model=_MODEL),
    ),
)
register(GEOMETRY)

# --- ltv-transfer

_WORDS = {"positive": "true", "negative": "false"}
"""Sentiment in the label words of entailment: the same task in other words."""
_CROSSED = (("sentiment", "entailment", "question-type"), ("sst2", "rte", "trec"))
"""Tasks of which the first, in other words, tells label words from the task: sentiment, a task in
those words, a task in neither. Ours, and the papers'."""


def _transfer(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    layers = layers_at(model, preset.depths)[:1]
    contexts = _crossed(unit, preset, model)
    roles, cells = _roles(contexts), {}
    if roles is not None:
        cells = two_by_two(_renamed(roles[0]), *roles)
    vectors = [
        TaskVector.load(path)
        for context in contexts
        for path in vectors_of(context, preset, work_dir, layers)
    ]
    found = transfer_matrix(contexts, vectors, cells=cells)
    return _found("transfer", found, layers=layers, positions=(-1,))


def _transfer_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    model = meta_model(unit, estimator)
    layers = layers_at(model, preset.depths)[:1]
    contexts = _crossed(unit, preset, model)
    costs = vector_costs(contexts, preset, estimator, layers)
    for context in contexts:
        tested = Plan(joins=(model.n_layers - 1, *layers * len(contexts))).tested(context)
        costs += estimator.works(model, tested, preset.memory)
    return costs


def _crossed(unit: RunUnit, preset: Preset, model: LanguageModel) -> list[RunContext]:
    """Tasks of vectors and of prompts: the group's, and where they allow it one in other words."""
    contexts = [context_of(model, task, unit.seed, preset) for task in unit.tasks]
    roles = _roles(contexts)
    if roles is not None:
        own = next(context for context in contexts if context.task.name == roles[0])
        contexts.append(own.with_task(relabelled(own.task, _WORDS, _renamed(roles[0]))))
    return contexts


def _roles(contexts: Sequence[RunContext]) -> tuple[str, str, str] | None:
    """The tasks that can be crossed, where the first two are there."""
    known = {context.task.name for context in contexts}
    return next((roles for roles in _CROSSED if known >= set(roles[:2])), None)


def _renamed(task: str) -> str:
    return f"{task}-true-false"


TRANSFER = Experiment(
    name="ltv-transfer",
    title="Vectors on tasks they were not made for",
    question="Does a vector carry the task, or only the label words?",
    paper=LTV_PAPER,
    what_the_paper_did="Every vector on every task: one of SNLI reaches 46.21 % on RTE, which "
    "shares its label words, and nothing elsewhere.",
    what_we_do_otherwise="A two by two tells label words from the task: sentiment in the words "
    "true and false against sentiment, entailment and question types.",
    presets=presets(
        smoke={"tasks": ("sentiment", "entailment", "question-type")},
        cpu={
            "tasks": ("capital", "entailment", "inference", "question-type", "sentiment"),
            "steps": 40,
        },
    ),
    run=_transfer,
    estimate=_transfer_cost,
    units=tasks_together,
    published=(
        Published(
            measure="accuracy",
            value=0.4621,
            source="reading notes on the paper (second-hand)",
            model=_MODEL,
            method="learned",
            task="rte",
            about={"analysis": "transfer", "vector": "snli"},
        ),
    ),
)
register(TRANSFER)

# --- ltv-composition


def _composition(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    layers = layers_at(model, preset.depths)[:1]

    def vector(task: str) -> TaskVector:
        context = context_of(model, task, unit.seed, preset)
        return TaskVector.load(vectors_of(context, preset, work_dir, layers)[0])

    left, right = (vector(task) for task in PARTS)
    found = compose(context_of(model, TASK, unit.seed, preset), left, right, whole=vector(TASK))
    return _found("composition", found, layers=layers, positions=(-1,))


def _composition_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    model = meta_model(unit, estimator)
    layers = layers_at(model, preset.depths)[:1]
    contexts = [context_of(model, task, unit.seed, preset) for task in (TASK, *PARTS)]
    costs = vector_costs(contexts, preset, estimator, layers)
    works = ANALYSES["composition"].cost(Sizes(context=contexts[0], layers=layers))
    return costs + estimator.works(model, works, preset.memory)


COMPOSITION = Experiment(
    name="ltv-composition",
    title="Two vectors added",
    question="Do two vectors together do both of their tasks?",
    paper=LTV_PAPER,
    what_the_paper_did="English to French plus masculine to feminine solves English masculine to "
    "French feminine far above zero-shot and in-context learning.",
    what_we_do_otherwise="Outcomes are told apart four ways, over words of which all four forms "
    "differ; a random vector, the parts, their difference and a vector of both stand beside.",
    presets=presets(smoke={"tasks": (TASK,)}, cpu={"tasks": (TASK,)}, paper={"tasks": (TASK,)}),
    run=_composition,
    estimate=_composition_cost,
    shown=("french_feminine",),
    published=(
        Published(
            measure="french_feminine", value=NOT_READ, source="section of the paper", model=_MODEL
        ),
    ),
)
register(COMPOSITION)

# --- bijections

_EXCEPTIONS = ("antonym", "copy")
"""Tasks whose two directions are one mapping: their pairs need not tell the direction."""


def _bijections(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    logger.info("Learning vectors of both directions of %s", unit.task)
    found = map_both_ways(
        _forward(unit, preset, model),
        _places(preset, model),
        recipe(preset),
        keeps_unclear=unit.task in _EXCEPTIONS,
    )
    left_out = Measurement(
        measure="pairs_left_out", value=float(found.n_left_out), method="learned"
    )
    return _found("bijections", found, [left_out])


def _bijections_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """As if all pairs told the direction."""
    model = meta_model(unit, estimator)
    works = both_ways(_forward(unit, preset, model), _places(preset, model), recipe(preset))
    return estimator.works(model, works, preset.memory)


def _forward(unit: RunUnit, preset: Preset, model: LanguageModel) -> RunContext:
    """The mapping in its first direction."""
    if unit.task != "copy":
        return context_of(model, unit.task, unit.seed, preset)
    capital = context_of(model, "capital", unit.seed, preset)
    return capital.with_task(replace(copying(capital.task), name="copy"))


def _places(preset: Preset, model: LanguageModel) -> tuple[Configuration, ...]:
    layers = layers_at(model, preset.depths)[:1]
    return (
        Configuration(name="last token", layers=layers),
        Configuration(name="last five tokens", layers=layers, positions=LAST_FIVE),
        Configuration(name="every other layer", layers=tuple(range(1, model.n_layers - 1, 2))),
    )


BIJECTIONS = Experiment(
    name="bijections",
    title="One vector for both directions of a mapping",
    question="Can one learned vector map both ways?",
    paper="Dong et al. 2026, arXiv 2506.09048, on extracted vectors; the question here is ours",
    what_the_paper_did="Extracted vectors fail on tasks that are the union of a mapping and its "
    "inverse.",
    what_we_do_otherwise="Vectors are learned: one on both directions, with nothing but the query "
    "to tell which, against one for each; antonyms and copying are the expected exceptions.",
    presets=presets(
        smoke={"tasks": ("english-french", "copy")},
        cpu={"tasks": ("english-french", "antonym", "copy"), "steps": 40},
        paper={"tasks": ("english-french", "capital", "antonym", "copy")},
    ),
    run=_bijections,
    estimate=_bijections_cost,
    shown=("accuracy", "wrong_direction"),
)
register(BIJECTIONS)
