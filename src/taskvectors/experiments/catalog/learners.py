"""Experiments on learners from scratch: when vectors emerge, and what the TVP-loss buys."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from taskvectors.costs import Cost, measured_cost
from taskvectors.experiments.catalog.learner_rows import (
    MEASURES,
    measurement_of,
    of_shifts,
    of_variants,
)
from taskvectors.experiments.catalog.learner_runs import (
    config_of,
    scales,
    swept,
    trained,
    trained_costs,
)
from taskvectors.experiments.drawing import curves, layer_of
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    NOT_READ,
    TVP_PAPER,
    Experiment,
    Found,
    Group,
    Published,
    Room,
    Scale,
)
from taskvectors.figures import AnyFigure
from taskvectors.learners import Learner
from taskvectors.learners.family import TaskFamily
from taskvectors.learners.measures import measure
from taskvectors.learners.tasks import load_family
from taskvectors.learners.variants import VariantsConfig

_Places = Mapping[str, tuple[dict[str, Any], Any]]
"""Changes of a config and l*, by the part that a group is of."""


def _measured(
    group: Group, scale: Scale, room: Room, *, names: Sequence[str] = tuple(MEASURES)
) -> Found:
    """The sweep's variants, by layer."""
    config = swept(group, scale)
    finding, _ = trained(config, room)
    return Found(measurements=of_variants(config, finding, names))


def _out_of_distribution(group: Group, scale: Scale, room: Room) -> Found:
    config = swept(group, scale)
    finding, _ = trained(config, room)
    return Found(measurements=of_shifts(config, finding))


def _emergence(group: Group, scale: Scale, room: Room) -> Found:
    """Errors and recoveries along training."""
    config = swept(group, scale)
    _, folder = trained(config, room)
    found = []
    for variant in sorted((folder / f"seed-{group.seed}").iterdir()):
        about = {"variant": variant.name, "tvp_layer": _layer_of(variant)}
        for line in (variant / "metrics.jsonl").read_text().splitlines():
            point = json.loads(line)
            at = {"step": point["step"]}
            found += [
                measurement_of(config, about, name, point[name], **at)
                for name in ("icl_error", "zero_shot_error")
            ]
            found += [
                measurement_of(config, about, name, value, layer=layer, **at)
                for name in ("tvp_error", "recovery")
                for layer, value in enumerate(point.get(name, ()))
                if value is not None
            ]
    return Found(measurements=found)


def _layer_of(variant: Path) -> int | None:
    layer = json.loads((variant / "run.json").read_text())["training"]["tvp_layer"]
    return None if layer is None else int(layer)


def _context(group: Group, scale: Scale, room: Room) -> Found:
    """Errors and recoveries by number of demonstrations, beyond the trained number too."""
    config = swept(group, scale)
    _, folder = trained(config, room)
    found = []
    for variant in sorted((folder / f"seed-{group.seed}").iterdir()):
        learner = Learner.load(variant)
        about: dict[str, Any] = {
            "variant": variant.name,
            "tvp_layer": _layer_of(variant),
            "n": scale.n_trials,
        }
        for n in _numbers(learner):
            one = measure(learner, n_trials=scale.n_trials, seed=group.seed, n_demonstrations=n)
            found.append(
                measurement_of(config, about, "icl_error", one.mean(one.icl), n_demonstrations=n)
            )
            if one.prompted is None:
                continue
            recovery = one.recovery(one.prompted.reset)
            for layer, value in enumerate(recovery):
                errors = one.prompted.reset[layer]
                places = {"layer": layer, "n_demonstrations": n}
                found.append(measurement_of(config, about, "tvp_error", one.mean(errors), **places))
                if value is not None:
                    low, high = one.recovery_interval(errors)
                    found.append(
                        measurement_of(
                            config, about, "recovery", value, low=low, high=high, **places
                        )
                    )
    return Found(measurements=found)


def _context_cost(group: Group, scale: Scale, estimator: Estimator) -> list[Cost]:
    config = swept(group, scale)
    numbers = _candidates(load_family(config.task, config.settings))
    device = estimator.device(torch.float32)
    measured = measured_cost(config, device, n_times=len(numbers))
    return [*trained_costs(config, estimator), measured]


def _numbers(learner: Learner) -> list[int]:
    """Those for which the learner has positions."""
    places = int(learner.hf.config.max_position_embeddings)
    family = learner.family
    return [n for n in _candidates(family) if family.n_positions(n) <= places]


def _candidates(family: TaskFamily) -> list[int]:
    """1, 2, 4, ... demonstrations, the trained number, and 1.5 and 2 times as many."""
    trained_n = family.n_demonstrations
    below = [2**k for k in range(12) if 2**k < trained_n]
    return [*below, trained_n, round(1.5 * trained_n), 2 * trained_n]


def _changed(group: Group, scale: Scale, room: Room, *, places: _Places) -> Found:
    config = _with_change(group, scale, places=places)
    finding, _ = trained(config, room)
    return Found(measurements=of_variants(config, finding, changed=group.part))


def _with_change(group: Group, scale: Scale, *, places: _Places) -> VariantsConfig:
    """Vanilla and one l* for the change that the group's part names."""
    changes, tvp_layer = places[group.part]
    layers = (None,) if tvp_layer is None else (None, tvp_layer)
    return config_of(group, scale, tvp_layers=layers, **{k: dict(v) for k, v in changes.items()})


def _cost(
    group: Group,
    scale: Scale,
    estimator: Estimator,
    *,
    config: Callable[[Group, Scale], VariantsConfig] = swept,
) -> list[Cost]:
    """Of training and measuring what a config asks for."""
    return trained_costs(config(group, scale), estimator)


def _parts(names: Sequence[str], experiment: str, scale: Scale) -> list[Group]:
    """A group for each family, part and seed."""
    return [
        Group(experiment=experiment, model=None, tasks=(task,), seed=seed, part=part)
        for task in scale.tasks
        for part in names
        for seed in scale.seeds
    ]


def _families(experiment: str, scale: Scale) -> list[Group]:
    return _parts(("",), experiment, scale)


def _preset_run(group: Group, scale: Scale, room: Room) -> Found:
    """A formal language as its preset has it, with the out-of-distribution battery."""
    config = _preset(group, scale)
    finding, _ = trained(config, room)
    return Found(measurements=[*of_variants(config, finding), *of_shifts(config, finding)])


_preset = partial(config_of, with_shifts=True)

# --- figures


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


def _by_shift(rows: pd.DataFrame) -> list[AnyFigure]:
    own = rows[rows["measure"].eq("icl_error") & rows["tvp_layer"].notna()]
    return curves(
        own, "icl-error-by-layer", "ICL error out of distribution", x="tvp_layer", y="icl_error",
        labels=("l*: the block after which the vector is formed", "ICL error", "shift"),
    )  # fmt: skip


# --- the experiments

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
_FORMATS: _Places = {
    "xy": ({"settings": {"format": "xy"}}, None),
    "xzy": ({"settings": {"format": "xzy"}}, 1),
    "zxy": ({"settings": {"format": "zxy"}}, 1),
    "xzyd": ({"settings": {"format": "xzyd"}}, 1),
    "xzy rotary": ({"settings": {"format": "xzy"}, "shape": {"body": "llama"}}, 1),
}
_DEPTHS: _Places = {
    f"{n} layers": ({"shape": {"n_layers": n}}, max(0, n // 2 - 1)) for n in (2, 3, 4, 6)
}


def _experiment(
    name: str, title: str, question: str, did: str, otherwise: str, **about: Any
) -> Experiment:
    defaults: dict[str, Any] = {
        "estimate": _cost,
        "groups": _families,
        "published": _UNKNOWN,
        "shown": ("icl_error", "tvp_error", "recovery"),
        "scales": scales(_FAMILIES, paper=_ALL_PAIRS),
    }
    return Experiment(
        name=name,
        title=title,
        question=question,
        paper=TVP_PAPER,
        what_the_paper_did=did,
        what_we_do_otherwise=f"{_OURS} {otherwise}",
        **defaults | about,
    )


ALL = (
    _experiment(
        "tvp-loss",
        "Task-vector prompting with and without the TVP-loss",
        "Does the TVP-loss form a strong vector at a chosen layer, without harming ICL?",
        "Models trained from scratch with the in-context loss alone and with the auxiliary loss on "
        "linear and sinusoidal regression and token offset; the loss gives strong vectors.",
        "Vanilla is the same checkpoint continued for equal steps and, besides, for equal "
        "floating-point operations.",
        run=partial(_measured, names=(
            "icl_error", "zero_shot_error", "base_error", "optimal_error", "tvp_error",
            "tvp_error_kept", "tvp_error_averaged", "recovery", "recovery_kept",
            "recovery_averaged", "wrong_task_error", "wrong_task_error_to_injected",
        )),
        figures=partial(_by_layer, title="Recovery by layer"),
        scales=scales(_ALL_PAIRS),
    ),
    _experiment(
        "tvp-locality",
        "Where the task is written",
        "Is the task encoded at one layer, or spread, and is it entangled with the query?",
        "Tasks may be encoded weakly and non-locally without the loss, and sharply with it.",
        "The best layer's share of all recovery, a linear probe for the task, and the share of the "
        "variance that lies between tasks.",
        run=partial(_measured, names=("recovery", "locality", "probe_r2", "task_share")),
        shown=("locality", "probe_r2", "task_share"),
        figures=partial(_by_layer, title="Recovery by layer"),
    ),
    _experiment(
        "tvp-emergence",
        "Vectors along training",
        "Do vectors emerge by themselves while a model learns to learn in context?",
        "Vectors emerge under certain conditions, but weakly.",
        "Recovery at every layer along training, for vanilla and for every l*.",
        run=_emergence,
        figures=lambda rows: _by_column(rows, "Recovery along training", "step", "Step"),
    ),
    _experiment(
        "tvp-format",
        "Input formats",
        "In which input formats do vectors emerge?",
        "Emergence depends on the input format.",
        "Pairs, a separator after x, before x, and with a delimiter; the separator after x with "
        "rotary positions, too. In plain pairs there is no place for a vector that is not the "
        "query, so task-vector prompting is undefined there.",
        run=partial(_changed, places=_FORMATS),
        estimate=partial(_cost, config=partial(_with_change, places=_FORMATS)),
        groups=partial(_parts, tuple(_FORMATS)),
        figures=partial(_by_part, title="Recovery by layer and format"),
        scales=scales(("offset",), paper=_ALL_PAIRS),
    ),
    _experiment(
        "tvp-depth",
        "Number of layers",
        "How does the place of a vector move with the depth of the model?",
        "Emergence and the best layer depend on depth.",
        "Depths " + ", ".join(_DEPTHS) + "; l* in the middle.",
        run=partial(_changed, places=_DEPTHS),
        estimate=partial(_cost, config=partial(_with_change, places=_DEPTHS)),
        groups=partial(_parts, tuple(_DEPTHS)),
        figures=partial(_by_part, title="Recovery by layer and depth"),
        scales=scales(("offset",), paper=_ALL_PAIRS),
    ),
    _experiment(
        "tvp-context",
        "Number of demonstrations",
        "How does a vector's quality depend on the length of the context it is read from?",
        "The quality of vectors varies with the context's length.",
        "From one demonstration to twice the trained number.",
        run=_context,
        estimate=_context_cost,
        figures=lambda rows: _by_column(
            rows, "Recovery by number of demonstrations", "n_demonstrations", "Demonstrations"
        ),
    ),
    _experiment(
        "tvp-layer",
        "The layer l* at which the vector is formed",
        "Can the vector be formed at any layer?",
        "The layer is chosen in advance, and swept in some form.",
        "Every l* that leaves a block to read the query.",
        run=_measured,
        figures=partial(_by_layer, title="Recovery by layer, for every l*"),
    ),
    _experiment(
        "tvp-ood",
        "Out of distribution",
        "Is in-context learning out of distribution better the deeper the vector is formed?",
        "The loss helps on out-of-distribution prompts, most with strong vectors in deeper layers.",
        "The battery of shifts of published code, for vanilla and every l*, with a trend test of "
        "the error on l*.",
        run=_out_of_distribution,
        shown=("icl_error", "trend_correlation", "trend_p_value"),
        figures=_by_shift,
    ),
    _experiment(
        "tvp-ginc",
        "GINC: mixtures of hidden Markov models",
        "Do vectors form in a formal language whose tasks are hidden Markov models?",
        "The loss was run on GINC; the size of its effect is not known to us.",
        "The vector sits at the delimiter; the Bayes predictor is the optimum.",
        run=_preset_run,
        estimate=partial(_cost, config=_preset),
        figures=partial(_by_layer, title="Recovery by layer"),
        scales=scales(("ginc",)),
    ),
    _experiment(
        "tvp-regbench",
        "RegBench: random automata",
        "Do vectors form in a formal language whose tasks are automata?",
        "The loss was run on RegBench; the size of its effect is not known to us.",
        "The vector sits at the separator; a mixture over automata is the optimum.",
        run=_preset_run,
        estimate=partial(_cost, config=_preset),
        figures=partial(_by_layer, title="Recovery by layer"),
        scales=scales(("regbench",)),
    ),
)  # fmt: skip
