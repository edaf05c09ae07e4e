"""Progress: durations, time left, and who sees a bar or log lines.

Run with `pytest tests/test_progress.py`.
"""

import io
import itertools
import logging
import sys
from functools import partial
from typing import Any

import pytest
import tqdm.auto

from taskvectors import progress
from taskvectors.progress import Progress, Throughput, format_duration, track
from taskvectors.prompts import n_tokens


def test_throughput_is_the_mean_of_everything_that_was_counted() -> None:
    throughput = Throughput()
    assert throughput.time_for(1000) == ""
    throughput.update(100, 1.0)
    throughput.update(300, 7.0)
    assert throughput.time_for(1000) == f"about {format_duration(20.0)}" == "about 20 s"


def test_tokens_are_those_that_run(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4, answers=(1, 3))
    lengths = [len(p.token_ids + p.answer_ids[:-1]) for p in prompts]
    assert n_tokens(prompts) == sum(lengths)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.034, "0.03 s"),
        (7.4, "7.4 s"),
        (91.0, "91 s"),
        (200.0, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7100.0, "1 h 58 min"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_log_lines_come_at_growing_intervals_with_the_time_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a thousand steps of one second each, of which 100 were done in an earlier run."""
    caplog.set_level(logging.INFO, logger="taskvectors.progress")
    now = [0.0]
    work = Progress("learning", 1000, initial=100, clock=lambda: now[0])
    for step in range(101, 1001):
        now[0] += 1.0
        work.update(note=f"loss {step}" if step % 50 == 0 else "")
    at = [int(record.getMessage().split()[1]) - 100 for record in caplog.records]
    assert at[:5] == [10, 20, 40, 80, 140]
    assert max(b - a for a, b in itertools.pairwise(at)) == 60
    assert at[-1] < 900, "what is finished has no time left"
    assert caplog.messages[0] == "learning: 110 of 1000, about 14 min 50 s left"
    assert caplog.messages[2] == "learning: 140 of 1000, about 14 min 20 s left"
    assert caplog.messages[3] == "learning: 180 of 1000, loss 150, about 13 min 40 s left"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Notebook:
    """What IPython is in a kernel, as far as it is asked."""

    config = {"IPKernelApp": {}}  # noqa: RUF012

    @classmethod
    def get_ipython(cls) -> type["_Notebook"]:
        return cls


@pytest.mark.parametrize("where", ["terminal", "notebook"])
def test_a_person_sees_a_bar_and_no_lines(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="taskvectors.progress")
    screen = _Terminal() if where == "terminal" else io.StringIO()
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", printed)
    if where == "notebook":
        monkeypatch.setitem(sys.modules, "IPython", _Notebook)
    monkeypatch.setattr(progress, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(tqdm.auto, "tqdm", partial(tqdm.auto.tqdm, mininterval=0, miniters=1))
    with track("learning", 4) as work:
        for _ in range(4):
            work.update(note="loss 1.25")
    assert "learning" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "loss 1.25" in screen.getvalue()
    assert printed.getvalue() == ""
    assert caplog.messages == []


def test_a_pipe_gets_lines_and_no_bar(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, logger="taskvectors.progress")
    monkeypatch.setattr(progress, "_FIRST_LINE", 0.0)
    with track("learning", 3) as work:
        work.update()
        work.update()
        work.update()
    assert caplog.messages[0].startswith("learning: 1 of 3, about ")
    assert capsys.readouterr() == ("", "")
