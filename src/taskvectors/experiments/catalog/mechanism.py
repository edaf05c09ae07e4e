"""Experiments on how a model uses a vector: circuits, heads, attention, the way to the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.learned_vectors import (
    context_of,
    exact,
    layers_at,
    meta_model,
    model_of,
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
from taskvectors.experiments.explain import ExplainConfig, explain
from taskvectors.explain import ANALYSES, Sizes
from taskvectors.results import NOT_READ, OVER_TASKS, Published

_MODEL = "Llama-3.1-8B"
_ABLATIONS = (
    "table of ablations in the published summary of the paper, which says SST-2; 0.83 is its mean "
    "over data sets"
)
_ABLATED = {
    "analysis": "head-ablation", "condition": "vector", "ablated_at": "last", "mode": "zero"
}  # fmt: skip
_EVERY = tuple(step / 64 for step in range(1, 65))
"""Every layer of models of up to 64: a test for a change by depth needs many to say yes."""
_SWEEP = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
"""Depths of a sweep: a vector at each, since a map costs its own fit."""


def explained(
    unit: RunUnit,
    preset: Preset,
    work_dir: WorkDir,
    analyses: Sequence[str],
    *,
    with_other: bool = False,
) -> GroupResult:
    """Analyses of vectors learned on a group's task, at the preset's depths."""
    assert unit.model is not None
    model = model_of(unit, work_dir)
    context = context_of(model, unit.task, unit.seed, preset)
    folders = vectors_of(context, preset, work_dir, layers_at(model, preset.depths))
    config = ExplainConfig(
        vectors=tuple(map(str, folders)),
        analyses=tuple(analyses),
        other_vector=_other(unit, preset, work_dir) if with_other else None,
        model=exact(unit.model),
        shots=preset.shots,
        limit=preset.limit,
        memory=preset.memory,
    )
    return GroupResult(record=explain(config, work_dir.folder / "explain", load=work_dir.load))


def explaining(analyses: Sequence[str], *, with_other: bool = False) -> dict[str, Any]:
    """How an experiment of some analyses is run, and what that takes."""

    def run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
        return explained(unit, preset, work_dir, analyses, with_other=with_other)

    def estimate(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
        model = meta_model(unit, estimator)
        layers = layers_at(model, preset.depths)
        names = (unit.task, _other_task(unit)) if with_other else (unit.task,)
        contexts = [context_of(model, name, unit.seed, preset) for name in names]
        costs = vector_costs(contexts, preset, estimator, layers)
        asked = Sizes(context=contexts[0], layers=layers, limit=preset.limit, has_other=with_other)
        works = [work for name in analyses for work in ANALYSES[name].cost(asked)]
        return costs + estimator.works(model, works, preset.memory)

    return {"run": run, "estimate": estimate}


def _other_task(unit: RunUnit) -> str:
    return next(name for name in ("antonym", "capital") if name != unit.task)


def _other(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> str:
    """Folder of another task's vector at the same layer, as a control."""
    model = model_of(unit, work_dir)
    context = context_of(model, _other_task(unit), unit.seed, preset)
    folder: Path = vectors_of(context, preset, work_dir, layers_at(model, preset.depths))[0]
    return str(folder)


def _published(measure: str, value: float | str, about: Mapping[str, str]) -> Published:
    return Published(
        measure=measure, value=value, source=_ABLATIONS, model=_MODEL, method="learned",
        about=about, task=OVER_TASKS,
    )  # fmt: skip


def _register(
    name: str,
    analyses: Sequence[str],
    *,
    with_other: bool = False,
    not_read: str = "",
    **about: Any,
) -> None:
    """An experiment of some analyses.

    Args:
        name: Its name.
        analyses: Their names.
        with_other: Whether they look at another task's vector.
        not_read: The measure of a figure whose values could not be read.
        about: Further fields of `Experiment`.
    """
    unread = Published(measure=not_read, value=NOT_READ, source="figure of the paper", model=_MODEL)
    given = {"paper": LTV_PAPER, "published": (unread,) if not_read else ()}
    ways = explaining(analyses, with_other=with_other)
    register(Experiment(name=name, **given | ways | about))


_RECONSTRUCTED = {"analysis": "ov-reconstruction"}
_register(
    name="ltv-ov",
    title="OV reconstruction",
    question="How much of a vector's work do the heads do that read it, and how much the MLPs?",
    what_the_paper_did="The vector replaced by the sum of what the OV circuits of the heads above "
    "make of it: most of the accuracy stays; through the MLPs little does.",
    what_we_do_otherwise="Three variants, since where the sum goes and how it is scaled is not "
    "known; each beside a random vector tuned alike; path expansion and paths held fixed besides.",
    presets=presets(cpu={"depths": (0.3,)}),
    analyses=("ov-reconstruction", "path-expansion", "frozen-paths"),
    shown=("accuracy", "recovered"),
    published=(
        _published("accuracy", 0.83, _RECONSTRUCTED | {"variant": "vector"}),
        _published("accuracy", 0.52, _RECONSTRUCTED | {"variant": "paper"}),
        _published("accuracy", 0.0, _RECONSTRUCTED | {"variant": "none"}),
    ),
)
_register(
    name="ltv-key-heads",
    title="Key heads and their ablation",
    question="Does a vector work through few heads, and are they its own?",
    what_the_paper_did="Heads scored by a first-order estimate of their removal; without the top "
    "tenth accuracy falls far, without a random tenth hardly.",
    what_we_do_otherwise="Ablation by zero, mean and resampling, at the last position and at all; "
    "the same heads in plain in-context learning and under another task's vector. Random heads are "
    "drawn from all, and without the key heads as in the authors' arXiv 2505.18752.",
    presets=presets(cpu={"tasks": ("capital",), "limit": 30}),
    analyses=("key-heads", "head-ablation", "head-overlap"),
    with_other=True,
    published=(
        _published("accuracy", 0.83, _ABLATED | {"heads": "none"}),
        _published("accuracy", 0.51, _ABLATED | {"heads": "key"}),
        _published("accuracy", 0.78, _ABLATED | {"heads": "random-others"}),
    ),
)
_register(
    name="ltv-attention",
    title="Attention of key heads",
    question="Where do key heads look, against random heads?",
    what_the_paper_did="Key heads fall less into the attention sink and look more at the last "
    "position than random heads.",
    what_we_do_otherwise="Five classes of tokens that are disjoint and sum to one; with the "
    "vector, without it, and with demonstrations.",
    presets=presets(),
    analyses=("attention",),
    shown=("mass",),
    not_read="mass",
)
_register(
    name="ltv-linear",
    title="Linear propagation to the last block",
    question="Is what a vector becomes at the last block a linear map of it?",
    what_the_paper_did="A linear map fitted to noisy copies of the vector, its image added at the "
    "end in the vector's place: as good as the vector at most layers.",
    what_we_do_otherwise="R² is centred, on held-out noise and queries, beside the constant "
    "predictor and the exact Jacobian; the map around a random vector is the control.",
    presets=presets(
        smoke={"depths": (0.5, 0.75)},
        cpu={"tasks": ("capital",), "depths": (0.15, 0.4, 0.7, 0.95)},
        paper={"depths": _SWEEP},
    ),
    analyses=("propagation",),
    shown=("first_token_accuracy", "r2"),
    not_read="r2",
)
_register(
    name="ltv-rotation",
    title="Rotation and scaling on the way to the last block",
    question="Does the way to the last block turn a vector into the labels, or stretch it?",
    what_the_paper_did="Polar decomposition of the fitted map: early vectors are turned towards "
    "the labels, late ones stretched; the cosine of a vector and its rotation rises with depth.",
    what_we_do_otherwise="Everything stands beside random vectors in the vector's place, since "
    "part of it is the residual stream itself; alignment is compared with matched token sets.",
    presets=presets(
        smoke={"depths": (0.5, 0.75)},
        cpu={"tasks": ("capital",), "depths": _EVERY},
        paper={"depths": _EVERY},
    ),
    analyses=("rotation",),
    shown=("turn_cosine", "label_rank", "matched_rank", "lens"),
    not_read="turn_cosine",
)
_register(
    name="ltv-lens",
    title="What vectors read as, by layer",
    question="Does a vector itself decode to the task's words, and from which layer on?",
    what_the_paper_did="The logit lens on vectors: early ones decode to unrelated tokens, late "
    "ones to tokens of the task.",
    what_we_do_otherwise="Beside the top tokens, where the labels stand among all tokens, and the "
    "share of a vector in their span; both against token sets of the same size and frequency, and "
    "against random vectors.",
    presets=presets(
        smoke={"depths": (0.25, 0.5, 0.75)},
        cpu={"depths": (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)},
        paper={"depths": tuple(step / 16 for step in range(1, 16))},
    ),
    analyses=("lens",),
    shown=("label_rank", "matched_rank", "lens"),
    not_read="label_share",
)
_register(
    name="ltv-states",
    title="States on the way to the last block",
    question="Where on the way to the end do the states hold the answer?",
    what_the_paper_did="Logit lens, logit difference and alignment with the task, by layer; the "
    "formulas are not known to us, so those of the authors' arXiv 2505.18752 are used.",
    what_we_do_otherwise="Every layer above the vector, with the vector, a random one, without and "
    "few-shot; after the final norm; with intervals, and beside matched token sets.",
    presets=presets(
        smoke={"depths": (0.25, 0.5)},
        cpu={"tasks": ("capital", "antonym", "sentiment"), "depths": (0.15, 0.4, 0.7)},
        paper={"depths": _SWEEP},
    ),
    analyses=("states",),
    shown=("lens_accuracy", "logit_difference", "label_rank"),
    not_read="lens_accuracy",
)
_register(
    name="ltv-turning",
    title="Who turns the vector",
    question="Do attention's OV circuits turn a vector into the labels, or other parts of a block?",
    paper="ours, on the rotation of Yang et al. 2026, arXiv 2509.24169",
    what_the_paper_did="A rotation was fitted, and not split by what does it.",
    what_we_do_otherwise="The exact mean Jacobian block by block: identity, OV circuits, pattern "
    "changes, norm scales, MLPs; a random vector in the vector's place stands beside.",
    presets=presets(
        smoke={"depths": (0.25, 0.5)},
        cpu={"tasks": ("capital", "antonym", "sentiment"), "depths": _EVERY},
        paper={"depths": _SWEEP},
    ),
    analyses=("turning",),
    shown=("turn_cosine", "turn_share", "image_share", "rank_gain"),
)
