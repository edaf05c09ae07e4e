"""What a trunk keeps, how answers are read from branches, and what goes wrong with a word.

Run with `pytest tests/trunk/test_engine.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import Spec, branches_of, full_logits, positions_of
from torch import Tensor

from taskvectors.errors import PositionError, UnsupportedModelError
from taskvectors.models import LanguageModel, replay
from taskvectors.models.attention import SharedContext
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk

THREE_BRANCHES: list[list[Spec]] = [
    [{"layer": 1, "positions": (-3, -1), "each": "position"}],
    [],
    [{"layer": 0, "component": "mlp_out"}],
]


def made(
    model: LanguageModel, prompts: Sequence[Prompt], case: Sequence[Sequence[Spec]] = THREE_BRANCHES
) -> tuple[Trunk, list[list[Edit]]]:
    branches = branches_of(model, case, prompts)
    return Trunk.build(model, prompts, positions=positions_of(branches)), branches


def n_hooks(model: LanguageModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


# --- answers


@pytest.mark.parametrize(("rows", "is_biased"), [(None, False), ([4, 1, 1], True)])
def test_answers_are_scored_as_a_loop_over_prompts_does(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str, rows: list[int] | None, is_biased: bool
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 5, answers=(1, 4))
    trunk, branches = made(model, prompts)
    bias = torch.linspace(-4, 4, model.d_vocab).roll(77) if is_biased else None
    batch = trunk.batch(rows)
    with torch.no_grad():
        states = trunk.run(branches, batch)
        scores = trunk.answer_scores(states, batch, first_bias=bias)
        losses = trunk.answer_losses(states, batch)
    means = torch.zeros(len(branches))
    chosen = range(len(prompts)) if rows is None else rows
    for row, number in enumerate(chosen):
        answer = torch.tensor(prompts[number].answer_ids)
        for b, branch in enumerate(branches):
            with torch.no_grad():
                logits = full_logits(model, prompts[number], branch, number)
            means[b] -= logits.log_softmax(dim=1).gather(1, answer[:, None]).mean() / len(chosen)
            if bias is not None:
                logits[0] += bias
            expected = logits.log_softmax(dim=1).gather(1, answer[:, None])[:, 0]
            n = len(answer)
            found = scores.log_probability[row, b]
            torch.testing.assert_close(found[:n], expected, atol=1e-4, rtol=1e-4)
            assert not found[n:].any()
            best = logits.argmax(dim=1)
            assert scores.best[row, b].tolist() == best.tolist() + [-1] * (len(found) - n)
            assert scores.is_best[row, b, :n].tolist() == (best == answer).tolist()
            assert bool(scores.is_best[row, b, n:].all())
        assert scores.present[row].tolist() == [slot < n for slot in range(len(found))]
    torch.testing.assert_close(losses, means, atol=1e-4, rtol=1e-4)


def test_an_answer_that_is_the_arg_max_is_seen_as_such(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    greedy = []
    for prompt in ragged_prompts(model, 3, answers=(2, 2)):
        best: list[int] = []
        for _ in range(2):
            with torch.no_grad():
                ids = torch.tensor([[*prompt.token_ids, *best]])
                best.append(int(model.hf(input_ids=ids).logits[0, -1].argmax()))
        greedy.append(replace(prompt, answer_ids=tuple(best)))
    greedy.append(replace(greedy[0], answer_ids=(greedy[0].answer_ids[0], 5)))
    trunk = Trunk.build(model, greedy)
    batch = trunk.batch()
    scores = trunk.answer_scores(trunk.run([[]], batch), batch)
    assert scores.is_best[:, 0].all(dim=1).tolist() == [True, True, True, False]


def test_batches_of_one_shape_give_the_same_losses_and_scores(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 6, answers=(1, 6))
    trunk, branches = made(model, prompts)
    shapes = set()
    for rows in ([0, 1, 2], [5, 3, 0], [4, 4, 1]):
        exact, padded = trunk.batch(rows), trunk.batch(rows, n_reads=18)
        with torch.no_grad():
            states, padded_states = trunk.run(branches, exact), trunk.run(branches, padded)
        torch.testing.assert_close(
            trunk.answer_losses(padded_states, padded), trunk.answer_losses(states, exact)
        )
        ours = trunk.answer_scores(padded_states, padded)
        reference = trunk.answer_scores(states, exact)
        torch.testing.assert_close(ours.log_probability, reference.log_probability)
        assert torch.equal(ours.best, reference.best)
        assert torch.equal(ours.present, reference.present)
        shapes.add((padded_states.shape, padded.reads.shape, padded.packing.n_tokens))
    assert len(shapes) == 1
    with pytest.raises(ValueError, match="n_reads is 2, but these prompts have"):
        trunk.batch([0, 1, 2], n_reads=2)


# --- what is shared


def address(tensor: Tensor | None) -> int:
    assert tensor is not None
    return tensor.data_ptr()


def test_the_trunk_is_shared_and_never_written_or_differentiated(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_name)
    trunk, branches = made(model, ragged_prompts(model, 4))
    layers = trunk.prepared.layers
    kept = [[t for t in (r.keys, r.values, r.entered) if t is not None] for r in layers]
    before = [[(t.data_ptr(), t.clone()) for t in tensors] for tensors in kept]
    met: list[SharedContext] = []
    sharing = replay.sharing
    monkeypatch.setattr(replay, "sharing", lambda shared: met.append(shared) or sharing(shared))
    values = [edit.value.requires_grad_() for branch in branches for edit in branch]
    whole, some = trunk.batch(n_reads=99), trunk.batch([2, 0])
    for batch in (whole, some):
        losses = trunk.answer_losses(trunk.run(branches, batch), batch)
        torch.autograd.grad(losses.sum(), values)
    # branches replay blocks 0 (for mlp_out) to 3, twice
    assert len(met) == 8
    for layer, shared in zip(layers, met, strict=False):
        # all prompts, three branches: the very tensors that were recorded
        assert address(shared.keys) == address(layer.keys)
        assert address(shared.values) == address(layer.values)
    for shared in met[4:]:
        # a mini-batch gathers its rows, once for all branches
        assert shared.keys is not None
        assert shared.keys.shape[:2] == (2, model.n_key_value_heads)
        assert not shared.keys.requires_grad
    for tensors, were in zip(kept, before, strict=True):
        for tensor, (pointer, copy) in zip(tensors, were, strict=True):
            assert tensor.data_ptr() == pointer
            assert torch.equal(tensor, copy)
            assert not tensor.requires_grad


def test_branches_leave_the_model_as_it_was(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 2)
    tokens = torch.tensor([prompts[0].token_ids])
    attention, hooks = model.config._attn_implementation, n_hooks(model)
    with torch.no_grad():
        plain = model.hf(input_ids=tokens).logits
    trunk, branches = made(model, prompts)
    trunk.run(branches)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    handle = model.blocks[0].register_forward_hook(fail)  # while mlp_out of block 0 is edited
    with pytest.raises(ZeroDivisionError):
        trunk.run(branches)
    handle.remove()
    assert model.config._attn_implementation == attention
    assert n_hooks(model) == hooks
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    with torch.no_grad():
        assert torch.equal(model.hf(input_ids=tokens).logits, plain)


def test_the_memory_of_a_trunk_is_that_of_what_it_keeps(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    small, large = (
        Trunk.build(model, ragged_prompts(model, n, lengths=(9, 9), answers=(1, 1))) for n in (3, 6)
    )
    keys = 2 * 4 * 8 * model.n_key_value_heads * model.d_head  # both, layers, prefix
    assert small.bytes_held >= 3 * 4 * keys
    assert small.bytes_held < 3 * 4 * keys * 2
    assert large.bytes_held == 2 * small.bytes_held


# --- errors


def test_a_position_that_a_prompt_does_not_have_is_an_error(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4, lengths=(7, 9))
    with pytest.raises(PositionError, match="no position 7"):
        Trunk.build(model, ragged_prompts(model, 1, lengths=(7, 7)), positions=(7,))
    with pytest.raises(PositionError, match="no position -10"):
        Trunk.build(model, prompts, positions=(-10,))


def test_an_edit_before_the_cut_is_an_error(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    trunk = Trunk.build(model, ragged_prompts(model, 3), positions=(-2,))
    value = torch.ones(model.d_model)
    trunk.run([[Edit(layer=1, positions=(-1,), value=value)]])
    with pytest.raises(ValueError, match="before the cut"):
        trunk.run([[Edit(layer=1, positions=(-3,), value=value)]])


# Found missing in the engine; strict, so that a mark goes when its cause does.

NO_SUCH_SITE: dict[str, tuple[str, dict[str, Any]]] = {
    "a layer above the last": ("llama", {"layer": 4}),
    "a layer below the embedding": ("llama", {"layer": -2}),
    "z of the embedding": ("llama", {"layer": -1, "component": "z"}),
    "mlp_out above the last": ("llama", {"layer": 4, "component": "mlp_out"}),
    "after attention in a parallel block": ("gpt_neox", {"layer": 1, "component": "resid_mid"}),
}


@pytest.mark.parametrize(
    "case",
    list(NO_SUCH_SITE),
)
def test_an_edit_at_a_site_that_the_model_lacks_is_an_error(
    tiny_model: Any, ragged_prompts: Any, case: str
) -> None:
    name, spec = NO_SUCH_SITE[case]
    model = tiny_model(name)
    trunk = Trunk.build(model, ragged_prompts(model, 2))
    vector = torch.ones(model.d_model)
    with pytest.raises(UnsupportedModelError, match="does not exist"):
        trunk.run([[Edit(layer=1, value=vector)], [Edit(value=vector, **spec)]])


MISSHAPEN: dict[str, dict[str, Any]] = {
    "too wide": {"layer": 1, "value": torch.ones(33)},
    "too narrow": {"layer": 1, "value": torch.ones(31)},
    "of one head, for all": {"layer": 1, "component": "z", "value": torch.ones(12)},
    "of all heads, for one": {"layer": 1, "component": "z", "head": 1, "value": torch.ones(48)},
    "for more positions": {"layer": 1, "positions": (-1,), "value": torch.ones(2, 32)},
}


@pytest.mark.parametrize("case", MISSHAPEN)
def test_a_value_that_does_not_fit_its_site_is_an_error(
    tiny_model: Any, ragged_prompts: Any, case: str
) -> None:
    # scatter takes a source that is too wide without a word, and uses its beginning
    model = tiny_model("llama")
    trunk = Trunk.build(model, ragged_prompts(model, 2))
    with pytest.raises(ValueError, match="value"):
        trunk.run([[Edit(**MISSHAPEN[case])]])


@pytest.mark.parametrize(("head", "component"), [(4, "z"), (-1, "z"), (0, "resid_post")])
def test_a_head_that_does_not_exist_is_an_error(
    tiny_model: Any, ragged_prompts: Any, head: int, component: Any
) -> None:
    # its index would be that of another head, in the next token
    model = tiny_model("llama")
    trunk = Trunk.build(model, ragged_prompts(model, 2))
    width = model.d_head if component == "z" else model.d_model // model.n_heads
    edit = Edit(layer=1, component=component, head=head, value=torch.ones(width))
    with pytest.raises(UnsupportedModelError, match="head"):
        trunk.run([[edit], []])


def test_edits_of_one_site_are_made_in_the_order_given(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 3)
    case: list[list[Spec]] = [
        [{"layer": 1, "operation": "replace"}, {"layer": 1}],
        [{"layer": 1}, {"layer": 1, "operation": "replace"}],
        # of two values for one token the later one stays
        [{"layer": 1, "operation": "replace"}, {"layer": 1, "operation": "replace"}],
        [
            {"layer": 1, "positions": (-2, -1), "operation": "replace"},
            {"layer": 1, "positions": (-1,), "operation": "replace"},
        ],
        [
            {"layer": 1, "component": "z", "head": 1, "operation": "replace"},
            {"layer": 1, "component": "z", "head": 0, "operation": "replace"},
            {"layer": 1, "component": "z", "head": 1, "operation": "replace"},
        ],
    ]
    trunk, branches = made(model, prompts, case)
    batch = trunk.batch()
    with torch.no_grad():
        found: Tensor = model.logits(trunk.answer_states(trunk.run(branches, batch), batch))
        for i, prompt in enumerate(prompts):
            for b, branch in enumerate(branches):
                expected = full_logits(model, prompt, branch, i)
                ours = found[batch.read_rows == i, b]
                torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_an_edit_that_replaces_one_token_twice_is_an_error(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 3)
    trunk = Trunk.build(model, prompts)
    value = torch.ones(2, model.d_model)
    twice = Edit(layer=1, positions=(-1, "last"), operation="replace", value=value)
    with pytest.raises(PositionError, match=r"-1, last are one token of prompt 0.*name each token"):
        trunk.run([[twice]])
    with torch.no_grad():  # what is added twice is added twice
        once = Edit(layer=1, value=2 * value[0])
        both = trunk.run([[replace(twice, operation="add")], [once]])
    torch.testing.assert_close(both[:, 0], both[:, 1])


def test_nothing_is_replaced_after_a_prompt_whose_answer_is_one_token(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 2, answers=(2, 2)) + ragged_prompts(model, 1, answers=(1, 1))
    value = torch.ones(model.d_model)
    trunk = Trunk.build(model, prompts, positions=("generated",))
    trunk.run([[Edit(layer=1, positions=("generated",), value=value)]])
    edit = Edit(layer=1, positions=("generated",), value=value, operation="replace")
    with pytest.raises(PositionError, match="its answer is one token"):
        trunk.run([[edit]])
