"""The page as text: what is in it, and what is not."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from taskvectors.report.old import read_run, run_figures, write_report
from taskvectors.report.old.page import drawings

ABSENT = "\N{EN DASH}"
MakeRun = Callable[..., Path]
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags with their attributes, ids, and the text of every table row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self._skip = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip = tag in ("script", "style")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._skip = False
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def ids(self) -> set[str]:
        return {attrs["id"] or "" for _, attrs in self.tags if "id" in attrs}

    def row(self, *start: str) -> list[str]:
        """The first row whose first cell begins as given, with spaces made plain."""
        plain = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return next(row for row in plain if row and row[0].startswith(start))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, write_run: MakeRun) -> Page:
    """The usual report."""
    return Page(write_report(write_run(tmp_path_factory.mktemp("run"))))


def test_the_report_lies_in_the_run_folder_alone(make_run: MakeRun) -> None:
    folder = make_run()
    before = {entry.name for entry in folder.iterdir()}
    path = write_report(folder)
    assert path == folder / "report.html"
    assert {entry.name for entry in folder.iterdir()} == before | {"report.html"}


def test_a_report_that_fails_leaves_the_old_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    (folder / "report.html").write_text("old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(folder)
    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".report*"))


def test_every_section_is_there_and_in_the_contents(page: Page) -> None:
    wanted = {"results", "by-layer", "controls", "examples", "learning", "setup", "notes", "rows"}
    assert wanted | {"cite"} <= page.ids()
    links = {attrs.get("href") for tag, attrs in page.tags if tag == "a"}
    assert {f"#{name}" for name in wanted} <= links


def test_the_main_table_shows_the_selected_rows(page: Page) -> None:
    assert page.row("Learned vector") == [
        "Learned vector after layer 9, last token",
        f"75.0 % [64.3{ABSENT}85.7 %]",
        "",
        "+5.0 [\N{MINUS SIGN}3.0 to +13.0]",
        "89",
        "640",
        "2 min 20 s",
        "79",
    ]
    assert page.row("Zero-shot")[3:6] == [ABSENT, "0", ABSENT]


def test_bars_stand_where_the_numbers_say(make_run: MakeRun) -> None:
    text = write_report(make_run()).read_text(encoding="utf-8")
    row = re.search(r'<tr class="subject" data-method="learned">.*?</tr>', text, re.DOTALL)
    assert row is not None
    assert '<span class="value" style="left:75.00%">' in row[0]
    assert '<span class="range" style="left:64.26%;width:21.49%">' in row[0]
    assert '<span class="icl" style="left:70.00%">' in row[0]


def test_controls_say_what_they_rule_out(page: Page) -> None:
    cells = page.row("Constant logit bias")
    assert "Rules out that favouring some answers is enough" in cells[4]
    assert cells[5] == "✓ ruled out"
    assert page.row("In-context learning, as many")[5] == "about level with the vector"


@pytest.mark.parametrize(
    ("control", "outcome"),
    [
        ({"accuracy": 0.3, "ci_low": 0.2, "ci_high": 0.4}, "✓ ruled out"),
        ({"accuracy": 0.6, "ci_low": 0.5, "ci_high": 0.7}, "? not clearly ruled out"),
        ({"accuracy": 0.8, "ci_low": 0.7, "ci_high": 0.9}, "✗ not ruled out"),
    ],
)
def test_a_control_is_judged_by_its_interval(
    make_run: MakeRun, row, learned_rows, control, outcome
) -> None:
    rows = [*learned_rows(0.75), row("logit-bias", is_control=True) | control]
    assert outcome in Page(write_report(make_run(rows=rows))).row("Constant logit bias")[5]


def test_a_method_that_failed_keeps_its_row_and_reason(make_run: MakeRun, row) -> None:
    rows = [
        row("icl", 0.7, selected=True, shots=8),
        row("learned", error="needs 9 GB, 4 are free"),
        row("other-task", is_control=True, error="no such task"),
    ]
    page = Page(write_report(make_run(rows=rows)))
    assert page.row("Learned vector")[1] == "Failed. needs 9 GB, 4 are free"
    assert page.row("Another task's vector")[1] == "Failed. no such task"


def test_a_vector_still_improving_is_marked(make_run: MakeRun, learned_rows) -> None:
    page = Page(write_report(make_run(rows=learned_rows(0.75, converged=False))))
    assert "still improving" in page.row("Learned vector")[0]
    assert "still improving" not in Page(write_report(make_run())).row("Learned vector")[0]


def test_answers_are_marked_right_and_wrong(page: Page) -> None:
    assert page.row("Mongolia") == [
        "Mongolia",
        "Ulaanbaatar",
        "✗wrong: Mongolia",
        "✓right: Ulaanbaatar",
        "✗wrong: Ulan",
    ]
    assert page.row("Belize")[2] == "✗wrong: (nothing)"
    assert "turns 2 from wrong to right and 0 from right to wrong" in page.text


def test_the_full_table_has_every_row_and_dashes_for_nothing(page: Page) -> None:
    header = page.row("method")
    assert "validation_accuracy↕" not in header  # the arrow is drawn by the style
    assert {"method", "layers", "validation_accuracy", "peak_bytes"} <= set(header)
    rows = [row for row in page.rows if len(row) == len(header)]
    assert len(rows) == 1 + 45
    vanilla = next(row for row in rows if row[:2] == ["vanilla", "layer 0"])
    assert vanilla[header.index("accuracy")] == ABSENT
    assert not any(cell in ("nan", "None", "NaN", "<NA>") for row in rows for cell in row)
    assert "Columns without any value are not shown: label_accuracy, error." in page.text


def test_what_was_run_is_told_with_settings_the_report_does_not_know(make_run: MakeRun) -> None:
    config = {"command": ["taskvectors", "compare", "--task", "my file.csv"], "strength": 1.5}
    page = Page(write_report(make_run(config=config)))
    assert "taskvectors compare --task 'my file.csv'" in page.text
    assert re.search(r"Strength\s*1\.5", page.text)
    assert "2026-03-01 10:00 UTC" in page.text
    assert "2.13.0" in page.text


def test_text_from_the_run_cannot_become_markup(make_run: MakeRun, row) -> None:
    said = {"input": ATTACK, "answer": ATTACK, "predictions": {ATTACK: ATTACK}, "correct": {}}
    rows = [
        row(ATTACK, 0.5, layers=[layer], selected=layer == 1, note=ATTACK, configuration=ATTACK)
        for layer in (0, 1)
    ]
    rows.append(row("other-task", is_control=True, error=ATTACK))
    keys = ("model", "task", "description", "command", "weights_note", ATTACK)
    config: dict[str, Any] = dict.fromkeys(keys, ATTACK)
    config |= {"notes": [ATTACK], "versions": {ATTACK: ATTACK}}
    path = write_report(make_run(rows=rows, examples=[said], config=config))
    page = Page(path)
    assert not [attrs for tag, attrs in page.tags if tag == "img"]
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert ATTACK in page.text
    assert path.read_text(encoding="utf-8").count("alert(1)</script>") == 0


def test_the_page_asks_no_server_for_anything(page: Page) -> None:
    for tag, attrs in page.tags:
        assert "src" not in attrs
        assert "srcset" not in attrs
        if tag == "link":
            assert attrs["href"] == "data:,"
        if tag == "meta" and attrs.get("http-equiv"):
            assert "default-src 'none'" in (attrs["content"] or "")


def test_tables_have_captions_and_scopes(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") == 4
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")


def test_charts_have_a_text_in_their_place(page: Page) -> None:
    charts = [attrs for _, attrs in page.tags if "data-figure" in attrs]
    assert len(charts) == 3
    assert all(len(attrs["aria-label"] or "") > 80 for attrs in charts)


def test_a_run_without_extras_has_no_section_for_them(make_run: MakeRun, row) -> None:
    rows = [row("zero-shot", 0.01, selected=True)]
    config = {"notes": [], "versions": None, "command": None}
    path = write_report(make_run(rows=rows, examples=None, metrics=None, config=config))
    page = Page(path)
    assert not {"by-layer", "learning", "examples", "controls"} & page.ids()
    assert {"results", "rows", "setup"} <= page.ids()
    assert path.stat().st_size < 100_000  # no chart, so plotly.js is left out


def test_charts_as_json_hold_no_closing_tag(make_run: MakeRun) -> None:
    figures = run_figures(read_run(make_run()))
    text = drawings(figures)
    assert not set("<>&") & set(text)
    assert json.loads(text).keys() == {figure.name for figure in figures}
    template = json.loads(text)["learning-curves"]["light"]["data"][0]["hovertemplate"]
    assert template.endswith("<extra></extra>")


def test_seeds_get_a_column_when_there_are_several(make_run: MakeRun, row) -> None:
    rows = [row("icl", 0.7, selected=True, shots=8, seed=seed) for seed in (0, 1)]
    rows += [row("majority", 0.1, is_control=True, seed=seed) for seed in (0, 1)]
    page = Page(write_report(make_run(rows=rows)))
    assert "Seed" in page.row("Method")
    assert page.row("In-context learning")[1] == "0"
    controls = [row for row in page.rows if row and row[0].startswith("Majority answer")]
    assert [row[1] for row in controls] == ["0", "1"]
    assert controls[1][5] == "as above"


def test_rows_of_the_main_table_stand_by_method(make_run: MakeRun, row) -> None:
    rows = [row(m, 0.5, selected=True, seed=s) for s in (0, 1) for m in ("zero-shot", "icl")]
    page = Page(write_report(make_run(rows=rows)))
    names = [cells[0].split()[0] for cells in page.rows if len(cells) == 9]
    assert names == ["Method", "Zero-shot", "Zero-shot", "In-context", "In-context"]
