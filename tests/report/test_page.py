"""Pages: what stands on them, and what a run's texts cannot do to them.

Run with `pytest tests/report/test_page.py`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import DataError
from taskvectors.report import (
    page_html,
    page_of,
    write_figures,
    write_latex,
    write_markdown,
    write_report,
)
from taskvectors.report.files import stems
from taskvectors.report.page import Page
from taskvectors.report.table import Table
from taskvectors.results import AnsweredItem, Columns, Record
from taskvectors.results.figures import Figure, Series

Make = Callable[..., Record]
ABSENT, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}\n\x1b[2J"
SHOWN = ATTACK.replace("\n", r"\n").replace("\x1b", r"\x1b")


class Html(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._skip = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skip else data


def table(page: Page, name: str) -> dict[str, dict[str, str]]:
    """A table's rows by their first cell, with plain spaces."""
    (found,) = (one for one in page.tables() if one.name == name)
    rows = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in found.texts]
    return {row[0]: dict(zip(found.headings, row, strict=True)) for row in rows}


@pytest.fixture(scope="module")
def page(compared: Make) -> Page:
    return page_of(compared())


@pytest.fixture(scope="module")
def html(compared: Make) -> Html:
    return Html(page_html(page_of(compared())))


def test_the_parts_of_a_comparison_are_there_and_in_the_contents(html: Html) -> None:
    wanted = ["results", "by-layer", "controls", "examples", "learning", "setup", "notes", "rows",
              "cite"]  # fmt: skip
    assert [attrs["id"] for tag, attrs in html.tags if tag == "section"] == wanted
    links = [attrs.get("href") for tag, attrs in html.tags if tag == "a"]
    assert [link for link in links if link != "#main"] == [f"#{name}" for name in wanted]


def test_the_main_table_shows_the_selected_rows(page: Page) -> None:
    learned = table(page, "methods")["Learned vector (after layer 9, last token)"]
    assert learned["accuracy"] == f"75.0 % [64.3{ABSENT}85.7 %]"
    assert learned["difference from ICL"] == f"+5.0 [{MINUS}3.0 to +13.0]"
    assert (learned["examples"], learned["parameters"], learned["test items"]) == (
        "89",
        "640",
        "79",
    )
    assert learned["time"] == "42 min 0 s"  # of all layers that were tried
    assert table(page, "methods")["Zero-shot"]["difference from ICL"] == ABSENT


def test_bars_stand_where_the_numbers_say(compared: Make) -> None:
    text = page_html(page_of(compared()))
    row = re.search(r'<tr class="strong">.*?</tr>', text, re.DOTALL)
    assert row is not None
    assert '<span class="value" style="left:75.00%">' in row[0]
    assert '<span class="range" style="left:64.26%;width:21.49%">' in row[0]
    assert '<span class="line" style="left:70.00%">' in row[0]


@pytest.mark.parametrize(
    ("control", "outcome"),
    [
        ({"accuracy": 0.3, "ci_low": 0.2, "ci_high": 0.4}, "✓ ruled out"),
        ({"accuracy": 0.6, "ci_low": 0.5, "ci_high": 0.7}, "? not clearly ruled out"),
        ({"accuracy": 0.8, "ci_low": 0.7, "ci_high": 0.9}, "✗ not ruled out"),
    ],
)
def test_a_control_is_judged_by_its_interval(
    compared: Make, row, learned_rows, control, outcome
) -> None:
    rows = [*learned_rows(0.75), row("logit-bias", is_control=True) | control]
    controls = table(page_of(compared(rows)), "controls")
    assert outcome in controls["Constant logit bias"]["outcome"]


def test_a_method_that_failed_keeps_its_row_and_reason(compared: Make, row) -> None:
    rows = [
        row("icl", 0.7, selected=True, shots=8),
        row("learned", error="needs 9 GB, 4 are free"),
        row("other-task", is_control=True, error="no such task"),
    ]
    page = page_of(compared(rows))
    assert table(page, "methods")["Learned vector"]["remark"] == "failed: needs 9 GB, 4 are free"
    assert table(page, "controls")["Another task's vector"]["remark"] == "failed: no such task"


def test_answers_are_marked_right_and_wrong(page: Page) -> None:
    answers = table(page, "answers")
    assert answers["Mongolia"]["Learned vector"] == "✓ Ulaanbaatar"
    assert answers["Mongolia"]["In-context learning"] == "✗ Ulan"
    assert answers["Belize"]["Zero-shot"] == "✗ (nothing)"


def test_every_candidate_is_among_all_measurements(page: Page) -> None:
    (found,) = (one for one in page.tables() if one.name == "rows")
    assert len(found.rows) == 45
    assert "validation_accuracy" in found.headings
    assert "label_accuracy" not in found.headings
    vanilla = next(row for row in found.texts if row[:2] == ["vanilla", "layer 0"])
    assert vanilla[found.headings.index("accuracy")] == ABSENT
    assert not any(cell in ("nan", "None", "NaN", "<NA>") for row in found.texts for cell in row)


# --- the seams: what a page is given


def test_every_method_of_a_run_is_cited_with_the_work_of_its_row(
    compared: Make, page: Page
) -> None:
    works = {name: row["cite"] for name, row in table(page, "works").items()}
    assert works == {
        "In-context learning": "Brown et al. 2020, arXiv 2005.14165",
        "Vanilla vector": "Hendel et al. 2023, arXiv 2310.15916",
        "Learned vector": "Yang et al. 2026, arXiv 2509.24169",
    }
    own = {"methods": {"mine": {"title": "My own", "citation": "Me 2026"}}}
    assert table(page_of(compared(config=own)), "works")["My own"]["cite"] == "Me 2026"


@pytest.mark.parametrize("kind", ["compare", "experiment", "explain"])
def test_what_is_known_of_the_weights_is_flagged_on_every_page(
    compared: Make, reproduced: Make, explained: Make, kind: str
) -> None:
    note = "random weights: what it answers means nothing"
    columns = {"lens": Columns(keys=("layer",), measures={"score": None})}
    records = {
        "compare": compared(config={"weights_note": note}),
        "experiment": reproduced(warnings=(note,)),
        "explain": explained({"lens": ([{"layer": 1, "score": 0.5}], None)}, columns),
    }
    record = records[kind]
    if kind == "explain":
        record = replace(record, metadata={**record.metadata, "weights_note": note})
    assert note in page_of(record).cautions
    assert note in Html(page_html(page_of(record))).text


def test_what_was_asked_for_is_a_short_table(compared: Make) -> None:
    asked = {
        "model": {"source": "embedded", "dtype": "auto", "adapter": None},
        "seeds": [0, 1],
        "methods": [{"kind": "learned", "recipe": {"steps": 60}}, {"kind": "icl"}],
        "chat": False,
        "memory": None,
    }
    page = page_of(compared(config={"asked": asked}))
    said = {name: row["value"] for name, row in table(page, "asked").items()}
    assert said == {
        "Model source": "embedded", "Model dtype": "auto", "Seeds": "0, 1",
        "Methods": "learned, icl", "Chat": "no",
    }  # fmt: skip
    assert "{" not in "".join(said.values())


def test_an_analysis_has_its_caption_and_its_intervals(explained: Make) -> None:
    columns = {
        "frozen-paths": Columns(
            keys=("frozen",), measures={"accuracy": ("ci_low", "ci_high"), "p_value": None,
                                        "smallest_p_value": None}
        )
    }  # fmt: skip
    rows = [{"frozen": "none", "accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "p_value": 0.2,
             "smallest_p_value": 0.1}]  # fmt: skip
    curve = (Series(label="a", x=(0,), y=(1,)),)
    figure = Figure(
        name="frozen-paths", title="F", x_label="x", y_label="y", series=curve, caption="Fixed."
    )
    page = page_of(explained({"frozen-paths": (rows, figure)}, columns))
    (found,) = (one for one in page.tables() if one.name == "frozen-paths-numbers")
    assert found.texts == [
        ["none", "0.500 [0.400, 0.600]", "0.2 smallest possible 0.1: decides nothing"]
    ]
    assert "Fixed." in Html(page_html(page)).text
    assert page.headline == (
        "How the model uses the learned vector of capital, added after layer 9, last token."
    )


# --- hostile texts


def test_text_from_the_run_cannot_become_markup(compared: Make, row) -> None:
    said = AnsweredItem(
        input=ATTACK, answer=ATTACK, predictions={ATTACK: ATTACK}, correct={ATTACK: True}
    )
    rows = [
        row(ATTACK, 0.5, layers=[layer], selected=layer == 1, note=ATTACK, configuration=ATTACK)
        for layer in (0, 1)
    ]
    rows.append(row("other-task", is_control=True, error=ATTACK))
    keys = ("model", "task", "description", "command", "weights_note", ATTACK)
    config: dict[str, Any] = dict.fromkeys(keys, ATTACK)
    config |= {"notes": [ATTACK], "versions": {ATTACK: ATTACK}, "asked": {ATTACK: ATTACK}}
    config["methods"] = {ATTACK: {"title": ATTACK, "citation": ATTACK}}
    text = page_html(page_of(compared(rows, config, examples=(said,), warnings=(ATTACK,))))
    html = Html(text)
    assert not [attrs for tag, attrs in html.tags if tag == "img"]
    assert len([tag for tag, _ in html.tags if tag == "script"]) == 3
    assert not any(name.startswith("on") for _, attrs in html.tags for name in attrs)
    assert SHOWN in html.text
    assert "alert(1)</script>" not in text
    assert "\x1b" not in text


def test_a_name_is_never_a_path(tmp_path: Path, reproduced: Make) -> None:
    pytest.importorskip("matplotlib")
    curve = Figure(
        name="../../x", title="T", x_label="x", y_label="y",
        series=(Series(label="a", x=(0, 1), y=(0, 1)),),
    )  # fmt: skip
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    figures = (curve, replace(curve, name="x"), replace(curve, name=".."))
    made = write_figures(reproduced(folder=folder, figures=figures), ("svg",))
    assert [path.name for path in made] == ["x.svg", "x-2.svg", "figure.svg"]
    assert {path.parent for path in tmp_path.rglob("*.svg")} == {folder / "figures"}


def test_files_of_figures_never_share_a_name() -> None:
    curve = Figure(name="a", title="", x_label="", y_label="", series=())
    found = stems([replace(curve, name=name) for name in ("a-2", "a", "a", "A/ä", "")])
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", stem) for stem in found)


def test_a_newline_in_a_name_ends_no_comment_of_latex(tmp_path: Path, compared: Make) -> None:
    record = compared(config={"task": "x\n\\input{/etc/passwd}"}, folder=tmp_path)
    first, *lines = write_latex(record).read_text(encoding="utf-8").split("\n")
    assert first == r"% x\n\input{/etc/passwd} on gemma3-270m"
    assert not any(r"\input" in line for line in lines)


# --- files


def test_a_report_lies_in_the_run_folder_alone_and_whole(
    tmp_path: Path, compared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = compared(folder=tmp_path)
    path = write_report(record)
    assert path == tmp_path / "report.html"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="disk full"):
        write_report(record)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_record_without_a_folder_says_how_to_save_it(compared: Make) -> None:
    with pytest.raises(DataError, match="save it first"):
        write_report(compared())


def test_markdown_has_the_sentences_the_tables_and_the_figures_that_were_drawn(
    tmp_path: Path, reproduced: Make
) -> None:
    record = reproduced(folder=tmp_path)
    text = write_markdown(record).read_text(encoding="utf-8")
    assert "# Accuracy by method and place" in text
    assert r"| learned | 0.760 \[0.660, 0.860\] | 0.850 (Llama-3.1-8B) |" in text
    assert "![" not in text
    (tmp_path / "figures").mkdir()
    for name in ("by-task", "transfer"):
        (tmp_path / "figures" / f"{name}.png").touch()
    assert "(figures/by-task.png)" in write_markdown(record).read_text(encoding="utf-8")


def test_the_page_asks_no_server_for_anything(html: Html) -> None:
    for tag, attrs in html.tags:
        assert "src" not in attrs
        assert "srcset" not in attrs
        if tag in ("a", "link"):
            assert (attrs.get("href") or "").startswith(("#", "data:,", "https://"))
        assert tag not in ("iframe", "object", "embed", "base", "form")
    policy = next(attrs["content"] for _, attrs in html.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_charts_carry_no_address(compared: Make) -> None:
    text = page_html(page_of(compared()))
    drawn = re.search(r'id="drawings">(.*?)</script>', text, re.DOTALL)
    assert drawn is not None
    assert "http" not in drawn[1]
    assert len(json.loads(drawn[1])) == 3


def test_every_table_is_drawn_by_the_one_macro(html: Html, page: Page) -> None:
    drawn = [attrs["data-table"] for tag, attrs in html.tags if tag == "table"]
    assert drawn == [block.name for block in page.blocks() if isinstance(block, Table)]
