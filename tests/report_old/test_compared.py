"""Runs side by side, and runs for papers.

Run with `pytest tests/report/test_compared.py`.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import DataError
from taskvectors.report.old import read_any, write_compared, write_latex, write_markdown
from taskvectors.report.old.compared import differences, names_of, parts_of
from taskvectors.report.old.grid import NOTHING, plain_texts
from taskvectors.results.figures import Figure, Series

Write = Callable[..., Path]
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


def described(figure: Figure) -> dict[str, Any]:
    return {"kind": "Figure", **asdict(figure)}


def other_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"model": "smollm2", "value": row["value"] / 2} for row in rows]


def test_cases_of_two_models_stand_in_one_row(tmp_path: Path, write_experiment: Write) -> None:
    import pandas as pd

    one = write_experiment(tmp_path / "one")
    rows: Any = pd.read_parquet(one / "results.parquet").to_dict("records")
    two = write_experiment(
        tmp_path / "two",
        rows=[row for row in other_model(rows) if row["task"] == "capital"],
        config={"models": ["smollm2"]},
    )
    runs = [read_any(one), read_any(two)]
    results = parts_of(runs)[0]
    headings, found = plain_texts(results.grids[0])
    assert headings == ["task", "method", "layers", "one", "two"]
    by_case = {tuple(row[:2]): row[3:] for row in found}
    assert by_case["capital", "icl"] == ["0.700 [0.600, 0.800]", "0.350 [0.600, 0.800]"]
    assert by_case["antonym", "learned"][1] == NOTHING.text
    _, settings = plain_texts(differences(runs))
    assert settings == [["Models", "embedded", "smollm2"]]


def test_a_table_that_one_run_lacks_stands_alone_and_figures_are_joined_by_title(
    tmp_path: Path, write_experiment: Write
) -> None:
    import pandas as pd

    curves = [replace(CURVE, name=f"curve-{model}") for model in ("embedded", "smollm2")]
    one = write_experiment(tmp_path / "one", figures=[described(curves[0])])
    rows: Any = pd.read_parquet(one / "results.parquet").to_dict("records")
    extra = [
        {"task": "capital", "model": "smollm2", "analysis": "key-heads", "share": share,
         "measure": "overlap", "value": share / 2, "n": 5}
        for share in (0.1, 0.2)
    ]  # fmt: skip
    two = write_experiment(
        tmp_path / "two",
        rows=[*other_model(rows), *extra],
        figures=[described(curves[1])],
    )
    results, figure = parts_of([read_any(one), read_any(two)])
    alone = next(grid for grid in results.grids if grid.title == "Key heads: overlap")
    headings, found = plain_texts(alone)
    assert headings == ["share", "one", "two"]
    assert found == [["0.100", NOTHING.text, "0.05"], ["0.200", NOTHING.text, "0.1"]]
    assert figure.title == "Heads"
    shown = [(side.name, side.figure and side.figure.name) for side in figure.sides]
    assert shown == [("one", "curve-embedded-1"), ("two", "curve-smollm2-2")]


def test_comparisons_are_joined_by_method_whatever_layer_each_chose(
    tmp_path: Path, write_run: Write, learned_rows: Callable[..., Any]
) -> None:
    one = write_run(tmp_path / "first" / "run")
    two = write_run(tmp_path / "second" / "run", rows=learned_rows(0.6, layers=[3]))
    runs = [read_any(one), read_any(two)]
    assert names_of(runs) == ["first/run", "second/run"]
    assert names_of([runs[0], runs[0]]) == ["run (1)", "run (2)"]
    parts = parts_of(runs)
    _, found = plain_texts(parts[0].grids[0])
    learned = next(row for row in found if "learned" in row)
    assert learned[-2].startswith("0.750")
    assert learned[-1].startswith("0.600")
    assert [part.title for part in parts[1:]][:1] == ["Accuracy by layer"]


def test_analyses_stand_beside_each_other_and_a_missing_one_says_so(
    tmp_path: Path, write_explanation: Write
) -> None:
    one = write_explanation(tmp_path / "one", {"key-heads": (HEADS, CURVE)})
    two = write_explanation(tmp_path / "two", {"ov-reconstruction": ([], None)})
    page = write_compared([one, two]).read_text(encoding="utf-8")
    assert page.count("Was not run.") == 2
    assert 'id="chart-key-heads-1"' in page
    assert "has no meaning for a &lt;vector&gt;" in page


def test_runs_of_different_kinds_are_refused(
    tmp_path: Path, write_run: Write, write_experiment: Write
) -> None:
    folders = [write_run(tmp_path / "a"), write_experiment(tmp_path / "b")]
    with pytest.raises(DataError, match="different kinds have no common table"):
        write_compared(folders)
    assert not (tmp_path / "a" / "compared.html").exists()


def test_markdown_has_the_tables_the_sentences_and_the_figures_that_were_drawn(
    tmp_path: Path, write_experiment: Write, write_run: Write, write_explanation: Write
) -> None:
    folder = write_experiment(tmp_path / "a")
    text = write_markdown(read_any(folder)).read_text(encoding="utf-8")
    assert "| learned | 0.760 [0.660, 0.860] | 0.850 (Llama-3.1-8B) |" in text
    assert "![" not in text
    (folder / "figures").mkdir()
    (folder / "figures" / "by-task.png").touch()
    assert "(figures/by-task.png)" in write_markdown(read_any(folder)).read_text(encoding="utf-8")
    compared = write_markdown(read_any(write_run(tmp_path / "b"))).read_text(encoding="utf-8")
    assert re.search(r"\| Learned vector \| after layer 9, last token \| 75\.0.% \[64\.3", compared)
    assert "## Controls" in compared
    analyses = write_explanation(tmp_path / "c", {"key-heads": (HEADS, CURVE)})
    text = write_markdown(read_any(analyses)).read_text(encoding="utf-8")
    assert "**Key-Heads.** The one key head" in text
    assert "| 4 | 1 | 0.4 |" in text


def test_latex_has_rules_a_caption_and_no_character_that_breaks_it(
    tmp_path: Path, write_experiment: Write
) -> None:
    run = read_any(write_experiment(tmp_path, config={"title": "Costs 5 % & more_of it"}))
    text = write_latex(run).read_text(encoding="utf-8")
    assert text.count(r"\toprule") == 3
    assert r"Costs 5 \% \& more\_of it" in text
    assert "answer log-probability" in text
    assert r"$-$1.5" in text
    assert r"\label{tab:results}" in text
    assert text.isascii()
