"""Terms of the loss beside the label's: the few-shot run, penalties; and a learned strength.

Run with `pytest tests/methods/test_distillation.py`.
"""

from typing import Any

import pytest
import torch
from full_pass import full_logits
from pydantic import ValidationError
from recipes import from_zero
from torch import Tensor

from taskvectors.methods import Recipe
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.training.teacher import Teacher
from taskvectors.methods.training.vectors import cosine_penalty, norm_penalty
from taskvectors.models.unembedding import SoftTargets, Unembedding, token_losses
from taskvectors.trunk import Edit, Trunk

AT_ALL = from_zero(steps=1, batch_size=99, check_every=1, initialisation="normal", scale=0.5)


# --- the divergence, on its own


@pytest.mark.parametrize("softcap", [None, 2.5])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_and_its_gradient_are_those_of_all_logits_at_once(
    softcap: float | None, share: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4500, 12, generator=generator)  # more than one slice
    bias = torch.randn(4500, generator=generator)
    unembedding = Unembedding(weight=weight, bias=bias, softcap=softcap)
    teacher = torch.randn(3, 12, generator=generator)
    state = torch.randn(6, 12, generator=generator).requires_grad_()  # two branches a read
    targets = torch.tensor([5, 5, 4200, 4200, 90, 90])
    soft = SoftTargets.of(unembedding, teacher, share)
    found = token_losses(unembedding, state, targets, soft)
    walked = token_losses(unembedding, state.detach(), targets, soft)  # without a gradient
    torch.testing.assert_close(walked, found, atol=1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), state)
    again = state.detach().requires_grad_()
    log_q = unembedding.logits(again).log_softmax(dim=-1)
    log_p = unembedding.logits(teacher).log_softmax(dim=-1).repeat_interleave(2, dim=0)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    label = torch.nn.functional.nll_loss(log_q, targets, reduction="none")
    expected = (1 - share) * label + share * divergence
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    (by_hand,) = torch.autograd.grad(expected.sum(), again)
    torch.testing.assert_close(gradient, by_hand, atol=1e-4, rtol=1e-4)


# --- in training


def naive(model: Any, context: Any, theta: Tensor, layer: int, share: float) -> float:
    """Whole passes: the query alone with θ, against the same query after demonstrations."""
    losses = []
    for prompt, shown in zip(
        context.prompts("train"), context.prompts("train", context.shots), strict=True
    ):
        log_q = full_logits(model, prompt, [Edit(layer=layer, value=theta)]).log_softmax(dim=-1)
        log_p = full_logits(model, shown, []).log_softmax(dim=-1)
        answer = torch.tensor(prompt.answer_ids).unsqueeze(1)
        label = -log_q.gather(1, answer).mean()
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
        losses.append((1 - share) * label + share * divergence)
    return float(torch.stack(losses).mean())


def test_the_first_loss_is_the_mixture_of_label_and_divergence(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    seen: list[Tensor] = []
    run = Trunk.run

    def watched(self: Trunk, branches: Any, batch: Any = None) -> Tensor:
        if branches and branches[0] and len(self.cut.prompts) == 6:
            seen.append(branches[0][0].value.detach().clone())
        return run(self, branches, batch)

    monkeypatch.setattr(Trunk, "run", watched)
    for share in (0.4, 1.0):
        seen.clear()
        recipe = AT_ALL.model_copy(update={"distillation": share})
        (one,) = learned(context, Learned(layers=(1,), recipe=recipe))
        with torch.no_grad():
            expected = naive(model, context, seen[0], 1, share)
        assert one.curve[0]["loss"] == pytest.approx(expected, abs=2e-4)


def test_distillation_comes_closer_to_the_few_shot_run_than_the_label_does(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed)
    reached = {}
    for share in (0.0, 1.0):
        recipe = from_zero(steps=30, learning_rate=0.1, distillation=share, check_every=30)
        (one,) = learned(context, Learned(layers=(2,), recipe=recipe))
        with torch.no_grad():
            reached[share] = naive(model, context, one.vector.values[0], 2, 1.0)
    with torch.no_grad():
        before = naive(model, context, torch.zeros(model.d_model), 2, 1.0)
    assert reached[1.0] < before - 0.05
    assert reached[1.0] < reached[0.0] - 0.05


def test_a_teacher_is_normalized_anew_over_each_list_in_the_same_memory(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    prompts, shown = (context.prompts("train", shots) for shots in (0, context.shots))
    teacher = Teacher.of(context, prompts, shown, 0.5)
    held, states = teacher.mean_rows, teacher.states.flatten(0, 1)
    assert held is not None
    for step in (1, 3, 2):
        short = model.unembedding.rows(torch.arange(0, len(model.unembedding.weight), step))
        teacher.normalize(short)
        logits = states @ short.weight.T
        found = teacher.normalizers.flatten(), held.flatten(0, 1)
        expected = logits.logsumexp(dim=1), logits.softmax(dim=1) @ short.weight
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# --- penalties


def test_the_cosine_penalty_is_the_mean_squared_cosine_of_pairs() -> None:
    u = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(
        float(torch.nn.functional.cosine_similarity(u[i], u[j], dim=0)) ** 2 for i, j in pairs
    )
    assert float(cosine_penalty(u)) == pytest.approx(expected / 3, abs=1e-5)
    assert float(cosine_penalty(torch.eye(4)[:3])) == pytest.approx(0)
    assert float(cosine_penalty(u[:1])) == 0


def test_the_norm_penalty_is_the_mean_norm_and_has_a_gradient_at_zero() -> None:
    u = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    penalty = norm_penalty(u)
    assert float(penalty.detach()) == pytest.approx(2.5 / 2**0.5)
    (gradient,) = torch.autograd.grad(penalty, u)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("penalty", ["orthogonality", "sparsity"])
def test_a_penalty_acts_on_what_it_is_about(tiny_model: Any, bench_of: Any, penalty: Any) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    measure = cosine_penalty if penalty == "orthogonality" else norm_penalty
    reached = []
    for weight in (0.0, 30.0):
        recipe = from_zero(
            steps=20,
            learning_rate=0.3,
            check_every=20,
            penalty=penalty,
            penalty_weight=weight,
            initialisation="normal",
        )
        config = Learned(layers=(0, 2), positions=(-2, -1), recipe=recipe)
        (one,) = learned(context, config)
        s = torch.tensor(one.vector.origin.settings["s"]).unsqueeze(1)
        reached.append(float(measure(one.vector.values / s)))
    assert reached[1] < 0.5 * reached[0]


def test_without_a_penalty_nothing_is_added(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    none, zero = (
        learned(context, Learned(layers=(0, 2), recipe=AT_ALL.model_copy(update=about)))[0]
        for about in ({}, {"penalty": "sparsity", "penalty_weight": 0.0})
    )
    assert none.curve == zero.curve


# --- a learned strength


def test_a_learned_strength_is_part_of_the_vector_and_counted(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    recipe = from_zero(
        steps=20, learning_rate=0.05, check_every=20, learn_strength=True, initialisation="normal"
    )
    (one,) = learned(context, Learned(layers=(1,), recipe=recipe))
    (fixed,) = learned(
        context, Learned(layers=(1,), recipe=recipe.model_copy(update={"learn_strength": False}))
    )
    alpha = one.vector.origin.settings["alpha"]
    assert alpha != pytest.approx(1.0, abs=0.05)
    assert fixed.vector.origin.settings["alpha"] == 1.0
    assert one.cost.parameters == fixed.cost.parameters + 1
    found = context.score("validation", 0, [one.branch(())])
    assert float(found.log_probability.mean()) == pytest.approx(
        one.curve[-1]["validation_logprob"], abs=1e-4
    )


# --- several sites


@pytest.mark.parametrize(
    ("layers", "positions", "share"),
    [((1, 2), (-1,), 2), ((2,), (-2, -1), 2**0.5), (("embed", 1, 2), (-2, -1), 3 * 2**0.5)],
)
def test_layers_share_a_relative_rate_and_positions_the_root_of_it(
    tiny_model: Any, bench_of: Any, layers: Any, positions: tuple[int, ...], share: float
) -> None:
    """Adam moves every entry by the rate: n sites of one stream move their sum n times as far."""
    context = bench_of(tiny_model("llama"), "cold")
    recipe = from_zero(steps=1, batch_size=12, learning_rate=0.02, weight_decay=0.0, check_every=1)
    config = Learned(layers=layers, positions=positions, each_layer=False, recipe=recipe)
    (one,) = learned(context, config)
    s = torch.tensor(one.vector.origin.settings["s"]).unsqueeze(1)
    assert float((one.vector.values / s).abs().median()) == pytest.approx(0.02 / share, rel=1e-3)
    absolute = recipe.model_copy(update={"rate": "absolute"})
    (other,) = learned(context, config.model_copy(update={"recipe": absolute}))
    assert float(other.vector.values.abs().median()) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize(
    "given", [{"distillation": 1.5}, {"penalty": "angles"}, {"penalty_weight": -1.0}], ids=str
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(given)
