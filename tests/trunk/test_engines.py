"""Three engines, one interface: each gives what full passes give, and the check picks one.

Run with `pytest tests/trunk/test_engines.py`.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import Spec, branches_of, full_logits, positions_of, running
from newer_types import NEWER

from taskvectors.errors import UnsupportedModelError
from taskvectors.models import (
    Engine,
    LanguageModel,
    attention,
    capture,
    identity,
    patch,
    trace,
)
from taskvectors.models.adapters import BiasAdapter, biased_modules
from taskvectors.models.prefix import after_prefix
from taskvectors.models.tiny import build_tiny
from taskvectors.trunk import Edit, FullForward, Trunk
from taskvectors.trunk.answers import answer_states
from taskvectors.vectors import Site, TaskVector, inject

TOLERANCE = 1e-4
STREAM: list[list[Spec]] = [
    [{"layer": 1}],
    [{"layer": -1, "positions": (-3,)}, {"layer": 2, "positions": (-3, -1), "each": "position"}],
    [{"layer": 2, "operation": "replace"}],
    [{"layer": 0, "operation": "rotate", "positions": (-2,)}],
    [],
]
PARTS: list[list[Spec]] = [
    [{"layer": 1, "component": "z", "head": 2, "operation": "replace"}, {"layer": 2}],
    [{"layer": 2, "component": "mlp_out", "each": "prompt"}],
    [{"layer": 1, "component": "attn_out", "positions": (-3, -1), "each": "position"}],
    [{"layer": 3, "component": "resid_mid"}],
]


def largest_difference(
    model: LanguageModel, prompts: Any, case: list[list[Spec]], rows: list[int]
) -> float:
    """Between branches of some prompts and full passes with the same edits, as the check counts it.

    Where logits are larger than 1, in parts of the largest: that is where float32 rounds.
    """
    branches = branches_of(model, case, prompts)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    batch = trunk.batch(rows)
    found = [0.0]
    with torch.no_grad():
        read = model.read_state(trunk.answer_states(trunk.run(branches, batch), batch))
        logits = model.unembedding.logits(read)
        for at, row in enumerate(rows):
            for b, branch in enumerate(branches):
                full = full_logits(model, prompts[row], branch, row)
                difference = (logits[batch.read_rows == at, b] - full).abs().max()
                found.append(float(difference / full.abs().max().clamp(min=1.0)))
    return max(found)


@pytest.mark.parametrize("name", NEWER)
def test_a_newer_type_runs_exactly_on_its_engine(
    tiny_model: Any, ragged_prompts: Any, name: str
) -> None:
    model = tiny_model(name)
    assert model.engine == NEWER[name][0], model.verified.reasons
    prompts = ragged_prompts(model, 4)
    for rows in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        assert largest_difference(model, prompts, STREAM, rows) < TOLERANCE


WRAPPERS: dict[str, Engine] = {
    "gemma3": "trunk",
    "gemma4": "trunk",
    "mistral3": "trunk",
    "qwen3_vl": "trunk",
    "qwen3_5": "cached",
    "qwen3_5_moe": "cached",
}
"""Of the types that users bring, those whose text model sits inside a multimodal one."""


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_text_model_inside_a_multimodal_one_runs_exactly(
    fresh_model: Any, ragged_prompts: Any, name: str
) -> None:
    model = LanguageModel.wrap(build_tiny(name), source=name)
    assert "ForConditionalGeneration" in type(model.hf).__name__
    assert model.engine == WRAPPERS[name], model.verified.reasons
    prompts = ragged_prompts(model, 4)
    for rows in ([0, 1, 2, 3], [3, 1]):
        assert largest_difference(model, prompts, STREAM, rows) < TOLERANCE


@pytest.mark.parametrize("engine", ["cached", "whole"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "granite"])
def test_every_edit_gives_the_same_on_every_engine(
    fresh_model: Any, ragged_prompts: Any, name: str, engine: Engine
) -> None:
    model = running(fresh_model(name), engine)
    prompts = ragged_prompts(model, 4)
    assert largest_difference(model, prompts, STREAM + PARTS, [3, 0, 1]) < TOLERANCE


@pytest.mark.parametrize("engine", ["cached", "whole"])
def test_states_losses_and_gradients_are_those_of_the_trunk(
    fresh_model: Any, ragged_prompts: Any, engine: Engine
) -> None:
    found = []
    for runs_on in ("trunk", engine):
        model = running(fresh_model("llama"), runs_on)
        prompts = ragged_prompts(model, 5)
        trunk = Trunk.build(model, prompts, positions=(-3,), sites=[(2, "z")])
        value = torch.linspace(-1, 1, model.d_model, requires_grad=True)
        branches = [[Edit(layer=layer, value=value, positions=(-3, -1))] for layer in (0, 2)]
        batch = trunk.batch([4, 1, 2])
        states, read = trunk.run_and_read(branches, [(1, "z"), (3, "mlp_out")], batch)
        losses = trunk.answer_losses(states, batch)
        (gradient,) = torch.autograd.grad(losses.sum(), value)
        scores = trunk.answer_scores(states.detach(), batch)
        last = batch.reads.view(-1)  # padding after an answer may hold anything
        at_reads = [state.transpose(1, 2).flatten(0, 1)[last] for state in read.values()]
        plain = [trunk.states(1, (-3, -1)), trunk.read(2, "z", (-1,))]
        found.append([losses, gradient, scores.log_probability, *at_reads, *plain])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n, (engine, _) in NEWER.items() if engine != "trunk"])
def test_gradients_go_through_a_model_that_writes_over_its_own_cache(
    tiny_model: Any, ragged_prompts: Any, name: str
) -> None:
    model = tiny_model(name)
    trunk = Trunk.build(model, ragged_prompts(model, 3), positions=(-3,))
    direction = torch.linspace(-1, 1, model.d_model)

    def loss(value: torch.Tensor, positions: tuple[int, ...]) -> torch.Tensor:
        branch = [Edit(layer=1, value=value, positions=positions)]
        return trunk.answer_losses(trunk.run([branch, branch]), trunk.batch()).sum()

    for positions in ((-1,), (-3, -1)):
        value = torch.zeros(model.d_model, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(value, positions), value)
        with torch.no_grad():
            ends = [loss(step * direction, positions) for step in (0.001, -0.001)]
        slope = float(ends[0] - ends[1]) / 0.002
        assert float(gradient @ direction) == pytest.approx(slope, rel=0.02, abs=0.01)


def afresh(model: LanguageModel) -> None:
    """Forget the scale of a longer call, which transformers keeps for `dynamic`."""
    rotary = model.hf.model.rotary_emb
    if rotary.rope_type == "dynamic":
        rotary.max_seq_len_cached = rotary.config.max_position_embeddings
        rotary.inv_freq = rotary.original_inv_freq.clone()


ROPES = pytest.mark.parametrize(
    "rope",
    [
        {
            "rope_type": "longrope",
            "short_factor": [1.0] * 6,
            "long_factor": [4.0, 3.0, 2.0, 5.0, 6.0, 7.0],
            "factor": 4.0,
            "original_max_position_embeddings": 11,
            "rope_theta": 10000.0,
        },
        {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    ],
    ids=["longrope", "dynamic"],
)


def scaled(fresh_model: Any, rope: dict[str, Any], name: str = "llama") -> LanguageModel:
    """A model whose rotary positions change at 11 tokens, for any engine."""
    changes = {"max_position_embeddings": 11} if rope["rope_type"] == "dynamic" else {}
    model: LanguageModel = running(fresh_model(name, rope_parameters=rope, **changes), "trunk")
    # the reference starts afresh each time; what runs branches calls the body alone
    model.hf.register_forward_pre_hook(lambda *_: afresh(model))
    assert model.rope_limit == 11
    return model


@ROPES
def test_a_prompt_over_the_limit_of_its_rotary_positions_changes_no_other(
    fresh_model: Any, ragged_prompts: Any, rope: dict[str, Any]
) -> None:
    model = scaled(fresh_model, rope)
    short_factors = model.hf.model.rotary_emb.original_inv_freq.clone()
    prompts = ragged_prompts(model, 6)
    lengths = {len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts}
    assert min(lengths) <= 11 < max(lengths)
    assert largest_difference(model, prompts, STREAM, [0, 1, 2, 3, 4, 5]) < TOLERANCE
    assert largest_difference(model, prompts, STREAM, [5, 2]) < TOLERANCE
    assert torch.equal(model.hf.model.rotary_emb.original_inv_freq, short_factors)


@ROPES
@pytest.mark.parametrize("n_before", [0, 3])
def test_whole_passes_and_what_follows_a_prefix_are_split_at_the_limit_too(
    fresh_model: Any, ragged_prompts: Any, rope: dict[str, Any], n_before: int
) -> None:
    model = scaled(fresh_model, rope, "llama-biased")
    prompts = ragged_prompts(model, 6)
    before = prompts[0].token_ids[:n_before]
    prompts = [replace(p, token_ids=before + p.token_ids[n_before:]) for p in prompts]
    rest = [replace(prompt, token_ids=prompt.token_ids[n_before:]) for prompt in prompts]
    nothing = BiasAdapter(modules=tuple(biased_modules(model, [1])))
    with nothing.on(model) as adapted:
        forwards = [after_prefix(model, before), *([] if n_before else [adapted.forward])]
        for forward in forwards:
            passes = FullForward.of(model, rest, forward)
            batch = passes.batch([5, 0, 1, 2, 4, 3])
            with torch.no_grad():
                logits = model.logits(answer_states(passes.run(batch), batch))[:, 0]
                for at, row in enumerate([5, 0, 1, 2, 4, 3]):
                    expected = full_logits(model, prompts[row], [])
                    found = logits[batch.read_rows == at]
                    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


# --- the check


def test_a_branch_that_drops_an_argument_is_caught_and_another_engine_runs(
    fresh_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh_model("gpt_oss")
    assert identity.verify(model).engine == "trunk"
    own = attention._pattern
    monkeypatch.setattr(attention, "_pattern", lambda scores, _: own(scores, None))
    found = identity.verify(model)
    assert found.engine == "cached"
    assert "differ" in found.reasons["trunk"]


def test_an_argument_that_branches_do_not_know_is_not_ignored(tiny_model: Any) -> None:
    module = tiny_model("llama").blocks[0]
    with pytest.raises(UnsupportedModelError, match="passes position_bias to attention"):
        attention._check_known(module, {"position_bias": torch.zeros(1), "dropout": 0.0})


def test_attention_that_sees_later_tokens_is_refused(fresh_model: Any) -> None:
    model = fresh_model("gemma3_text", use_bidirectional_attention=True)
    with pytest.raises(UnsupportedModelError, match="is not causal"):
        _ = model.engine


def test_blocks_that_never_run_are_refused(fresh_model: Any) -> None:
    model = fresh_model("llama")
    model.__dict__["blocks"] = tuple(deepcopy(model.hf.model.layers))
    with pytest.raises(UnsupportedModelError, match="never runs"):
        identity.verify(model)


def test_what_the_check_found_is_kept_by_the_weights(
    fresh_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fresh_model("gpt2", seed=31).verified
    ran: list[LanguageModel] = []
    verify = identity.verify
    monkeypatch.setattr(identity, "verify", lambda model: ran.append(model) or verify(model))
    assert fresh_model("gpt2", seed=31).verified == first
    assert not ran
    assert fresh_model("gpt2", seed=32).engine == "trunk"
    assert len(ran) == 1


def test_a_model_in_half_precision_is_checked_in_float32(fresh_model: Any) -> None:
    model = fresh_model("llama")
    model.hf.bfloat16()
    assert identity.verify(model).error < 1e-4
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_check_copies_the_first_words_of_a_large_vocabulary(
    fresh_model: Any, is_tied: bool
) -> None:
    model = fresh_model("llama", vocab_size=9000, tie_word_embeddings=is_tied, pad_token_id=8999)
    model.hf.bfloat16()
    before = {name: p.clone() for name, p in model.hf.named_parameters()}
    copied = identity._in_float32(model)
    tables = copied.hf.get_input_embeddings(), copied.hf.get_output_embeddings()
    assert [table.weight.shape[0] for table in tables] == [trace.FIRST_WORDS] * 2
    assert (tables[0].weight is tables[1].weight) == is_tied
    assert {p.dtype for p in copied.hf.parameters()} == {torch.float32}
    assert identity.verify(model).error < 1e-4
    assert model.d_vocab == 9000
    assert all(torch.equal(p, before[name]) for name, p in model.hf.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_around_the_first_use_takes_no_part_in_the_check(
    fresh_model: Any, dtype: torch.dtype
) -> None:
    seed = 41 if dtype == torch.float32 else 42  # not kept by another test
    model = fresh_model("llama", seed=seed)
    model.hf.to(dtype)
    vector = TaskVector(values=torch.full((1, model.d_model), 3.0), sites=(Site(1, -1),))
    seen: list[torch.Tensor] = []
    calls = iter(range(1000))

    def other_each_time(state: torch.Tensor) -> torch.Tensor:
        return state * next(calls)

    with (
        patch(model, 0, "resid_post", other_each_time),
        capture(model, 2, "mlp_out", seen.append),
        inject(model, vector),
    ):
        assert model.engine == "trunk", model.verified.reasons
        assert model.verified.error < 1e-4
        assert not seen
        assert next(calls) == 0
        with torch.no_grad():
            model.hf(torch.tensor([[1, 2, 3]]))
        assert len(seen) == 1
        assert next(calls) == 2


def test_the_check_is_a_few_short_passes(fresh_model: Any) -> None:
    model = fresh_model("llama")
    tokens: list[int] = []
    model.body.register_forward_pre_hook(
        lambda _, args, given: tokens.append(given["input_ids"].numel()), with_kwargs=True
    )
    assert identity.verify(model).engine == "trunk"
    assert len(tokens) == 6  # causality, three full passes, prefixes, what follows them
    assert sum(tokens) < 160


# --- parts that a model does not have


def test_a_missing_site_is_an_error_that_names_what_needs_it(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("qwen3_5_text")
    trunk = Trunk.build(model, ragged_prompts(model, 2))
    heads = Edit(layer=0, component="z", value=torch.zeros(model.d_model))
    with pytest.raises(UnsupportedModelError, match="function vectors"):
        trunk.run([[heads]])
    patterns = pytest.raises(UnsupportedModelError, match="attention patterns of branches")
    with patterns, attention.record_attention(model):
        pass
