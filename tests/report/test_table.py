r"""One table: its cells, and what no text can do in Markdown and LaTeX.

Run with `pytest tests/report/test_table.py`.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from taskvectors.report.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    frame_table,
    latex,
    markdown,
    value_cell,
)

HOSTILE = (
    "x\n\\input{/etc/passwd}",
    "50 % & $x_1^2$ #~{}\\\\",
    "a|b *bold* <script>alert(1)</script> [x](javascript:y)",
    "\x1b[31m\u202ered\x00",
    "[1ex]",
)


def table(*texts: str, **more: object) -> Table:
    columns = tuple(Column(name=f"column {text}") for text in texts)
    row = tuple(Cell(text=text) for text in texts)
    return Table(name="t", title=texts[0], columns=columns, rows=(row, row), **more)


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("layers", "[4, 9]", "4, 9"),
        ("layers", '["embed", 3]', "embed, 3"),
        ("positions", [-1], "\N{MINUS SIGN}1"),
        ("layers", "[]", NOTHING.text),
        ("accuracy", float("nan"), NOTHING.text),
        ("accuracy", pd.NA, NOTHING.text),
        ("configuration", "[not a list", "[not a list"),
        ("is_key", True, "yes"),
        ("seed", 12345, "12345"),
        ("peak_bytes", 3 * 2**30, "3.0\N{NO-BREAK SPACE}GiB"),
        ("loss", 1 / 3, "0.3333"),
    ],
)
def test_a_value_is_a_cell_in_every_form_parquet_can_hold(name, raw, text) -> None:
    assert value_cell(name, raw).text == text


def test_numbers_sort_as_numbers_and_embed_below_layer_zero() -> None:
    keys = [value_cell("layers", layers).sort_key for layers in ('["embed"]', "[0]", "[10]")]
    assert keys == ["-1", "0", "10"]
    assert float(value_cell("n", 12345).sort_key) == 12345


def test_an_interval_and_the_smallest_p_stand_behind_their_number() -> None:
    frame = pd.DataFrame(
        [
            {"accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "p_value": 0.2,
             "smallest_p_value": 0.1, "note": None},
        ]
    )  # fmt: skip
    made = frame_table("t", "T", frame, {"accuracy": ("ci_low", "ci_high")})
    assert made.headings == ["accuracy", "p value"]
    assert made.texts == [["0.500 [0.400, 0.600]", "0.2 smallest possible 0.1: decides nothing"]]


def test_no_text_breaks_a_row_of_markdown() -> None:
    lines = markdown(table(*HOSTILE)).split("\n")
    assert len(lines) == 4
    for line in lines:
        bars = re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))
        assert len(bars) == len(HOSTILE) + 1
    assert "<script>" not in "".join(lines).replace(r"\<", "")


def test_no_text_is_a_command_of_latex() -> None:
    text = latex(table(*HOSTILE, before=HOSTILE))
    ours = {
        "begin", "end", "caption", "label", "toprule", "midrule", "bottomrule", "textbackslash",
        "textasciitilde", "textasciicircum", "surd", "times", "ldots",
    }  # fmt: skip
    assert set(re.findall(r"(?<!\\)\\([A-Za-z]+)", text)) <= ours
    assert all(re.match(r"[\x20-\x7e]*$", line) for line in text.split("\n"))
    assert text.count("\\\\\n") == 3  # rows end where we end them


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_is_what_a_compiler_takes(tmp_path: Path) -> None:
    body = latex(table(*HOSTILE[:3]))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{body}\n\\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
