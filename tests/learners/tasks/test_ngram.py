"""The batched n-gram baseline against a recursion on strings, written from its definition."""

import pytest
import torch

from taskvectors.learners.tasks.shared.ngram import backoff_predictor

RESTART, N_LETTERS = 4, 4


def grams(strings, order):
    """How often each n-gram occurs in strings with order - 1 blanks before them."""
    counts = {}
    for string in strings:
        padded = ["_"] * (order - 1) + string
        for n in range(1, order + 1):
            for begin in range(len(padded) - n + 1):
                gram = tuple(padded[begin : begin + n])
                counts[gram] = counts.get(gram, 0) + 1
    return counts


def naive(prefix, letters, counts, n):
    """{letter: probability} after the last n - 1 entries; unseen letters share what is left."""
    total = sum(count for gram, count in counts.items() if len(gram) == 1)
    if n == 1:
        return {letter: counts[(letter,)] / total for letter in letters}
    seen = {
        letter: counts[(*prefix, letter)] / counts[prefix]
        for letter in letters
        if (*prefix, letter) in counts
    }
    lower = naive(prefix[1:], letters, counts, n - 1)
    unseen = {letter: p for letter, p in lower.items() if letter not in seen}
    rest, mass = 1 - sum(seen.values()), sum(unseen.values())
    return seen | {letter: rest * p / mass for letter, p in unseen.items()}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_baseline_is_its_definition(order, seeded):
    tokens = torch.randint(N_LETTERS + 1, (8, 25), generator=seeded(order))
    found = backoff_predictor(tokens, N_LETTERS, RESTART, order)
    for row, line in enumerate(tokens.tolist()):
        strings = [[]]
        for position, token in enumerate(line):
            if token == RESTART:
                strings.append([])
            else:
                strings[-1].append(token)
            letters = sorted({letter for string in strings for letter in string})
            expected = torch.full((N_LETTERS,), 1 / N_LETTERS)
            if letters:
                padded = ["_"] * (order - 1) + strings[-1]
                prefix = tuple(padded[len(padded) - order + 1 :])
                scores = naive(prefix, letters, grams(strings, order), order)
                expected = torch.zeros(N_LETTERS)
                expected[list(scores)] = torch.tensor(list(scores.values()))
                expected = expected / expected.sum()
            assert torch.allclose(found[row, position], expected, atol=1e-5)


def test_a_repeated_string_is_continued():
    tokens = torch.tensor([[0, 1, 2, 3, RESTART] * 5])
    guess = backoff_predictor(tokens, N_LETTERS, RESTART)[0, 5:].argmax(dim=-1)
    following = tokens[0, 6:]
    assert torch.equal(guess[:-1][following != RESTART], following[following != RESTART])


def test_padding_changes_nothing():
    short = torch.tensor([[0, 1, RESTART, 0]])
    padded = torch.nn.functional.pad(short, (0, 3), value=N_LETTERS + 1)
    found = backoff_predictor(padded, N_LETTERS, RESTART)
    assert torch.equal(found[:, :4], backoff_predictor(short, N_LETTERS, RESTART))
    assert torch.equal(found[:, 4], found[:, 3])
