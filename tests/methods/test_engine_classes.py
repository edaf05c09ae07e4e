"""Getting and using a vector on a type of each class, against passes of transformers by hand.

`gpt_oss` runs on `trunk` (sinks), `qwen3_5_text` (linear attention) and `bloom` (alibi) on
`cached`, `mamba` on `whole`. By hand: one prompt, whole, without padding or cache, one plain hook.
Nothing of the library is in it.

Run with `pytest tests/methods/test_engine_classes.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from recipes import from_zero
from torch import Tensor
from torch.nn.functional import cross_entropy

import taskvectors as tv
from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.methods import METHODS, RunContext
from taskvectors.methods.bitfit import BitFit
from taskvectors.methods.hendel import Hendel
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.prefix_tuning import PrefixTuning
from taskvectors.methods.vanilla import Vanilla
from taskvectors.vectors import Site, TaskVector, VectorOrigin, inject

BLOCKS = {
    "gpt_oss": "model.layers",
    "qwen3_5_text": "model.layers",
    "bloom": "transformer.h",
    "mamba": "backbone.layers",
}
"""Where each class has its blocks."""
ENGINES = {"gpt_oss": "trunk", "qwen3_5_text": "cached", "bloom": "cached", "mamba": "whole"}
LAYER, N_NEW = 1, 3
CLOSE = {"atol": 1e-4, "rtol": 1e-3}


@pytest.fixture(params=list(BLOCKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(tiny_with_words: Any, name: str) -> Any:
    found = tiny_with_words(name)
    assert found.engine == ENGINES[name]
    return found


@pytest.fixture
def vector(model: Any) -> TaskVector:
    generator = torch.Generator().manual_seed(3)
    return TaskVector(
        values=2 * torch.randn(1, model.d_model, generator=generator),
        sites=(Site(LAYER, -1),),
        operation="add",
        origin=VectorOrigin.of_model(
            model, method="random", task="small", seed=0, template="arrow"
        ),
    )


@contextmanager
def hooked(model: Any, name: str, hook: Any, layer: int = LAYER) -> Iterator[None]:
    """A plain forward hook from a block's states to others."""

    def after(_: Any, __: Any, out: Any) -> Any:
        state = hook(out[0] if isinstance(out, tuple) else out)
        return (state, *out[1:]) if isinstance(out, tuple) else state

    handle = model.hf.get_submodule(BLOCKS[name])[layer].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def logits_of(model: Any, name: str, tokens: Sequence[int], at: int, value: Any = 0) -> Tensor:
    """Logits of one prompt `[pos, d_vocab]`, with a value added at one token."""

    def add(state: Tensor) -> Tensor:
        return torch.cat([state[:, :at], state[:, at : at + 1] + value, state[:, at + 1 :]], dim=1)

    with hooked(model, name, add):
        found: Tensor = model.hf(input_ids=torch.tensor([list(tokens)])).logits[0]
    return found


def answer_logprobs(model: Any, name: str, prompts: Sequence[Any], value: Any = 0) -> Tensor:
    """Of each prompt: the mean log-probability of its answer's tokens."""
    found = []
    for prompt in prompts:
        n, answer = len(prompt.token_ids), torch.tensor(prompt.answer_ids)
        tokens = prompt.token_ids + prompt.answer_ids[:-1]
        logits = logits_of(model, name, tokens, n - 1, value)[n - 1 :]
        found.append(-cross_entropy(logits, answer))
    return torch.stack(found)


def state_at(model: Any, name: str, prompt: Any) -> Tensor:
    """What block `LAYER` gives at the prompt's last token."""
    seen: list[Tensor] = []

    def keep(state: Tensor) -> Tensor:
        seen.append(state[0, -1].clone())
        return state

    with torch.no_grad(), hooked(model, name, keep):
        model.hf(input_ids=torch.tensor([prompt.token_ids]))
    return seen[0]


# --- getting a vector


def test_vanilla_is_a_mean_of_differences(model: Any, name: str, task_of: Any) -> None:
    task = task_of("cold", (5, 2, 2))
    config = Vanilla(layers=(LAYER,), strengths=(1.0,))
    found = tv.extract(model, task, config, shots=2)
    context = RunContext(model=model, task=task, shots=2)
    shown, plain = (
        torch.stack([state_at(model, name, prompt) for prompt in context.prompts("train", shots)])
        for shots in (2, 0)
    )
    torch.testing.assert_close(found.values[0], (shown - plain).mean(dim=0), **CLOSE)
    assert float(found.values.norm()) > 0.1


def test_learning_follows_the_loss_and_gradient_of_whole_passes(
    model: Any, name: str, bench_of: Any, mixed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            (u,) = self.param_groups[0]["params"]
            seen.append((u.detach().clone(), u.grad.clone()))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    context = bench_of(model, mixed, sizes=(4, 3, 2))
    recipe = from_zero(steps=2, batch_size=99, check_every=2, initialisation="normal", scale=1.0)
    (one,) = learned(context, Learned(layers=(LAYER,), recipe=recipe))
    (s,) = one.vector.origin.settings["s"]
    norms = torch.stack([state_at(model, name, p).norm() for p in context.prompts("train")])
    assert s == pytest.approx(float(norms.median()) / model.d_model**0.5, rel=1e-4)
    assert len(seen) == 2
    for u, gradient in seen:
        theta = (s * u.squeeze(0)).requires_grad_()
        loss = -answer_logprobs(model, name, context.prompts("train"), theta).mean()
        (expected,) = torch.autograd.grad(loss, theta)
        torch.testing.assert_close(gradient.squeeze(0), s * expected, **CLOSE)
        assert float(gradient.norm()) > 1e-3
    with torch.no_grad():
        value = one.vector.values[0]
        checked = answer_logprobs(model, name, context.prompts("validation"), value).mean()
    best = max(point["validation_logprob"] for point in one.curve)
    assert best == pytest.approx(float(checked), abs=1e-3)


# --- using it


@pytest.mark.parametrize("n_beams", [1, 3])
def test_generating_from_a_left_padded_batch(
    model: Any, name: str, vector: TaskVector, ragged_prompts: Any, n_beams: int
) -> None:
    prompts = [prompt.token_ids for prompt in ragged_prompts(model, 3)]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(tokens)) + list(tokens) for tokens in prompts])
    mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in prompts])
    how = {
        "max_new_tokens": N_NEW, "min_new_tokens": N_NEW, "do_sample": False,
        "num_beams": n_beams, "pad_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    with inject(model, vector):
        found = model.hf.generate(input_ids=ids, attention_mask=mask, **how)
    plain = model.hf.generate(input_ids=ids, attention_mask=mask, **how)
    assert not torch.equal(found, plain)
    for row, tokens in enumerate(prompts):

        def add(state: Tensor) -> Tensor:
            state = state.clone()
            state[:, len(tokens) - 1] += vector.values[0]  # noqa: B023  (called below, not later)
            return state

        with hooked(model, name, add):  # nothing cached, nothing padded
            alone = model.hf.generate(input_ids=torch.tensor([tokens]), use_cache=False, **how)
        assert found[row, width:].tolist() == alone[0, len(tokens) :].tolist()


def test_evaluating_scores_what_whole_passes_score(
    model: Any, name: str, vector: TaskVector, task_of: Any, bench_of: Any, mixed: Any
) -> None:
    prompts = bench_of(model, mixed, sizes=(4, 3, 8)).prompts("test")
    for strength in (1.0, -2.0):
        found = tv.evaluate(
            model, task_of(mixed, (4, 3, 8)).test, vector, template="arrow", strength=strength
        )
        with torch.no_grad():
            expected = answer_logprobs(model, name, prompts, strength * vector.values[0])
        assert found.answer_logprob == pytest.approx(float(expected.mean()), abs=1e-4)
        assert found.n == 8
    plain = tv.evaluate(model, task_of(mixed, (4, 3, 8)).test, template="arrow")
    assert abs(plain.answer_logprob - found.answer_logprob) > 0.01


def test_what_needs_heads_says_so_where_there_are_none_and_hendel_does_not(
    model: Any, name: str, task_of: Any
) -> None:
    task = task_of("cold", (4, 2, 2))
    (hendel,) = tv.extract(model, task, Hendel(layers=(LAYER,)), shots=2).values
    context = RunContext(model=model, task=task, shots=2)
    states = context.last_states("train", 2)
    torch.testing.assert_close(hendel, states[LAYER + 1].mean(dim=0), **CLOSE)
    if name == "gpt_oss":  # its router gives its bias to a choice
        with pytest.raises(UnsupportedModelError, match="not as an addition"):
            METHODS["bitfit"].find(context, BitFit())
    if ENGINES[name] == "trunk":
        return
    with pytest.raises(UnsupportedModelError, match=r"(?s)attention heads.*learned, vanilla"):
        tv.extract(model, task, "function-vector", layers=LAYER, shots=2)
    if name == "bloom":  # biases of its own; a prefix goes past transformers' interface
        return
    for adapter in (PrefixTuning(), BitFit()):
        with pytest.raises(TaskVectorsError, match=r"learned"):
            METHODS[adapter.kind].find(RunContext(model=model, task=task, shots=2), adapter)


def test_a_model_whose_layers_differ_refuses_what_goes_through_all_heads_or_embeddings(
    fresh_model: Any, task_of: Any
) -> None:
    model = fresh_model("gemma4_text", vocab_size=397, vocab_size_per_layer_input=397)
    context = RunContext(model=model, task=task_of("cold", (4, 2, 2)), shots=2)
    with pytest.raises(UnsupportedModelError, match="other attention heads in layer 1"):
        METHODS["state-vector"].find(context, METHODS["state-vector"].config())
    with pytest.raises(UnsupportedModelError, match="prompt-tuning"):
        METHODS["prompt-tuning"].find(context, METHODS["prompt-tuning"].config())
