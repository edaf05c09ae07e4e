"""Injection into plain calls: positions, padding, order, rows, and what is refused.

Run with `pytest tests/vectors/test_injection.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from taskvectors.errors import PositionError, TaskVectorsError
from taskvectors.trunk import Trunk
from taskvectors.vectors import Site, TaskVector, inject, sites_at

Made = Callable[..., Any]

# what a vector is made of: sites and operation
CASES: dict[str, tuple[tuple[Site, ...], str]] = {
    "last": (sites_at([2], [-1]), "add"),
    "first and fifth": (sites_at([1], [0, 4]), "add"),
    "last five, four layers": (sites_at([-1, 0, 2, 3], [-5, -4, -3, -2, -1]), "add"),
    "all": (sites_at([1], ["all"]), "add"),
    "names": (sites_at([2], ["query_first", "query_last", "cue", "last"]), "add"),
    "a span and a number": (sites_at([0], ["query", -1]), "add"),
    "replaced": (sites_at([1, 3], [-1]), "replace"),
    "a replaced span": (sites_at([1], ["query"]), "replace"),
    "block input": (sites_at([0, 2], [-1, -2], "resid_pre"), "add"),
    "heads": (sites_at([1, 2], [-1, 4], "z"), "replace"),
    "mlp": (sites_at([1, 3], [-1], "mlp_out"), "add"),
    "attention": (sites_at([1, 3], [-3], "attn_out"), "replace"),
    "turned": (sites_at([0, 2], ["all"], "mlp_out"), "rotate"),
    "turned spans": (sites_at([1], ["query", "cue"]), "rotate"),
}
MIDDLE = {
    "middle": (sites_at([1], [-1, -2], "resid_mid"), "add"),
    "replaced middle": (sites_at([2], [-1], "resid_mid"), "replace"),
}


def hooks_of(model: Any) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules()
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_injecting_equals_the_trunks_branch(
    tiny_name: str,
    side: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 4)
    inputs = padded([p.token_ids + p.answer_ids[:-1] for p in prompts], side)
    plain = model.hf(**inputs).logits
    for name, (sites, operation) in (CASES | ({} if model.is_parallel else MIDDLE)).items():
        vector = random_vector(model, sites, operation)
        trunk = Trunk.build(model, prompts, positions=vector.positions)
        branch = trunk.run([vector.edits()])
        with torch.no_grad(), inject(model, vector, prompts=prompts):
            logits = model.hf(**inputs).logits
        for row, prompt in enumerate(prompts):
            start = int(inputs["attention_mask"][row].argmax()) + len(prompt.token_ids) - 1
            stop = start + len(prompt.answer_ids)
            read = trunk.cut.first_reads[row]
            wanted = model.logits(branch[row, 0, read : read + stop - start])
            found = logits[row, start:stop]
            assert torch.allclose(found, wanted, atol=1e-4), (name, row)
            assert not torch.allclose(found, plain[row, start:stop], atol=1e-2), (name, row)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", [0, 4, -1, -5, "last", "all"])
def test_positions_count_the_tokens_of_the_prompt_whatever_the_padding(
    *,
    position: int | str,
    side: str,
    tiny_kind: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
    by_hand: Made,
) -> None:
    model = tiny_model(tiny_kind)
    rows = [prompt.token_ids for prompt in ragged_prompts(model, 3)]
    vector = random_vector(model, sites_at([0, 2], [position]))
    inputs = padded(rows, side)
    with torch.no_grad(), inject(model, vector):
        logits = model.hf(**inputs).logits
    for row, tokens in enumerate(rows):
        wanted = by_hand(model, tokens, len(tokens), vector)
        found = logits[row][inputs["attention_mask"][row].bool()]
        assert torch.allclose(found, wanted, atol=1e-4)


def test_answer_is_what_follows_the_prompt_in_the_same_call(
    tiny_model: Made, ragged_prompts: Made, random_vector: Made, padded: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 3, answers=(2, 3))
    vector = random_vector(model, sites_at([1], ["answer", -1]))
    rows = [p.token_ids + p.answer_ids for p in prompts]
    with torch.no_grad(), inject(model, vector, prompts=prompts):
        logits = model.hf(**padded(rows, "left")).logits
    for row, (prompt, tokens) in enumerate(zip(prompts, rows, strict=True)):
        wanted = by_hand(model, tokens, len(prompt.token_ids), vector)
        assert torch.allclose(logits[row, -len(tokens) :], wanted, atol=1e-4)


def test_a_zero_vector_changes_no_bit(
    tiny_name: str, tiny_model: Made, ragged_prompts: Made, random_vector: Made, padded: Made
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    inputs = padded([prompt.token_ids for prompt in prompts])
    component = "attn_out" if model.is_parallel else "resid_mid"
    sites = sites_at([-1, 1, 3], [0, -1, "all"]) + sites_at([2], [-1], component)
    plain = model.hf(**inputs).logits
    with inject(model, 0 * random_vector(model, sites)):
        assert torch.equal(model.hf(**inputs).logits, plain)
    with inject(model, random_vector(model, sites), strength=0.0):
        assert torch.equal(model.hf(**inputs).logits, plain)


def test_after_injecting_the_model_is_as_before(
    tiny_kind: str, tiny_model: Made, ragged_prompts: Made, random_vector: Made, padded: Made
) -> None:
    model = tiny_model(tiny_kind)
    inputs = padded([prompt.token_ids for prompt in ragged_prompts(model, 2)])
    hooks, plain = hooks_of(model), model.hf(**inputs).logits
    with inject(model, random_vector(model, sites_at([-1, 2], [-1]))):
        assert hooks_of(model) > hooks
        assert not torch.equal(model.hf(**inputs).logits, plain)
    assert hooks_of(model) == hooks
    assert torch.equal(model.hf(**inputs).logits, plain)


def test_hooks_are_gone_after_an_exception_which_is_not_masked(
    tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    hooks = hooks_of(model)
    vector = random_vector(model, sites_at([1], [-1]))
    with pytest.raises(ZeroDivisionError), inject(model, vector):
        raise ZeroDivisionError
    with pytest.raises(PositionError), inject(model, vector + random_vector(model, [Site(2, 9)])):
        model.hf(input_ids=torch.tensor([[1, 5, 6]]))
    assert hooks_of(model) == hooks


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_give_the_same_logits(
    mode: Any, tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, sites_at([1], [-1]))
    with mode(), inject(model, vector):
        logits = model.hf(input_ids=torch.tensor([[1, 5, 6]])).logits[0]
    assert torch.allclose(logits, by_hand(model, [1, 5, 6], 3, vector), atol=1e-5)


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("in_place", [False, True])
def test_models_compiled_before_carry_the_vector_too(
    in_place: bool, fresh_model: Made, random_vector: Made, padded: Made
) -> None:
    model = fresh_model("llama")
    inputs = padded([[1, 5, 6, 7], [1, 8, 9]])
    vector = random_vector(model, sites_at([1], [-1]))
    runs = []

    def backend(graph: Any, _: Any) -> Any:
        def run(*args: Any) -> Any:
            runs.append(graph)
            return graph(*args)

        return run

    with torch.no_grad():
        plain = model.hf(**inputs).logits
        with inject(model, vector):
            wanted = model.hf(**inputs).logits
        if in_place:
            model.hf.compile(backend=backend)
        compiled = model.hf if in_place else torch.compile(model.hf, backend=backend)
        assert torch.allclose(compiled(**inputs).logits, plain, atol=1e-5)
        n_before = len(runs)
        assert n_before > 0
        with inject(model, vector):
            assert torch.equal(compiled(**inputs).logits, wanted)
        assert len(runs) == n_before
        assert torch.allclose(compiled(**inputs).logits, plain, atol=1e-5)
        assert len(runs) > n_before


def test_values_are_added_in_the_type_of_the_stream(
    fresh_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = fresh_model("llama")
    model.hf.bfloat16()
    vector = random_vector(model, sites_at([1], [-1]))
    with torch.no_grad(), inject(model, vector):
        logits = model.hf(input_ids=torch.tensor([[1, 5, 6]])).logits[0]
    assert logits.dtype == torch.bfloat16
    assert torch.equal(logits, by_hand(model, [1, 5, 6], 3, vector))


def test_embeddings_can_be_given_in_place_of_tokens(
    tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, sites_at([-1, 1], [0, -1]))
    entered = model.hf.get_input_embeddings()(torch.tensor([[1, 5, 6]]))
    with torch.no_grad(), inject(model, vector):
        logits = model.hf(inputs_embeds=entered).logits[0]
    assert torch.allclose(logits, by_hand(model, [1, 5, 6], 3, vector), atol=1e-5)


def test_the_body_alone_may_be_called(
    tiny_kind: str, tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model(tiny_kind)
    tokens = torch.tensor([[1, 5, 6]])
    with torch.no_grad():
        plain = model.body(tokens).last_hidden_state
        with inject(model, random_vector(model, sites_at([1], [-1]))):
            state = model.body(tokens).last_hidden_state
    assert torch.equal(state[:, :2], plain[:, :2])
    assert not torch.allclose(state[:, 2], plain[:, 2])


def test_blocks_that_are_run_outside_a_call_are_left_alone(
    tiny_model: Made, ragged_prompts: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 2, lengths=(8, 8))
    branch = random_vector(model, [Site(0, -1)], seed=1).edits()
    trunk = Trunk.build(model, prompts, positions=("all",))
    plain = trunk.run([branch])
    with inject(model, random_vector(model, [Site(1, -1)])):
        model.hf(torch.tensor([prompt.token_ids for prompt in prompts]))
        assert torch.equal(trunk.run([branch]), plain)


def test_what_is_written_after_attention_stays_when_the_embedding_is_written_too(
    tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    sites = [Site(0, -1, "resid_mid"), Site(-1, -1)]
    vector = random_vector(model, sites, "replace")
    upwards = TaskVector(
        values=vector.values.flip(0), sites=tuple(sites[::-1]), operation="replace"
    )
    with torch.no_grad(), inject(model, vector):
        logits = model.hf(input_ids=torch.tensor([[1, 5, 6]])).logits[0]
    assert torch.allclose(logits, by_hand(model, [1, 5, 6], 3, upwards), atol=1e-5)


# --- several vectors


def test_injections_inside_one_another_act_in_order_of_entry(
    tiny_model: Made, random_vector: Made, by_hand: Made
) -> None:
    model = tiny_model("llama")
    tokens = torch.tensor([[1, 5, 6]])
    added = random_vector(model, [Site(1, -1)], seed=1)
    # the input of block 2 is the output of block 1: the same place under its other name
    written = random_vector(model, [Site(2, -1, "resid_pre")], "replace", seed=2)
    both = TaskVector(values=added.values + written.values, sites=added.sites, operation="replace")
    with torch.no_grad():
        with inject(model, added), inject(model, written):
            first_added = model.hf(input_ids=tokens).logits[0]
        with inject(model, written), inject(model, added):
            last_added = model.hf(input_ids=tokens).logits[0]
    assert torch.allclose(first_added, by_hand(model, [1, 5, 6], 3, written), atol=1e-5)
    assert torch.allclose(last_added, by_hand(model, [1, 5, 6], 3, both), atol=1e-5)


def test_strengths_multiply_what_is_added(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("gpt2")
    tokens = torch.tensor([[1, 5, 6]])
    vector = random_vector(model, sites_at([1, 2], [-1, "all"]))
    with torch.no_grad():
        with inject(model, -0.5 * vector):
            wanted = model.hf(input_ids=tokens).logits
        with inject(model, vector, strength=-0.5):
            assert torch.allclose(model.hf(input_ids=tokens).logits, wanted, atol=1e-5)
        with inject(model, vector, strength=-1.5), inject(model, vector):
            assert torch.allclose(model.hf(input_ids=tokens).logits, wanted, atol=1e-4)


def test_a_replacing_vector_has_no_strength(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)], "replace")
    with (
        pytest.raises(TaskVectorsError, match=r"strength 2 .*replaces"),
        inject(model, vector, strength=2),
    ):
        pass


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_row_can_have_its_own_vector_or_none(
    *,
    side: str,
    tiny_kind: str,
    tiny_model: Made,
    ragged_prompts: Made,
    random_vector: Made,
    padded: Made,
    by_hand: Made,
) -> None:
    model = tiny_model(tiny_kind)
    rows = [prompt.token_ids for prompt in ragged_prompts(model, 5)]
    one = random_vector(model, sites_at([1, 2], [-1]), seed=1)
    other = random_vector(model, sites_at([-1, 2], [0, -1, -3]), seed=2)
    written = random_vector(model, [Site(2, -1)], "replace", seed=3)
    vectors = [one, None, other, one, written]
    inputs = padded(rows, side)
    with torch.no_grad(), inject(model, vectors):
        logits = model.hf(**inputs).logits
    for row, (tokens, vector) in enumerate(zip(rows, vectors, strict=True)):
        found = logits[row][inputs["attention_mask"][row].bool()]
        wanted = by_hand(model, tokens, len(tokens), vector)
        assert torch.allclose(found, wanted, atol=1e-4), row


def test_rows_without_any_vector_are_left_alone(tiny_model: Made) -> None:
    model = tiny_model("llama")
    tokens = torch.tensor([[1, 5], [1, 6]])
    with inject(model, [None, None]):
        assert torch.equal(model.hf(tokens).logits, model.hf(tokens).logits)


PADDED = {
    "gpt2": ("left", False, True),
    "gpt2 with position ids": ("left", True, False),
    "gpt2 on the right": ("right", False, False),
    "opt": ("left", False, False),
    "llama": ("left", False, False),
}
"""Side, whether position ids are given, whether the model counts padding."""


@pytest.mark.parametrize("name", PADDED)
def test_padding_that_a_model_counts_as_positions_is_warned_of(
    tiny_model: Any, random_vector: Any, padded: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    side, with_ids, warns = PADDED[name]
    model = tiny_model(name.split(maxsplit=1)[0])
    call = padded([[5, 6, 7, 8, 9], [10, 11]], side)
    if not with_ids:
        del call["position_ids"]
    vector = random_vector(model, [Site(1, -1)])
    with torch.no_grad(), inject(model, vector):
        model.hf(**call)
        out = model.hf(**call).logits[1, -1 if side == "left" else 1]
    assert caplog.text.count("counts the padding as positions") == int(warns)
    with torch.no_grad(), inject(model, vector):
        alone = model.hf(input_ids=torch.tensor([[10, 11]])).logits[0, -1]
    # the warning is true, and its absence, too
    assert bool((out - alone).abs().max() > 1e-3) == warns
