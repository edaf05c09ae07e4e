"""The page of a vector that was measured: each strength beside the same prompts without it."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskvectors.format import percent, percent_range, plural
from taskvectors.report.metadata import cautions, cite, setup
from taskvectors.report.page import Page, Section, Text
from taskvectors.report.table import NOTHING, Bar, Cell, Table, frame_table, table_of, value_cell
from taskvectors.results.evaluation import evaluation_rows
from taskvectors.results.figures import Figure, Series
from taskvectors.results.record import Record

_READ = (
    "Accuracy is the share of answers given in full, with its 95 % interval. Strength 0 is the "
    "same prompts without the vector. Elsewhere is unrelated text: how far the vector changes what "
    "is said there."
)
_ROWS = "Measurements under the names that they have in results.parquet."


def evaluation_page(record: Record) -> Page:
    """The page of an evaluation."""
    rows, metadata = evaluation_rows(record.frame), record.metadata
    everything = frame_table(
        "rows", "All measurements", record.frame, heading=str, before=(_ROWS,), is_folded=True
    )
    works = cite(record)
    sections = (
        Section(
            name="results",
            title="Results",
            blocks=(Text(text=_READ, is_aside=True), _table(rows)),
        ),
        Section(name="figures", title="Figures", blocks=_figures(rows)),
        setup(record),
        Section(name="rows", title="All measurements", blocks=(everything,)),
        *((works,) if works else ()),
    )
    return Page(
        kicker="Evaluation",
        title=f"{metadata['task']} on {metadata['model']}",
        headline=_headline(rows),
        verdict=f"Measured on {plural(rows[0]['n'], 'pair')} of the split {metadata['split']}.",
        cautions=cautions(record),
        sections=tuple(section for section in sections if section.blocks),
    )


def _headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """The plain run, and what the vector makes of it; no strength of several is picked out."""
    plain, *edited = rows
    said = f"{_with_interval(plain)} of the answers are right without the vector"
    if len(edited) == 1:
        return f"{said}, and {_with_interval(edited[0])} with it."
    accuracies = [row["accuracy"] for row in edited] or [0.0]
    ends = percent_range(min(accuracies), max(accuracies), 1)
    return f"{said}, and {ends} with it, by strength." if edited else f"{said}."


def _with_interval(row: Mapping[str, Any]) -> str:
    ends = percent_range(row["ci_low"], row["ci_high"], 1)
    return f"{percent(row['accuracy'], 1)} [{ends}]"


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    def column(name: str) -> list[Cell]:
        return [value_cell(name, row.get(name)) for row in rows]

    return table_of(
        "strengths",
        "By strength",
        {
            "method": [Cell(text=row["method"] or "vector") for row in rows],
            "strength": column("strength"),
            "accuracy": [_share(row) for row in rows],
            "first token": column("first_token_accuracy"),
            "among labels": column("label_accuracy"),
            "in label set": column("in_label_set"),
            "log p": column("answer_logprob"),
            "n": column("n"),
            "KL elsewhere": column("kl"),
            "perplexity elsewhere": [_perplexity(row) for row in rows],
        },
    )


def _share(row: Mapping[str, Any]) -> Cell:
    low, value, high = row["ci_low"], row["accuracy"], row["ci_high"]
    return Cell(
        text=percent(value, 1),
        sort=repr(value),
        is_number=True,
        interval=f"[{percent_range(low, high, 1)}]",
        bar=Bar(low=low, value=value, high=high),
    )


def _perplexity(row: Mapping[str, Any]) -> Cell:
    if row.get("perplexity") is None:
        return NOTHING
    value, plain = row["perplexity"], row["perplexity_plain"]
    return Cell(
        text=f"{value:.1f}", sort=repr(value), is_number=True, interval=f"(plain {plain:.1f})"
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Accuracy by strength, where there are several."""
    points = sorted(rows, key=lambda row: row["strength"])
    if len(points) < 3:
        return ()
    series = Series(
        label="accuracy",
        x=tuple(row["strength"] for row in points),
        y=tuple(row["accuracy"] for row in points),
        low=tuple(row["ci_low"] for row in points),
        high=tuple(row["ci_high"] for row in points),
    )
    return (
        Figure(
            name="accuracy-by-strength",
            title="Accuracy by strength",
            x_label="Strength of the vector",
            y_label="Accuracy",
            series=(series,),
            shares=True,
            caption="95 % intervals.",
        ),
    )
