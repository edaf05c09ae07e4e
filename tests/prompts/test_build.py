from collections import Counter
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from taskvectors.errors import DataError, PromptTooLongError
from taskvectors.prompts import Template, build_prompts, draw_demonstrations, most_shots
from taskvectors.tasks import Example

POOL = [Example(input=f"w{i}", output=f"W{i}") for i in range(20)]
QUERIES = [*POOL[:4], Example(input="new", output="NEW")]


@pytest.mark.parametrize("seed", range(20))
def test_demonstrations_never_show_the_query_nor_its_reverse(seed: int) -> None:
    query = Example(input="hot", output="cold")
    same_input = Example(input="hot", output="chilly")
    reverse = Example(input="cold", output="hot")
    others = POOL[:3]
    drawn = draw_demonstrations([query, *others, same_input, reverse], query, 3, seed)
    assert sorted(pair.input for pair in drawn) == ["w0", "w1", "w2"]


def test_a_pair_that_shares_only_the_output_may_be_shown() -> None:
    query, other = (Example(input=text, output="positive") for text in ("fine", "good"))
    assert draw_demonstrations([query, other], query, 1, 0) == (other,)


def test_a_pool_that_is_too_small_is_an_error() -> None:
    with pytest.raises(DataError, match=r"20 demonstrations of 'w0' .* the pool has 19 besides"):
        draw_demonstrations(POOL, POOL[0], 20, 0)
    with pytest.raises(DataError, match="-1 demonstrations"):
        draw_demonstrations(POOL, POOL[0], -1, 0)


def test_draws_are_by_seed_and_query() -> None:
    assert draw_demonstrations(POOL, POOL[0], 5, 0) == draw_demonstrations(POOL, POOL[0], 5, 0)
    drawn = {draw_demonstrations(POOL, query, 5, seed) for query in POOL[:5] for seed in range(5)}
    assert len(drawn) == 25


def test_draws_are_the_same_on_every_platform() -> None:
    drawn = draw_demonstrations(POOL, Example(input="new", output="NEW"), 4, 7)
    assert [pair.input for pair in drawn] == ["w0", "w8", "w1", "w2"]


def test_fewer_shots_show_the_first_of_the_same_demonstrations() -> None:
    assert draw_demonstrations(POOL, POOL[0], 8, 0)[:3] == draw_demonstrations(POOL, POOL[0], 3, 0)


def test_every_pair_is_drawn_equally_often_and_at_every_place() -> None:
    draws = [draw_demonstrations(POOL[:6], POOL[0], 2, seed) for seed in range(1000)]
    for place in range(2):
        counts = Counter(drawn[place].input for drawn in draws)
        assert set(counts) == {"w1", "w2", "w3", "w4", "w5"}
        assert 150 < min(counts.values()) <= max(counts.values()) < 250  # 200 each, sd 13


def test_no_pair_is_drawn_twice() -> None:
    drawn = draw_demonstrations(POOL, POOL[3], 19, 1)
    assert sorted(pair.input for pair in drawn) == sorted(p.input for p in POOL if p != POOL[3])


def test_prompts_do_not_depend_on_the_other_queries_nor_on_their_order(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    def build(queries: list[Example]) -> list[object]:
        return list(
            build_prompts(gpt2_tokenizer, "qa", queries, demonstrations=POOL, shots=3, seed=2)
        )

    together = build(QUERIES)
    assert build(QUERIES[::-1]) == together[::-1]
    assert [build([query])[0] for query in QUERIES] == together


def test_the_text_is_prefix_demonstrations_and_cue(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    template = Template(name="x", example="<{input}> = {output};", separator=" ", prefix="Go. ")
    (prompt,) = build_prompts(
        gpt2_tokenizer, template, QUERIES[:1], demonstrations=POOL[:3], shots=2, seed=0
    )
    first, second = prompt.demonstrations
    shown = f"<{first.input}> = {first.output}; <{second.input}> = {second.output};"
    assert prompt.text == f"Go. {shown} <w0> ="
    assert prompt.query == QUERIES[0]
    assert gpt2_tokenizer.decode(list(prompt.answer_ids)) == " W0"
    begin, end = prompt.spans["demonstrations"]
    assert gpt2_tokenizer.decode(list(prompt.token_ids[begin:end])).strip() == shown


def test_without_queries_there_are_no_prompts(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    assert build_prompts(gpt2_tokenizer, "qa", [], max_tokens=1) == ()


def lengths(
    tokenizer: PreTrainedTokenizerFast, shots: int, *, shared_demonstrations: bool = False
) -> list[int]:
    prompts = build_prompts(
        tokenizer,
        "qa",
        QUERIES,
        demonstrations=POOL,
        shots=shots,
        shared_demonstrations=shared_demonstrations,
    )
    return [len(prompt.token_ids) + len(prompt.answer_ids) for prompt in prompts]


def test_a_prompt_of_exactly_the_limit_fits(gpt2_tokenizer: PreTrainedTokenizerFast) -> None:
    limit = max(lengths(gpt2_tokenizer, 3))
    build_prompts(gpt2_tokenizer, "qa", QUERIES, demonstrations=POOL, shots=3, max_tokens=limit)
    with pytest.raises(PromptTooLongError):
        build_prompts(
            gpt2_tokenizer, "qa", QUERIES, demonstrations=POOL, shots=3, max_tokens=limit - 1
        )


def test_a_prompt_over_the_limit_is_an_error_with_what_would_fit(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    limit = max(lengths(gpt2_tokenizer, 3))
    longest = max(lengths(gpt2_tokenizer, 9))
    reason = rf"the 9-shot prompt of '\w+' has {longest} tokens .* {limit} fit; use at most 3 shots"
    with pytest.raises(PromptTooLongError, match=reason):
        build_prompts(gpt2_tokenizer, "qa", QUERIES, demonstrations=POOL, shots=9, max_tokens=limit)


def test_a_query_that_is_too_long_by_itself_is_an_error_that_says_so(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    for shots in (0, 2):
        with pytest.raises(PromptTooLongError, match="not even 0 shots fit"):
            build_prompts(
                gpt2_tokenizer, "qa", QUERIES, demonstrations=POOL, shots=shots, max_tokens=3
            )
    with pytest.raises(PromptTooLongError, match="not even 0 shots fit"):
        most_shots(gpt2_tokenizer, "qa", QUERIES, POOL, 3)


@pytest.mark.parametrize("shots", [0, 1, 2, 3, 7, 8, 15])
def test_most_shots_is_the_largest_number_that_fits(
    shots: int, gpt2_tokenizer: PreTrainedTokenizerFast
) -> None:
    enough = max(lengths(gpt2_tokenizer, shots, shared_demonstrations=True))
    too_few = max(lengths(gpt2_tokenizer, shots + 1, shared_demonstrations=True)) - 1
    assert most_shots(gpt2_tokenizer, "qa", QUERIES, POOL, enough) == shots
    assert most_shots(gpt2_tokenizer, "qa", QUERIES, POOL, too_few) == shots


def test_prompts_can_show_the_same_demonstrations_in_the_same_order(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    about: dict[str, Any] = {"demonstrations": POOL, "shared_demonstrations": True}
    some = build_prompts(gpt2_tokenizer, "qa", QUERIES, shots=7, **about)
    (shown,) = {prompt.demonstrations for prompt in some}
    assert len(set(shown)) == 7
    assert not set(shown) & set(QUERIES)  # a query's own pair would give it away
    fewer, others = (
        build_prompts(gpt2_tokenizer, "qa", QUERIES, shots=5, seed=seed, **about)[0].demonstrations
        for seed in (0, 1)
    )
    assert fewer == shown[:5] != others
    with pytest.raises(DataError, match=r"17 demonstrations .* the pool has 16"):
        build_prompts(gpt2_tokenizer, "qa", QUERIES, shots=17, **about)


def test_most_shots_is_at_most_what_the_pool_has_for_every_query(
    gpt2_tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert most_shots(gpt2_tokenizer, "qa", QUERIES, POOL, 10**6) == 16
    assert most_shots(gpt2_tokenizer, "qa", QUERIES[-1:], POOL, 10**6) == 20
    assert most_shots(gpt2_tokenizer, "qa", QUERIES, [], 10**6) == 0
