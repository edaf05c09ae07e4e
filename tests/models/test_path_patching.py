"""A vector that enters the values, or the MLP, alone: as a whole forward pass with plain hooks.

Run with `pytest tests/models/test_entering.py`.
"""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taskvectors.models import LanguageModel
from taskvectors.models.attention import record_attention
from taskvectors.models.heads import value_weights
from taskvectors.models.norms import final_linear_part, linear_part
from taskvectors.models.path_patching import entering_mlp, entering_values
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk

LAYERS = (1, 3)


def vectors(model: LanguageModel) -> Tensor:
    return torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0)) * 2


def branch_logits(model: LanguageModel, prompts: list[Prompt], enter: Any) -> Tensor:
    """Logits at the answers' tokens: two branches, each with its own vector."""
    trunk = Trunk.build(model, prompts)
    nothing = [Edit(layer=0, value=torch.zeros(model.d_model))]
    with torch.no_grad(), enter(model, LAYERS, vectors(model)):
        states = trunk.run([nothing, nothing])
        return model.logits(trunk.answer_states(states, trunk.batch()))


def whole_logits(model: LanguageModel, prompt: Prompt, hooks: Any) -> Tensor:
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    last = len(prompt.token_ids) - 1
    found = []
    for vector in vectors(model):
        with torch.no_grad(), ExitStack() as stack:
            for layer in LAYERS:
                for handle in hooks(model, layer, vector, last):
                    stack.callback(handle.remove)
            found.append(model.hf(input_ids=tokens).logits[0, last:])
    return torch.stack(found, dim=1)


def value_hooks(model: LanguageModel, layer: int, vector: Tensor, last: int) -> list[Any]:
    """The block's value projection gives another value at one token."""
    entered: list[Tensor] = []
    norm = model.attention_norm(layer)

    def see(_: nn.Module, args: Any, kwargs: Any) -> None:
        entered[:] = [(args[0] if args else kwargs["hidden_states"])[:, last]]

    def change(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        (state,) = entered
        read = vector if norm is None else norm(state + vector) - norm(state)
        weights = value_weights(model, layer)
        more = torch.einsum("bd,kdh->bkh", read.expand_as(state), weights)
        out = out.clone()
        for head, start in enumerate(model.parts(layer).value_offsets):
            out[:, last, start : start + more.shape[2]] += more[:, head]
        return out

    projection = model.part(layer, "value_projection")
    return [
        model.blocks[layer].register_forward_pre_hook(see, with_kwargs=True),
        projection.register_forward_hook(change),
    ]


def mlp_hooks(model: LanguageModel, layer: int, vector: Tensor, last: int) -> list[Any]:
    def change(_: nn.Module, args: Any) -> Any:
        state = args[0].clone()
        state.view(1, -1, model.d_model)[:, last] += vector
        return (state, *args[1:])

    module = model.part(layer, "mlp_input")
    return [module.register_forward_pre_hook(change)]


@pytest.mark.parametrize(
    ("enter", "hooks"), [(entering_values, value_hooks), (entering_mlp, mlp_hooks)]
)
def test_a_vector_enters_one_way_alone(
    tiny_model: Any, tiny_name: str, ragged_prompts: Any, enter: Any, hooks: Any
) -> None:
    model = tiny_model(tiny_name)
    if model.is_post_norm:
        pytest.skip("a norm follows each sum: analyses refuse such a model")
    prompts = ragged_prompts(model, 3)
    found = branch_logits(model, prompts, enter)
    wanted = torch.cat([whole_logits(model, prompt, hooks) for prompt in prompts])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_pass_that_is_no_replay_is_left_alone(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    tokens = torch.tensor([[1, 5, 9, 20]])
    with torch.no_grad():
        plain = model.hf(input_ids=tokens).logits
        for enter in (entering_values, entering_mlp):
            with enter(model, LAYERS, vectors(model)):
                assert torch.equal(model.hf(input_ids=tokens).logits, plain)


def test_the_attention_that_is_seen_is_what_transformers_returns(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 3, answers=(1, 1))
    trunk = Trunk.build(model, prompts)
    with torch.no_grad(), record_attention(model) as looks:
        trunk.run([[Edit(layer=-1, value=torch.zeros(model.d_model))]])
    before = model.config._attn_implementation
    try:
        model.config._attn_implementation = "eager"
        for row, prompt in enumerate(prompts):
            out = model.hf(input_ids=torch.tensor([prompt.token_ids]), output_attentions=True)
            for layer in range(model.n_layers):
                wanted = out.attentions[layer][0, :, -1]
                found = looks[layer].pattern[row, 0, :, 0, -len(prompt.token_ids) :]
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    finally:
        model.config._attn_implementation = before


def test_a_norm_with_its_own_statistics_is_the_norm(tiny_model: Any, tiny_name: str) -> None:
    model = tiny_model(tiny_name)
    state = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(1)) * 3 + 0.5
    norm = model.attention_norm(1)
    with torch.no_grad():
        if norm is not None:
            bias = getattr(norm, "bias", None)
            wanted = norm(state) - (0 if bias is None else bias)
            torch.testing.assert_close(linear_part(norm, state, state), wanted)
        other = state.flip(0)  # linear: parts add up
        whole = final_linear_part(model, state, state) + final_linear_part(model, state, other)
        torch.testing.assert_close(
            final_linear_part(model, state, state + other), whole, atol=1e-5, rtol=1e-4
        )
        bias = getattr((*model.final_modules, None)[0], "bias", None)
        if bias is None:
            torch.testing.assert_close(
                final_linear_part(model, state, state), model.final_state(state)
            )
