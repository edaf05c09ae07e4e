"""The shortlist of a training run: what is listed, what is left out, and that it is noticed.

Run with `pytest tests/methods/test_vocabulary.py`. Oracles hold all logits at once.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from recipes import from_zero
from torch import Tensor

from taskvectors.methods import RunContext
from taskvectors.methods.adaptive import Adaptive, adaptive
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.learned_heads import LearnedHeads, learned_heads
from taskvectors.methods.lobireft import LobiReFT, lobireft
from taskvectors.methods.lora import Lora
from taskvectors.methods.loreft import LoReFT, loreft
from taskvectors.methods.shared.adapters import adapters
from taskvectors.methods.training import vocabulary as module
from taskvectors.methods.training.trainer import Trainer, TrainState, renewals
from taskvectors.methods.training.vocabulary import Reads, Renewal, TrainingVocabulary
from taskvectors.models import unembedding
from taskvectors.models.unembedding import (
    SoftTargets,
    Unembedding,
    losses_seen,
    score_tokens,
    token_losses,
)
from taskvectors.trunk import AnswerScores, answers

D_VOCAB, D_STATE, READS, BRANCHES = 400, 16, 5, 3
ANSWERS = torch.tensor([7, 7, 211, 399, 0])


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of small vocabularies, which a renewal walks over in several slices."""
    monkeypatch.setattr(module, "VOCABULARY_SLICE", 8)
    monkeypatch.setattr(unembedding, "VOCABULARY_SLICE", 96)


@pytest.fixture
def any_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists as short as the bound makes them."""
    monkeypatch.setattr(module, "LARGEST_GAP", float("inf"))


def made(softcap: float | None = None, dtype: torch.dtype = torch.float32) -> Unembedding:
    weight = torch.randn(D_VOCAB, D_STATE, generator=torch.Generator().manual_seed(0))
    return Unembedding(weight=weight.to(dtype), bias=None, softcap=softcap)


def reads_of(
    dtype: torch.dtype = torch.float32, share: float | None = None, shift: Tensor | None = None
) -> list[Reads]:
    """Peaked states, in two parts; `shift` is added to all of them."""
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(READS, BRANCHES, D_STATE, generator=generator) * 1.5
    state = (state if shift is None else state + shift).to(dtype)
    teacher = (torch.randn(READS, D_STATE, generator=generator) * 1.5).to(dtype)
    parts = []
    for part in (slice(0, 3), slice(3, READS)):
        soft = None
        if share is not None:
            soft = SoftTargets(
                state=teacher[part],
                normalizer=torch.zeros(len(teacher[part])),
                mean_row=None,
                share=share,
            )
        parts.append(
            Reads(
                state=state[part],
                targets=ANSWERS[part],
                weights=torch.full((len(ANSWERS[part]),), 1 / READS),
                soft=soft,
            )
        )
    return parts


def mean_losses(full: Unembedding, tokens: Tensor, reads: Sequence[Reads]) -> Tensor:
    """Of each branch, over some tokens; every softmax is of all their logits at once."""
    part = Unembedding(weight=full.weight[tokens], bias=None, softcap=full.softcap)
    losses = torch.zeros(BRANCHES)
    for some in reads:
        log_q = part.logits(some.state).float().log_softmax(dim=-1)
        for read, target in enumerate(some.targets.tolist()):
            at = int((tokens == target).nonzero())
            loss = -log_q[read, :, at]
            if some.soft is not None:
                log_p = part.logits(some.soft.state[read]).float().log_softmax(dim=-1)
                divergence = (log_p.exp() * (log_p - log_q[read])).sum(dim=-1)
                loss = (1 - some.soft.share) * loss + some.soft.share * divergence
            losses += some.weights[read] * loss
    return losses


EVERY = torch.arange(D_VOCAB)


@pytest.mark.usefixtures("any_gap")
@pytest.mark.parametrize("share", [None, 0.4])
def test_the_list_has_every_answer_and_all_that_is_probable_somewhere(
    share: float | None,
) -> None:
    full, reads = made(), reads_of(share=share)
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.01
    vocabulary.renew(reads)
    assert vocabulary.shortlist is not None
    tokens = vocabulary.shortlist.tokens.tolist()
    states = [some.state.flatten(0, 1) for some in reads]
    states += [some.soft.state for some in reads if some.soft is not None]
    highest = full.logits(torch.cat(states)).softmax(dim=-1).amax(dim=0)
    wanted = set(ANSWERS.tolist()) | set((highest > 0.01).nonzero().flatten().tolist())
    assert wanted <= set(tokens)
    assert tokens == sorted(set(tokens))
    assert len(tokens) == -(-len(wanted) // 8) * 8 < D_VOCAB / 2


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_probabilities_by_lower_normalizers_are_too_high_by_what_these_lack(
    softcap: float | None,
) -> None:
    full, state = made(softcap), reads_of()[0].rows
    p = full.logits(state).softmax(dim=-1)
    lack = torch.linspace(0, 0.2, len(state))
    normalizer = full.logits(state).logsumexp(dim=-1)
    targets = torch.zeros(len(state), dtype=torch.long)
    seen = losses_seen(full, state, targets, lower=normalizer - lack)
    torch.testing.assert_close(seen.normalizer, normalizer)
    torch.testing.assert_close(seen.losses, -p[:, 0].log(), atol=1e-4, rtol=1e-4)
    expected = (p * lack.exp().unsqueeze(1)).amax(dim=0)
    torch.testing.assert_close(seen.highest, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.usefixtures("any_gap")
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_a_token_is_never_said_to_be_less_probable_than_some_read_has_it(
    softcap: float | None,
) -> None:
    """Also by normalizers over a list, from the second renewal on."""
    full = made(softcap)
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.02
    vocabulary.renew(reads_of())
    shift = torch.randn(D_STATE, generator=torch.Generator().manual_seed(2))
    moved = reads_of(shift=shift)
    vocabulary.renew(moved)
    every = torch.cat([some.state.flatten(0, 1) for some in (*reads_of(), *moved)])
    highest = full.logits(every).softmax(dim=-1).amax(dim=0)
    assert bool((vocabulary._highest >= highest * (1 - 1e-5)).all())
    others = [token for token in range(D_VOCAB) if token not in ANSWERS.tolist()]
    ratio = vocabulary._highest[others] / highest[others]
    assert float(ratio.max()) < 2  # near enough for the list to be short


@pytest.mark.usefixtures("any_gap")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("share", [None, 0.4, 1.0])
def test_the_gap_is_what_the_full_vocabulary_adds_to_the_loss(
    share: float | None, softcap: float | None, dtype: torch.dtype
) -> None:
    full, reads = made(softcap, dtype), reads_of(dtype, share)
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.02
    first = vocabulary.renew(reads)
    assert first.before is None
    assert vocabulary.shortlist is not None
    listed = vocabulary.shortlist.tokens.clone()
    second = vocabulary.renew(reads)
    expected = mean_losses(full, EVERY, reads) - mean_losses(full, listed, reads)
    close = {"atol": 2e-4, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.1}
    for gap in (first.after, second.before, second.after):
        assert gap is not None
        torch.testing.assert_close(gap, expected, **close)
    assert float(expected.abs().max()) > 0.01


@pytest.mark.usefixtures("any_gap")
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_losses_over_the_list_and_the_gap_are_the_full_losses(softcap: float | None) -> None:
    """As training computes them: slice by slice, the teacher normalized over the list."""
    full, reads = made(softcap), reads_of(share=0.3)
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.02
    vocabulary.renew(reads)
    short = vocabulary.shortlist
    assert short is not None
    losses = torch.zeros(BRANCHES)
    for some in reads:
        assert some.soft is not None
        soft = some.soft.over(short.unembedding)
        targets = short.index(some.targets).repeat_interleave(BRANCHES)
        found = token_losses(short.unembedding, some.state.flatten(0, 1), targets, soft)
        losses += (found.view(-1, BRANCHES) * some.weights.unsqueeze(1)).sum(dim=0)
    gap = vocabulary.renew(reads).before
    torch.testing.assert_close(losses + gap, mean_losses(full, EVERY, reads), atol=1e-4, rtol=1e-4)


def test_a_token_outside_the_list_that_gains_mass_is_noticed_and_listed() -> None:
    full, reads = made(), reads_of()
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.005
    vocabulary.renew(reads)
    assert vocabulary.shortlist is not None
    assert vocabulary.renew(reads).was_close
    listed = vocabulary.shortlist.tokens.clone()
    kept = set((vocabulary._highest > vocabulary.bound).nonzero().flatten().tolist())
    planted = next(token for token in range(D_VOCAB) if token not in listed.tolist())
    moved = reads_of(shift=full.weight[planted] * 2)
    # the control: without the check nothing shows, since the list knows nothing of the token
    hidden = mean_losses(full, EVERY, moved) - mean_losses(full, listed, moved)
    assert float(hidden.min()) > 1
    renewal = vocabulary.renew(moved)
    assert not renewal.was_close
    torch.testing.assert_close(renewal.before, hidden, atol=1e-4, rtol=1e-4)
    assert renewal.after is not None
    assert float(renewal.after.abs().max()) <= module.LARGEST_GAP
    assert planted in vocabulary.shortlist.tokens.tolist()
    assert kept <= set(vocabulary.shortlist.tokens.tolist())  # the others only filled it up
    assert vocabulary.renew(moved).was_close


@pytest.mark.parametrize("share", [None, 0.7])
def test_a_list_that_leaves_out_too_much_is_tightened_at_once(share: float | None) -> None:
    full, reads = made(), reads_of(share=share)
    vocabulary = TrainingVocabulary(full, ANSWERS.tolist())
    vocabulary.bound = 0.9
    renewal = vocabulary.renew(reads)
    assert vocabulary.shortlist is not None
    gap = mean_losses(full, EVERY, reads) - mean_losses(full, vocabulary.shortlist.tokens, reads)
    assert float(gap.abs().max()) <= module.LARGEST_GAP
    assert vocabulary.bound < 0.9
    torch.testing.assert_close(renewal.after, gap, atol=1e-4, rtol=1e-4)


def test_where_too_many_tokens_matter_all_are_taken() -> None:
    vocabulary = TrainingVocabulary(made(), ANSWERS.tolist())
    flat = [Reads(state=some.state * 0, targets=some.targets, weights=some.weights) for some in
            reads_of()]  # fmt: skip
    vocabulary.renew(flat)
    assert vocabulary.shortlist is None
    assert vocabulary.renew(reads_of()) == (None, None)
    assert vocabulary.shortlist is None


def test_a_small_vocabulary_has_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VOCABULARY_SLICE", 4096)
    vocabulary = TrainingVocabulary(made(), ANSWERS.tolist())
    vocabulary.renew(reads_of())
    assert vocabulary.shortlist is None


# --- in training


@pytest.fixture
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small random models have flat distributions: list what is above the average."""
    monkeypatch.setattr(module, "FIRST_BOUND", 0.003)
    monkeypatch.setattr(module, "LARGEST_SHARE", 0.9)
    monkeypatch.setattr(module, "LARGEST_GAP", float("inf"))


TRAINED: dict[str, tuple[Any, Any]] = {
    "learned": (learned, Learned(layers=(1,), recipe=from_zero(steps=2))),
    "distilled": (learned, Learned(layers=(1,), recipe=from_zero(steps=2, distillation=0.5))),
    "loreft": (loreft, LoReFT(layers=(1,), recipe=from_zero(steps=2))),
    "lobireft": (lobireft, LobiReFT(layers=(1,), recipe=from_zero(steps=2))),
    "learned-heads": (learned_heads, LearnedHeads(steps=2)),
    "adaptive": (adaptive, Adaptive(layers=(1,), steps=2)),
    "lora": (adapters, Lora(steps=2, learning_rates=(0.01,), sizes=("matched",))),
}


@pytest.mark.usefixtures("short_lists")
@pytest.mark.parametrize("name", TRAINED)
def test_whatever_is_trained_has_its_losses_over_the_list_and_its_scores_over_all(
    tiny_model: Any, bench_of: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {"losses": [], "scores": []}

    def seen(kind: str, function: Any) -> Any:
        def watched(unembedding: Unembedding, *args: Any, **about: Any) -> Any:
            sizes[kind].append(unembedding.weight.shape[0])
            return function(unembedding, *args, **about)

        return watched

    monkeypatch.setattr(answers, "token_losses", seen("losses", token_losses))
    monkeypatch.setattr(answers, "score_tokens", seen("scores", score_tokens))
    model = tiny_model("llama")
    find, config = TRAINED[name]
    find(bench_of(model), config)
    assert sizes["losses"]
    assert max(sizes["losses"]) < model.d_vocab
    assert set(sizes["scores"]) == {model.d_vocab}


def final_loss(context: RunContext, vector: Tensor, layer: int) -> float:
    from full_pass import full_logits

    from taskvectors.trunk import Edit

    losses = []
    for prompt in context.prompts("train"):
        edits = [Edit(layer=layer, value=vector)]
        log_q = full_logits(context.model, prompt, edits).log_softmax(dim=-1)
        answer = torch.tensor(prompt.answer_ids).unsqueeze(1)
        losses.append(-log_q.gather(1, answer).mean())
    return float(torch.stack(losses).mean())


RECIPE = from_zero(steps=5, batch_size=12, learning_rate=0.02, check_every=5)


@pytest.mark.usefixtures("short_lists")
def test_the_reported_loss_is_that_over_the_full_vocabulary(
    tiny_model: Any, bench_of: Any, mixed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list's loss and what was measured to be missing; without the check it is too low."""
    context = bench_of(tiny_model("llama"), mixed)
    (one,) = learned(context, Learned(layers=(1,), recipe=RECIPE))
    with torch.no_grad():
        expected = final_loss(context, one.vector.values[0], 1)
    assert one.curve[-1]["loss"] == pytest.approx(expected, abs=0.05)  # one step apart
    monkeypatch.setattr(module, "FIRST_BOUND", 0.1)
    (one,) = learned(context, Learned(layers=(1,), recipe=RECIPE))
    assert one.curve[-1]["loss"] == pytest.approx(expected, abs=0.3)  # the list moves the vector
    renew = TrainingVocabulary.renew

    def unmeasured(self: TrainingVocabulary, reads: Any) -> Renewal:
        renew(self, reads)
        return Renewal(None, None)

    monkeypatch.setattr(TrainingVocabulary, "renew", unmeasured)
    (blind,) = learned(context, Learned(layers=(1,), recipe=RECIPE))
    assert blind.curve[-1]["loss"] < expected - 1


def test_the_lower_the_bound_the_nearer_the_vector_is_to_that_of_the_full_vocabulary(
    tiny_model: Any, bench_of: Any, mixed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = bench_of(tiny_model("llama"), mixed)
    monkeypatch.setattr(module, "LARGEST_GAP", float("inf"))
    monkeypatch.setattr(module, "LARGEST_SHARE", 0.0)
    full = learned(context, Learned(layers=(1,), recipe=RECIPE))[0].vector.values
    monkeypatch.setattr(module, "LARGEST_SHARE", 1.0)
    distance = []
    for bound in (3e-3, 0.1):
        monkeypatch.setattr(module, "FIRST_BOUND", bound)
        short = learned(context, Learned(layers=(1,), recipe=RECIPE))[0].vector.values
        distance.append(float((short - full).norm() / full.norm()))
    near, far = distance
    assert 0 < near < 0.1 * far


# --- which check is kept


class _Scripted(Trainer[TrainState]):
    """A run whose checks say what they are told to say; kept is the number of the check."""

    def __init__(self, merits: Sequence[tuple[float, float]], patience: int) -> None:
        self.states = [TrainState()]
        self.recipe = from_zero(patience=patience)
        self.merits, self.n_checks = list(merits), 0

    def groups(self) -> list[dict[str, Any]]:
        return []

    def run(self, batch: Any, active: Sequence[TrainState]) -> Tensor:
        raise AssertionError("only checks are made here, never a step")

    def scores(self, active: Sequence[TrainState]) -> list[AnswerScores]:
        accuracy, logprob = self.merits[self.n_checks]
        self.n_checks += 1
        hits = torch.arange(10) < round(10 * accuracy)
        return [
            AnswerScores(
                log_probability=torch.full((10, 1, 1), logprob),
                best=torch.zeros(10, 1, 1, dtype=torch.long),
                present=torch.ones(10, 1, dtype=torch.bool),
                is_best=hits.view(10, 1, 1),
            )
        ]

    def values(self, state: TrainState) -> int:
        return self.n_checks

    def check_gradient(self) -> None:
        pass


def test_of_equal_checks_the_first_is_kept_and_equal_is_no_improvement() -> None:
    run = _Scripted([(0.5, -1.0), (0.5, -1.0), (0.5, -1.0)], patience=2)
    (state,) = run.states
    for step in (1, 2, 3):
        run.check([state], torch.zeros(1), step)
    assert state.kept == 1
    assert state.checks_since_best == 2
    assert state.is_done


def test_a_better_check_is_kept_by_accuracy_before_log_probability() -> None:
    run = _Scripted([(0.5, -1.0), (0.5, -0.5), (0.6, -2.0), (0.5, -0.1)], patience=2)
    (state,) = run.states
    kept = []
    for step in range(1, 5):
        run.check([state], torch.zeros(1), step)
        kept.append(state.kept)
    assert kept == [1, 2, 3, 3]
    assert not state.is_done


@pytest.mark.usefixtures("short_lists")
def test_a_list_that_stays_close_is_renewed_after_5_20_and_65_steps(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert renewals(64) == [5, 20]
    assert renewals(65) == [5, 20, 65]
    steps, renewed = [0], []
    step, renew = torch.optim.AdamW.step, TrainingVocabulary.renew

    def counted(self: Any, *args: Any) -> Any:
        steps[0] += 1
        return step(self, *args)

    def noted(self: TrainingVocabulary, reads: Any) -> Renewal:
        renewed.append(steps[0])
        return renew(self, reads)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    monkeypatch.setattr(TrainingVocabulary, "renew", noted)
    recipe = from_zero(steps=22, batch_size=4, check_every=22)
    learned(bench_of(tiny_model("llama")), Learned(layers=(1,), recipe=recipe))
    assert renewed == [0, 5, 20]
