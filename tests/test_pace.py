"""How long work will take, from work that was seen.

Run with `pytest tests/test_pace.py`.
"""

from typing import Any

import pytest

from taskvectors.pace import Pace, n_tokens, roughly, still_to_come


def test_a_pace_is_known_once_something_was_seen_and_is_the_mean_of_all() -> None:
    pace = Pace()
    assert pace.of(1000) == ""
    pace.saw(100, 1.0)
    pace.saw(300, 7.0)
    assert pace.of(1000) == roughly(20.0) == "about 20 s"


def test_tokens_are_those_that_run(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4, answers=(1, 3))
    lengths = [len(p.token_ids + p.answer_ids[:-1]) for p in prompts]
    assert n_tokens(prompts) == sum(lengths)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.1, "a few seconds"),
        (7.4, "about 7 s"),
        (44.0, "about 40 s"),
        (89.0, "about 90 s"),
        (91.0, "about 2 min"),
        (3599.0, "about 1 h 0 min"),
        (5000.0, "about 1 h 20 min"),
        (7100.0, "about 2 h 0 min"),
    ],
)
def test_times_are_for_people_who_wait(seconds: float, said: str) -> None:
    assert roughly(seconds) == said


def test_the_rest_takes_as_long_in_proportion_and_nothing_is_said_at_the_end() -> None:
    assert still_to_come(30.0, 3, 5) == ", about 20 s left"
    assert still_to_come(30.0, 3, 3) == ""
