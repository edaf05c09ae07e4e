import pytest

from taskvectors.errors import PositionError
from taskvectors.prompts import Prompt, resolve_positions, shared_first_tokens
from taskvectors.tasks import Example


def make_prompt(
    spans: dict[str, tuple[int, int]] | None = None, output: str = "b", answer: int = 1
) -> Prompt:
    return Prompt(
        token_ids=tuple(range(10, 20)),
        answer_ids=(answer, 99),
        spans={"query": (4, 7), "cue": (7, 10), "demonstrations": (1, 3)} | (spans or {}),
        query=Example(input="a", output=output),
        demonstrations=(),
        text="...",
    )


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([-1], (9,)),
        ([0, 4, -10], (0, 4, 0)),
        ([-5, -4, -3, -2, -1], (5, 6, 7, 8, 9)),
        (["last"], (9,)),
        (["query_first", "query_last"], (4, 6)),
        (["query"], (4, 5, 6)),
        (["cue"], (7, 8, 9)),
        (["demonstrations"], (1, 2)),
        (["all"], tuple(range(10))),
        (["last", 2, "query_first"], (9, 2, 4)),
        ([], ()),
    ],
)
def test_positions_count_from_either_end_or_have_names(
    positions: list[int | str], expected: tuple[int, ...]
) -> None:
    assert resolve_positions(make_prompt(), positions) == expected


@pytest.mark.parametrize("position", [10, -11, 400])
def test_a_position_that_a_prompt_is_too_short_for_is_an_error_that_names_it(position: int) -> None:
    reason = rf"the 0-shot prompt of 'a' has 10 tokens and no position {position}.* from -10 to 9"
    with pytest.raises(PositionError, match=reason):
        resolve_positions(make_prompt(), [0, position])


@pytest.mark.parametrize("name", ["answer", "generated"])
def test_places_past_the_prompt_are_for_injection_only(name: str) -> None:
    with pytest.raises(PositionError, match="only be named where a vector is injected"):
        resolve_positions(make_prompt(), [name])


@pytest.mark.parametrize("name", ["first", "", "-1"])
def test_an_unknown_name_is_an_error_that_lists_the_names(name: str) -> None:
    with pytest.raises(PositionError, match="one of: last, query_first, query_last, all, query"):
        resolve_positions(make_prompt(), [name])


def test_a_name_for_nothing_in_this_prompt_is_an_error() -> None:
    with pytest.raises(PositionError, match="has no token at 'cue'"):
        resolve_positions(make_prompt({"cue": (10, 10)}), ["cue"])


def test_a_long_input_is_cut_in_messages_only() -> None:
    prompt = make_prompt()
    long = Prompt(**{**vars(prompt), "query": Example(input="x" * 99, output="b")})
    assert str(long) == f"the 0-shot prompt of '{'x' * 37}...'"


def test_answers_that_begin_alike_are_found() -> None:
    prompts = [
        make_prompt(output="San Juan", answer=1),
        make_prompt(output="Paris", answer=2),
        make_prompt(output="San Jose", answer=1),
        make_prompt(output="San Juan", answer=1),
    ]
    assert shared_first_tokens(prompts) == (("San Juan", "San Jose"),)
    assert shared_first_tokens(prompts[:2]) == ()
    assert shared_first_tokens([]) == ()


def test_equal_prompts_have_equal_hashes() -> None:
    assert make_prompt() == make_prompt()
    assert len({make_prompt(), make_prompt()}) == 1
