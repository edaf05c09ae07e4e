"""The unembedding sees contiguous states, and nothing is left behind."""

from typing import Any

import pytest
import torch

from taskvectors.models.calls import contiguous_unembedding


def test_the_unembedding_gets_contiguous_states_and_gives_the_same_logits(tiny_model: Any) -> None:
    model = tiny_model("llama")
    head = model.hf.get_output_embeddings()
    seen: list[bool] = []
    state = torch.randn(3, 5, model.d_model)[:, -1:]
    assert not state.is_contiguous()
    handle = head.register_forward_hook(lambda _, args, __: seen.append(args[0].is_contiguous()))
    try:
        plain = head(state)
        with contiguous_unembedding(model):
            given = head(state)
        head(state)
    finally:
        handle.remove()
    assert seen == [False, True, False]
    torch.testing.assert_close(given, plain)


def test_one_prompt_has_the_strides_of_no_batch(tiny_model: Any) -> None:
    """By strides, those of 1-wide axes too, torch decides whether to expand the unembedding."""
    model = tiny_model("llama")
    head = model.hf.get_output_embeddings()
    seen: list[tuple[int, ...]] = []
    state = torch.randn(1, 5, model.d_model)[:, -1:]
    handle = head.register_forward_hook(lambda _, args, __: seen.append(args[0].stride()))
    try:
        with contiguous_unembedding(model):
            head(state)
    finally:
        handle.remove()
    assert seen == [(model.d_model, model.d_model, 1)]


def test_the_hook_is_gone_after_an_error(tiny_model: Any) -> None:
    model = tiny_model("llama")
    before = dict(model.hf.get_output_embeddings()._forward_pre_hooks)
    with pytest.raises(RuntimeError, match="inside"), contiguous_unembedding(model):
        raise RuntimeError("inside")
    assert dict(model.hf.get_output_embeddings()._forward_pre_hooks) == before
