"""Ablation of key heads: does a vector stop working without them, and does anything else?

Heads are taken out at the last prompt token (primary) or at every token of the prompt (secondary):
their output z is put to zero, to its mean, or to that of another prompt. Random heads of the same
number stand beside them, drawn from all heads above the vector, from those that are no key heads,
or layer by layer as the key heads are. The same heads are also taken out where the vector is not:
in plain in-context learning and under another task's vector. Only so can one say whether they are
the vector's own.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import pandas as pd
import torch

from taskvectors.evaluate import score
from taskvectors.explain.key_heads import KeyHeads, key_heads_of, key_heads_works
from taskvectors.explain.shared.analysis import CI, Analysis, Curve, accuracies, in_lines
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes, plain
from taskvectors.explain.shared.head_outputs import (
    MODES,
    Condition,
    Mode,
    Place,
    outputs_at_last,
    outputs_over_tokens,
    taken_out,
)
from taskvectors.explain.shared.rows import columns, points, table
from taskvectors.explain.shared.shares import Share, share_of, share_over
from taskvectors.methods.shared.run_context import Split
from taskvectors.models import LanguageModel
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    Figure,
    ReferenceLine,
    Series,
)
from taskvectors.trunk import Branch, Edit
from taskvectors.trunk.work import Work, work_of

N_DRAWS = 20
"""Random sets of heads beside each set of key heads."""
N_CURVE_DRAWS = 5
"""Random sets at each other place of the curve."""
CURVE = (0.05, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Shares of heads, beside that of the key heads."""

Who = Literal["key", "random", "random-others", "random-by-layer"]


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """Accuracy with some heads taken out."""

    condition: str
    """`vector`, `icl` or `other-task`."""
    positions: str
    """`last` or `all`."""
    mode: str
    heads: str
    """`none`, `key`, `random`, `random-others` or `random-by-layer`."""
    n_heads: int
    share: float
    """Of the heads above the vector."""
    curve_share: float | None
    """The same where the row is of the curve; None where as many heads are out as are key heads."""
    draws: int
    accuracy: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Ablation:
    """Accuracy with key heads and with random heads taken out."""

    rows: tuple[Ablated, ...]
    plain_accuracy: float
    """Without the vector."""

    def to_frame(self) -> pd.DataFrame:
        """One row per condition, mode and set of heads."""
        return table(self.rows, plain_accuracy=self.plain_accuracy)

    def figure(self) -> Figure:
        """Accuracy against the share of heads that are put to zero at the last token."""
        conditions = {
            "icl": ("key heads, in in-context learning", PURPLE, 1.2),
            "other-task": ("key heads, under another task's vector", VERMILION, -1.2),
        }
        series = [
            self._curve("key", "key heads, with the vector"),
            self._curve("random", "random heads, with the vector"),
        ]
        for condition, (label, style, shift) in conditions.items():
            rows = [row for row in self.rows if row.condition == condition and row.mode == "zero"]
            shown = [row for row in rows if row.heads in ("none", "key")]
            if shown:
                places = (100 * row.share + shift for row in shown)  # beside, so that all show
                series.append(points(label, places, shown, style))
        return Figure(
            name="head-ablation",
            title="Accuracy without heads",
            x_label="Share of the heads above the vector put to zero, %",
            y_label="Accuracy on test prompts",
            series=tuple(series),
            references=(ReferenceLine(label="no vector", y=self.plain_accuracy),),
            shares=True,
            caption=(
                f"{self.rows[0].n} test prompts; {N_DRAWS} random sets at the share of the key "
                f"heads and {N_CURVE_DRAWS} elsewhere."
            ),
        )

    def _curve(self, heads: str, label: str) -> Series:
        rows = [
            row
            for row in self.rows
            if (row.condition, row.positions, row.mode) == ("vector", "last", "zero")
            and row.heads in ("none", heads)
        ]
        rows.sort(key=lambda row: row.share)
        style = BLUE if heads == "key" else GREY
        return points(label, (100 * row.share for row in rows), rows, style, kind="line")


def ablate(
    model: LanguageModel,
    heads: KeyHeads,
    conditions: Sequence[Condition],
    *,
    seed: int = 0,
    memory: int | None = None,
) -> Ablation:
    """Accuracy with key heads and random heads taken out, by condition and mode.

    Args:
        model: The model.
        heads: All heads above the vector, ranked.
        conditions: The first is the vector on its own task; others say how specific its heads are.
        seed: Of the random sets and of which prompt's output replaces which.
        memory: Budget in bytes.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169: key heads zeroed, against random
        ones. We differ: mean and resample beside zero; 20 sets of random heads, also without key
        heads (appendix H of arXiv 2505.18752) and matched by layer; the last position apart from
        all positions; and the same heads without the vector.
    """
    first = conditions[0]
    draws = _Draws(heads, random.Random(seed))
    rows: list[Ablated] = []
    for condition in conditions:
        asked = _Asked(model=model, condition=condition, n_above=len(heads.heads), memory=memory)
        outputs = outputs_at_last(model, condition, sorted({place[0] for place in heads.ranked}))
        for mode in MODES:
            take_out = partial(taken_out, outputs, mode, len(condition.test), seed)
            asked.add(mode, "key", [heads.key], take_out)
            random_sets = draws.uniform(len(heads.key), N_DRAWS)
            asked.add(mode, "random", random_sets, take_out)
            asked.add(mode, "random-others", draws.others(N_DRAWS), take_out)
        take_out = partial(taken_out, outputs, "zero", len(condition.test), seed)
        asked.add("zero", "random-by-layer", draws.by_layer(N_DRAWS), take_out)
        if condition is first:
            _add_curve(asked, heads, draws, take_out)
        rows += asked.rows()
    plain = score(model, first.test, memory=memory).is_correct[0]
    rows += _at_all_positions(model, heads, first, memory)
    return Ablation(rows=tuple(rows), plain_accuracy=float(plain.double().mean()))


def _add_curve(asked: "_Asked", heads: KeyHeads, draws: "_Draws", take_out: object) -> None:
    counts = {round(share * len(heads.ranked)) for share in CURVE} - {0, len(heads.key)}
    for count in sorted(counts):
        asked.add("zero", "key", [heads.ranked[:count]], take_out, on_curve=True)
        n_draws = 1 if count == len(heads.ranked) else N_CURVE_DRAWS
        asked.add("zero", "random", draws.uniform(count, n_draws), take_out, on_curve=True)


class _Draws:
    """Random sets of heads above a vector."""

    def __init__(self, heads: KeyHeads, generator: random.Random) -> None:
        self.heads, self.random = heads, generator

    def uniform(self, count: int, n: int) -> list[tuple[Place, ...]]:
        """Sets of so many of all heads."""
        return [tuple(self.random.sample(self.heads.ranked, count)) for _ in range(n)]

    def others(self, n: int) -> list[tuple[Place, ...]]:
        """Sets of as many heads as are key heads, none of them one; of all others if too few."""
        key = set(self.heads.key)
        left = [place for place in self.heads.ranked if place not in key]
        return [tuple(self.random.sample(left, min(len(key), len(left)))) for _ in range(n)]

    def by_layer(self, n: int) -> list[tuple[Place, ...]]:
        """Sets with as many heads in each layer as the key heads have."""
        layers = [layer for layer, _ in self.heads.key]
        pool = {layer: [at for at in self.heads.ranked if at[0] == layer] for layer in layers}
        return [
            tuple(
                place
                for layer, places in pool.items()
                for place in self.random.sample(places, layers.count(layer))
            )
            for _ in range(n)
        ]


@dataclass(kw_only=True, eq=False)
class _Asked:
    """Sets of heads to take out in one condition; all are scored in one pass."""

    model: LanguageModel
    condition: Condition
    n_above: int
    memory: int | None
    positions: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        self.branches: list[Branch] = [self.condition.branch]
        self.groups: list[tuple[str, str, int, bool, list[int]]] = [("none", "none", 0, False, [0])]
        """Mode, whose heads, how many, whether for the curve, and the branches without them."""

    def add(
        self,
        mode: str,
        who: str,
        sets: Sequence[Collection[Place]],
        take_out: object,
        *,
        on_curve: bool = False,
    ) -> None:
        """Sets of heads of one kind."""
        at = list(range(len(self.branches), len(self.branches) + len(sets)))
        self.branches += [[*self.condition.branch, *take_out(places)] for places in sets]  # type: ignore[operator]
        self.groups.append((mode, who, len(sets[0]), on_curve, at))

    def rows(self) -> list[Ablated]:
        """Scored; where nothing is taken out, a row for every mode."""
        correct = score(
            self.model, self.condition.test, self.branches, memory=self.memory
        ).is_correct
        found = []
        for mode, who, count, on_curve, at in self.groups:
            share = share_of(correct[at[0]]) if len(at) == 1 else share_over(list(correct[at]))
            row = self._row(mode, who, count, len(at), share)
            if on_curve:
                row = replace(row, curve_share=row.share)
            modes = MODES if mode == "none" else (mode,)
            found += [replace(row, mode=one) for one in modes]
        return found

    def _row(self, mode: str, who: str, count: int, draws: int, share: Share) -> Ablated:
        return Ablated(
            condition=self.condition.name,
            positions=self.positions,
            mode=mode,
            heads=who,
            n_heads=count,
            share=count / self.n_above,
            curve_share=None,
            draws=draws,
            **columns("accuracy", share),
            n=len(self.condition.test),
        )


def _at_all_positions(
    model: LanguageModel, heads: KeyHeads, condition: Condition, memory: int | None
) -> list[Ablated]:
    """Key heads to zero and to their mean at every token of the prompt.

    Prompts differ in length, so no other prompt's outputs fit there.
    """
    means = outputs_over_tokens(model, condition, sorted({layer for layer, _ in heads.key}))
    asked = _Asked(
        model=model,
        condition=condition,
        n_above=len(heads.heads),
        memory=memory,
        positions="all",
    )

    def take_out(mode: Mode, places: Collection[Place]) -> list[Edit]:
        return [
            Edit(
                layer=layer,
                component="z",
                head=head,
                operation="replace",
                positions=("all",),
                value=torch.zeros_like(z) if mode == "zero" else z,
            )
            for layer, head in sorted(places)
            for z in (means[layer][head],)
        ]

    for mode in ("zero", "mean"):
        asked.add(mode, "key", [heads.key], partial(take_out, mode))
    return [row for row in asked.rows() if row.heads == "key"]


def _find(case: Case) -> Ablation:
    shots = case.context.shots
    conditions = [
        Condition.of(case, "vector", case.vector),
        Condition.of(case, "icl", None, shots),
    ]
    if case.other is not None:
        conditions.append(Condition.of(case.other, "other-task", case.other.vector))
    return ablate(
        case.model,
        key_heads_of(case),
        conditions,
        seed=case.context.seed,
        memory=case.context.memory,
    )


_CURVE = Curve(
    title="Accuracy without key heads",
    y_label="Accuracy on test prompts",
    lines=accuracies(
        "heads",
        {
            "no head put to zero": ("none", GREEN),
            "key heads": ("key", BLUE),
            "as many random heads": ("random", GREY),
            "as many that are no key heads": ("random-others", PURPLE),
            "random heads of the same layers": ("random-by-layer", VERMILION),
        },
        condition="vector",
        positions="last",
        mode="zero",
        curve_share=None,  # rows with as many heads as there are key heads
    ),
)


def _works(sizes: Sizes) -> list[Work]:
    context, shots = sizes.context, sizes.context.shots
    sets = 1 + len(MODES) * (1 + 2 * N_DRAWS) + N_DRAWS
    curve = sum(1 + (1 if share == 1 else N_CURVE_DRAWS) for share in CURVE)
    works = key_heads_works(sizes)
    conditions = [("vector", 0, sets + curve), ("icl", shots, sets)]
    if sizes.has_other:
        conditions.append(("other task", 0, sets))
    for name, shown, n in conditions:
        read = sizes.branches(f"outputs, {name}", sizes.prompts("train", shown), 1)
        scored = sizes.branches(f"sets, {name}", sizes.prompts("test", shown), n)
        works += [replace(read, rows=0.0), scored]
    read, scored = (
        work_of(f"all positions, {split}", sizes.prompts(split), (0,), [sizes.layer] * n,
                context.model.n_layers)
        for split, n in _EVERYWHERE.items()
    )  # fmt: skip
    return [*works, plain(context, 0), replace(read, rows=0.0), scored]


_EVERYWHERE: dict[Split, int] = {"train": 1, "test": 3}
"""Branches by split of heads that are taken out at every token."""


ANALYSES.register(
    Analysis(
        name="head-ablation",
        title="Ablation of key heads",
        question="Does the vector stop working without its key heads, and does anything else?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("condition", "positions", "mode", "heads", "curve_share"),
            measures={"accuracy": CI, "n_heads": None},
            constants=("plain_accuracy",),
            names={"positions": "ablated_at"},
        ),
        works=_works,
        caption="Accuracy with heads put to zero at the last token: key heads, and random heads of "
        "the same number. 95 % intervals, for random heads over sets.",
        summary=in_lines(*_CURVE.lines),
        needs_other=True,
        over_layers=_CURVE,
    )
)
