"""Injection around `generate`: with and without cache, beams, samples, and what is refused.

Run with `pytest tests/vectors/test_generation.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from taskvectors.models import LanguageModel, capture
from taskvectors.models.tiny import build_tiny
from taskvectors.vectors import Site, inject, sites_at

Made = Callable[..., Any]

N_NEW = 4
GREEDY = {
    "max_new_tokens": N_NEW,
    "min_new_tokens": N_NEW,
    "do_sample": False,
    "pad_token_id": 0,
    "return_dict_in_generate": True,
    "output_logits": True,
}

SITES = {
    "last": sites_at([1], [-1]),
    "fixed": sites_at([-1, 2], [0, 4]),
    "last five": sites_at([0, 1], [-5, -4, -3, -2, -1]),
    "all": sites_at([1, 3], ["all"]),
    "generated": sites_at([1], ["generated"]),
    "everything": sites_at([1], ["all", "generated"]) + sites_at([2], [-1, "generated"]),
}


def in_batch(inputs: dict[str, Any]) -> dict[str, Any]:
    """What `generate` is given: it makes position ids itself."""
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def greedy_by_hand(
    by_hand: Made, model: Any, prompt: tuple[int, ...], vector: Any
) -> tuple[list[int], torch.Tensor]:
    """Greedy decoding of one prompt that recomputes everything at each step."""
    tokens, logits = list(prompt), []
    for _ in range(N_NEW):
        logits.append(by_hand(model, tokens, len(prompt), vector)[-1])
        allowed = logits[-1].clone()
        allowed[2] = -torch.inf  # min_new_tokens forbids the end of the text
        tokens.append(int(allowed.argmax()))
    return tokens[len(prompt) :], torch.stack(logits)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generating_equals_a_loop_without_cache_or_padding(
    *,
    use_cache: bool,
    tiny_kind: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
    by_hand: Made,
) -> None:
    model = tiny_model(tiny_kind)
    prompts = [prompt.token_ids for prompt in ragged_prompts(model, 3)]
    inputs = in_batch(padded(prompts))
    for name, sites in SITES.items():
        vector = random_vector(model, sites)
        with inject(model, vector):
            made = model.hf.generate(**inputs, **GREEDY, use_cache=use_cache)
        for row, prompt in enumerate(prompts):
            tokens, logits = greedy_by_hand(by_hand, model, prompt, vector)
            assert made.sequences[row, -N_NEW:].tolist() == tokens, (name, row)
            found = torch.stack([step[row] for step in made.logits])
            assert torch.allclose(found, logits, atol=1e-4), (name, row)


def test_generating_with_cache_equals_generating_without_for_every_family(
    *,
    tiny_name: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    inputs = in_batch(padded([prompt.token_ids for prompt in prompts]))
    sites = sites_at([1], [-1, "generated"]) + sites_at([2], [0, "cue"])
    vector = random_vector(model, sites)
    plain = model.hf.generate(**inputs, **GREEDY)
    made = {}
    for use_cache in (True, False):
        with inject(model, vector, prompts=prompts):
            made[use_cache] = model.hf.generate(**inputs, **GREEDY, use_cache=use_cache)
    assert torch.equal(made[True].sequences, made[False].sequences)
    for step, other, without in zip(
        made[True].logits, made[False].logits, plain.logits, strict=True
    ):
        assert torch.allclose(step, other, atol=1e-4)
        assert not torch.allclose(step, without, atol=1e-2)


@pytest.mark.parametrize("use_cache", [True, False])
def test_only_what_is_named_is_edited(
    use_cache: bool, tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    prompt = [1, 5, 6]
    touched = {}
    for name in ("all", "generated", "last"):
        before: list[torch.Tensor] = []
        after: list[torch.Tensor] = []
        with (
            capture(model, 1, "resid_post", before.append),
            inject(model, random_vector(model, [Site(1, name)])),
            capture(model, 1, "resid_post", after.append),
        ):
            model.hf.generate(torch.tensor([prompt]), **GREEDY, use_cache=use_cache)
        touched[name] = [
            "".join(str(int(changed)) for changed in (new != old).any(dim=-1)[0])
            for old, new in zip(before, after, strict=True)
        ]
    if use_cache:
        assert touched["all"] == ["111", "0", "0", "0"]
        assert touched["generated"] == ["000", "1", "1", "1"]
        assert touched["last"] == ["001", "0", "0", "0"]
    else:
        assert touched["all"] == ["111", "1110", "11100", "111000"]
        assert touched["generated"] == ["000", "0001", "00011", "000111"]
        assert touched["last"] == ["001", "0010", "00100", "001000"]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("is_sampled", [False, True])
def test_beams_keep_the_vector_of_their_row(
    *,
    is_sampled: bool,
    use_cache: bool,
    tiny_kind: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
) -> None:
    model = tiny_model(tiny_kind)
    prompts = [prompt.token_ids for prompt in ragged_prompts(model, 3)]
    one = random_vector(model, sites_at([1], [-1, "generated"]), seed=1)
    other = random_vector(model, sites_at([0, 2], [0, -2, "generated"]), seed=2)
    vectors = [one, None, other]
    options = {
        "num_beams": 3,
        "num_return_sequences": 2,
        "max_new_tokens": N_NEW,
        "do_sample": is_sampled,
        "temperature": 1e-3 if is_sampled else None,  # samples are the likeliest tokens then
        "top_k": 0 if is_sampled else None,
        "pad_token_id": 0,
        "use_cache": use_cache,
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    with inject(model, vectors):
        made = model.hf.generate(**in_batch(padded(prompts)), **options)
    for row, (prompt, vector) in enumerate(zip(prompts, vectors, strict=True)):
        with inject(model, [vector]):
            alone = model.hf.generate(torch.tensor([prompt]), **options)
        rows = slice(2 * row, 2 * row + 2)
        width = alone.sequences.shape[1] - len(prompt)
        found = made.sequences[rows, padded(prompts)["input_ids"].shape[1] :][:, :width]
        assert torch.equal(found, alone.sequences[:, len(prompt) :])
        assert torch.allclose(made.sequences_scores[rows], alone.sequences_scores, rtol=1e-3)


def test_sampled_sequences_of_one_row_all_carry_its_vector(
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
    by_hand: Made,
) -> None:
    model = tiny_model("gpt2")
    prompts = ragged_prompts(model, 2)
    rows = [prompt.token_ids for prompt in prompts]
    vectors = [
        random_vector(model, sites_at([1], [-1, "generated"]), seed=1),
        random_vector(model, sites_at([2], ["query_last", "generated"]), "replace", seed=2),
    ]
    torch.manual_seed(0)
    with inject(model, vectors, prompts=prompts):
        made = model.hf.generate(
            **in_batch(padded(rows)), **(GREEDY | {"do_sample": True}), num_return_sequences=3
        )
    first = prompts[1].spans["query"][1] - 1
    by_number = random_vector(model, sites_at([2], [first, "generated"]), "replace", seed=2)
    drawn = made.sequences[:, -N_NEW:].tolist()
    assert len({tuple(tokens) for tokens in drawn}) > 2
    for row, tokens in enumerate(drawn):
        prompt, vector = rows[row // 3], (vectors[0], by_number)[row // 3]
        for step in range(N_NEW):
            wanted = by_hand(model, [*prompt, *tokens[:step]], len(prompt), vector)[-1]
            assert torch.allclose(made.logits[step][row], wanted, atol=1e-4), (row, step)


def test_injections_inside_one_another_hold_in_every_step(
    tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    prompt = (1, 5, 6, 7)
    one = random_vector(model, sites_at([1], [-1, "generated"]), seed=1)
    other = random_vector(model, sites_at([1, 2], ["generated"]), seed=2)
    with inject(model, one, strength=2.0), inject(model, other, strength=-1.0):
        made = model.hf.generate(torch.tensor([prompt]), **GREEDY)
    tokens, logits = greedy_by_hand(by_hand, model, prompt, 2 * one - other)
    assert made.sequences[0, -N_NEW:].tolist() == tokens
    assert torch.allclose(torch.cat(made.logits), logits, atol=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_each_generation_inside_begins_with_its_own_prompts(
    use_cache: bool, tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, sites_at([1], [-1, "generated"]))
    prompts = [(1, 5, 6, 7), (1, 5, 6, 7), (1, 9, 8), (1, 9, 8, 3, 3, 3, 3, 3)]
    with inject(model, vector):
        made = [
            model.hf.generate(torch.tensor([prompt]), **GREEDY, use_cache=use_cache)
            for prompt in prompts
        ]
    for prompt, one in zip(prompts, made, strict=True):
        tokens, _ = greedy_by_hand(by_hand, model, prompt, vector)
        assert one.sequences[0, -N_NEW:].tolist() == tokens


def test_plain_calls_on_growing_rows_are_prompts_of_their_own(
    tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, sites_at([1], [-1]))
    rows = [[1, 5], [1, 5, 6], [1, 5, 6, 7]]
    with torch.no_grad(), inject(model, vector):
        found = [model.hf(torch.tensor([tokens])).logits[0] for tokens in rows]
    for tokens, logits in zip(rows, found, strict=True):
        assert torch.allclose(logits, by_hand(model, tokens, len(tokens), vector), atol=1e-5)


def test_right_padded_prompts_can_be_generated_from(
    tiny_model: Made, random_vector: Made, padded: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    prompts = [(1, 5, 6, 7, 8), (1, 9, 8)]
    vector = random_vector(model, sites_at([1], [-1]))
    inputs = in_batch(padded(prompts, "right"))
    made = {}
    for use_cache in (True, False):
        with inject(model, vector):
            made[use_cache] = model.hf.generate(**inputs, **GREEDY, use_cache=use_cache)
    assert torch.equal(made[True].sequences, made[False].sequences)
    tokens, _ = greedy_by_hand(by_hand, model, prompts[0], vector)
    assert made[True].sequences[0, -N_NEW:].tolist() == tokens


def test_embeddings_can_be_the_prompt(tiny_model: Made, random_vector: Made, by_hand: Made) -> None:
    model = tiny_model("llama")
    prompt = (1, 5, 6, 7)
    vector = random_vector(model, sites_at([1], [0, -1, "generated"]))
    entered = model.hf.get_input_embeddings()(torch.tensor([prompt]))
    with inject(model, vector):
        made = model.hf.generate(inputs_embeds=entered, **GREEDY)
    tokens, _ = greedy_by_hand(by_hand, model, prompt, vector)
    assert made.sequences[0].tolist() == tokens


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_5", "gemma3"])
def test_a_multimodal_model_generates_from_a_left_padded_batch(
    name: str, ragged_prompts: Made, random_vector: Made, padded: Made, by_hand: Made
) -> None:
    """Rotary positions have axes for time, height and width; Gemma 3 has a mask for each kind."""
    model = LanguageModel.wrap(build_tiny(name), source=name)
    prompts = [prompt.token_ids for prompt in ragged_prompts(model, 3)]
    vector = random_vector(model, SITES["last"])
    with inject(model, vector):
        made = model.hf.generate(**in_batch(padded(prompts)), **GREEDY)
    for row, prompt in enumerate(prompts):
        tokens, logits = greedy_by_hand(by_hand, model, prompt, vector)
        assert made.sequences[row, -N_NEW:].tolist() == tokens
        found = torch.stack([step[row] for step in made.logits])
        assert torch.allclose(found, logits, atol=1e-3)
