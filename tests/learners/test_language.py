"""The TVP-loss on a language model: what it is a function of, and that a run ends as one did.

Run with `pytest tests/learners/test_language.py`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import language, language_measures
from taskvectors.learners.language import (
    Draws,
    LanguageConfig,
    language_losses,
    restore_weights,
    train_language,
)
from taskvectors.learners.language_measures import _Errors, _rows, measured_rows
from taskvectors.models import LanguageModel, load_model
from taskvectors.models.sites import patch
from taskvectors.tasks import load_task

SMALL = {
    "trained": ("capitalize", "antonym"),
    "held_out": ("capital",),
    "shots": 2,
    "tvp_layer": 1,
    "steps": 4,
    "batch_size": 2,
    "n_test": 3,
    "precision": "float32",
    "checkpoint_every": 2,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="module")
def folder_of_model(tiny_model: Any, tokenizer: Any, tmp_path_factory: Any) -> Path:
    """The small Llama, as transformers saves it."""
    folder: Path = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama").hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(folder_of_model: Path) -> Callable[..., LanguageConfig]:
    """`config(**changes)`: a run of four steps."""
    return lambda **changes: LanguageConfig(**{"model": str(folder_of_model)} | SMALL | changes)


@pytest.fixture
def fresh(folder_of_model: Path) -> LanguageModel:
    """The model, to be trained."""
    return load_model(str(folder_of_model), dtype="float32")


def draws_of(model: LanguageModel, config: LanguageConfig) -> Draws:
    return Draws(model, config, [load_task(name) for name in config.trained])


def nll(logits: torch.Tensor, answer: Sequence[int]) -> torch.Tensor:
    """Mean over an answer's tokens."""
    found = logits.log_softmax(dim=-1)[range(len(answer)), list(answer)]
    return -found.mean()


# --- the loss


def test_both_losses_are_their_formulas(fresh: LanguageModel, config: Any) -> None:
    step = draws_of(fresh, config()).at(0)
    found = language_losses(fresh, step, 1)
    in_context, prompted = [], []
    for shown, asked in zip(step.shown, step.asked, strict=True):
        ids = torch.tensor([shown.token_ids + shown.answer_ids[:-1]])
        out = fresh.hf(input_ids=ids, output_hidden_states=True)
        start = len(shown.token_ids) - 1
        in_context.append(nll(out.logits[0, start:], shown.answer_ids))
        vector = out.hidden_states[2][0, start]  # after block 1; the first one is the embedding
        at = len(asked.token_ids) - 1

        def put(state: torch.Tensor, vector: Any = vector, at: int = at) -> torch.Tensor:
            state = state.clone()
            state[0, at] = vector
            return state

        ids = torch.tensor([asked.token_ids + asked.answer_ids[:-1]])
        with patch(fresh, 1, "resid_post", put):
            logits = fresh.hf(input_ids=ids).logits[0, at:]
        prompted.append(nll(logits, asked.answer_ids))
    expected = torch.stack(in_context).mean(), torch.stack(prompted).mean()
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_the_gradient_of_the_vector_reaches_the_demonstrations(
    fresh: LanguageModel, config: Any
) -> None:
    step = draws_of(fresh, config()).at(0)
    seen: list[torch.Tensor] = []

    def watch(state: torch.Tensor) -> torch.Tensor:
        state = state.detach().requires_grad_(True)
        seen.append(state)
        return state

    with patch(fresh, 0, "resid_pre", watch):
        _, prompted = language_losses(fresh, step, 1)
        prompted.backward()
    shown, asked = seen
    assert shown.grad is not None
    assert shown.grad[:, 1].norm() > 0  # the first tokens of demonstrations
    assert asked.grad is not None
    assert asked.grad.norm() > 0


def test_the_queries_of_a_step_are_not_among_its_demonstrations(
    fresh: LanguageModel, config: Any
) -> None:
    draws = draws_of(fresh, config(batch_size=6))
    step = draws.at(3)
    assert step == draws.at(3) != draws.at(4)
    for shown, asked in zip(step.shown, step.asked, strict=True):
        pairs = [shown.query, asked.query, *shown.demonstrations]
        assert len(set(pairs)) == len(pairs) == 4
        assert asked.demonstrations == ()


def test_no_demonstration_is_the_reverse_of_a_query(fresh: LanguageModel, config: Any) -> None:
    draws = draws_of(fresh, config(trained=("antonym",), shots=8, batch_size=8))
    reverses = 0
    train = {(pair.input, pair.output) for pair in draws.tasks[0].train}
    for step in map(draws.at, range(20)):
        for shown, asked in zip(step.shown, step.asked, strict=True):
            assert len(shown.demonstrations) == 8
            for query in (shown.query, asked.query):
                reverses += (query.output, query.input) in train
                inputs = {pair.input for pair in shown.demonstrations}
                pairs = {(pair.output, pair.input) for pair in shown.demonstrations}
                assert query.input not in inputs
                assert (query.input, query.output) not in pairs
    assert reverses > 0  # there were some to avoid


def test_vanilla_sees_as_many_tokens(fresh: LanguageModel, config: Any) -> None:
    draws = draws_of(fresh, config())
    wanted = sum(draws.at(step).n_tokens(with_tvp=True) for step in range(4))
    n = draws.steps_of_equal_tokens()
    seen = [draws.at(step).n_tokens(with_tvp=False) for step in range(n)]
    assert sum(seen[:-1]) < wanted <= sum(seen)


# --- the run


@pytest.mark.slow(small_models=True)
def test_a_run_measures_all_variants_and_is_not_repeated(
    config: Any, tmp_path: Path, fresh: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = train_language(config(), tmp_path)
    assert [row["variant"] for row in rows[:: len(rows) // 3]] == ["pretrained", "tvp", "vanilla"]
    assert {(row["task"], row["split"]) for row in rows} == {
        *(("capitalize", "trained"), ("antonym", "trained"), ("all", "trained")),
        *(("capital", "held-out"), ("all", "held-out")),
    }
    assert {row["layer"] for row in rows} == set(range(fresh.n_layers))
    lines = (tmp_path / "tvp" / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    assert [point["step"] for point in points] == [1, 2, 3, 4]
    # the embeddings stay; the rest is other than it was
    restored = load_model(config().model, dtype="float32")
    restore_weights(restored, tmp_path / "tvp")
    changed = {
        name
        for (name, before), after in zip(
            fresh.hf.named_parameters(), restored.hf.parameters(), strict=True
        )
        if not torch.equal(before, after)
    }
    assert len(changed) > 10
    assert not any("embed" in name or "lm_head" in name for name in changed)
    monkeypatch.setattr(language, "load_model", None)  # nothing is loaded again
    assert train_language(config(), tmp_path) == rows
    with pytest.raises(DataError, match="other settings"):
        train_language(config(seed=1), tmp_path)


@pytest.mark.slow(small_models=True)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_language(config(), tmp_path / "whole")
    plain = language.language_losses
    left = iter(range(3))

    def until_killed(*given: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(language, "language_losses", until_killed)
    with pytest.raises(KeyboardInterrupt):
        train_language(config(), tmp_path / "cut")
    monkeypatch.setattr(language, "language_losses", plain)
    assert train_language(config(), tmp_path / "cut") == whole
    a, b = ((tmp_path / name / "tvp" / "weights.safetensors") for name in ("whole", "cut"))
    assert a.read_bytes() == b.read_bytes()


def test_a_layer_with_no_block_after_it_is_an_error(config: Any, tmp_path: Path) -> None:
    with pytest.raises(TaskVectorsError, match="takes 0 to 2"):
        train_language(config(tvp_layer=3), tmp_path)


def test_a_task_is_trained_on_or_held_out() -> None:
    with pytest.raises(ValueError, match="antonym cannot be"):
        LanguageConfig(trained=("antonym",), held_out=("antonym", "capital"))


# --- measures


def test_a_query_is_given_the_state_of_another_querys_few_shot_prompt(
    fresh: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []
    plain = language_measures.score

    def score(model: Any, prompts: Any, branches: Any = ((),)) -> Any:
        runs.append((prompts, branches))
        return plain(model, prompts, branches)

    monkeypatch.setattr(language_measures, "score", score)
    tasks = {name: load_task(name) for name in ("capitalize", "antonym")}
    rows = measured_rows(fresh, tasks, held_out=("antonym",), shots=2, n_test=4, seed=0)
    (shown, _), (other, _), (asked, branches), _ = runs
    n = fresh.n_layers
    assert len(branches) == 1 + 2 * n
    assert branches[0] == ()  # zero-shot
    # query 1 has the vector of query 2, of its own task and of the other
    for branch, prompts in ((branches[1 + 1], shown), (branches[1 + n + 1], other)):
        ids = torch.tensor([prompts[2].token_ids])
        expected = fresh.hf(input_ids=ids, output_hidden_states=True).hidden_states[2][0, -1]
        (edit,) = branch
        assert (edit.layer, edit.operation) == (1, "replace")
        torch.testing.assert_close(edit.value[1, 0], expected, atol=1e-4, rtol=1e-4)
    assert [prompt.query for prompt in asked] == list(tasks["capitalize"].test[:4])
    assert all(0 <= row["tvp_error"] <= 1 for row in rows)


def test_errors_of_a_group_are_means_over_its_tasks(fresh: LanguageModel) -> None:
    tasks = {name: load_task(name) for name in ("capitalize", "antonym", "sentiment")}
    rows = measured_rows(fresh, tasks, held_out=("antonym",), shots=2, n_test=4, seed=0)
    at_first = [row for row in rows if row["layer"] == 0 and row["split"] == "trained"]
    *parts, pooled = at_first
    assert [row["task"] for row in at_first] == ["capitalize", "sentiment", "all"]
    assert pooled["n"] == 8
    for measure in ("icl_error", "zero_shot_error", "base_error", "tvp_error"):
        assert pooled[measure] == pytest.approx(sum(row[measure] for row in parts) / 2)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        # demonstrations take errors from 1 to 0; with the vector half are wrong
        ({"own": 0.5}, 0.5),
        # the most frequent answer is right for half, so half is all there is to gain
        ({"own": 0.25, "majority": 0.5}, 0.5),
        ({"own": 0.0, "icl": 0.95}, None),
    ],
)
def test_recovery_is_its_formula(wrong: dict[str, float], expected: float | None) -> None:
    shares = {"icl": 0.0, "zero_shot": 1.0, "majority": 1.0, "own": 0.0, "other": 1.0} | wrong

    def errors(share: float) -> torch.Tensor:
        return (torch.arange(40) < 40 * share).float()

    made = {name: errors(share) for name, share in shares.items()}
    by_layer = {name: made[name].unsqueeze(0) for name in ("own", "other")}
    (row,) = _rows("x", "trained", [_Errors(**made | by_layer)], 0)
    assert row["recovery"] == (expected if expected is None else pytest.approx(expected))
    if expected is not None:
        assert row["recovery_low"] < expected < row["recovery_high"]
