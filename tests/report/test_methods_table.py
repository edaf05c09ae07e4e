"""The tables of a comparison. Run with `pytest tests/report/test_methods_table.py`."""

from typing import Any

import pandas as pd

from taskvectors.report.comparison import method_table
from taskvectors.results import ComparisonRow, Record

EMPTY: dict[str, Any] = dict.fromkeys(ComparisonRow.__dataclass_fields__) | {
    "configuration": "",
    "layers": [],
    "positions": [],
    "shots": 0,
    "seed": 0,
    "selected": True,
    "preset_selected": False,
    "is_control": False,
    "correct": "",
}


def row(method: str, **values: Any) -> ComparisonRow:
    return ComparisonRow(**(EMPTY | {"method": method} | values))


def learned(layer: int, seconds: float, **values: Any) -> ComparisonRow:
    place = {"layers": [layer], "positions": [-1], "strength": 1.0, "steps": 60}
    return row("learned", seconds=seconds, **(place | {"selected": False} | values))


def table(*rows: ComparisonRow, controls: bool = False) -> list[dict[str, str]]:
    record = Record(kind="compare", metadata={}, frame=pd.DataFrame())
    made = method_table(record, rows, controls=controls)
    lines = [dict(zip(made.headings, line, strict=True)) for line in made.texts]
    return [{name: plain(text) for name, text in line.items()} for line in lines]


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{EN DASH}", "-")


def test_only_chosen_rows_are_shown_and_controls_stand_apart() -> None:
    rows = [row("random", is_control=True), learned(1, 2.0), learned(2, 3.0, selected=True)]
    rows.append(row("icl", configuration="8 shots"))
    shown = [line["method"] for line in table(*rows)]
    assert sorted(shown) == ["icl (8 shots)", "learned (after layer 2, last token)"]
    assert [line["control"] for line in table(*rows, controls=True)] == ["random"]


def test_a_row_shows_its_figures() -> None:
    figures = {"accuracy": 0.75, "ci_low": 0.64, "ci_high": 0.83, "difference_to_icl": 0.05}
    (line,) = table(row("vanilla", **figures, examples=88, seconds=7.25))
    assert line == {
        "method": "vanilla",
        "accuracy": "75.0 % [64.0-83.0 %]",
        "difference from ICL": "+5.0",
        "examples": "88",
        "time": "7.2 s",
    }


def test_a_strength_is_named_unless_it_is_1() -> None:
    place = {"layers": ["embed", 4], "positions": [-1, 4]}
    lines = table(row("a", strength=1.0, **place), row("b", strength=-0.5, **place))
    once, half = (line["method"] for line in lines)
    assert once.startswith("a (at the embeddings and after layer 4, positions ")
    assert half == f"b{once[1:-1]}, strength -0.5)"


def test_the_time_of_what_was_learned_side_by_side_is_the_time_of_all() -> None:
    rows = [learned(0, 2.0), learned(1, 3.0, selected=True), learned(0, 50.0, seed=1)]
    shown = table(*rows, row("vanilla", seconds=4.0), row("hendel", seconds=4.0))
    times = {line["method"].split()[0]: line["time"] for line in shown}
    assert times == {"learned": "5.0 s", "vanilla": "4.0 s", "hendel": "4.0 s"}


def test_over_seeds_the_pooled_rows_and_failures_are_shown() -> None:
    rows = [learned(seed, 1.0 + seed, seed=seed, selected=True) for seed in (0, 1)]
    pooled = learned(0, 1.5, seed=None, configuration="all 2 seeds", selected=True)
    failed = row("icl", seed=1, error="a prompt is too long")
    shown = {line["method"].split()[0]: line for line in table(*rows, failed, pooled)}
    assert (shown["learned"]["seed"], shown["learned"]["time"]) == ("all", "1.5 s")
    assert shown["icl"]["remark"] == "failed: a prompt is too long"
