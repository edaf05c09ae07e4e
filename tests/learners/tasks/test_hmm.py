"""The recursions against sums over all paths of hidden states."""

import itertools
import math

import pytest
import torch

from taskvectors.learners.tasks.shared.hmm import (
    HiddenMarkovModels,
    forward_states,
    log_evidence,
    log_likelihood_by_start,
    next_symbol,
)


@pytest.fixture
def models(seeded):
    def rows(*shape):
        return torch.rand(shape, generator=seeded(1), dtype=torch.float64).softmax(dim=-1)

    transition = rows(2, 3, 3)
    transition[0, 1] = torch.tensor([1.0, 0.0, 0.0])  # some steps are impossible
    emission = rows(2, 3, 4)
    emission[0, 0] = torch.tensor([0.0, 0.5, 0.5, 0.0])
    return HiddenMarkovModels(start=rows(2, 3), transition=transition, emission=emission)


@pytest.fixture
def symbols(seeded):
    return torch.randint(4, (5, 4), generator=seeded(2))


def path_probabilities(models, hmm, symbols, start=None):
    """{path of hidden states: p(path, symbols)}, every path written out."""
    start = models.start[hmm] if start is None else start
    found = {}
    for path in itertools.product(range(3), repeat=len(symbols)):
        p = start[path[0]] * models.emission[hmm, path[0], symbols[0]]
        for before, after, symbol in zip(path, path[1:], symbols[1:], strict=False):
            p = p * models.transition[hmm, before, after] * models.emission[hmm, after, symbol]
        found[path] = float(p)
    return found


def test_evidence_is_the_sum_over_all_paths(models, symbols):
    found = log_evidence(models, symbols).exp()
    for row, hmm, end in itertools.product(range(5), range(2), range(1, 5)):
        expected = sum(path_probabilities(models, hmm, symbols[row, :end]).values())
        assert float(found[row, hmm, end - 1]) == pytest.approx(expected, abs=1e-12)


def test_forward_states_and_next_symbol_are_sums_over_paths(models, symbols):
    *_, states = forward_states(models, symbols)
    following = next_symbol(models, states).exp()
    for row, hmm in itertools.product(range(5), range(2)):
        paths = path_probabilities(models, hmm, symbols[row])
        for state in range(3):
            expected = sum(p for path, p in paths.items() if path[-1] == state)
            assert float(states[row, hmm, state].exp()) == pytest.approx(expected, abs=1e-12)
        for symbol in range(4):
            longer = torch.cat([symbols[row], torch.tensor([symbol])])
            expected = sum(path_probabilities(models, hmm, longer).values())
            assert float(following[row, hmm, symbol]) == pytest.approx(expected, abs=1e-12)


def test_backward_recursion_agrees_with_paths_from_each_state(models, symbols):
    found = log_likelihood_by_start(models, symbols).exp()
    for row, hmm, state in itertools.product(range(5), range(2), range(3)):
        start = torch.nn.functional.one_hot(torch.tensor(state), 3).double()
        expected = sum(path_probabilities(models, hmm, symbols[row], start).values())
        assert float(found[row, hmm, state]) == pytest.approx(expected, abs=1e-12)


def test_a_start_of_its_own_for_each_sequence_is_used(models, symbols):
    start = torch.rand((5, 2, 3), dtype=torch.float64)
    found = log_evidence(models, symbols, start.log()).exp()
    for row, hmm in itertools.product(range(5), range(2)):
        expected = sum(path_probabilities(models, hmm, symbols[row], start[row, hmm]).values())
        assert float(found[row, hmm, -1]) == pytest.approx(expected, abs=1e-12)


def test_long_sequences_do_not_underflow(models):
    evidence = log_evidence(models, torch.full((1, 3000), 1))
    assert evidence.isfinite().all()
    assert float(evidence[0, 0, -1]) < -1000  # far below the smallest float64


def test_an_impossible_sequence_has_log_probability_minus_infinity_and_no_nan():
    models = HiddenMarkovModels(
        start=torch.tensor([[1.0, 0.0]]).double(),
        transition=torch.eye(2).double()[None],
        emission=torch.eye(2).double()[None],
    )
    evidence = log_evidence(models, torch.tensor([[0, 1, 1], [0, 0, 0]]))
    assert evidence[0, 0].tolist() == [0.0, -math.inf, -math.inf]
    assert evidence[1, 0].tolist() == [0.0, 0.0, 0.0]
