"""RegBench: strings of a random automaton, one after another; what may come next is to be inferred.

An instance is a handful of strings of one automaton with a separator between them. The automata are
drawn once and split once, so that those of a test were never trained on; instances are drawn anew.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.tasks.automata import (
    Automata,
    AutomatonSizes,
    draw_distinct,
    draw_strings,
    walk_states,
)


class RegBenchConfig(BaseModel):
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
class RegBench:
    """The automata of one seed, by split; no language is in two of them."""

    config: RegBenchConfig
    train: Automata
    validation: Automata
    test: Automata


def draw_regbench(config: RegBenchConfig, generator: torch.Generator) -> RegBench:
    """Distinct automata, dealt out to the splits in the order they were drawn.

    Raises:
        TaskVectorsError: The sizes do not allow so many different languages.
    """
    n_seen = config.n_train + config.n_validation
    automata = draw_distinct(n_seen + config.n_test, config.automata, generator)
    return RegBench(
        config=config,
        train=automata[: config.n_train],
        validation=automata[config.n_train : n_seen],
        test=automata[n_seen:],
    )


def draw_instances(
    config: RegBenchConfig,
    automata: Automata,
    which: Int[Tensor, " batch"],
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """One instance of each automaton named, padded to the longest that there can be.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973, as its released code draws
        them. Which separates training on fresh instances from the published way is the caller's
        to say: `draw_corpus` draws one per automaton, to be shown in every epoch.
    """
    device, batch = generator.device, len(which)
    most_strings, most_letters = config.strings[1], config.length[1]

    def integers(bounds: tuple[int, int], *shape: int) -> Tensor:
        shape = (batch, *shape)
        return torch.randint(bounds[0], bounds[1] + 1, shape, generator=generator, device=device)

    n_strings, lengths = integers(config.strings), integers(config.length, most_strings)
    per_string = which.repeat_interleave(most_strings)
    letters = draw_strings(automata, per_string, most_letters, generator)
    letters = letters.reshape(batch, most_strings, most_letters)
    number = torch.arange(most_strings, device=device)
    place = torch.arange(most_letters + 1, device=device)
    begin = torch.cumsum(lengths + 1, dim=1) - lengths - 1
    is_separator = (place == lengths[..., None]) & (number < n_strings[:, None] - 1)[..., None]
    is_letter = (place < lengths[..., None]) & (number < n_strings[:, None])[..., None]
    letters = torch.nn.functional.pad(letters, (0, 1))
    values = torch.where(is_separator, config.separator, letters)
    # what is neither is written to one place behind the end, and cut off
    target = torch.where(is_letter | is_separator, begin[..., None] + place, config.width)
    tokens = torch.full((batch, config.width + 1), config.padding, device=device)
    return tokens.scatter(1, target.flatten(1), values.flatten(1))[:, :-1]


def draw_corpus(
    config: RegBenchConfig, automata: Automata, generator: torch.Generator
) -> Int[Tensor, "automaton pos"]:
    """The published training set: one fixed instance of each automaton."""
    every = torch.arange(len(automata), device=generator.device)
    return draw_instances(config, automata, every, generator)


def draw_segments(
    config: RegBenchConfig,
    automata: Automata,
    which: Int[Tensor, " batch"],
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """A separator and a fresh string after it: `length` + 1 tokens."""
    strings = draw_strings(automata, which, length, generator)
    return torch.nn.functional.pad(strings, (1, 0), value=config.separator)


def trained_targets(
    config: RegBenchConfig, tokens: Int[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos_less_1"]:
    """Where the next token counts, in the loss and in every measure: it is a letter."""
    return tokens[:, 1:] < config.automata.n_letters


def legal_letters(
    config: RegBenchConfig,
    automata: Automata,
    which: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch pos"],
) -> Bool[Tensor, "batch pos letter"]:
    """The oracle: which letters may follow each token. It knows the automaton, so it is not Bayes.

    After a letter that may not come, none may.
    """
    states = walk_states(automata, which, tokens, config.separator)
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
