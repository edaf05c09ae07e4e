"""Random automata: what is drawn, minimisation against languages, walks against a naive one."""

import itertools

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.shared.automata import (
    Automata,
    AutomatonSizes,
    draw_automata,
    draw_distinct,
    draw_strings,
    minimize,
    mixture_predictor,
    walk_states,
)

TINY = AutomatonSizes(states=(2, 4), alphabet=(2, 3), n_letters=3, most_outgoing=2)
RESTART = 3


def table(automata, one):
    """{state: {letter: target}} of one automaton, in plain Python."""
    rows = automata.targets[one].tolist()
    return {
        state: {letter: target for letter, target in enumerate(row) if target >= 0}
        for state, row in enumerate(rows)
    }


def language(transitions, length):
    """All strings of that length, and by them which letters may come next."""
    found = {}
    for string in itertools.product(range(3), repeat=length):
        state = 0
        for letter in string:
            state = transitions[state].get(letter) if state is not None else None
        if state is not None:
            found[string] = frozenset(transitions[state])
    return found


def reachable(transitions):
    seen, waiting = {0}, [0]
    while waiting:
        for target in transitions[waiting.pop(0)].values():
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def test_drawn_automata_have_the_published_statistics(seeded):
    targets = draw_automata(4000, AutomatonSizes(), seeded(0)).targets
    legal = targets >= 0
    n_states = legal.any(dim=-1).sum(dim=1)
    assert n_states.unique().tolist() == list(range(4, 13))
    assert float(n_states.float().mean()) == pytest.approx(8, abs=0.15)
    degree = legal.sum(dim=-1)[legal.any(dim=-1)]
    assert degree.unique().tolist() == [1, 2, 3]
    for count in (1, 2, 3):
        assert float((degree == count).float().mean()) == pytest.approx(1 / 3, abs=0.02)
    assert torch.bincount(targets[legal]).numel() <= 12
    letters = legal.any(dim=1).float().mean(dim=0)
    assert float(letters.max() - letters.min()) < 0.05  # no letter is preferred


def test_no_letter_stays_and_no_two_letters_of_a_state_agree(seeded):
    automata = draw_automata(500, AutomatonSizes(), seeded(1))
    for one in range(500):
        transitions = table(automata, one)
        n_states = sum(bool(row) for row in transitions.values())
        for state, row in transitions.items():
            assert state not in row.values()
            assert len(set(row.values())) == len(row)
            assert all(target < n_states for target in row.values())
        assert n_states >= 4


def test_an_alphabet_is_a_subset_of_the_letters(seeded):
    sizes = AutomatonSizes(alphabet=(4, 4))
    legal = draw_automata(500, sizes, seeded(2)).legal
    used = legal.any(dim=1).sum(dim=-1)
    assert used.max() == 4
    assert legal.any(dim=1).any(dim=0).all()


@pytest.mark.parametrize(("most", "expected"), [(3, [1, 2, 3]), (4, [1, 2, 3, 4])])
def test_the_flag_for_the_papers_text_allows_a_fourth_letter(seeded, most, expected):
    automata = draw_automata(500, AutomatonSizes(most_outgoing=most), seeded(3))
    degree = automata.legal.sum(dim=-1)
    assert degree[degree > 0].unique().tolist() == expected


def test_minimal_automata_have_the_same_language(seeded):
    drawn = draw_automata(60, TINY, seeded(4))
    minimal = minimize(drawn)
    for one in range(60):
        for length in range(6):
            assert language(table(drawn, one), length) == language(table(minimal, one), length)


def test_minimal_automata_have_no_two_alike_and_no_unreachable_states(seeded):
    minimal = minimize(draw_automata(60, TINY, seeded(4)))
    for one in range(60):
        transitions = table(minimal, one)
        used = {state for state, row in transitions.items() if row}
        assert used == reachable(transitions) == set(range(len(used)))
        futures = set()
        for state in used:  # begin in each state: swap it with the start
            swap = {0: state, state: 0}
            renamed = {
                swap.get(s, s): {a: swap.get(t, t) for a, t in row.items()}
                for s, row in transitions.items()
            }
            # two states of 4 that differ do so on a string shorter than 4
            futures.add(tuple(frozenset(language(renamed, n).items()) for n in range(4)))
        assert len(futures) == len(used)


def test_minimising_merges_states_that_are_alike_and_numbers_by_breadth_first():
    # 0 -a-> 2, 0 -b-> 3, both go on to 1 by c, and 1 goes back by a; 4 is not reached
    targets = torch.full((1, 5, 3), -1)
    targets[0, 0, 0], targets[0, 0, 1] = 2, 3
    targets[0, 2, 2], targets[0, 3, 2], targets[0, 1, 0], targets[0, 4, 0] = 1, 1, 0, 2
    found = table(minimize(Automata(targets=targets)), 0)
    assert found == {0: {0: 1, 1: 1}, 1: {2: 2}, 2: {0: 0}, 3: {}, 4: {}}


def test_equal_languages_have_equal_tables_and_distinct_automata_have_distinct_languages(seeded):
    minimal = minimize(draw_automata(300, TINY, seeded(5)))
    by_language = {}
    for one in range(300):
        # minimal automata of at most 4 states that differ do so on a string shorter than 7
        key = tuple(frozenset(language(table(minimal, one), n).items()) for n in range(7))
        by_language.setdefault(key, set()).add(tuple(minimal.targets[one].flatten().tolist()))
    assert all(len(tables) == 1 for tables in by_language.values())
    n = len(by_language) // 2
    distinct = draw_distinct(n, TINY, seeded(5)).targets
    assert len(torch.unique(distinct.flatten(1), dim=0)) == n


def test_distinct_automata_keep_the_order_in_which_they_were_drawn(seeded):
    few, more = draw_distinct(20, TINY, seeded(6)), draw_distinct(40, TINY, seeded(6))
    assert torch.equal(few.targets, more.targets[:20])
    assert torch.equal(few.targets[0], minimize(draw_automata(256, TINY, seeded(6))).targets[0])


def test_more_automata_than_there_are_languages_is_an_error(seeded):
    sizes = AutomatonSizes(states=(2, 2), alphabet=(2, 2), n_letters=2, most_outgoing=1)
    with pytest.raises(TaskVectorsError, match="only 4 different"):
        draw_distinct(5, sizes, seeded(0))


@pytest.mark.parametrize("bad", [{"states": (5, 4)}, {"alphabet": (4, 19)}, {"states": (1, 3)}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match=r"letters|rising"):
        AutomatonSizes(**bad)


def test_strings_are_legal_and_uniform_over_what_may_come(seeded):
    automata = draw_distinct(3, TINY, seeded(7))
    strings = draw_strings(automata, torch.arange(3).repeat(2000), 5, seeded(8))
    for one in range(3):
        transitions, own = table(automata, one), strings[one::3].tolist()
        for string in own:
            state = 0
            for letter in string:
                state = transitions[state][letter]
        first = [string[0] for string in own]
        for letter in transitions[0]:
            expected = 1 / len(transitions[0])
            assert first.count(letter) / 2000 == pytest.approx(expected, abs=0.04)


def test_walked_states_are_those_of_a_naive_walk(seeded):
    automata = draw_distinct(5, TINY, seeded(9))
    tokens = torch.randint(5, (200, 9), generator=seeded(10))  # 3 restarts, 4 is padding
    which = torch.arange(5).repeat(40)
    found = walk_states(automata, which, tokens, RESTART)
    for one, row, states in zip(which.tolist(), tokens.tolist(), found.tolist(), strict=True):
        transitions, state = table(automata, one), 0
        for token, reached in zip(row, states, strict=True):
            if token == RESTART:
                state = 0
            elif token < RESTART and state >= 0:
                state = transitions[state].get(token, -1)
            assert reached == state


def test_the_mixture_predictor_is_bayes_over_the_automata(seeded):
    automata = draw_distinct(6, TINY, seeded(11))
    strings = draw_strings(automata, torch.arange(6), 4, seeded(12))
    again = draw_strings(automata, torch.arange(6), 3, seeded(13))
    bar = torch.full((6, 1), RESTART)
    tokens = torch.cat([bar, strings, bar, again], dim=1)
    found = mixture_predictor(automata, tokens, RESTART)
    for row, end in itertools.product(range(6), range(tokens.shape[1])):
        scores = torch.zeros(3)
        for one in range(6):
            transitions, state, weight = table(automata, one), 0, 1.0
            for token in tokens[row, : end + 1].tolist():
                if token == RESTART:
                    state = 0
                elif weight:
                    weight *= (token in transitions[state]) / len(transitions[state])
                    state = transitions[state].get(token, 0)
            for letter in transitions[state]:
                scores[letter] += weight / len(transitions[state])
        assert torch.allclose(found[row, end], scores / scores.sum(), atol=1e-5)
