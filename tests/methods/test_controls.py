"""Each control does what it says, and cannot do what a vector could.

Run with `pytest tests/methods/test_controls.py`.
"""

from typing import Any

import pytest
import torch
from recipes import from_zero

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.methods import Candidate
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.controls.logit_bias import fit_logit_bias
from taskvectors.methods.controls.other_task import OTHER_TASKS
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.vectors import Site, TaskVector, VectorOrigin

QUICK = Learned(recipe=from_zero(steps=2, check_every=1))
MAKES_A_VECTOR = {"random", "other-task", "shuffled-labels", "learned-from-shots"}


def chosen_at(model: Any, **about: Any) -> Candidate:
    """As a method would have chosen it: two sites, one larger than the other."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, model.d_model, generator=generator) * torch.tensor([[1.0], [5.0]])
    vector = TaskVector(
        values=values,
        sites=(Site(1, -1), Site(1, -2)),
        origin=VectorOrigin.of_model(model, method="learned", task="small"),
    )
    return Candidate(method="learned", vector=vector, **about)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_a_candidate_that_can_be_scored(
    tiny_model: Any, bench_of: Any, mixed: Any, name: str
) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed)
    chosen = chosen_at(model)
    control = CONTROLS[name].make(context, chosen, QUICK)
    assert control.method == name
    assert control.cost.examples > 0 or name == "random"
    assert (control.vector is not None) == (name in MAKES_A_VECTOR)
    if control.vector is not None:
        assert control.vector.sites == chosen.vector.sites
        assert control.vector.cosine(chosen.vector) < 0.9
    (scores,) = score_candidates(context, "test", [control])
    assert scores.is_correct.shape == (1, 6)
    assert bool(scores.log_probability.isnan().any()) == (name == "majority")


@pytest.mark.parametrize("name", sorted(MAKES_A_VECTOR))
def test_a_control_for_a_vector_needs_one(tiny_model: Any, bench_of: Any, name: str) -> None:
    plain = Candidate(method="icl", shots=2)
    with pytest.raises(TaskVectorsError, match="icl has none; add vanilla or learned"):
        CONTROLS[name].make(bench_of(tiny_model("llama")), plain, QUICK)


def test_majority_is_the_most_frequent_answer_of_training(tiny_model: Any, bench_of: Any) -> None:
    """The most frequent one of the test split is another."""
    model = tiny_model("llama")
    context = bench_of(model, lambda i: "cold" if (i < 12 and i % 3) or i == 20 else "small")
    control = CONTROLS["majority"].make(context, chosen_at(model), QUICK)
    assert control.constant_answer == "cold"
    assert control.cost.examples == 12
    (scores,) = score_candidates(context, "test", [control])
    answers = [pair.output for pair in context.task.test]
    assert scores.is_correct[0].tolist() == [answer == "cold" for answer in answers]
    assert scores.is_correct.sum() == 1


def test_the_random_vector_has_the_norms_the_sites_and_the_strength(
    tiny_model: Any, bench_of: Any
) -> None:
    model = tiny_model("llama")
    chosen = chosen_at(model, strength=2.0, shots=3)
    one, same, other = (
        CONTROLS["random"].make(bench_of(model, seed=seed), chosen, QUICK) for seed in (0, 0, 1)
    )
    assert (one.strength, one.shots) == (2.0, 3)
    torch.testing.assert_close(one.vector.values.norm(dim=1), chosen.vector.values.norm(dim=1))
    assert abs(one.vector.cosine(chosen.vector)) < 0.6
    assert torch.equal(one.vector.values, same.vector.values)
    assert not torch.equal(one.vector.values, other.vector.values)


def test_the_random_vector_is_not_the_start_of_the_learned_one(
    tiny_model: Any, bench_of: Any
) -> None:
    """Drawn with the same seed in the same way, they would be one direction."""
    context = bench_of(tiny_model("llama"))
    recipe = from_zero(steps=1, initialisation="normal", scale=9.0, learning_rate=1e-6)
    (start,) = learned(context, Learned(layers=(1,), recipe=recipe))
    control = CONTROLS["random"].make(context, start, QUICK)
    assert abs(control.vector.cosine(start.vector)) < 0.6


def test_another_tasks_vector_is_learned_on_another_task_of_the_same_size(
    tiny_model: Any, bench_of: Any
) -> None:
    from dataclasses import replace

    model = tiny_model("llama")
    context = bench_of(model)
    for task, expected in (("small", OTHER_TASKS[0]), (OTHER_TASKS[0], OTHER_TASKS[1])):
        context.task = replace(context.task, name=task)
        control = CONTROLS["other-task"].make(context, chosen_at(model), QUICK)
        assert control.vector.origin.task == expected
        assert control.vector.origin.template == "arrow"  # that of the task it stands beside
        assert control.configuration == f"learned on {expected}"
        assert control.cost.examples == 12
        assert control.cost.steps == 2


def test_shuffled_labels_are_what_learning_on_the_shuffled_task_gives(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    from dataclasses import replace

    model = tiny_model("llama")
    context = bench_of(model, mixed, seed=1)
    control = CONTROLS["shuffled-labels"].make(context, chosen_at(model), QUICK)
    by_hand = bench_of(model, mixed, seed=1)
    by_hand.task = by_hand.task.shuffled(1)
    asked = {"layers": (1,), "positions": (-1, -2)}
    (expected,) = learned(by_hand, QUICK.model_copy(update=asked))
    assert torch.equal(control.vector.values, expected.vector.values)
    (unshuffled,) = learned(context, QUICK.model_copy(update=asked))
    assert not torch.equal(control.vector.values, unshuffled.vector.values)
    assert by_hand.task.train != replace(context.task).train


def test_learning_from_shots_uses_as_many_pairs_as_a_prompt_shows(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed, shots=3)
    control = CONTROLS["learned-from-shots"].make(context, chosen_at(model), QUICK)
    assert control.cost.examples == 3
    asked = {"layers": (1,), "positions": (-1, -2), "n_examples": 3}
    (expected,) = learned(context, QUICK.model_copy(update=asked))
    assert torch.equal(control.vector.values, expected.vector.values)


def test_most_shots_are_all_that_training_or_the_context_holds(
    tiny_model: Any, fresh_model: Any, bench_of: Any
) -> None:
    whole = CONTROLS["icl-most-shots"].make(
        bench_of(tiny_model("llama")), Candidate(method="x"), QUICK
    )
    assert (whole.shots, whole.cost.examples) == (12, 12)
    short = bench_of(fresh_model("llama", max_position_embeddings=64))
    control = CONTROLS["icl-most-shots"].make(short, Candidate(method="x"), QUICK)
    assert 0 < control.shots < 12

    def longest(shots: int) -> int:
        short.model.__dict__["context_length"] = 10_000
        asked = (*short.task.test, *short.task.validation)
        prompts = short.ask(asked, shots, shared_demonstrations=True)
        return max(len(prompt.token_ids) + len(prompt.answer_ids) for prompt in prompts)

    assert longest(control.shots) <= 64 < longest(control.shots + 1)


# --- the bias on the logits


def planted(n: int, favourite: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of which the answers' follow, once `favourite` is 4 higher."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 20, generator=generator)
    raised = logits.clone()
    raised[:, favourite] += 4
    return logits, raised.argmax(dim=1)


def test_a_planted_bias_is_found() -> None:
    bias = fit_logit_bias(*planted(200, 7), *planted(100, 7, seed=1))
    others = torch.cat([bias[:7], bias[8:]])
    assert float(bias[7] - others.mean()) > 3
    assert float(others.std()) < 1.5
    logits, answers = planted(100, 7, seed=2)
    before, after = ((x.argmax(dim=1) == answers).float().mean() for x in (logits, logits + bias))
    assert before < 0.2
    assert after > 0.9


def test_the_bias_is_kept_as_it_was_best_on_held_out_prompts() -> None:
    """Held-out prompts with the opposite favourite: the sooner it stops, the better."""
    shifts = []
    for favourite in (7, 3):
        bias = fit_logit_bias(*planted(50, 7), *planted(50, favourite, seed=1))
        shifts.append(float(bias[7] - bias.mean()))
    assert shifts[1] < 0.75 * shifts[0]


def test_the_bias_is_the_same_in_pieces() -> None:
    data = (*planted(50, 7), *planted(30, 7, seed=1))
    whole, pieces = (fit_logit_bias(*data, rows_at_once=rows) for rows in (None, 7))
    torch.testing.assert_close(whole, pieces, atol=1e-4, rtol=1e-4)


def test_the_bias_keeps_within_the_memory_that_is_granted(tiny_model: Any, bench_of: Any) -> None:
    model = tiny_model("llama")
    least = 4 * model.d_vocab * (12 + 6) + 20 * model.d_vocab
    roomy, tight, short = (
        bench_of(model, lambda i: ("cold", "small")[i % 2], memory=memory)
        for memory in (None, least + 300_000, least - 1)
    )
    biases = [
        CONTROLS["logit-bias"].make(context, chosen_at(model), QUICK).logit_bias
        for context in (roomy, tight)
    ]
    torch.testing.assert_close(*biases, atol=1e-4, rtol=1e-4)
    with pytest.raises(MemoryBudgetError, match=r"logits of 18 prompts.*--memory"):
        CONTROLS["logit-bias"].make(short, chosen_at(model), QUICK)


def test_the_bias_does_not_depend_on_the_query(tiny_model: Any, bench_of: Any) -> None:
    """Two answers that the query decides: a constant can get one of them."""
    model = tiny_model("llama")
    context = bench_of(model, lambda i: ("cold", "small")[i % 2])
    control = CONTROLS["logit-bias"].make(context, chosen_at(model), QUICK)
    assert control.logit_bias is not None
    assert control.logit_bias.shape == (model.d_vocab,)
    (scores,) = score_candidates(context, "test", [control])
    plain = context.score("test", 0)
    assert not plain.first_is_correct.any()
    assert 0 < scores.first_is_correct.float().mean() < 1
    starts = {prompt.answer_ids[0] for prompt in context.prompts("train")}
    assert set(scores.first_token[0].tolist()) <= starts
    # the model's own logits with that constant, prompt by prompt
    for number, prompt in enumerate(context.prompts("test")):
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        assert int((logits + control.logit_bias).argmax()) == int(scores.first_token[0, number])


def test_one_answer_for_all_is_learned_by_a_bias_alone(tiny_model: Any, bench_of: Any) -> None:
    """What a vector at a late layer does there is no more than this."""
    model = tiny_model("llama")
    context = bench_of(model, "cold")
    control = CONTROLS["logit-bias"].make(context, chosen_at(model), QUICK)
    (scores,) = score_candidates(context, "test", [control])
    assert scores.is_correct.all()
    assert control.cost.parameters == model.d_vocab
    assert control.cost.examples == 12
