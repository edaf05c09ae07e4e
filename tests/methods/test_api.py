"""`learn` and `extract`: the best vector of a method in one call.

Run with `pytest tests/methods/test_api.py`.
"""

from typing import Any

import pytest
import torch
from recipes import from_zero

import taskvectors as tv
from taskvectors.errors import TaskVectorsError
from taskvectors.methods import METHODS, Recipe, RunContext
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.vectors import sites_at

QUICK = from_zero(steps=3, learning_rate=0.3, check_every=1)


def test_learn_returns_the_vector_of_the_layer_that_is_best_on_validation(
    tiny_model: Any, task_of: Any, mixed: Any
) -> None:
    model, task = tiny_model("llama"), task_of(mixed)
    vector = tv.learn(model, task, recipe=QUICK, seed=2, template="colon")
    context = RunContext(model=model, task=task, seed=2, template="colon")
    candidates = learned(context, Learned(recipe=QUICK))
    best = candidates[choose(score_candidates(context, "validation", candidates))].vector
    assert vector.sites == best.sites
    assert torch.equal(vector.values, best.values)
    assert (vector.origin.seed, vector.origin.template) == (2, "colon")
    assert vector.origin.split_sizes == {"train": 12, "validation": 6, "test": 6}
    assert vector.origin.chat is False


def test_learn_takes_layers_positions_shots_and_examples(tiny_model: Any, task_of: Any) -> None:
    model, task = tiny_model("llama"), task_of("cold")
    vector = tv.learn(
        model,
        task,
        layers=["embed", 1],
        positions=[-1, -3],
        train_shots=2,
        n_examples=5,
        recipe=QUICK,
    )
    assert vector.sites == sites_at([-1, 1], [-1, -3])
    assert vector.origin.shots == 2
    assert vector.origin.settings["learning_rate"] == 0.3
    context = RunContext(model=model, task=task)
    config = Learned(
        layers=("embed", 1), positions=(-1, -3), train_shots=2, n_examples=5, recipe=QUICK
    )
    assert torch.equal(vector.values, learned(context, config)[0].vector.values)


def test_extract_returns_the_vector_with_the_strength_that_was_best(
    tiny_model: Any, task_of: Any, mixed: Any
) -> None:
    model, task = tiny_model("llama"), task_of(mixed)
    vector = tv.extract(model, task, layers=[2], shots=3)
    context = RunContext(model=model, task=task, shots=3)
    candidates = vanilla(context, Vanilla(layers=(2,)))
    best = candidates[choose(score_candidates(context, "validation", candidates))]
    assert best.strength != 1  # else this would not say much
    assert best.vector is not None
    torch.testing.assert_close(vector.values, best.vector.values * best.strength)
    assert vector.origin.shots == 3


def test_a_learned_vector_is_evaluated_and_injected_with_the_same_effect(
    tiny_model: Any, task_of: Any
) -> None:
    """From the task to the answer, through every part of the package that a user touches."""
    model, task = tiny_model("llama"), task_of("cold")
    recipe = from_zero(steps=30, learning_rate=0.2, check_every=5)
    vector = tv.learn(model, task, layers=[3], recipe=recipe)
    assert tv.evaluate(model, task.test).accuracy == 0
    assert tv.evaluate(model, task.test, vector).accuracy == 1
    context = RunContext(model=model, task=task)
    cold = context.prompts("test")[0].answer_ids
    for prompt in context.prompts("test"):
        ids = torch.tensor([prompt.token_ids])
        with tv.inject(model, vector):
            out = model.hf.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=1,
                do_sample=False,
            )
        assert tuple(out[0, ids.shape[1] :].tolist()) == cold


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if one.gives_vector])
def test_extract_takes_any_method_that_gives_vectors(
    tiny_model: Any, task_of: Any, name: str
) -> None:
    model, task = tiny_model("llama"), task_of("cold", sizes=(6, 3, 2))
    about: dict[str, Any] = {"shots": 2}
    asked = {"positions": [-1, -3], "layers": [1, 2]}
    about |= {key: asked[key] for key in asked if key in METHODS[name].config.model_fields}
    few = {"steps": 2, "n_effect_prompts": 2, "n_prompts": 3, "n_heads": (2,), "recipe": QUICK}
    known = METHODS[name].config.model_fields
    config = METHODS[name].config(**{key: few[key] for key in few if key in known})
    vector = tv.extract(model, task, config, **about)
    assert vector.origin.method == name
    if "positions" in about:
        assert vector.positions == (-1, -3)
    assert set(vector.layers) <= set(about.get("layers", range(4)))


@pytest.mark.parametrize("name", ["icl", "multi-head", "hypnosis"])
def test_extract_refuses_what_gives_no_vector_and_lists_what_does(
    tiny_model: Any, task_of: Any, name: str
) -> None:
    with pytest.raises(
        TaskVectorsError, match=f"no method '{name}' .* there are: function-vector, .*vanilla"
    ):
        tv.extract(tiny_model("llama"), task_of("cold"), name)


def test_extract_refuses_layers_where_a_method_leaves_no_choice(
    tiny_model: Any, task_of: Any
) -> None:
    with pytest.raises(TaskVectorsError, match="learned-heads leaves no choice of layers"):
        tv.extract(tiny_model("llama"), task_of("cold"), "learned-heads", layers=[1])


def test_a_field_that_a_bench_does_not_have_is_an_error(tiny_model: Any, task_of: Any) -> None:
    with pytest.raises(TypeError, match="colour"):
        tv.learn(tiny_model("llama"), task_of("cold"), recipe=QUICK, colour="blue")


# --- shots, places


def kl_only(steps: int = 3) -> Recipe:
    return from_zero(steps=steps, batch_size=4, check_every=1, distillation=1.0)


def test_distillation_learns_from_the_eight_shot_run(
    tiny_model: Any, task_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's prompts have demonstrations although those that are trained on have none."""
    from taskvectors.methods.training.teacher import Teacher

    seen: list[tuple[int, int]] = []
    of = Teacher.of

    def watching(context: Any, prompts: Any, shown: Any, share: float) -> Any:
        seen.append((len(prompts[0].demonstrations), len(shown[0].demonstrations)))
        return of(context, prompts, shown, share)

    monkeypatch.setattr(Teacher, "of", watching)
    model, task = tiny_model("llama"), task_of("cold")
    tv.learn(model, task, layers=1, recipe=kl_only())
    tv.learn(model, task, layers=1, recipe=kl_only(), shots=3, train_shots=1)
    assert seen == [(0, 8), (1, 3)]


def test_a_teacher_with_other_shots_teaches_another_vector(tiny_model: Any, task_of: Any) -> None:
    model, task = tiny_model("llama"), task_of("cold")
    found = [tv.learn(model, task, layers=1, recipe=kl_only(), shots=n).values for n in (1, 8)]
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_one_place_need_not_be_a_list(tiny_model: Any, task_of: Any) -> None:
    model, task = tiny_model("llama"), task_of("cold")
    one = tv.learn(model, task, layers=2, positions="last", recipe=QUICK)
    same = tv.learn(model, task, layers=[2], positions=["last"], recipe=QUICK)
    assert one.sites == same.sites
    assert (one.values == same.values).all()
    assert tv.extract(model, task, layers="embed", positions=-2).sites == sites_at([-1], [-2])


@pytest.mark.parametrize("make", [tv.learn, tv.extract])
def test_a_negative_layer_is_refused_and_never_the_embedding(
    tiny_model: Any, task_of: Any, make: Any
) -> None:
    with pytest.raises(TaskVectorsError, match=r"^layers: -1 is no layer; give numbers from 0 up"):
        make(tiny_model("llama"), task_of("cold"), layers=[-1])


def test_of_equal_checks_the_first_is_kept(tiny_model: Any, task_of: Any) -> None:
    """A later check that is as good does not replace the vector or renew the patience."""
    from taskvectors.methods.training.trainer import Trainer, TrainState

    class Flat(Trainer[TrainState]):
        def __init__(self, patience: int) -> None:
            self.recipe = from_zero(patience=patience)
            self.taken: list[int] = []

        def scores(self, active: Any) -> Any:
            return active

        def values(self, state: TrainState) -> Any:
            self.taken.append(state.steps)
            return state.steps

        groups = run = losses = check_gradient = scores  # type: ignore[assignment]

    trainer, state = Flat(patience=2), TrainState()
    import taskvectors.methods.training.trainer as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "merits_of", lambda scores: [(0.5, -1.0)])
        for step in (1, 2, 3):
            trainer.check([state], torch.zeros(1), step)
    assert (state.kept, trainer.taken) == (1, [1])
    assert state.is_done
    assert state.checks_since_best == 2
