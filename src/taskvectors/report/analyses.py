"""The page of a run of analyses: a part for each, with its figure, its fixed caption, its table."""

from collections.abc import Mapping
from typing import Any

from taskvectors.format import after_layers, at_positions, plural
from taskvectors.report.cases import with_smallest
from taskvectors.report.metadata import cautions, cite, setup
from taskvectors.report.page import Page, Section, Text
from taskvectors.report.table import frame_table
from taskvectors.results.columns import analysis_tables
from taskvectors.results.record import Record

_MOST_ROWS = 400
"""More rows than that are left to the table on disk."""


def analyses_page(record: Record) -> Page:
    """The page of a run of analyses."""
    metadata = record.metadata
    analyses = metadata["analyses"]
    tables = analysis_tables(record.frame, analyses)
    works = cite(record)
    refused = [one for one in analyses if one.get("error")]
    n_done = plural(len(analyses) - len(refused), "analysis").replace("analysiss", "analyses")
    said = f"; {len(refused)} had no meaning for it and say why" if refused else ""
    return Page(
        kicker="Why it works",
        title=f"{metadata['task']} on {metadata['model']}",
        headline=f"How the model uses {vector_in_words(metadata)}.",
        verdict=f"{n_done.capitalize()}{said}; whether the vector works is judged by `compare`.",
        cautions=(
            *cautions(record, {f"{one['name']}: {one['error']}" for one in refused}),
            *_about_heads(metadata),
        ),
        sections=(
            *(_section(one, record, tables[one["name"]]) for one in analyses),
            setup(record),
            *((works,) if works else ()),
        ),
    )


def vector_in_words(metadata: Mapping[str, Any]) -> str:
    """Which vector is explained, as part of a sentence."""
    method = metadata.get("method") or "given"
    place = [after_layers(metadata["layers"]), at_positions(metadata["positions"])]
    return f"the {method} vector of {metadata['task']}, added {', '.join(filter(None, place))}"


def _section(one: Mapping[str, Any], record: Record, rows: Any) -> Section:
    question = Text(text=str(one["question"]), is_aside=True)
    source = Text(text=f"Source: {one['citation']}.", is_aside=True)
    if one.get("error"):
        refused = Text(text=str(one["error"]), is_caution=True)
        return Section(name=one["name"], title=one["title"], blocks=(question, refused, source))
    rows = with_smallest(rows) if "measure" in rows else rows
    n_left_out = max(0, len(rows) - _MOST_ROWS)
    table = frame_table(
        f"{one['name']}-numbers",
        f"All numbers of {one['title']}",
        rows.head(_MOST_ROWS),
        ends=one["columns"]["measures"],
        after=(f"{n_left_out} more rows are in results.parquet.",) if n_left_out else (),
        is_folded=True,
    )
    summary = (Text(text=str(one["summary"])),) if one.get("summary") else ()
    figures = tuple(figure for figure in record.figures if figure.name == one["name"])
    blocks = (question, *summary, *figures, table, source)
    return Section(name=one["name"], title=one["title"], blocks=blocks)


def _about_heads(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """That heads which share a key-value head have one W_V, where some do."""
    heads, shared = metadata.get("n_heads"), metadata.get("n_key_value_heads")
    if not heads or not shared or shared >= heads:
        return ()
    return (
        f"{heads} heads a layer share {plural(shared, 'key-value head')}: heads that share one "
        "have the same W_V.",
    )
