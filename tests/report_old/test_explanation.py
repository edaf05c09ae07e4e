"""The report of a vector's analyses: read back, a page for each.

Run with `pytest tests/report/test_explanation.py`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import DataError
from taskvectors.report.old import read_explanation, write_figures, write_report
from taskvectors.results.figures import Figure, Heatmap, ReferenceLine, Series

CURVE = Figure(
    name="frozen-paths",
    title="A curve",
    x_label="What is <held>",
    y_label="Accuracy",
    series=(Series(label="one", x=(0, 1), y=(0.5, None), low=(0.4, None), high=(0.6, None)),),
    references=(ReferenceLine(label="no vector", y=0.1),),
    x_ticks=((0, "two\nlines"), (1, "b")),
    shares=True,
)
TABLE = Heatmap(
    name="key-heads",
    title="Heads",
    x_label="Head",
    y_label="Layer",
    columns=("0", "1"),
    rows=("4",),
    values=((0.1, 0.4),),
    value_label="score",
    marked=((0, 1),),
    mark_label="key heads",
)
HEADS = [
    {"layer": 4, "head": 0, "score": 0.1, "removed": 0.01, "rank": 1, "is_key": False, "n": 5},
    {"layer": 4, "head": 1, "score": 0.4, "removed": -0.3, "rank": 0, "is_key": True, "n": 5},
]


def frozen(attention: float, mlps: float) -> list[dict[str, Any]]:
    accuracies = {
        "none": 0.8, "patterns": 0.7, "values": 0.6, "attention": attention, "mlps": mlps,
        "attention and mlps": 0.1, "direct path": 0.75,
    }  # fmt: skip
    return [
        {"frozen": name, "accuracy": a, "ci_low": a - 0.1, "ci_high": a + 0.1,
         "plain_accuracy": 0.05, "n": 40}
        for name, a in accuracies.items()
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, write_explanation: Callable[..., Path]) -> Path:
    return write_explanation(
        tmp_path,
        {
            "frozen-paths": (frozen(0.2, 0.5), CURVE),
            "key-heads": (HEADS, TABLE),
            "ov-reconstruction": ([], None),
        },
    )


def test_a_run_is_read_back_as_it_was_written(run: Path) -> None:
    held, heads, refused = read_explanation(run).analyses
    assert held.figure == CURVE
    assert heads.figure == TABLE
    assert list(held.rows["frozen"])[:2] == ["none", "patterns"]
    assert "score" not in held.rows.columns  # columns of other analyses are left out
    assert refused.figure is None
    assert refused.error == "has no meaning for a <vector>"


def test_the_page_has_a_part_for_each_analysis_and_escapes_what_it_is_given(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    for name in ("frozen-paths", "key-heads", "ov-reconstruction"):
        assert f'<section id="{name}"' in page
    assert "has no meaning for a &lt;vector&gt;" in page
    assert "4 heads a layer share 1 key-value head:" in page
    assert "numbers of Frozen-Paths" in page
    assert "two<br>lines" in page.replace("\\u003c", "<").replace("\\u003e", ">")


def test_figures_are_written_as_files(run: Path) -> None:
    paths = write_figures(read_explanation(run), ["png", "svg"])
    assert sorted(path.name for path in paths) == [
        "frozen-paths.png", "frozen-paths.svg", "key-heads.png", "key-heads.svg",
    ]  # fmt: skip
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_run_that_did_not_finish_is_not_shown(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({"asked": {"vectors": ["v"]}}))
    with pytest.raises(DataError, match="did not finish"):
        write_report(run)


def test_figures_that_are_none_are_an_error(run: Path) -> None:
    (run / "figures.json").write_text(json.dumps({"key-heads": {"kind": "Heatmap", "name": "x"}}))
    with pytest.raises(DataError, match=r"figures\.json does not describe figures"):
        read_explanation(run)
