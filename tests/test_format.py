"""Numbers and texts as a reader sees them.

Run with `pytest tests/test_format.py`.
"""

import pytest

from taskvectors.cli.results import Result, Table, print_result
from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate import Difference, Measures
from taskvectors.format import MINUS, interval, number, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ülan Bator 8 %", "Ülan Bator 8 %"),
        ("a\nb", r"a\nb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("ab\u202egpj.exe", r"ab\u202egpj.exe"),
        ("\x00\x85\u2028\u200b", r"\x00\x85\u2028\u200b"),
        ("no\N{NO-BREAK SPACE}break", "no\N{NO-BREAK SPACE}break"),
    ],
)
def test_control_characters_are_seen_and_do_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert all(c.isprintable() or c == "\N{NO-BREAK SPACE}" for c in printable(text))


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (812.345678, 790.1, 840.2, "812 [790, 840]"),
        (0.0123456789, 0.0121, 0.0126, "0.01235 [0.01210, 0.01260]"),
        (-1.23456789, -1.5, -1.0, f"{MINUS}1.23 [{MINUS}1.50, {MINUS}1.00]"),
        (0.5, 0.5, 0.5, "0.5 [0.5, 0.5]"),
    ],
)
def test_a_number_has_the_digits_of_its_interval(value, low, high, shown) -> None:
    assert f"{number('loss', value, low, high)} {interval('loss', low, high)}" == shown


def test_measures_are_printed_with_the_digits_that_are_known() -> None:
    measures = Measures(
        accuracy=1 / 3, ci_low=0.1792064, ci_high=0.5329106, n=24, first_token_accuracy=1 / 3,
        label_accuracy=None, in_label_set=5 / 7, answer_logprob=-3.4567890123456789,
    )  # fmt: skip
    assert repr(measures) == (
        "Measures(accuracy=0.333 [0.179, 0.533], n=24, first_token_accuracy=0.333, "
        "label_accuracy=None, in_label_set=0.714, answer_logprob=-3.457)"
    )
    difference = Difference(mean=-1 / 30, low=-0.1, high=0.0333333)
    assert repr(difference) == "Difference(mean=-0.03 [-0.10, 0.03])"


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "task\x1b[2J\x1b]0;gone\x07\nrow"
    table = Table(headings=("task",), rows=[[name]])
    print_result(Result(data={}, shown=[table, f"The task is {name}"]), as_json=False)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x07" not in said
    assert said.count(r"\x1b[2J\x1b]0;gone\x07") == 2
    assert r"\x07\nrow" in said


def test_a_message_is_short_and_does_nothing_to_a_terminal() -> None:
    value = "\x1b]0;title\x07" + 100_000 * "x" + "\u202eend"
    text = str(TaskVectorsError(f"the value {value} is wrong\nat line 3"))
    assert len(text) < 1200
    assert text.startswith(r"the value \x1b]0;title\x07xxx")
    assert text.endswith("\\u202eend is wrong\nat line 3")
    assert "characters left out" in text
