"""Where key heads look: attention of the last token, by what it falls on.

Every key of a prompt is in one of five classes: the sink (the first token), the last token itself,
the query's tokens, the demonstrations, and the rest of the template. They are disjoint, so a head's
masses add up to 1. Random heads of the same number stand beside the key heads.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.explain.key_heads import KeyHeads, key_heads_of, key_heads_works
from taskvectors.explain.shared.analysis import CI, Analysis, Curve, Line, in_lines
from taskvectors.explain.shared.case import Case, added_layers
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.rows import points, table
from taskvectors.explain.shared.two_runs import INJECTED, PLAIN, patterns_of_two_runs
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREY, PURPLE, VERMILION, Figure
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

CLASSES = ("sink", "last", "query", "demonstrations", "template")
N_DRAWS = 200
"""Random sets of heads. They cost nothing: every head's attention is known."""
_ROWS = 32
_Masses = dict[int, Float[Tensor, "prompt head falls_on"]]
"""By block."""


@dataclass(frozen=True, kw_only=True)
class Mass:
    """Mean attention on one class of tokens."""

    condition: str
    """`injected`, `plain` (the same prompts without the vector), or `icl`."""
    heads: str
    """`key`, `random`, or `all`."""
    falls_on: str
    mass: float
    ci_low: float
    ci_high: float
    """Over prompts for key heads and all heads, over sets for random ones."""
    n: int
    """Prompts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """Masses by condition, heads and class."""

    rows: tuple[Mass, ...]
    n_key: int

    def to_frame(self) -> pd.DataFrame:
        """One row per condition, set of heads and class."""
        return table(self.rows, n_key=self.n_key)

    def figure(self) -> Figure:
        """Where key heads and random heads look, with the vector and without."""
        shown = (
            ("injected", "key", "key heads, with the vector", BLUE, -0.15),
            ("plain", "key", "key heads, without it", PURPLE, 0.0),
            ("injected", "random", "random heads, with the vector", GREY, 0.15),
        )
        series = []
        for condition, heads, label, style, shift in shown:
            rows = [row for row in self.rows if (row.condition, row.heads) == (condition, heads)]
            places = (CLASSES.index(row.falls_on) + shift for row in rows)
            series.append(points(label, places, rows, style, value="mass"))
        names = ("sink", "last token", "query", "demonstrations", "template")
        return Figure(
            name="attention",
            title="Where the last token looks",
            x_label="What attention falls on",
            y_label="Mean attention",
            series=tuple(series),
            x_ticks=tuple((float(place), name) for place, name in enumerate(names)),
            shares=True,
            caption=(
                f"{self.rows[0].n} zero-shot prompts, {self.n_key} key heads, {N_DRAWS} random "
                "sets."
            ),
        )


def attention_of_heads(
    model: LanguageModel,
    vector: TaskVector,
    heads: KeyHeads,
    *,
    prompts: Sequence[Prompt],
    few_shot: Sequence[Prompt] = (),
    seed: int = 0,
) -> Attention:
    """Attention of the last token in key heads and in random heads.

    Args:
        model: The model.
        vector: Added to the residual stream at the last token.
        heads: All heads above the vector, ranked.
        prompts: Queries without demonstrations.
        few_shot: Queries with demonstrations, for in-context learning without the vector.
        seed: Of the random sets.

    Returns:
        Masses that add up to 1 over the classes.

    Raises:
        TaskVectorsError: The vector acts elsewhere, or replaces.

    Source:
        Yang et al. (2026), https://arxiv.org/abs/2509.24169: key heads fall less into the attention
        sink and look more at the final position. We differ: five classes that are disjoint, and
        random heads with an interval.
    """
    added_layers(vector, "attention with and without the vector")
    layers = sorted({layer for layer, _ in heads.ranked})
    injected, plain = _masses(model, vector, prompts, layers)
    by_condition = {"injected": injected, "plain": plain}
    if few_shot:
        by_condition["icl"] = _masses(model, vector, few_shot, layers)[1]
    rows: list[Mass] = []
    for condition, masses in by_condition.items():
        rows += _rows(condition, masses, heads, random.Random(seed))
    return Attention(rows=tuple(rows), n_key=len(heads.key))


def _masses(
    model: LanguageModel, vector: TaskVector, prompts: Sequence[Prompt], layers: Sequence[int]
) -> tuple[_Masses, _Masses]:
    """Masses in the injected and in the plain run."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    asked = with_first_tokens(prompts)
    for start in range(0, len(asked), _ROWS):
        rows = asked[start : start + _ROWS]
        patterns = patterns_of_two_runs(model, rows, vector, layers)
        width = patterns[layers[0]].shape[-1]
        classes = torch.stack([class_of_keys(prompt, width) for prompt in rows])
        one_hot = torch.nn.functional.one_hot(classes, len(CLASSES)).float()
        for layer, pattern in patterns.items():
            parts[layer].append(torch.einsum("rphk,pkc->rphc", pattern.cpu(), one_hot))
    found = {layer: torch.cat(kept, dim=1) for layer, kept in parts.items()}
    injected, plain = (
        {layer: masses[run] for layer, masses in found.items()} for run in (INJECTED, PLAIN)
    )
    return injected, plain


def class_of_keys(prompt: Prompt, width: int) -> Tensor:
    """The class of every key, as an index into `CLASSES`; keys are padded on the left.

    Where two would fit, the first of `CLASSES` is taken.
    """
    n = len(prompt.token_ids)
    classes = torch.full((width,), CLASSES.index("template"))
    for name in ("demonstrations", "query"):
        begin, stop = prompt.spans.get(name, (0, 0))
        classes[width - n + begin : width - n + stop] = CLASSES.index(name)
    classes[width - 1] = CLASSES.index("last")
    classes[width - n] = CLASSES.index("sink")
    return classes


def _rows(condition: str, masses: _Masses, heads: KeyHeads, generator: random.Random) -> list[Mass]:
    def of(places: Sequence[tuple[int, int]]) -> Float[Tensor, "prompt falls_on"]:
        return torch.stack([masses[layer][:, head] for layer, head in places]).mean(dim=0)

    n = len(next(iter(masses.values())))
    rows: list[Mass] = []
    for who, places in (("key", heads.key), ("all", heads.ranked)):
        each = of(places).double()
        half = 1.96 * each.std(dim=0) / n**0.5 if n > 1 else torch.zeros(len(CLASSES))
        mean = each.mean(dim=0)
        rows += _of_classes(condition, who, mean, mean - half, mean + half, n)
    draws = torch.stack(
        [
            of(generator.sample(heads.ranked, len(heads.key))).double().mean(dim=0)
            for _ in range(N_DRAWS)
        ]
    )
    low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=torch.double), dim=0)
    return rows + _of_classes(condition, "random", draws.mean(dim=0), low, high, n)


def _of_classes(
    condition: str, who: str, mean: Tensor, low: Tensor, high: Tensor, n: int
) -> list[Mass]:
    return [
        Mass(
            condition=condition,
            heads=who,
            falls_on=name,
            mass=float(mean[place]),
            ci_low=float(low[place]),
            ci_high=float(high[place]),
            n=n,
        )
        for place, name in enumerate(CLASSES)
    ]


def _find(case: Case) -> Attention:
    return attention_of_heads(
        case.model,
        case.vector,
        key_heads_of(case),
        prompts=case.prompts("test"),
        few_shot=case.prompts("test", case.context.shots),
        seed=case.context.seed,
    )


_CURVE = Curve(
    title="Where the last token looks, with the vector",
    y_label="Mean attention",
    lines=tuple(
        Line(
            label=f"{heads} heads, on {words}",
            of={"condition": "injected", "heads": heads, "falls_on": falls_on},
            value="mass",
            low="ci_low",
            high="ci_high",
            style=style,
        )
        for heads, falls_on, words, style in (
            ("key", "last", "the last token", BLUE),
            ("random", "last", "the last token", GREY),
            ("key", "sink", "the sink", VERMILION),
            ("random", "sink", "the sink", PURPLE),
        )
    ),
)


def _works(sizes: Sizes) -> list[Work]:
    few_shot = sizes.prompts("test", sizes.context.shots)
    runs = [
        sizes.two_runs("test", sizes.prompts("test")),
        sizes.two_runs("test, with demonstrations", few_shot),
    ]
    return [*key_heads_works(sizes), *runs]


ANALYSES.register(
    Analysis(
        name="attention",
        title="Attention of key heads",
        question="Where do key heads look, against random heads?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("condition", "heads", "falls_on"),
            measures={"mass": CI},
            constants=("n_key",),
        ),
        works=_works,
        caption="Mean attention of the last token on each class of tokens, in key heads and in as "
        "many random heads; the classes add up to 1. Intervals of 95 % over prompts, for random "
        "heads over sets.",
        summary=in_lines(*_CURVE.lines),
        over_layers=_CURVE,
    )
)
