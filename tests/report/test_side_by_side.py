"""Runs side by side.

Run with `pytest tests/report/test_side_by_side.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taskvectors.errors import DataError
from taskvectors.report import page_html, side_by_side, write_side_by_side
from taskvectors.report.page import Beside
from taskvectors.report.side_by_side import names_of
from taskvectors.report.table import NOTHING
from taskvectors.results import Columns, Record, frame_of
from taskvectors.results.figures import Figure, Series
from taskvectors.results.record import rows_of

Make = Callable[..., Record]
COLUMNS = Columns(
    keys=("layer", "head", "rank", "is_key"), measures={"score": None, "removed": None}
)
HEADS = [
    {"layer": 4, "head": 0, "score": 0.1, "removed": 0.01, "rank": 1, "is_key": False, "n": 5},
    {"layer": 4, "head": 1, "score": 0.4, "removed": -0.3, "rank": 0, "is_key": True, "n": 5},
]
CURVE = Figure(
    name="key-heads",
    title="Heads",
    x_label="x",
    y_label="y",
    series=(Series(label="one", x=(0, 1), y=(0.5, 0.2)),),
)


def other_model(record: Record) -> Record:
    rows = [row | {"model": "smollm2", "value": row["value"] / 2} for row in rows_of(record.frame)]
    return replace(
        record,
        frame=frame_of(row for row in rows if row["task"] == "capital"),
        metadata={**record.metadata, "models": ["smollm2"]},
        folder=Path("two"),
    )


def test_cases_of_two_models_stand_in_one_row(reproduced: Make) -> None:
    one = reproduced(folder=Path("one"))
    settings, results, *_ = side_by_side([one, other_model(one)]).tables()
    assert settings.texts == [["Models", "embedded", "smollm2"]]
    assert results.headings == ["task", "method", "layers", "one", "two"]
    by_case = {tuple(row[:2]): row[3:] for row in results.texts}
    assert by_case["capital", "icl"] == ["0.700 [0.600, 0.800]", "0.350 [0.600, 0.800]"]
    assert by_case["antonym", "learned"][1] == NOTHING.text


def test_figures_are_joined_by_title(reproduced: Make) -> None:
    one = reproduced(folder=Path("one"), figures=(replace(CURVE, name="curve-embedded"),))
    two = reproduced(folder=Path("two"), figures=(replace(CURVE, name="curve-smollm2"),))
    three = reproduced(folder=Path("three"), figures=())
    section = side_by_side([one, two, three]).sections[0]  # the page opens with it
    (beside,) = section.blocks
    assert section.title == "Heads"
    assert isinstance(beside, Beside)
    assert [(name, getattr(side, "name", side)) for name, side in beside.sides] == [
        ("one", "curve-embedded"), ("two", "curve-smollm2"), ("three", "Has no such figure."),
    ]  # fmt: skip


def test_comparisons_are_joined_by_method_whatever_layer_each_chose(
    compared: Make, learned_rows: Callable[..., list]
) -> None:
    one = compared(folder=Path("first/run"))
    two = compared(learned_rows(0.6, layers=[3]), folder=Path("second/run"))
    assert names_of([one, two]) == ["first/run", "second/run"]
    assert names_of([one, one]) == ["run (1)", "run (2)"]
    page = side_by_side([one, two])
    learned = next(row for row in page.tables()[0].texts if "learned" in row)
    assert learned[-2].startswith("0.750")
    assert learned[-1].startswith("0.600")
    assert [section.title for section in page.sections[3:4]] == ["Accuracy by layer"]
    assert "first/run: de-quantised from 4 bits" in page.cautions


def test_comparisons_open_with_one_figure(
    compared: Make, learned_rows: Callable[..., list]
) -> None:
    one = compared(folder=Path("one"))
    two = compared(learned_rows(0.6, layers=[3]), folder=Path("two"))
    page = side_by_side([one, two])
    (figure,) = page.sections[0].blocks
    assert figure is page.figures()[0]
    assert isinstance(figure, Figure)
    assert [each.label for each in figure.series] == ["one", "two"]
    ticks = dict(figure.x_ticks)
    shown = [
        {ticks[round(x)]: (y, low, high)
         for x, y, low, high in zip(each.x, each.y, each.low, each.high, strict=True)}
        for each in figure.series
    ]  # fmt: skip
    assert shown[0]["Learned vector"] == pytest.approx((0.75, 0.643, 0.857), abs=1e-3)
    assert shown[1]["Learned vector"][0] == 0.6


@pytest.mark.parametrize("name", ["task", "model"])
def test_other_tasks_and_models_in_one_comparison_are_said(compared: Make, name: str) -> None:
    one = compared(folder=Path("one"))
    other = compared(folder=Path("two"), config={name: "quite-another"})
    said = f"The runs are of different {name}s ("
    (caution,) = [text for text in side_by_side([one, other]).cautions if "different" in text]
    assert caution.startswith(said)
    assert "; quite-another): what differs between them may be" in caution
    assert not any("different" in text for text in side_by_side([one, one]).cautions)


def test_analyses_stand_beside_each_other_and_a_missing_one_says_so(
    tmp_path: Path, explained: Make
) -> None:
    columns = {"key-heads": COLUMNS, "ov-reconstruction": COLUMNS}
    one = explained({"key-heads": (HEADS, CURVE)}, columns, folder=tmp_path / "one")
    two = explained({"ov-reconstruction": ([], None)}, columns, folder=tmp_path / "two")
    text = page_html(side_by_side([one, two]))
    assert text.count("Was not run.") == 2
    assert text.count('data-figure="0"') == 1
    assert "has no meaning for a &lt;vector&gt;" in text


def test_runs_of_different_kinds_are_refused(
    tmp_path: Path, compared: Make, reproduced: Make
) -> None:
    records = [compared(folder=tmp_path / "a"), reproduced(folder=tmp_path / "b")]
    with pytest.raises(DataError, match="different kinds have no common table"):
        write_side_by_side(records)
    assert not list(tmp_path.iterdir())
