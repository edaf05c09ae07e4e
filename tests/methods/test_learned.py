"""`learned`: its loss, gradient, scale and recipes, written out; what it learns and what it cannot.

Run with `pytest tests/methods/test_learned.py`.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from full_pass import full_logits
from pydantic import ValidationError
from recipes import from_zero
from torch import Tensor

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.training.recipe import RECIPES
from taskvectors.methods.training.vectors import train_vectors
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk, resolve_budget
from taskvectors.vectors import Site, sites_at

AT_ALL = from_zero(steps=1, batch_size=99, check_every=1, initialisation="normal", scale=1.0)
"""One step on all prompts, from a start that is large enough to act."""


class Steps(list[dict[str, Tensor]]):
    """Values, gradients and learning rates as AdamW sees them, step by step."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    seen = Steps()

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            group = self.param_groups[0]
            (u,) = group["params"]
            seen.append(
                {"u": u.detach().clone(), "grad": u.grad.clone(), "lr": torch.tensor(group["lr"])}
            )
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    return seen


def naive_loss(
    model: Any, prompts: Sequence[Prompt], sites: Sequence[Site], theta: Tensor
) -> Tensor:
    """Mean over prompts of the mean over an answer's tokens of -log p, by whole passes."""
    edits = [
        Edit(layer=site.layer, positions=(site.position,), value=value)
        for site, value in zip(sites, theta, strict=True)
    ]
    losses = []
    for prompt in prompts:
        logits = full_logits(model, prompt, edits)
        answer = torch.tensor(prompt.answer_ids)
        losses.append(torch.nn.functional.cross_entropy(logits, answer))
    return torch.stack(losses).mean()


def median_rms(model: Any, prompts: Sequence[Prompt], states_of: Any, site: Site) -> float:
    from full_pass import places_in

    norms = [
        float(states_of(model, prompt)[site.layer + 1, place].norm())
        for prompt in prompts
        for place in places_in(prompt, [site.position])
    ]
    return float(torch.tensor(norms).median()) / model.d_model**0.5


# --- the loss, its gradient, and the scale


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"layers": ("embed", 2), "positions": (-3, -1)},
        {"layers": (1,), "positions": ("query",), "train_shots": 2},
    ],
    ids=["every layer", "two layers and positions", "a named span"],
)
def test_the_first_step_has_the_loss_and_gradient_of_whole_passes(
    tiny_model: Any,
    bench_of: Any,
    mixed: Any,
    steps: Steps,
    tiny_kind: str,
    about: dict[str, Any],
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(5, 2, 2))
    found = learned(context, Learned(recipe=AT_ALL, **about))
    scales = [s for one in found for s in one.vector.origin.settings["s"]]
    theta = (torch.tensor(scales)[:, None] * steps[0]["u"]).requires_grad_()
    prompts = context.prompts("train", about.get("train_shots", 0))
    row = 0
    for one in found:
        own = theta[row : row + len(one.vector.sites)]
        loss = naive_loss(model, prompts, one.vector.sites, own)
        assert one.curve[0]["loss"] == pytest.approx(float(loss.detach()), abs=1e-4)
        (gradient,) = torch.autograd.grad(loss, own)
        expected = torch.tensor(one.vector.origin.settings["s"])[:, None] * gradient
        part = steps[0]["grad"][row : row + len(own)]
        torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-3)
        assert part.norm(dim=1).min() > 1e-3
        row += len(own)
    assert row == len(theta)


@pytest.mark.parametrize("position", [-1, -2, "query"])
def test_s_is_the_median_norm_of_the_residual_stream_over_root_d(
    tiny_model: Any, bench_of: Any, states_of: Any, position: int | str, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, sizes=(7, 2, 2))
    recipe = AT_ALL.model_copy(update={"scale": 0.1})
    for one in learned(context, Learned(layers=("embed", 2), positions=(position,), recipe=recipe)):
        expected = [
            median_rms(model, context.prompts("train"), states_of, site)
            for site in one.vector.sites
        ]
        assert one.vector.origin.settings["s"] == pytest.approx(expected, rel=1e-4)
        assert expected[0] != pytest.approx(expected[1], rel=0.1)


def test_the_first_step_moves_each_entry_by_the_rate_times_s(
    tiny_model: Any, bench_of: Any
) -> None:
    """Adam's first step is the gradient's sign: θ moves in units of the stream's entries."""
    context = bench_of(tiny_model("llama"))
    recipe = from_zero(steps=1, batch_size=12, learning_rate=0.02, weight_decay=0.0)
    for one in learned(context, Learned(recipe=recipe)):
        moved = one.vector.values.abs() / one.vector.origin.settings["s"][0]
        assert float(moved.median()) == pytest.approx(0.02, rel=1e-3)
        assert float(moved.max()) <= 0.02 * 1.001


def test_a_relative_rate_is_the_absolute_rate_times_s(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("gemma3_text"))
    common = {"steps": 6, "batch_size": 4, "weight_decay": 0.0, "check_every": 6}
    (ours,) = learned(context, Learned(layers=(2,), recipe=from_zero(learning_rate=0.02, **common)))
    (s,) = ours.vector.origin.settings["s"]
    assert not 0.8 < s < 1.25
    absolute = from_zero(rate="absolute", learning_rate=0.02 * s, **common)
    (theirs,) = learned(context, Learned(layers=(2,), recipe=absolute))
    assert theirs.vector.origin.settings["s"] == [1.0]
    torch.testing.assert_close(ours.vector.values, theirs.vector.values, atol=1e-4 * s, rtol=1e-3)


def test_decay_and_start_act_on_u_in_units_of_s(
    tiny_model: Any, bench_of: Any, steps: Steps
) -> None:
    context = bench_of(tiny_model("llama"))
    for rate in ("relative", "absolute"):
        recipe = from_zero(steps=1, initialisation="uniform", scale=0.3, rate=rate)
        learned(context, Learned(layers=(0, 1, 2), recipe=recipe))
    for one in steps:
        assert 0.25 < float(one["u"].abs().max()) <= 0.3
    assert torch.equal(steps[0]["u"], steps[1]["u"])


@pytest.mark.parametrize(
    ("initialisation", "check"),
    [
        ("zero", lambda u: not u.any()),
        ("uniform", lambda u: u.abs().max() <= 0.5 and u.std() == pytest.approx(0.289, abs=0.05)),
        ("normal", lambda u: u.abs().max() > 0.8 and u.std() == pytest.approx(0.5, abs=0.1)),
    ],
)
def test_the_vector_starts_where_it_is_told_to(
    tiny_model: Any, bench_of: Any, steps: Steps, initialisation: Any, check: Any
) -> None:
    recipe = from_zero(steps=1, initialisation=initialisation, scale=0.5)
    learned(bench_of(tiny_model("llama")), Learned(recipe=recipe))
    assert check(steps[0]["u"])


def test_only_the_first_token_counts_where_the_recipe_says_so(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    from dataclasses import replace

    model = tiny_model("llama")
    context = bench_of(model, mixed, sizes=(4, 2, 2))
    recipe = from_zero(steps=1, batch_size=4, check_every=1, answer="first-token")
    (one,) = learned(context, Learned(layers=(1,), recipe=recipe))
    prompts = context.prompts("train")
    firsts = [replace(prompt, answer_ids=prompt.answer_ids[:1]) for prompt in prompts]
    start = torch.zeros(1, model.d_model)
    expected, whole = (
        float(naive_loss(model, asked, one.vector.sites, start)) for asked in (firsts, prompts)
    )
    assert one.curve[0]["loss"] == pytest.approx(expected, abs=1e-4)
    assert expected != pytest.approx(whole, abs=1e-2)


# --- what is learned


def test_a_planted_answer_is_learned_and_the_loss_falls(
    tiny_model: Any, bench_of: Any, tiny_kind: str
) -> None:
    """One answer for every query: at the last layer the vector acts as a bias on the logits."""
    context = bench_of(tiny_model(tiny_kind), "cold")
    recipe = from_zero(steps=40, learning_rate=0.2, check_every=5)
    (one,) = learned(context, Learned(layers=(3,), recipe=recipe))
    start = torch.zeros(1, context.model.d_model)
    plain = float(naive_loss(context.model, context.prompts("train"), one.vector.sites, start))
    assert one.curve[-1]["loss"] < plain - 1.5  # Gemma 2's soft cap keeps the loss high
    assert one.vector.origin.scores["validation_accuracy"] == 1
    assert context.score("test", 0, [one.branch(())]).is_correct.all()
    assert not context.score("test", 0).is_correct.any()


def test_answers_that_nothing_tells_are_not_learned(tiny_model: Any, bench_of: Any) -> None:
    """The control: two answers in random order, of which a vector can only choose one."""
    coin = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.5
    context = bench_of(
        tiny_model("llama"), lambda number: ("cold", "small")[coin[number]], sizes=(24, 18, 18)
    )
    recipe = from_zero(steps=60, learning_rate=0.2, check_every=10, patience=None)
    found = learned(context, Learned(recipe=recipe))
    reached = [one.vector.origin.scores["validation_accuracy"] for one in found]
    assert 0 < max(reached) < 0.85
    labels = [context.score("validation", 0, [one.branch(())]).label_is_correct for one in found]
    assert max(float(hits.float().mean()) for hits in labels) < 0.85


def test_all_layers_in_one_pass_learn_what_each_learns_alone(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed)
    recipe = from_zero(steps=6, batch_size=5, check_every=3)
    together = learned(context, Learned(recipe=recipe))
    for layer, one in enumerate(together):
        (alone,) = learned(context, Learned(layers=(layer,), recipe=recipe))
        (s,) = alone.vector.origin.settings["s"]
        assert one.vector.origin.settings["s"] == [s]
        torch.testing.assert_close(one.vector.values, alone.vector.values, atol=1e-4 * s, rtol=1e-2)
        for mine, its in zip(one.curve, alone.curve, strict=True):
            assert mine == pytest.approx(its, abs=1e-3)


def test_each_layer_is_the_same_as_each_of_them_alone(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    recipe = from_zero(steps=2, check_every=1)
    apart = learned(context, Learned(layers=("embed", 2), each_layer=True, recipe=recipe))
    alone = [learned(context, Learned(layers=(x,), recipe=recipe))[0] for x in ("embed", 2)]
    for one, other in zip(apart, alone, strict=True):
        assert one.vector.sites == other.vector.sites
        torch.testing.assert_close(one.vector.values, other.vector.values, atol=1e-4, rtol=1e-2)


# --- recipes


def test_the_published_recipes_have_the_published_numbers() -> None:
    paper, code, ours = map(RECIPES.get, ("paper", "released-code", "ours"))
    for published in (paper, code):
        assert published.rate == "absolute"
        assert published.weight_decay == 0.01
    assert paper.learning_rate == 1e-3
    assert paper.answer == "all-tokens"  # the text averages over them
    assert code.learning_rate == 5e-3
    assert (code.batch_size, code.steps) == (1, 1000)
    assert (code.check_every, code.patience) == (100, 2)  # after each of at most 10 epochs of 100
    assert (code.initialisation, code.scale) == ("uniform", 0.1)
    assert code.answer == "first-token"
    assert ours.rate == "relative"


def test_the_released_codes_rate_falls_only_a_little(
    tiny_model: Any, bench_of: Any, steps: Steps
) -> None:
    """Linearly over 10 * 600 samples, of which at most 1,000 are seen: 5e-3 to about 4.2e-3."""
    recipe = RECIPES["released-code"]
    assert recipe.schedule == "linear"
    assert recipe.schedule_steps == 6000
    short = recipe.model_copy(update={"steps": 4, "schedule_steps": 8})
    learned(bench_of(tiny_model("llama")), Learned(layers=(1,), recipe=short))
    rates = [float(step["lr"]) for step in steps]
    assert rates == pytest.approx([5e-3 * share for share in (1, 7 / 8, 6 / 8, 5 / 8)])


def test_a_rate_is_constant_or_falls_to_zero_over_all_steps(
    tiny_model: Any, bench_of: Any, steps: Steps
) -> None:
    context = bench_of(tiny_model("llama"))
    found = {}
    for schedule in ("constant", "linear", "cosine"):
        steps.clear()
        learned(context, Learned(layers=(1,), recipe=from_zero(steps=4, schedule=schedule)))
        found[schedule] = [float(step["lr"]) / 0.01 for step in steps]
    assert found["constant"] == pytest.approx([1, 1, 1, 1])
    assert found["linear"] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert found["cosine"] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-5)


def test_ours_starts_where_vanilla_is_and_shares_it_between_sites(
    tiny_model: Any, bench_of: Any, steps: Steps
) -> None:
    context = bench_of(tiny_model("llama"))
    assert Learned().recipe == RECIPES["ours"]
    assert RECIPES["ours"].initialisation == "extracted"
    recipe = RECIPES["ours"].model_copy(update={"steps": 1})
    for n_examples in (None, 3):
        steps.clear()
        (one,) = learned(
            context, Learned(layers=("embed", 2), recipe=recipe, n_examples=n_examples)
        )
        scale = torch.tensor(one.vector.origin.settings["s"]).unsqueeze(1)
        most = {} if n_examples is None else {"n_prompts": n_examples}
        (there,) = vanilla(
            context, Vanilla(layers=("embed", 2), positions=(-1,), strengths=(1.0,), **most)
        )
        torch.testing.assert_close(
            steps[0]["u"] * scale, there.vector.values / 2, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("shots", "train_shots", "why"),
    [
        (2, 2, "its prompts have 2 demonstrations of their own"),
        (0, 0, r"there are no demonstrations \(shots 0\)"),
        (99, 0, "99 demonstrations"),
    ],
)
def test_without_a_few_shot_run_ours_is_from_zero(
    tiny_model: Any,
    bench_of: Any,
    shots: int,
    train_shots: int,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = bench_of(tiny_model("llama"))
    context.shots = shots
    where = {"layers": (1,), "train_shots": train_shots}
    few = {"steps": 2, "batch_size": 4, "check_every": 1}
    ours = RECIPES["ours"].model_copy(update=few)
    (one,) = learned(context, Learned(recipe=ours, **where))
    assert re.search(f"as by the recipe from-zero: {why}", caplog.text)
    (plain,) = learned(context, Learned(recipe=from_zero(**few), **where))
    torch.testing.assert_close(one.vector.values, plain.vector.values)
    settings = one.vector.origin.settings
    assert (settings["initialisation"], settings["distillation"]) == ("zero", 0.0)
    mine = ours.model_copy(update={"learning_rate": 0.5})
    (other,) = learned(context, Learned(recipe=mine, **where))
    assert other.vector.origin.settings["learning_rate"] == 0.5
    assert not torch.equal(other.vector.values, plain.vector.values)


def test_a_start_cannot_be_extracted_without_demonstrations(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    context.shots = 0
    with pytest.raises(TaskVectorsError, match=r"shots 0.*the recipe from-zero"):
        train_vectors(context, [sites_at((1,), (-1,))], RECIPES["ours"])


@pytest.mark.parametrize("recipe", ["ours", "from-zero", "paper", "released-code"])
def test_a_recipe_by_name_is_its_settings(
    tiny_model: Any, bench_of: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Learned(recipe=recipe).recipe == RECIPES[recipe]
    assert Learned(recipe=RECIPES[recipe]) == Learned(recipe=recipe)


@pytest.mark.parametrize(
    "given",
    [
        {"recipe": "theirs"},
        {"layers": ()},
        {"positions": ()},
        {"layers": (1, 2, 1)},
        {"layers": ("embed", -1)},
        {"positions": (-1, "last")},
        {"recipe": {"steps": 0}},
        {"recipe": {"learning_rate": 0}},
        {"recipe": {"speed": 1}},
        {"n_examples": 0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Learned.model_validate(given)


# --- where nothing can be learned


def test_a_site_that_no_answer_sees_is_an_error_on_the_first_step(
    tiny_model: Any, bench_of: Any, steps: Steps
) -> None:
    """What is added before the last token at the last layer goes nowhere."""
    context = bench_of(tiny_model("llama"))
    config = Learned(layers=(1, 3), positions=(-2,), recipe=from_zero(steps=5))
    with pytest.raises(TaskVectorsError, match=r"the gradient at layer 3, position -2 is 0\.0"):
        learned(context, config)
    assert not steps


def test_by_default_the_last_layer_is_left_out_where_it_could_do_nothing(
    tiny_model: Any, bench_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = bench_of(tiny_model("llama"))
    recipe = from_zero(steps=1)
    for positions, n_layers in (((-2, -1), 3), (("query",), 3), (("all",), 4), (("last",), 4)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = learned(context, Learned(positions=positions, recipe=recipe))
        assert [one.vector.layers for one in found] == [(layer,) for layer in range(n_layers)]
        assert ("no vector is learned at the last layer (3)" in caplog.text) == (n_layers == 3)


@pytest.mark.parametrize("fault", [0.0, float("nan")])
def test_an_edit_that_does_not_act_is_noticed(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch, fault: float
) -> None:
    """A replay that loses the edits would train nothing and report the zero-shot baseline."""
    run = Trunk.run

    def plain(self: Trunk, branches: Any, batch: Any = None) -> Tensor:
        states = run(self, [()] * len(branches), batch)
        return states + fault * sum(edit.value.sum() for branch in branches for edit in branch)

    monkeypatch.setattr(Trunk, "run", plain)
    with pytest.raises(TaskVectorsError, match="nothing can be learned there"):
        learned(bench_of(tiny_model("llama")), Learned(recipe=from_zero(steps=3)))


def test_a_rate_that_blows_up_is_an_error_that_says_so(tiny_model: Any, bench_of: Any) -> None:
    recipe = from_zero(steps=3, rate="absolute", learning_rate=1e30, check_every=3)
    with pytest.raises(TaskVectorsError, match="lower the learning rate"):
        learned(bench_of(tiny_model("llama")), Learned(layers=(1,), recipe=recipe))


# --- memory


def test_a_budget_that_does_not_hold_a_step_is_an_error_that_says_what_would_do(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), memory=200_000)
    with pytest.raises(MemoryBudgetError) as caught:
        learned(context, Learned())
    said = str(caught.value)
    assert "learning 4 vectors on 12 prompts" in said
    assert "200kB are granted" in said
    for way in ("fewer layers", "smaller batch", "fewer training pairs", "--memory"):
        assert way in said


def test_the_validation_trunk_counts_and_is_checked_in_pieces(
    tiny_model: Any, bench_of: Any, mixed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least budget with which it goes is not enough with more to validate on."""
    recipe = from_zero(steps=4, batch_size=1, check_every=2)
    config = Learned(layers=(0, 2), each_layer=True, recipe=recipe)
    roomy = learned(bench_of(tiny_model("llama"), mixed), config)
    sizes: list[int] = []
    run = Trunk.run

    def seen(self: Trunk, branches: Any, batch: Any = None) -> torch.Tensor:
        if not torch.is_grad_enabled():
            sizes.append(batch.n_rows)
        return run(self, branches, batch)

    monkeypatch.setattr(Trunk, "run", seen)
    with pytest.raises(MemoryBudgetError) as caught:
        learned(bench_of(tiny_model("llama"), mixed, memory=1000), config)
    needed = str(caught.value).split("grant --memory ")[1].split()[0]
    least = resolve_budget(needed, torch.device("cpu"))
    tight = learned(bench_of(tiny_model("llama"), mixed, memory=least), config)
    assert sum(sizes) == 2 * 6
    assert max(sizes) < 6
    for one, same in zip(roomy, tight, strict=True):
        torch.testing.assert_close(one.vector.values, same.vector.values, atol=1e-5, rtol=1e-4)
        for mine, its in zip(one.curve, same.curve, strict=True):
            assert mine == pytest.approx(its, abs=1e-5)
    with pytest.raises(MemoryBudgetError, match="that of 60 validation prompts"):
        learned(bench_of(tiny_model("llama"), mixed, (12, 60, 6), memory=least), config)


# --- on a GPU


@pytest.mark.gpu
def test_a_gpu_learns_what_a_cpu_learns(
    tiny_model: Any,
    gpu_model: Any,
    bench_of: Any,
    mixed: Any,
    tiny_kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There a step is a captured graph, of batches of one shape."""
    recipe = from_zero(steps=7, batch_size=5, check_every=3)
    found = [
        learned(bench_of(model, mixed), Learned(recipe=recipe))
        for model in (tiny_model(tiny_kind), gpu_model(tiny_kind))
    ]
    assert "cannot be captured" not in caplog.text
    for one, same in zip(*found, strict=True):
        (s,) = one.vector.origin.settings["s"]
        assert same.vector.values.device.type == "cpu"
        torch.testing.assert_close(one.vector.values, same.vector.values, atol=1e-3 * s, rtol=2e-2)
        for mine, its in zip(one.curve, same.curve, strict=True):
            assert mine == pytest.approx(its, abs=2e-3)
        assert same.cost.peak_bytes > 0
