"""The page of learners: what each does in context, with a vector, and out of distribution."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskvectors.format import interval, number, plural
from taskvectors.report.metadata import cautions, cite, setup
from taskvectors.report.page import Page, Section, Text
from taskvectors.report.table import NOTHING, Cell, Table, frame_table, table_of, value_cell
from taskvectors.results.learners import MEASURES, finding_of
from taskvectors.results.record import Record

_READ = (
    "An error of 1 is as bad as knowing nothing. Recovery is the share of what demonstrations gain "
    "that the vector keeps: 1 is all of it. The control is another task's vector, whose error is "
    "high where the vector holds the task."
)
_FAR = "No learner is near the best that demonstrations allow, so its recovery says little."
_ROWS = "Measurements under the names that they have in results.parquet."
_BY_LAYER = {
    "icl_error": "error in context",
    "zero_shot_error": "zero-shot",
    "tvp_error": "with the vector",
    "tvp_error_kept": "positions kept",
    "tvp_error_averaged": "mean of 16",
    "recovery": "recovery",
    "wrong_task_error": "another task's vector",
    "probe_r2": "probe R²",
    "task_share": "task share",
}
_BY_SHIFT = {
    "icl_error": "error in context",
    "base_error": "without demonstrations",
    "optimal_error": "optimal",
}

_Row = Mapping[str, Any]


def learners_page(record: Record) -> Page:
    """The page of a training of learners, or of one that was measured again."""
    finding = finding_of(record.frame)
    tables = [_layers(finding.rows)]
    tables += [_shifts(finding.shifts)] if finding.shifts else []
    tables += [_trends(finding.trends)] if finding.trends else []
    everything = frame_table(
        "rows", "All measurements", record.frame, heading=str, before=(_ROWS,), is_folded=True
    )
    works = cite(record)
    sections = (
        Section(name="results", title="Results", blocks=(Text(text=_READ, is_aside=True), *tables)),
        Section(name="figures", title="Figures", blocks=record.figures),
        setup(record, leave_out=("config", "settings", "training")),
        Section(name="rows", title="All measurements", blocks=(everything,)),
        *((works,) if works else ()),
    )
    variants = list(dict.fromkeys(row["variant"] for row in finding.rows))
    seeds = {row["seed"] for row in finding.rows}
    counts = f"{plural(len(variants), 'learner')}, {plural(len(seeds), 'seed')}"
    n = {row["n"] for row in finding.rows}
    return Page(
        kicker="Learners",
        title=f"{record.metadata['task']} on {record.metadata['model']}",
        headline=headline(finding.rows),
        verdict=f"{counts[:1].upper()}{counts[1:]}, {max(n):,} questions each.",
        cautions=cautions(record),
        sections=tuple(section for section in sections if section.blocks),
    )


def headline(rows: Sequence[_Row]) -> str:
    """What each learner's vector keeps, at the layer where it was formed or is best."""
    if not any(row["near_optimal"] for row in rows):
        return _FAR
    said = list(_kept(rows))
    return f"Of what demonstrations gain, a vector keeps {'; '.join(said)}." if said else _FAR


def _kept(rows: Sequence[_Row]) -> Iterator[str]:
    """The recovery of each learner that is near the optimum, over its seeds."""
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [
            row for row in rows
            if row["variant"] == variant and row["near_optimal"] and row.get("recovery") is not None
        ]  # fmt: skip
        by_layer: dict[int, list[_Row]] = {}
        for row in own:
            by_layer.setdefault(row["layer"], []).append(row)
        means = {
            layer: sum(row["recovery"] for row in held) / len(held)
            for layer, held in by_layer.items()
        }
        if not means:
            continue
        layer = own[0]["tvp_layer"]
        layer = max(means, key=means.__getitem__) if layer is None else layer
        held = by_layer[layer]
        ends = (held[0]["recovery_low"], held[0]["recovery_high"]) if len(held) == 1 else None
        text = number("recovery", means[layer], *(ends or ()))
        spread = f" {interval('recovery', *ends)}" if ends and None not in ends else ""
        yield f"{text}{spread} at layer {layer} of {variant}"


def _layers(rows: Sequence[_Row]) -> Table:
    """One line per variant, seed and layer."""
    columns: dict[str, list[Cell]] = {
        "learner": [Cell(text=row["variant"]) for row in rows],
        "seed": [value_cell("seed", row["seed"]) for row in rows],
        "layer": [value_cell("layer", row["layer"]) for row in rows],
    }
    for name, heading in _BY_LAYER.items():
        columns[heading] = [_cell(name, row) for row in rows]
    return table_of("layers", "By layer", columns)


def _shifts(rows: Sequence[_Row]) -> Table:
    """One line per shift, variant and seed."""
    order = list(dict.fromkeys(row["shift"] for row in rows))
    rows = sorted(rows, key=lambda row: order.index(row["shift"]))
    columns: dict[str, list[Cell]] = {
        "shift": [Cell(text=row["shift"]) for row in rows],
        "learner": [Cell(text=row["variant"]) for row in rows],
        "seed": [value_cell("seed", row["seed"]) for row in rows],
    }
    for name, heading in _BY_SHIFT.items():
        columns[heading] = [_cell(name, row) for row in rows]
    columns["± standard error"] = [_cell("icl_standard_error", row) for row in rows]
    columns["with the best vector"] = [_best(row) for row in rows]
    return table_of("shifts", "Out of distribution", columns)


def _trends(rows: Sequence[_Row]) -> Table:
    """One line per shift."""
    columns = {
        "shift": [Cell(text=row["shift"]) for row in rows],
        "rank correlation": [value_cell("correlation", row["correlation"]) for row in rows],
        "p": [
            value_cell("p_value", row["p_value"], smallest=row["smallest_p_value"]) for row in rows
        ],
        "layers": [value_cell("n", row["n_layers"]) for row in rows],
        "seeds": [value_cell("n", row["n_seeds"]) for row in rows],
    }
    return table_of("trends", "Does the error in context fall with l*?", columns)


def _cell(name: str, row: _Row) -> Cell:
    ends = MEASURES.get(name)
    low, high = (row.get(end) for end in ends) if ends else (None, None)
    return value_cell(name, row.get(name), low, high)


def _best(row: _Row) -> Cell:
    """The lowest error with a vector, and its layer."""
    errors = row.get("tvp_error")
    if not errors:
        return NOTHING
    layer = min(range(len(errors)), key=errors.__getitem__)
    return Cell(
        text=number("tvp_error", errors[layer]), sort=repr(errors[layer]), is_number=True,
        detail=f"after layer {layer}",
    )  # fmt: skip
