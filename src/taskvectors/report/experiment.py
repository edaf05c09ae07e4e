"""The page of an experiment, and of any other run that is a table of measurements."""

from taskvectors.format import in_words, plural
from taskvectors.report.experiment_tables import tables_of
from taskvectors.report.metadata import cautions, cite, setup
from taskvectors.report.page import Page, Section, Text
from taskvectors.report.table import frame_table
from taskvectors.results.record import OVER_TASKS, Record

_ROWS = (
    "Measurements under the names that they have in results.parquet; shares are between 0 and 1. "
    "Columns without any value are not shown. Click on a name to sort by it."
)
_MOST_ROWS = 2000
"""More rows than that are left to the table on disk."""
_BESIDE = (
    "Published values are of other models: they stand beside ours, and nothing is worked out of "
    "the two."
)


def experiment_page(record: Record) -> Page:
    """The page of an experiment: its question, tables, figures, and how it was run."""
    metadata = record.metadata
    tables = tables_of(record)
    about = {
        "The paper": metadata.get("paper"),
        "What it did": metadata.get("what_the_paper_did"),
        "Here, otherwise": metadata.get("what_we_do_otherwise"),
    }
    said = tuple(Text(text=f"{name}: {text}") for name, text in about.items() if text)
    beside = (Text(text=_BESIDE, is_aside=True),) if record.published else ()
    n_left_out = max(0, len(record.frame) - _MOST_ROWS)
    everything = frame_table(
        "rows",
        "All measurements",
        record.frame.drop(columns="correct", errors="ignore").head(_MOST_ROWS),
        heading=str,
        before=(_ROWS,),
        after=(f"{n_left_out:,} more rows are in results.parquet.",) if n_left_out else (),
        is_folded=True,
    )
    works = cite(record)
    sections = (
        Section(name="about", title="What was done", blocks=said),
        Section(name="results", title="Results", blocks=(*beside, *tables)),
        Section(name="figures", title="Figures", blocks=record.figures),
        setup(record),
        Section(name="rows", title="All measurements", blocks=(everything,)),
        *((works,) if works else ()),
    )
    name = metadata.get("experiment") or record.kind
    title = str(metadata.get("title") or in_words(record.kind).capitalize())
    return Page(
        kicker=str(name),
        title=title,
        headline=str(metadata.get("question") or title),
        verdict=_extent(record),
        cautions=cautions(record),
        sections=tuple(section for section in sections if section.blocks),
    )


def _extent(record: Record) -> str:
    """How much was measured: what any answer rests on."""
    frame = record.frame
    tasks = [task for task in frame["task"].dropna().unique() if task not in ("", OVER_TASKS)]
    counts = {
        "model": frame["model"].nunique(),
        "task": len(tasks),
        "seed": frame["seed"].dropna().nunique(),
    }
    parts = [plural(count, name) for name, count in counts.items() if count]
    n_failed = int(frame["measure"].eq("error").sum())
    failed = f"; {plural(n_failed, 'part')} could not be run" if n_failed else ""
    count = f"{len(frame) - n_failed:,} measurements"
    return f"{count} of {', '.join(parts)}{failed}." if parts else f"{count}{failed}."
