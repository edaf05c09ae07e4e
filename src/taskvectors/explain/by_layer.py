"""One analysis at every layer that a case has a vector at, as one table and one curve.

`propagation` and `rotation` follow a vector over layers themselves. What the others find is put
side by side here: their rows, with the layer of the vector, and a figure made of those rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from taskvectors.explain import attention
from taskvectors.explain.ablation import N_DRAWS
from taskvectors.explain.case import Case, Result
from taskvectors.explain.layer_fits import layered_vectors
from taskvectors.results.figures import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    AnyFigure,
    Figure,
    Heatmap,
    Series,
    Style,
)
from taskvectors.vectors import TaskVector

VECTOR_LAYER = "vector_layer"
"""The column that says which vector a row is about; `layer` is that of a head or a block."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Which rows of an analysis are one line of its curve."""

    label: str
    of: Mapping[str, Any]
    """Columns and what stands in them; where several rows of a layer fit, they are added up."""
    value: str
    low: str = ""
    high: str = ""
    style: Style

    def series(self, rows: pd.DataFrame) -> Series:
        """The line over the layers of the vectors."""
        fits = pd.Series(True, index=rows.index)
        for column, wanted in self.of.items():
            fits &= (
                rows[column].isin(wanted) if isinstance(wanted, tuple) else rows[column] == wanted
            )
        chosen = rows[fits].groupby(VECTOR_LAYER)

        def values(column: str) -> tuple[float, ...]:
            return tuple(float(value) for value in chosen[column].sum()) if column else ()

        return Series(
            label=self.label,
            x=tuple(float(layer) for layer in chosen[VECTOR_LAYER].first()),
            y=values(self.value),
            low=values(self.low),
            high=values(self.high),
            style=self.style,
        )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn of an analysis over layers."""

    title: str
    y_label: str
    lines: tuple[Line, ...]
    caption: str
    shares: bool = True
    keep: Callable[[pd.DataFrame], pd.DataFrame] = pd.DataFrame
    """Which of the rows, where their columns alone do not say it; all by default."""

    def figure(self, name: str, rows: pd.DataFrame) -> AnyFigure:
        """The lines over the layers of the vectors."""
        rows = self.keep(rows)
        return Figure(
            name=name,
            title=self.title,
            x_label="Layer of the vector",
            y_label=self.y_label,
            series=tuple(line.series(rows) for line in self.lines),
            shares=self.shares,
            caption=self.caption,
        )


def _accuracies(column: str, **lines: tuple[Any, Style]) -> tuple[Line, ...]:
    """Lines of rows with an accuracy and its interval, told apart by one column."""
    return tuple(
        Line(
            label=label.replace("_", " "),
            of={column: wanted},
            value="accuracy",
            low="ci_low",
            high="ci_high",
            style=style,
        )
        for label, (wanted, style) in lines.items()
    )


def _as_many_as_key_heads(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["curve_share"].isna()]


_HEADS_OUT = {"condition": "vector", "positions": "last", "mode": "zero"}
CURVES: dict[str, Curve] = {
    "ov-reconstruction": Curve(
        title="What heads and MLPs make of the vector, in its place",
        y_label="Accuracy on test prompts",
        lines=(
            *_accuracies(
                "variant",
                the_vector=("vector", GREEN),
                OV_circuits_by_the_paper=("paper", BLUE),
                OV_circuits_by_values_alone=("path", PURPLE),
                MLPs_alone=("mlp-path", VERMILION),
            ),
            Line(
                label="random vectors by the paper",
                of={"variant": "paper"},
                value="random_accuracy",
                low="random_low",
                high="random_high",
                style=GREY,
            ),
        ),
        caption="95 % intervals; strengths chosen on validation prompts, alike for random vectors.",
    ),
    "path-expansion": Curve(
        title="Effect of the vector, by where its paths begin",
        y_label="Logit of the answer over other answers",
        lines=(
            Line(
                label="the vector itself, no hop",
                of={"source": "vector", "hops": 0},
                value="effect",
                low="ci_low",
                high="ci_high",
                style=GREY,
            ),
            *(
                Line(label=label, of={"source": source, "hops": hops}, value="effect", style=style)
                for label, source, hops, style in (
                    ("the vector through heads", "vector", (1, 2, 3), BLUE),
                    ("changed attention patterns", "patterns", (0, 1, 2, 3), PURPLE),
                    ("changed norm scales", "norms", (0, 1, 2, 3), GREEN),
                    ("changed MLP outputs", "mlps", (0, 1, 2, 3), VERMILION),
                )
            ),
        ),
        shares=False,
        caption="Means over test prompts, the hops after a source added up.",
    ),
    "frozen-paths": Curve(
        title="Accuracy with a path frozen",
        y_label="Accuracy on test prompts",
        lines=_accuracies(
            "frozen",
            nothing_frozen=("none", GREEN),
            attention_patterns=("patterns", PURPLE),
            attention=("attention", BLUE),
            MLPs=("mlps", VERMILION),
            the_direct_path=("direct path", GREY),
        ),
        caption="95 % intervals; these do not add up to a whole.",
    ),
    "head-ablation": Curve(
        title="Accuracy without key heads",
        y_label="Accuracy on test prompts",
        lines=tuple(
            Line(
                label=label,
                of={**_HEADS_OUT, "heads": heads},
                value="accuracy",
                low="ci_low",
                high="ci_high",
                style=style,
            )
            for label, heads, style in (
                ("no head put to zero", "none", GREEN),
                ("key heads", "key", BLUE),
                ("as many random heads", "random", GREY),
                ("random heads of the same layers", "random-by-layer", VERMILION),
            )
        ),
        caption="Heads put to zero at the last token, as many as there are key heads; 95 % "
        f"intervals, for random heads over {N_DRAWS} sets.",
        keep=_as_many_as_key_heads,
    ),
    "attention": Curve(
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
        caption="Intervals of 95 % over prompts, for random heads over "
        f"{attention.N_DRAWS} sets of as many.",
    ),
}
"""By analysis. Key heads have a table of colours in place of a curve."""


def _where_key_heads_are(name: str, rows: pd.DataFrame) -> Heatmap:
    scores = rows.groupby([VECTOR_LAYER, "layer"])["score"].sum().unstack()  # [vector, block]
    shares = scores.div(scores.sum(axis=1), axis=0)
    key = rows[rows["is_key"].astype(bool)]
    places = sorted(set(zip(key[VECTOR_LAYER], key["layer"], strict=True)))
    vectors, blocks = list(shares.index), list(shares.columns)
    return Heatmap(
        name=name,
        title="In which blocks the vector works through heads",
        x_label="Block of the heads",
        y_label="Layer of the vector",
        columns=tuple(map(str, blocks)),
        rows=tuple(map(str, vectors)),
        values=tuple(
            tuple(None if pd.isna(value) else float(value) for value in row)
            for row in shares.itertuples(index=False)
        ),
        value_label="share of all scores, |z · ∂p/∂z|",
        marked=tuple((vectors.index(at), blocks.index(block)) for at, block in places),
        mark_label="blocks with a key head",
        shares=True,
        caption="Scores of a block's heads added up, over those of all heads above the vector.",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ByLayer:
    """What an analysis found at several layers; the explained vector's comes first."""

    name: str
    found: Mapping[int, Result]

    def to_frame(self) -> pd.DataFrame:
        """The rows of all layers, with the layer of the vector."""
        frames = [
            result.to_frame().assign(**{VECTOR_LAYER: layer})
            for layer, result in self.found.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def figure(self) -> AnyFigure:
        """A curve over the layers."""
        rows = self.to_frame()
        if self.name in CURVES:
            return CURVES[self.name].figure(self.name, rows)
        return _where_key_heads_are(self.name, rows)


def at_each_layer(name: str, find: Callable[[Case], Result], case: Case) -> Result:
    """What is found of a case's vector or, where it has the like at other layers, of each of them.

    Another task's vector, a control at the explained vector's layer, belongs to that one alone.

    Args:
        name: The analysis.
        find: Finds it for one vector.
        case: The vectors, and the prompts.

    Raises:
        TaskVectorsError: The analysis has no meaning for one of them.
    """
    vectors = layered_vectors(case) if len(case.vector.sites) == 1 else (case.vector,)
    if len(vectors) == 1:
        return find(case)
    found = {case.vector.layers[0]: find(case)}
    for vector in sorted(vectors, key=lambda vector: vector.layers):
        if vector is not case.vector:
            found[vector.layers[0]] = find(_alone(case, vector))
    return ByLayer(name=name, found=found)


def _alone(case: Case, vector: TaskVector) -> Case:
    """The case of one of its other vectors, the same for every analysis."""
    return case.once(
        f"case of {id(vector)}",
        lambda: replace(case, vector=vector, vectors=(vector,), other=None, _memo={}),
    )
