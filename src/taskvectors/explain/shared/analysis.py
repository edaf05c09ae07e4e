"""What an analysis is: one question about a vector, what answers it, and how that is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import pandas as pd

from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.format import percent, percent_range
from taskvectors.results.columns import Columns, Ends
from taskvectors.results.figures import GREY, AnyFigure, Figure, Series, Style
from taskvectors.results.record import Measurement, rows_of
from taskvectors.trunk.work import Work

VECTOR_LAYER = "vector_layer"
"""The column that says which vector a row is about; `layer` is that of a head or a block."""
CI: Ends = ("ci_low", "ci_high")


@runtime_checkable
class Result(Protocol):
    """What an analysis found: a small frozen dataclass of numbers, without tensors of a model."""

    def to_frame(self) -> pd.DataFrame:
        """Its numbers, one row per measured thing, with plain column names."""

    def figure(self) -> AnyFigure:
        """Its figure; the caption says sample sizes, and the analysis says the rest."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Rows that are one line of a curve over layers; the first is a number of the summary."""

    label: str
    of: Mapping[str, Any]
    """Columns and what stands in them; where several rows of a layer fit, they are added up."""
    value: str
    low: str = ""
    high: str = ""
    style: Style = GREY

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Those of a table."""
        fits = pd.Series(True, index=frame.index)
        for column, wanted in self.of.items():
            if wanted is None:
                fits &= frame[column].isna() if column in frame else True
            else:
                some = wanted if isinstance(wanted, tuple) else (wanted,)
                fits &= frame[column].isin(some)
        return frame[fits]

    def series(self, frame: pd.DataFrame) -> Series:
        """The line over the layers of the vectors."""
        chosen = self.rows(frame).groupby(VECTOR_LAYER)

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

    def text(self, frame: pd.DataFrame, *, shares: bool) -> str:
        """The number of one vector in words; nothing where it was not measured."""
        chosen = self.rows(frame)
        if chosen.empty or pd.isna(chosen[self.value]).all():
            return ""
        value = float(chosen[self.value].sum())
        low, high = (
            float(chosen[end].sum()) if end and not chosen[end].isna().any() else None
            for end in (self.low, self.high)
        )
        text = f"{self.label} {percent(value) if shares else f'{value:.3g}'}"
        if low is not None and high is not None:
            ends = percent_range(low, high) if shares else f"{low:.3g}, {high:.3g}"
            text += f" [{ends}]"
        return text


def accuracies(column: str, lines: Mapping[str, tuple[Any, Style]], **of: Any) -> tuple[Line, ...]:
    """Lines of rows with an accuracy and its interval, told apart by one column."""
    return tuple(
        Line(
            label=label, of={**of, column: wanted}, value="accuracy", low="ci_low", high="ci_high",
            style=style,
        )
        for label, (wanted, style) in lines.items()
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The figure of an analysis over layers of vectors."""

    title: str
    y_label: str
    lines: tuple[Line, ...]
    shares: bool = True

    def __call__(self, rows: pd.DataFrame) -> AnyFigure:
        """The lines over the layers of the vectors."""
        return Figure(
            name="",
            title=self.title,
            x_label="Layer of the vector",
            y_label=self.y_label,
            series=tuple(line.series(rows) for line in self.lines),
            shares=self.shares,
        )


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One question about a vector, and what answers it.

    Example:
        ANALYSES.register(Analysis(name="norms", title="Norms", ...))
    """

    name: str
    title: str
    """What it is, as a heading."""
    question: str
    """What it answers, as a sentence with a question mark."""
    citation: str
    """Author, year and address of whom it is from."""
    find: Callable[[Case], Result]
    """Answers it for the vector of a case.

    Raises a TaskVectorsError for a vector for which the formula has no meaning.
    """
    columns: Columns
    works: Callable[[Sizes], list[Work]]
    """The passes through the model that it runs, from which an estimate is made."""
    caption: str
    """What its figure shows and how it is read: fixed sentences, without numbers of a run."""
    summary: Callable[[pd.DataFrame], str]
    """Its main numbers in a line, from the rows of one vector; no words that compare."""
    needs: Literal["vector", "vectors"] = "vector"
    """Whether it explains one vector, or compares several."""
    needs_other: bool = False
    """Whether another task's vector, as a control, stands beside."""
    reads_shots: bool = True
    """Whether it runs few-shot prompts, too."""
    over_layers: Callable[[pd.DataFrame], AnyFigure] | None = None
    """Its figure over vectors at several layers, each of which it is then asked of; None where it
    looks at one vector, or at all of them itself."""

    @property
    def record_columns(self) -> Columns:
        """Its columns in a record, where rows say which vector they are about."""
        return replace(self.columns, keys=(*self.columns.keys, VECTOR_LAYER))

    def measurements(self, result: Result, **shared: Any) -> list[Measurement]:
        """What it found as tidy rows.

        Args:
            result: What `run` gave.
            shared: Fields of every measurement, such as `method` and `layers`.
        """
        rows = rows_of(result.to_frame())
        return self.record_columns.measurements(self.name, rows, **shared)

    def run(self, case: Case) -> Result:
        """What it finds of a case's vector or, where it goes over layers, of each of them."""
        from taskvectors.explain.shared.by_layer import at_each_layer

        return self.find(case) if self.over_layers is None else at_each_layer(self, case)

    def cost(self, sizes: Sizes) -> list[Work]:
        """Its passes, named after it: of each vector, where it is asked of each."""
        parts = [sizes]
        if self.over_layers is not None:  # another task's vector stands beside the first alone
            parts = [
                replace(sizes, layers=(layer,), has_other=sizes.has_other and not number)
                for number, layer in enumerate(sizes.layers)
            ]
        works = [work for part in parts for work in self.works(part)]
        return [replace(work, name=f"{self.name}, {work.name}") for work in works]

    def figure(self, result: Result) -> AnyFigure:
        """A result's figure, with its name and its whole caption."""
        drawn = result.figure()
        caption = " ".join(filter(None, (self.caption, drawn.caption)))
        return replace(drawn, name=self.name, caption=caption)

    def summarise(self, rows: pd.DataFrame) -> str:
        """The main numbers of a table; of vectors at several layers, those of the first."""
        if VECTOR_LAYER in rows and not rows[VECTOR_LAYER].isna().all():
            rows = rows[rows[VECTOR_LAYER] == rows[VECTOR_LAYER].iloc[0]]
        return self.summary(rows)


def in_lines(*lines: Line, shares: bool = True) -> Callable[[pd.DataFrame], str]:
    r"""A summary of the numbers of some lines.

    Example:
        >>> rows = pd.DataFrame({"heads": ["key", "none"], "accuracy": [0.25, 0.5]})
        >>> in_lines(Line(label="without key heads", of={"heads": "key"}, value="accuracy"))(rows)
        'without key heads 25\xa0%'
    """

    def summary(rows: pd.DataFrame) -> str:
        return "; ".join(filter(None, (line.text(rows, shares=shares) for line in lines)))

    return summary
