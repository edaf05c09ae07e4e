"""Instances, splits, the oracle and the metrics of RegBench."""

import pytest
import torch

from taskvectors.learners.tasks.shared.automata import Automata, AutomatonSizes, draw_distinct
from taskvectors.learners.tasks.shared.ngram import backoff_predictor
from taskvectors.learners.tasks.shared.regbench_instances import (
    InstanceSizes,
    automaton_accuracy,
    draw_corpus,
    draw_instances,
    draw_segments,
    draw_splits,
    legal_letters,
    total_variation,
    trained_targets,
)

SMALL = InstanceSizes(
    automata=AutomatonSizes(states=(4, 6), alphabet=(4, 6), n_letters=6),
    n_train=40,
    n_validation=10,
    n_test=10,
    strings=(2, 5),
    length=(1, 7),
)


@pytest.fixture(scope="module")
def context(seeded):
    return draw_splits(SMALL, seeded(0))


def strings_of(sizes, row):
    """The strings of an instance, by splitting at the separators."""
    body = [token for token in row.tolist() if token != sizes.padding]
    strings = [[]]
    for token in body:
        if token == sizes.separator:
            strings.append([])
        else:
            strings[-1].append(token)
    return strings


@pytest.mark.slow(small_models=True)
def test_published_instances_have_the_published_statistics(seeded):
    sizes = InstanceSizes()
    assert (sizes.width, sizes.n_tokens) == (949, 20)
    automata = draw_distinct(50, sizes.automata, seeded(1))
    which = torch.arange(50).repeat(6)
    tokens = draw_instances(sizes, automata, which, seeded(2))
    used = (tokens != sizes.padding).sum(dim=1)
    assert float(used.float().mean()) == pytest.approx(14.5 * 26 - 1, rel=0.04)
    counts, lengths = [], []
    for row in tokens:
        strings = strings_of(sizes, row)
        counts.append(len(strings))
        lengths += map(len, strings)
    assert (min(counts), max(counts)) == (10, 19)
    assert (min(lengths), max(lengths)) == (1, 49)


def test_padding_is_at_the_end_only(context, seeded):
    tokens = draw_corpus(SMALL, context.train, seeded(3))
    assert tokens.shape == (40, SMALL.width)
    is_padding = tokens == SMALL.padding
    assert (is_padding[:, 1:] | ~is_padding[:, :-1]).all()
    assert (tokens[:, 0] < SMALL.separator).all()


def test_no_language_is_in_two_splits(context):
    parts = {name: getattr(context, name).targets for name in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [40, 10, 10]
    every = torch.cat(list(parts.values())).flatten(1)
    assert len(torch.unique(every, dim=0)) == 60


def test_everything_is_its_seed(context, seeded):
    again, other = draw_splits(SMALL, seeded(0)), draw_splits(SMALL, seeded(1))
    assert torch.equal(context.test.targets, again.test.targets)
    assert not torch.equal(context.test.targets, other.test.targets)
    one, same, fresh = (draw_corpus(SMALL, context.train, seeded(s)) for s in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, fresh)


def test_legal_letters_are_those_of_a_naive_walk(context, seeded):
    which = torch.randint(10, (30,), generator=seeded(5))
    tokens = torch.randint(SMALL.n_tokens, (30, 12), generator=seeded(6))  # mostly not legal
    tokens = torch.cat([draw_instances(SMALL, context.test, which, seeded(7)), tokens], dim=1)
    found = legal_letters(SMALL, context.test, which, tokens)
    for row, one in enumerate(which.tolist()):
        targets, state = context.test.targets[one].tolist(), 0
        for position, token in enumerate(tokens[row].tolist()):
            if token == SMALL.separator:
                state = 0
            elif token < SMALL.separator:
                state = -1 if state < 0 else targets[state][token]
            expected = [state >= 0 and target >= 0 for target in targets[state]]
            assert found[row, position].tolist() == expected


def test_the_sequence_itself_is_always_legal(context, seeded):
    which = torch.arange(40)
    tokens = draw_instances(SMALL, context.train, which, seeded(8))
    legal = legal_letters(SMALL, context.train, which, tokens)[:, :-1]
    counted = trained_targets(SMALL, tokens)
    assert float(automaton_accuracy(tokens[:, 1:], legal, counted)) == 1.0
    wrong = legal_letters(SMALL, context.train, which.roll(1), tokens)[:, :-1]
    assert float(automaton_accuracy(tokens[:, 1:], wrong, counted)) < 0.5


def test_separators_and_padding_are_not_counted(context, seeded):
    tokens = draw_corpus(SMALL, context.train, seeded(9))
    counted = trained_targets(SMALL, tokens)
    for row, own in zip(tokens, counted, strict=True):
        n_letters = sum(map(len, strings_of(SMALL, row)))
        assert int(own.sum()) == n_letters - 1  # the first letter is not predicted


def test_metrics_by_hand():
    legal = torch.tensor([[[True, True, False], [False, False, True], [True, False, False]]])
    counted = torch.tensor([[True, True, False]])
    assert float(automaton_accuracy(torch.tensor([[1, 0, 2]]), legal, counted)) == 0.5
    assert float(automaton_accuracy(torch.tensor([[3, 4, 0]]), legal, counted)) == 0.0
    exact = torch.tensor([[[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]]).float()
    assert float(total_variation(exact, legal, counted)) == 0.0
    off = torch.tensor([[[0.5, 0.25, 0, 0.25, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]]).float()
    assert float(total_variation(off, legal, counted)) == pytest.approx((0.25 + 1) / 2)


def test_segments_are_a_separator_and_a_legal_string(context, seeded):
    which = torch.arange(10)
    segments = draw_segments(SMALL, context.test, which, 9, seeded(10))
    assert segments.shape == (10, 10)
    assert (segments[:, 0] == SMALL.separator).all()
    legal = legal_letters(SMALL, context.test, which, segments)[:, :-1]
    everywhere = torch.ones(10, 9, dtype=torch.bool)
    assert float(automaton_accuracy(segments[:, 1:], legal, everywhere)) == 1.0


def test_the_baselines_order(context, seeded):
    """What a longer context is worth: 3-grams beat 1-grams, and both fall short of the oracle."""
    which = torch.arange(40)
    tokens = draw_instances(SMALL, context.train, which, seeded(11))
    legal = legal_letters(SMALL, context.train, which, tokens)[:, :-1]
    counted = trained_targets(SMALL, tokens)
    accuracy = [
        float(
            automaton_accuracy(
                backoff_predictor(tokens, 6, SMALL.separator, order).argmax(dim=-1)[:, :-1],
                legal,
                counted,
            )
        )
        for order in (1, 3)
    ]
    assert accuracy[0] < accuracy[1] < 1.0


def test_automata_of_a_split_are_minimal(context):
    from taskvectors.learners.tasks.shared.automata import minimize

    assert torch.equal(minimize(context.train).targets, context.train.targets)
    assert isinstance(context.train[:3], Automata)
