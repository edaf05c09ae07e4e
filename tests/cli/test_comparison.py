"""How the rows of a comparison become a table. Run with `pytest tests/cli/test_comparison.py`."""

from typing import Any

from taskvectors.cli.comparison import comparison_table
from taskvectors.results import ComparisonRow

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


def row(method: str, **values: Any) -> dict[str, Any]:
    return ComparisonRow(**(EMPTY | {"method": method} | values)).as_dict()


def learned(layer: int, seconds: float, **values: Any) -> dict[str, Any]:
    place = {"layers": [layer], "positions": [-1], "strength": 1.0, "steps": 60}
    return row("learned", seconds=seconds, **(place | {"selected": False} | values))


def table(*rows: dict[str, Any]) -> list[dict[str, str]]:
    made = comparison_table(rows)
    return [dict(zip(made.headings, line, strict=True)) for line in made.rows]


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{EN DASH}", "-")


def test_only_chosen_rows_are_shown_and_controls_come_last() -> None:
    rows = [row("random", is_control=True), learned(1, 2.0), learned(2, 3.0, selected=True)]
    shown = table(*rows, row("icl", configuration="8 shots"))
    assert [line["method"] for line in shown] == ["learned", "icl", "random (control)"]
    assert [line["where"] for line in shown] == ["after layer 2, last token", "8 shots", ""]


def test_a_row_shows_its_figures() -> None:
    figures = {"accuracy": 0.75, "ci_low": 0.64, "ci_high": 0.83, "difference_to_icl": 0.05}
    (line,) = table(row("vanilla", **figures, examples=88, seconds=7.25))
    assert {name: plain(text) for name, text in line.items()} == {
        "method": "vanilla",
        "where": "",
        "accuracy": "75.0 %",
        "95 % interval": "64.0-83.0 %",
        "against ICL": "+5.0",
        "examples": "88",
        "time": "7.2 s",
    }


def test_a_strength_is_named_unless_it_is_1() -> None:
    place = {"layers": ["embed", 4], "positions": [-1, 4]}
    once, half = table(row("a", strength=1.0, **place), row("b", strength=-0.5, **place))
    assert once["where"].startswith("at the embeddings and after layer 4, positions ")
    assert half["where"] == f"{once['where']}, strength -0.5"


def test_the_time_of_what_was_learned_side_by_side_is_the_time_of_all() -> None:
    rows = [learned(0, 2.0), learned(1, 3.0, selected=True), learned(0, 50.0, seed=1)]
    first, *others = table(*rows, row("vanilla", seconds=4.0), row("vanilla", seconds=4.0))
    assert plain(first["time"]) == "5.0 s"
    assert {plain(line["time"]) for line in others} == {"4.0 s"}


def test_over_seeds_the_pooled_rows_and_failures_are_shown() -> None:
    rows = [learned(seed, 1.0 + seed, seed=seed, selected=True) for seed in (0, 1)]
    pooled = learned(0, 1.5, seed=None, configuration="all 2 seeds", selected=True)
    failed = row("icl", seed=1, error="a prompt is too long")
    shown = table(*rows, failed, pooled)
    assert [(line["method"], plain(line["time"])) for line in shown] == [
        ("learned", "1.5 s"),
        ("icl", "-"),
    ]
    assert shown[0]["where"].startswith("all 2 seeds, ")
    assert shown[1]["where"] == "failed: a prompt is too long"


def test_a_missing_figure_is_a_dash() -> None:
    (line,) = table(row("icl"))
    assert {plain(line[name]) for name in ("accuracy", "against ICL", "examples", "time")} == {"-"}
