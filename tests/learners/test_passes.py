"""The two passes: parity with transformers, the naive hook, and what may depend on what."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from taskvectors.learners.family import Batch, EvalBatch
from taskvectors.learners.measures import measure, vectors_of
from taskvectors.learners.passes import both_losses, gather, icl_losses, prompted_states
from taskvectors.models import LanguageModel, patch
from taskvectors.models.causal import CausalBody

TASKS = [("linear", {"n_dims": 2, "n_demonstrations": 3}), ("offset", {"n_demonstrations": 3})]
BODIES = ("gpt2", "llama")


@pytest.fixture(params=BODIES)
def body_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hf_states(learner: Any, inputs: Tensor) -> Tensor:
    """Final logits by transformers itself."""
    if inputs.dim() == 2:
        return learner.hf(input_ids=inputs).logits
    weight = learner.hf.get_input_embeddings().weight
    return learner.hf(inputs_embeds=inputs @ weight).logits


def logits_of(body: CausalBody, inputs: Tensor) -> Tensor:
    state, arguments = body.enter(body.embed(inputs))
    return body.logits(body.run(state, arguments, range(body.n_layers)))


@pytest.mark.parametrize(("task", "settings"), TASKS)
def test_blocks_one_by_one_are_the_models_own_pass(
    task: str,
    settings: dict[str, Any],
    body_name: str,
    tiny_learner: Callable[..., Any],
    tiny_batch: Callable[..., Batch],
) -> None:
    learner = tiny_learner(task, body_name, **settings)
    inputs = tiny_batch(learner.family).inputs
    torch.testing.assert_close(logits_of(learner.body, inputs), hf_states(learner, inputs))


def test_a_token_is_the_coordinate_that_is_one(tiny_learner: Callable[..., Any]) -> None:
    learner = tiny_learner("offset")
    tokens = torch.tensor([[3, 11, 5]])
    one_hot = torch.nn.functional.one_hot(tokens, learner.family.d_vocab).float()
    assert torch.equal(learner.body.embed(tokens), learner.body.embed(one_hot))


@pytest.mark.parametrize("form", ["xzy", "zxy", "xzyd"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_prompting_is_a_full_pass_with_the_state_replaced_by_a_hook(
    form: str,
    layer: int,
    body_name: str,
    tiny_learner: Callable[..., Any],
    tiny_eval_batch: Callable[..., EvalBatch],
) -> None:
    learner = tiny_learner("offset", body_name, n_demonstrations=3, format=form)
    eval_batch = tiny_eval_batch(learner.family)
    assert eval_batch.site_column is not None
    vectors = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    quick = prompted_states(
        learner.body, eval_batch.queries, vectors, eval_batch.site_column, layer
    )

    def replace(state: Tensor) -> Tensor:
        state = state.clone()
        state[:, eval_batch.site_column] = vectors
        return state

    model = LanguageModel.wrap(learner.hf)
    with patch(model, layer, "resid_post", replace):
        naive = hf_states(learner, eval_batch.queries)
    read = list(eval_batch.query_reads)
    torch.testing.assert_close(learner.body.logits(quick)[:, read], naive[:, read])


@pytest.mark.parametrize("form", ["xzy", "zxy", "xzyd"])
def test_a_state_put_into_its_own_prompt_gives_in_context_learning_exactly(
    form: str, tiny_learner: Callable[..., Any], tiny_batch: Callable[..., Batch]
) -> None:
    learner = tiny_learner("linear", n_dims=2, n_demonstrations=3, format=form)
    batch = tiny_batch(learner.family)
    body, site = learner.body, int(batch.sites[0, -1])
    state, arguments = body.enter(body.embed(batch.inputs))
    own = body.run(state, arguments, range(2))[:, site]
    again = prompted_states(body, batch.inputs, own, site, layer=1)
    plain = body.run(state, arguments, range(3))
    torch.testing.assert_close(again[:, -1], plain[:, -1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["xzy", "zxy", "xzyd"])
def test_no_vector_depends_on_anything_after_its_site(
    form: str, tiny_learner: Callable[..., Any], tiny_batch: Callable[..., Batch]
) -> None:
    learner = tiny_learner("linear", n_dims=2, n_demonstrations=3, format=form)
    batch, body = tiny_batch(learner.family), learner.body
    embedded = body.embed(batch.inputs).detach().requires_grad_()
    state, arguments = body.enter(embedded)
    vectors = gather(body.run(state, arguments, range(2)), batch.sites)
    for number, site in enumerate(batch.sites[0].tolist()):
        (slope,) = torch.autograd.grad(vectors[:, number].sum(), embedded, retain_graph=True)
        assert bool((slope[:, site + 1 :] == 0).all())
        assert bool(slope[:, : site + 1].abs().sum() > 0)


def test_no_query_is_in_the_sequence_up_to_its_site(tiny_batch: Callable[..., Batch]) -> None:
    from taskvectors.learners import load_family

    batch = tiny_batch(load_family("offset"), n=32)
    for number, site in enumerate(batch.sites[0].tolist()):
        inputs = batch.inputs[:, 0 : site + 1 : 3]
        assert not bool((inputs == batch.queries[:, number, :1]).any())


# --- gradients, as the definitions have them


def slopes(learner: Any, batch: Batch, *, stop_gradient: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Of L_TVP: at the embeddings of the ICL pass, and at the weights of the first block."""
    body, kept = learner.body, []
    real_embed = CausalBody.embed

    def embed(self: CausalBody, inputs: Tensor) -> Tensor:
        out = real_embed(self, inputs)
        if inputs is batch.inputs:
            out = out.detach().requires_grad_()
            kept.append(out)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CausalBody, "embed", embed)
        _, prompted = both_losses(body, learner.family, batch, (1,), stop_gradient=stop_gradient)
    weights = {n: p for n, p in learner.hf.named_parameters() if ".h.0." in n and p.dim() > 1}
    found = torch.autograd.grad(prompted.sum(), [*kept, *weights.values()], allow_unused=True)
    at_embeddings = torch.zeros_like(kept[0]) if found[0] is None else found[0]
    return at_embeddings, dict(zip(weights, found[1:], strict=True))


@pytest.mark.parametrize(("task", "settings"), TASKS)
def test_the_gradient_reaches_the_demonstrations_unless_it_is_stopped(
    task: str,
    settings: dict[str, Any],
    tiny_learner: Callable[..., Any],
    tiny_batch: Callable[..., Batch],
) -> None:
    learner = tiny_learner(task, **settings)
    batch = tiny_batch(learner.family)
    through, first_block = slopes(learner, batch, stop_gradient=False)
    first_demonstration = through[:, :3]
    assert bool((first_demonstration.abs().sum(dim=(1, 2)) > 0).all())
    stopped, stopped_block = slopes(learner, batch, stop_gradient=True)
    assert bool((stopped == 0).all())
    for found in (first_block, stopped_block):  # the query goes through the first block in both
        assert found
        assert all(bool(slope.abs().sum() > 0) for slope in found.values())


def test_both_losses_have_the_in_context_loss_of_one(
    tiny_learner: Callable[..., Any], tiny_batch: Callable[..., Batch]
) -> None:
    learner = tiny_learner("linear", n_dims=2, n_demonstrations=3)
    batch = tiny_batch(learner.family)
    alone = icl_losses(learner.body, learner.family, batch)
    beside, _ = both_losses(learner.body, learner.family, batch, (1,))
    torch.testing.assert_close(beside, alone)


def test_several_places_have_the_mean_of_their_losses_and_gradients(
    tiny_learner: Callable[..., Any], tiny_batch: Callable[..., Batch]
) -> None:
    learner = tiny_learner("offset", n_demonstrations=3)
    batch = tiny_batch(learner.family)

    def found(*places: int) -> tuple[Any, Any, Any]:
        learner.hf.zero_grad()
        in_context, prompted = both_losses(learner.body, learner.family, batch, places)
        prompted.sum().backward()
        first = next(learner.hf.transformer.h[0].parameters())
        return in_context.detach(), prompted.detach(), first.grad.clone()

    (plain, low, low_slope), (_, high, high_slope) = found(0), found(2)
    in_context, both, slope = found(0, 2)
    torch.testing.assert_close(in_context, plain)
    torch.testing.assert_close(both, (low + high) / 2)
    torch.testing.assert_close(slope, (low_slope + high_slope) / 2)
    assert not torch.allclose(low, high)


def test_the_tvp_loss_is_the_naive_one_site_by_site(
    tiny_learner: Callable[..., Any], tiny_batch: Callable[..., Batch]
) -> None:
    learner = tiny_learner("offset", n_demonstrations=3)
    batch, model = tiny_batch(learner.family), learner.body
    _, quick = both_losses(model, learner.family, batch, (1,))
    for row in range(len(batch.inputs)):
        for number, site in enumerate(batch.sites[row].tolist()):
            state, arguments = model.enter(model.embed(batch.inputs[row : row + 1, : site + 1]))
            vector = model.run(state, arguments, range(2))[0, -1]
            query, arguments = model.enter(model.embed(batch.queries[row, number : number + 1]))
            state = model.run(query, arguments, range(2)).clone()
            state[0, 1] = vector
            logits = model.logits(model.run(state, arguments, range(2, 3)))[0, 1]
            answer = (batch.queries[row, number, 0] - batch.inputs[row, 0]) + batch.inputs[row, 2]
            loss = torch.nn.functional.cross_entropy(logits, answer % learner.family.n_symbols)
            torch.testing.assert_close(quick[row, number, 0], loss)


def test_at_the_last_layer_the_output_is_the_dummys(
    tiny_learner: Callable[..., Any], tiny_eval_batch: Callable[..., EvalBatch]
) -> None:
    learner = tiny_learner("linear", n_dims=2, n_demonstrations=3)
    eval_batch = tiny_eval_batch(learner.family)
    vectors = vectors_of(learner.body, eval_batch)[-1, :, 0]
    put = prompted_states(learner.body, eval_batch.queries, vectors, 1, layer=2)
    plain = logits_of(
        learner.body, torch.cat([eval_batch.history, eval_batch.dummies[:, 0]], dim=1)
    )
    torch.testing.assert_close(learner.body.logits(put)[:, -1], plain[:, -1])


def test_rotary_positions_are_the_same_reset_and_kept(tiny_learner: Callable[..., Any]) -> None:
    learner = tiny_learner("linear", "llama", n_dims=2, n_demonstrations=3)
    found = measure(learner, n_trials=8, seed=0).prompted
    assert found is not None
    torch.testing.assert_close(found.reset, found.kept, rtol=1e-4, atol=1e-5)
    absolute = measure(tiny_learner("linear", n_dims=2), n_trials=8, seed=0).prompted
    assert absolute is not None
    assert not torch.allclose(absolute.reset[0], absolute.kept[0], rtol=1e-3)
