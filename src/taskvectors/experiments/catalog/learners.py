"""Experiments on learners from scratch: when vectors emerge, and what the TVP-loss buys."""

from functools import partial
from typing import Any

import pandas as pd

from taskvectors.experiments.catalog.shared.learner_groups import (
    Places,
    at_places,
    by_variant,
    context_cost,
    cost,
    families,
    of_context,
    of_patching,
    of_preset,
    of_training,
    out_of_distribution,
    parts,
    preset_config,
    run_at_places,
)
from taskvectors.experiments.catalog.shared.learner_runs import presets
from taskvectors.experiments.experiment import TVP_PAPER, Experiment, register
from taskvectors.results import NOT_READ, Published
from taskvectors.results.drawing import curves, layer_of
from taskvectors.results.figures import AnyFigure


def _by_layer(rows: pd.DataFrame, title: str) -> list[AnyFigure]:
    own = rows.assign(place=rows["layers"].map(layer_of))
    return curves(
        own, "recovery", title, x="place", y="recovery",
        labels=("Layer that the vector is read from and put at", "Recovery", "method"),
    )  # fmt: skip


def _by_column(rows: pd.DataFrame, title: str, column: str, label: str) -> list[AnyFigure]:
    """The best layer's recovery over some column."""
    own = rows[rows["measure"].eq("recovery")]
    best = own.groupby(["task", "method", column, "seed"], sort=False)["value"].max().reset_index()
    best = best.assign(measure="recovery", low=None, high=None)
    best[["low", "high"]] = best[["low", "high"]].astype("float64")
    return curves(
        best, f"recovery-by-{column}", title, x=column, y="recovery",
        labels=(label, "Recovery at the best layer", "method"),
    )  # fmt: skip


def _by_part(rows: pd.DataFrame, title: str) -> list[AnyFigure]:
    own = rows.assign(
        place=rows["layers"].map(layer_of),
        line=[
            f"{method}, {part}"
            for method, part in zip(rows["method"], rows["changed"], strict=True)
        ],
    )
    return curves(
        own, "recovery", title, x="place", y="recovery",
        labels=("Layer that the vector is read from and put at", "Recovery", "line"),
    )  # fmt: skip


def _by_place(rows: pd.DataFrame) -> list[AnyFigure]:
    own = rows.assign(
        at=rows["layers"].map(layer_of),
        line=[
            f"{method}, {place}"
            for method, place in zip(rows["method"], rows["place"], strict=True)
        ],
    )
    return curves(
        own[own["method"].isin(("vanilla", "tvp-1"))], "recovery-by-places",
        "Recovery with several places patched", x="at", y="recovery",
        labels=("Block after which states are put", "Recovery", "line"),
    )  # fmt: skip


def _by_shift(rows: pd.DataFrame) -> list[AnyFigure]:
    own = rows[rows["measure"].eq("icl_error") & rows["tvp_layer"].notna()]
    return curves(
        own, "icl-error-by-layer", "ICL error out of distribution", x="tvp_layer", y="icl_error",
        labels=("l*: the block after which the vector is formed", "ICL error", "shift"),
    )  # fmt: skip


_UNKNOWN = (
    Published(
        measure="any",
        value=NOT_READ,
        source="the paper",
        model="learners of the paper",
        note="no result number of this paper is known to us",
    ),
)
_OURS = (
    "No hyper-parameter, formula or result number of the paper is known to us: sizes, the formula "
    "of the loss and all measures are ours."
)
_FAMILIES = ("offset", "linear")
_ALL_PAIRS = ("offset", "linear", "sinusoidal")
_FORMATS: Places = {
    "xy": ({"settings": {"format": "xy"}}, None),
    "xzy": ({"settings": {"format": "xzy"}}, 1),
    "zxy": ({"settings": {"format": "zxy"}}, 1),
    "xzyd": ({"settings": {"format": "xzyd"}}, 1),
    "xzy rotary": ({"settings": {"format": "xzy"}, "shape": {"body": "llama"}}, 1),
}
_DEPTHS: Places = {
    f"{n} layers": ({"shape": {"n_layers": n}}, max(0, n // 2 - 1)) for n in (2, 3, 4, 6)
}


def _register(name: str, title: str, question: str, did: str, otherwise: str, **about: Any) -> None:
    defaults: dict[str, Any] = {
        "estimate": cost,
        "units": families,
        "published": _UNKNOWN,
        "shown": ("icl_error", "tvp_error", "recovery"),
        "presets": presets(_FAMILIES, paper=_ALL_PAIRS),
    }
    register(
        Experiment(
            name=name,
            title=title,
            question=question,
            paper=TVP_PAPER,
            what_the_paper_did=did,
            what_we_do_otherwise=f"{_OURS} {otherwise}",
            **defaults | about,
        )
    )


_register(
    "tvp-loss",
    "Task-vector prompting with and without the TVP-loss",
    "Does the TVP-loss form a strong vector at a chosen layer, without harming ICL?",
    "Models trained from scratch with the in-context loss alone and with the auxiliary loss on "
    "linear and sinusoidal regression and token offset; the loss gives strong vectors.",
    "Vanilla is the same checkpoint continued for equal steps and, besides, for equal "
    "floating-point operations.",
    run=partial(by_variant, names=(
        "icl_error", "zero_shot_error", "base_error", "optimal_error", "tvp_error",
        "tvp_error_kept", "tvp_error_averaged", "recovery", "recovery_kept",
        "recovery_averaged", "wrong_task_error", "wrong_task_error_to_injected",
    )),
    figures=partial(_by_layer, title="Recovery by layer"),
    presets=presets(_ALL_PAIRS),
)  # fmt: skip
_register(
    "tvp-locality",
    "Where the task is written",
    "Is the task encoded at one layer, or spread, and is it entangled with the query?",
    "Tasks may be encoded weakly and non-locally without the loss, and sharply with it.",
    "The best layer's share of all recovery, a linear probe for the task, and the share of the "
    "variance that lies between tasks.",
    run=partial(by_variant, names=("recovery", "locality", "probe_r2", "task_share")),
    shown=("locality", "probe_r2", "task_share"),
    figures=partial(_by_layer, title="Recovery by layer"),
)  # fmt: skip
_register(
    "tvp-spread",
    "Absent, or spread out",
    "Where one place gives no vector, do several layers or columns together hold the task?",
    "Tasks may be encoded weakly and non-locally without the loss.",
    "States of a run on the task are put into a run with another task's demonstrations: at the "
    "site, at all separators, at all outputs, at all demonstrations, after each block and after "
    "all blocks but the last.",
    run=of_patching,
    shown=("recovery", "patched_error"),
    figures=_by_place,
)  # fmt: skip
_register(
    "tvp-emergence",
    "Vectors along training",
    "Do vectors emerge by themselves while a model learns to learn in context?",
    "Vectors emerge under certain conditions, but weakly.",
    "Recovery at every layer along training, for vanilla and for every l*.",
    run=of_training,
    figures=lambda rows: _by_column(rows, "Recovery along training", "step", "Step"),
)  # fmt: skip
_register(
    "tvp-format",
    "Input formats",
    "In which input formats do vectors emerge?",
    "Emergence depends on the input format.",
    "Pairs, a separator after x, before x, and with a delimiter; the separator after x with "
    "rotary positions, too. In plain pairs there is no place for a vector that is not the "
    "query, so task-vector prompting is undefined there.",
    run=partial(run_at_places, places=_FORMATS),
    estimate=partial(cost, config=partial(at_places, places=_FORMATS)),
    units=partial(parts, tuple(_FORMATS)),
    figures=partial(_by_part, title="Recovery by layer and format"),
    presets=presets(("offset",), paper=_ALL_PAIRS),
)  # fmt: skip
_register(
    "tvp-depth",
    "Number of layers",
    "How does the place of a vector move with the depth of the model?",
    "Emergence and the best layer depend on depth.",
    "Depths " + ", ".join(_DEPTHS) + "; l* in the middle.",
    run=partial(run_at_places, places=_DEPTHS),
    estimate=partial(cost, config=partial(at_places, places=_DEPTHS)),
    units=partial(parts, tuple(_DEPTHS)),
    figures=partial(_by_part, title="Recovery by layer and depth"),
    presets=presets(("offset",), paper=_ALL_PAIRS),
)  # fmt: skip
_register(
    "tvp-context",
    "Number of demonstrations",
    "How does a vector's quality depend on the length of the context it is read from?",
    "The quality of vectors varies with the context's length.",
    "From one demonstration to twice the trained number.",
    run=of_context,
    estimate=context_cost,
    figures=lambda rows: _by_column(
        rows, "Recovery by number of demonstrations", "n_demonstrations", "Demonstrations"
    ),
)  # fmt: skip
_register(
    "tvp-layer",
    "The layer l* at which the vector is formed",
    "Can the vector be formed at any layer?",
    "The layer is chosen in advance, and swept in some form.",
    "Every l* that leaves a block to read the query.",
    run=by_variant,
    figures=partial(_by_layer, title="Recovery by layer, for every l*"),
)  # fmt: skip
_register(
    "tvp-ood",
    "Out of distribution",
    "Is in-context learning out of distribution better the deeper the vector is formed?",
    "The loss helps on out-of-distribution prompts, most with strong vectors in deeper layers.",
    "The battery of shifts of published code, for vanilla and every l*, with a trend test of "
    "the error on l*.",
    run=out_of_distribution,
    shown=("icl_error", "trend_correlation", "trend_p_value", "smallest_trend_p_value"),
    figures=_by_shift,
)  # fmt: skip
_register(
    "tvp-ginc",
    "GINC: mixtures of hidden Markov models",
    "Do vectors form in a formal language whose tasks are hidden Markov models?",
    "The loss was run on GINC; the size of its effect is not known to us.",
    "The vector sits at the delimiter; the Bayes predictor is the optimum.",
    run=of_preset,
    estimate=partial(cost, config=preset_config),
    figures=partial(_by_layer, title="Recovery by layer"),
    presets=presets(("ginc",)),
)  # fmt: skip
_register(
    "tvp-regbench",
    "RegBench: random automata",
    "Do vectors form in a formal language whose tasks are automata?",
    "The loss was run on RegBench; the size of its effect is not known to us.",
    "The vector sits at the separator; a mixture over automata is the optimum.",
    run=of_preset,
    estimate=partial(cost, config=preset_config),
    figures=partial(_by_layer, title="Recovery by layer"),
    presets=presets(("regbench",)),
)  # fmt: skip
