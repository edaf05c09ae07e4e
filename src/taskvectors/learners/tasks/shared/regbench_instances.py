"""RegBench: strings of a random automaton, one after another; what may come next is inferred.

An instance is a handful of strings of one automaton with a separator between them. The automata are
drawn once and split once, so that those of a test were never trained on; instances are drawn anew.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.tasks.shared.automata import (
    Automata,
    AutomatonSizes,
    draw_distinct,
    draw_strings,
    walk_states,
)


class InstanceSizes(BaseModel):
    """The sizes of the benchmark; the defaults are those of the released code. Both ends count."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    automata: AutomatonSizes = AutomatonSizes()
    """How each automaton is drawn."""
    n_train: int = Field(default=5000, ge=1)
    """Automata to train on."""
    n_validation: int = Field(default=250, ge=1)
    """Automata to choose by."""
    n_test: int = Field(default=250, ge=1)
    """Automata to test on."""
    strings: tuple[int, int] = (10, 19)
    """Strings of an instance."""
    length: tuple[int, int] = (1, 49)
    """Letters of a string."""

    @property
    def separator(self) -> int:
        """Token id of "|", between strings."""
        return self.automata.n_letters

    @property
    def padding(self) -> int:
        """Token id of ".", after the last string."""
        return self.automata.n_letters + 1

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary: letters, separator and padding."""
        return self.automata.n_letters + 2

    @property
    def width(self) -> int:
        """Tokens of the longest instance; all are padded to it."""
        return self.strings[1] * (self.length[1] + 1) - 1


@dataclass(frozen=True, kw_only=True)
class SplitAutomata:
    """The automata of one seed, by split; no language is in two of them."""

    sizes: InstanceSizes
    train: Automata
    validation: Automata
    test: Automata


def draw_splits(sizes: InstanceSizes, generator: torch.Generator) -> SplitAutomata:
    """Distinct automata, dealt out to the splits in the order they were drawn.

    Raises:
        TaskVectorsError: The sizes do not allow so many different languages.
    """
    n_seen = sizes.n_train + sizes.n_validation
    automata = draw_distinct(n_seen + sizes.n_test, sizes.automata, generator)
    return SplitAutomata(
        sizes=sizes,
        train=automata[: sizes.n_train],
        validation=automata[sizes.n_train : n_seen],
        test=automata[n_seen:],
    )


def draw_instances(
    sizes: InstanceSizes,
    automata: Automata,
    which: Int[Tensor, " batch"],
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """One instance of each automaton named, padded to the longest that there can be.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973, as its released code draws
        them.
    """
    most = sizes.strings[1]
    n_strings = _between(sizes.strings, (len(which),), generator)
    lengths = _between(sizes.length, (len(which), most), generator)
    lengths = lengths.masked_fill(
        torch.arange(most, device=generator.device) >= n_strings[:, None], 0
    )
    return join_strings(
        sizes, draw_string_sets(automata, which, lengths, sizes.length[1], generator), lengths
    )


def draw_string_sets(
    automata: Automata,
    which: Int[Tensor, " batch"],
    lengths: Int[Tensor, "batch string"],
    longest: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch string letter"]:
    """Several strings of each automaton named; letters behind a string's length mean nothing."""
    each = which.repeat_interleave(lengths.shape[1])
    return draw_strings(automata, each, longest, generator).view(*lengths.shape, longest)


def join_strings(
    sizes: InstanceSizes,
    letters: Int[Tensor, "batch string letter"],
    lengths: Int[Tensor, "batch string"],
) -> Int[Tensor, "batch pos"]:
    """Strings one after another with separators between them, padded to the longest possible.

    Args:
        sizes: Which tokens separator and padding are, and how long a string can be.
        letters: The strings.
        lengths: How many of the letters count; 0 for a string that is not there, at the end only.
    """
    batch, n_strings, longest = letters.shape
    width = n_strings * (longest + 1) - 1
    place = torch.arange(longest + 1, device=letters.device)
    begin = torch.cumsum(lengths + 1, dim=1) - lengths - 1
    follows = torch.nn.functional.pad(lengths[:, 1:] > 0, (0, 1))  # another string comes after it
    is_letter = place < lengths[..., None]
    is_separator = (place == lengths[..., None]) & follows[..., None]
    letters = torch.nn.functional.pad(letters, (0, 1))
    values = torch.where(is_separator, sizes.separator, letters)
    # what is neither is written to one place behind the end, and cut off
    target = torch.where(is_letter | is_separator, begin[..., None] + place, width)
    tokens = torch.full((batch, width + 1), sizes.padding, device=letters.device)
    return tokens.scatter(1, target.flatten(1), values.flatten(1))[:, :-1]


def draw_corpus(
    sizes: InstanceSizes, automata: Automata, generator: torch.Generator
) -> Int[Tensor, "automaton pos"]:
    """The published training set: one fixed instance of each automaton."""
    every = torch.arange(len(automata), device=generator.device)
    return draw_instances(sizes, automata, every, generator)


def draw_segments(
    sizes: InstanceSizes,
    automata: Automata,
    which: Int[Tensor, " batch"],
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """A separator and a fresh string after it: `length` + 1 tokens."""
    strings = draw_strings(automata, which, length, generator)
    return torch.nn.functional.pad(strings, (1, 0), value=sizes.separator)


def trained_targets(
    sizes: InstanceSizes, tokens: Int[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos_less_1"]:
    """Where the next token counts, in the loss and in every measure: it is a letter."""
    return tokens[:, 1:] < sizes.automata.n_letters


def legal_letters(
    sizes: InstanceSizes,
    automata: Automata,
    which: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch pos"],
) -> Bool[Tensor, "batch pos letter"]:
    """The oracle: which letters may follow each token. It knows the automaton, so it is not Bayes.

    After a letter that may not come, none may.
    """
    states = walk_states(automata, which, tokens, sizes.separator)
    legal = automata.legal[which[:, None], states.clamp(min=0)]
    return legal & (states >= 0)[..., None]


def automaton_accuracy(
    predicted: Int[Tensor, "batch pos"],
    legal: Bool[Tensor, "batch pos letter"],
    counted: Bool[Tensor, "batch pos"],
) -> Float[Tensor, ""]:
    """The share of counted positions where the predicted token is a letter that may come.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973, "DFA accuracy".
    """
    n_letters = legal.shape[-1]
    letter = predicted.clamp(max=n_letters - 1)
    is_legal = legal.gather(-1, letter[..., None]).squeeze(-1) & (predicted < n_letters)
    return (is_legal & counted).sum() / counted.sum()


def total_variation(
    probabilities: Float[Tensor, "batch pos token"],
    legal: Bool[Tensor, "batch pos letter"],
    counted: Bool[Tensor, "batch pos"],
) -> Float[Tensor, ""]:
    """Half the L1 distance to the automaton's own next-letter probabilities, a mean over positions.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973; their code reports the L1
        distance, which is twice this.
    """
    own = legal.to(probabilities.dtype)
    own = own / own.sum(dim=-1, keepdim=True).clamp(min=1)
    own = torch.nn.functional.pad(own, (0, probabilities.shape[-1] - own.shape[-1]))
    distance = (probabilities - own).abs().sum(dim=-1) / 2
    return (distance * counted).sum() / counted.sum()


def _between(
    bounds: tuple[int, int], shape: tuple[int, ...], generator: torch.Generator
) -> Int[Tensor, "..."]:
    low, high = bounds
    return torch.randint(low, high + 1, shape, generator=generator, device=generator.device)
