"""Random deterministic automata, many at once: drawing, minimising, and walking along strings.

All states accept, so an automaton says one thing only: which letters may come next. A minimal
automaton with its states numbered in the order in which a breadth-first walk meets them is a normal
form: two automata have one language exactly when their tables are equal.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from taskvectors.errors import TaskVectorsError

_BLOCK = 256  # automata minimised together: bounds the table of pairs of states
_MOST_BLOCKS = 100


class AutomatonSizes(BaseModel):
    """What is drawn uniformly for each automaton; both ends count."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    states: tuple[int, int] = (4, 12)
    """States before minimisation."""
    alphabet: tuple[int, int] = (4, 18)
    """Letters an automaton uses, out of all of them."""
    n_letters: int = Field(default=18, ge=2)
    """All letters."""
    most_outgoing: int = Field(default=3, ge=1)
    """Outgoing letters of a state are 1 to this many: 3 in the released code, 4 in the paper."""

    @model_validator(mode="after")
    def _possible(self) -> "AutomatonSizes":
        for name, (low, high) in (("states", self.states), ("alphabet", self.alphabet)):
            if not 2 <= low <= high:
                raise ValueError(f"{name} is from {low} to {high}; give 2 or more, rising")
        if self.alphabet[1] > self.n_letters:
            raise ValueError(f"an alphabet of {self.alphabet[1]} of {self.n_letters} letters")
        return self


@dataclass(frozen=True, kw_only=True)
class Automata:
    """Some automata that start in state 0."""

    targets: Int[Tensor, "automaton state letter"]
    """The state a letter leads to; -1 where it may not come."""

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def legal(self) -> Bool[Tensor, "automaton state letter"]:
        """Which letters may come in each state."""
        return self.targets >= 0

    @cached_property
    def probabilities(self) -> Float[Tensor, "automaton state letter"]:
        """Of each next letter: uniform over those that may come."""
        legal = self.legal.float()
        return legal / legal.sum(dim=-1, keepdim=True).clamp(min=1)

    def __getitem__(self, which: slice) -> "Automata":
        return Automata(targets=self.targets[which])


def draw_automata(n: int, sizes: AutomatonSizes, generator: torch.Generator) -> Automata:
    """Automata as they are drawn, before minimisation.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973, as its released code draws
        them: no letter leads a state to itself, and two letters of a state lead to two states. We
        differ: another random number generator.
    """
    device = generator.device
    most_states, n_letters = sizes.states[1], sizes.n_letters

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, (n, *shape), generator=generator, device=device)

    def scores(*shape: int) -> Tensor:
        return torch.rand((n, *shape), generator=generator, device=device)

    n_states, n_alphabet = integers(*sizes.states), integers(*sizes.alphabet)
    is_state = torch.arange(most_states, device=device) < n_states[:, None]
    in_alphabet = scores(n_letters).argsort(dim=-1).argsort(dim=-1) < n_alphabet[:, None]
    wanted = integers(1, sizes.most_outgoing, most_states)
    # no more letters than the alphabet has, no more targets than there are other states
    degree = torch.minimum(wanted, torch.minimum(n_states - 1, n_alphabet)[:, None])
    most = min(sizes.most_outgoing, most_states - 1, n_letters)
    letters = scores(most_states, n_letters).masked_fill(~in_alphabet[:, None], -1).topk(most)
    itself = torch.eye(most_states, dtype=torch.bool, device=device)
    others = (
        scores(most_states, most_states).masked_fill(~is_state[:, None] | itself, -1).topk(most)
    )
    used = (torch.arange(most, device=device) < degree[..., None]) & is_state[..., None]
    table = torch.full((n, most_states, n_letters), -1, device=device)
    return Automata(
        targets=table.scatter(2, letters.indices, torch.where(used, others.indices, -1))
    )


def minimize(automata: Automata) -> Automata:
    """The smallest automata with the same languages, without unreachable states, in normal form.

    Tables keep their size; states that are gone have no letters.

    Source: Moore (1956), https://doi.org/10.1515/9781400882618-006, partition refinement.
    """
    merged = _merge(automata)
    order, number = _breadth_first(merged)
    rows = torch.arange(len(merged), device=merged.device)
    targets = torch.where(order[..., None] >= 0, merged[rows[:, None], order.clamp(min=0)], -1)
    renumbered = number[rows[:, None, None], targets.clamp(min=0)]
    return Automata(targets=torch.where(targets >= 0, renumbered, -1))


def draw_distinct(n: int, sizes: AutomatonSizes, generator: torch.Generator) -> Automata:
    """`n` minimal automata, no two with the same language, in the order they were drawn.

    Raises:
        TaskVectorsError: The sizes do not allow so many different languages.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973. We differ: their code hashes
        automata without comparing them, so equal ones stay; here languages differ.
    """
    kept = torch.empty(0, device=generator.device)
    for _ in range(_MOST_BLOCKS + n // _BLOCK):
        drawn = minimize(draw_automata(_BLOCK, sizes, generator)).targets
        kept = _first_of_each(torch.cat([kept, drawn]) if len(kept) else drawn)
        if len(kept) >= n:
            return Automata(targets=kept[:n])
    raise TaskVectorsError(
        f"only {len(kept)} different automata were found where {n} were asked for; ask for fewer, "
        "or for more states, letters or outgoing letters"
    )


def draw_strings(
    automata: Automata, which: Int[Tensor, " batch"], length: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """Strings of `length` letters, each next letter uniform over those that may come."""
    degree = automata.legal.sum(dim=-1)
    outgoing = automata.legal.int().argsort(dim=-1, descending=True, stable=True)
    outgoing = outgoing[..., : int(degree.max())]
    draws = torch.rand((len(which), length), generator=generator, device=generator.device)
    state = torch.zeros_like(which)
    strings = []
    for position in range(length):
        here = degree[which, state]
        choice = (draws[:, position] * here).long().clamp(max=here - 1)
        letter = outgoing[which, state, choice]
        state = automata.targets[which, state, letter]
        strings.append(letter)
    return torch.stack(strings, dim=1)


def walk_states(
    automata: Automata,
    which: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch pos"],
    restart: Int[Tensor, ""] | int,
) -> Int[Tensor, "batch pos"]:
    """The state after each token; -1 once a letter came that may not.

    Args:
        automata: The automata.
        which: The automaton of each sequence.
        tokens: Letters, and tokens that are none: `restart` goes back to state 0, others do
            nothing.
        restart: The token between strings.
    """
    n_letters = automata.targets.shape[-1]
    state = torch.zeros_like(which)
    states = []
    for token in tokens.unbind(dim=1):
        letter = token.clamp(max=n_letters - 1)
        moved = torch.where(state >= 0, automata.targets[which, state.clamp(min=0), letter], -1)
        state = torch.where(token < n_letters, moved, state)
        state = torch.where(token == restart, 0, state)
        states.append(state)
    return torch.stack(states, dim=1)


def mixture_predictor(
    automata: Automata,
    tokens: Int[Tensor, "batch pos"],
    restart: int,
    *,
    of: Literal["probability", "legality"] = "probability",
    first: int = 0,
) -> Float[Tensor, "batch read letter"]:
    """Next letters for who knows the automata, but not which it is: Σ_a p(a | tokens) p(y | a).

    All are equally likely at first. Exact for sequences of these automata, whatever the lengths of
    strings; where none of them can have written the tokens, all count alike.

    Args:
        automata: The automata a sequence may be by.
        tokens: Strings with `restart` between them; tokens that are no letters tell nothing else.
        restart: The token between strings.
        of: Average the letters' probabilities, or 1 where a letter may come: the arg-max of that
            is the letter that is likeliest to be legal.
        first: Column of the first prediction.
    """
    n_automata, _, n_letters = automata.targets.shape
    averaged = automata.probabilities if of == "probability" else automata.legal.float()
    every = torch.arange(n_automata, device=tokens.device)
    state = torch.zeros((len(tokens), n_automata), dtype=torch.long, device=tokens.device)
    log_weight = torch.zeros_like(state, dtype=torch.float32)
    log_probability = automata.probabilities.log()
    rows = []
    for column, token in enumerate(tokens.unbind(dim=1)):
        letter = token.clamp(max=n_letters - 1)[:, None]
        is_letter = (token < n_letters)[:, None]
        log_weight = log_weight + torch.where(is_letter, log_probability[every, state, letter], 0.0)
        moved = torch.where(is_letter, automata.targets[every, state, letter].clamp(min=0), state)
        state = torch.where((token == restart)[:, None], 0, moved)
        if column >= first:
            weight = torch.softmax(log_weight, dim=-1).nan_to_num(1 / n_automata)
            rows.append(torch.einsum("ba,bal->bl", weight, averaged[every, state]))
    return torch.stack(rows, dim=1)


def _merge(automata: Automata) -> Int[Tensor, "automaton state letter"]:
    """Tables in which each state leads to the first of the states that are like its target."""
    targets, legal = automata.targets, automata.legal
    differ = (legal[:, :, None] != legal[:, None]).any(dim=-1)
    at = targets.clamp(min=0)
    rows = torch.arange(len(targets), device=targets.device)[:, None, None, None]
    while True:
        found = differ[rows, at[:, :, None], at[:, None]] & legal[:, :, None]
        further = differ | found.any(dim=-1)
        if torch.equal(further, differ):
            break
        differ = further
    first_alike = (~differ).int().argmax(dim=-1)
    led = torch.gather(first_alike, 1, at.flatten(1)).reshape(at.shape)
    return torch.where(legal, led, -1)


def _breadth_first(
    targets: Int[Tensor, "automaton state letter"],
) -> tuple[Int[Tensor, "automaton state"], Int[Tensor, "automaton state"]]:
    """The states in the order a breadth-first walk meets them, and each one's place; -1: never."""
    n, most_states, n_letters = targets.shape
    rows = torch.arange(n, device=targets.device)
    order = torch.full(
        (n, most_states + 1), -1, device=targets.device
    )  # the last takes what is none
    number = torch.full_like(order, -1)
    order[:, 0], number[:, 0] = 0, 0
    count = torch.ones_like(rows)
    for place in range(most_states):
        state = order[:, place]
        for letter in range(n_letters):
            target = torch.where(state >= 0, targets[rows, state.clamp(min=0), letter], -1)
            is_new = (target >= 0) & (number[rows, target] < 0)
            slot = torch.where(is_new, target, most_states)
            number[rows, slot] = torch.where(is_new, count, number[rows, slot])
            place_of_new = torch.where(is_new, count, most_states)
            order[rows, place_of_new] = torch.where(is_new, target, -1)
            count = count + is_new
    return order[:, :-1], number[:, :-1]


def _first_of_each(
    tables: Int[Tensor, "automaton state letter"],
) -> Int[Tensor, "kept state letter"]:
    """The tables without repetitions, in their order."""
    kinds, kind = torch.unique(tables.flatten(1), dim=0, return_inverse=True)
    place = torch.arange(len(tables), device=tables.device)
    first = torch.full((len(kinds),), len(tables), device=tables.device)
    return tables[first.scatter_reduce(0, kind, place, "amin").sort().values]
