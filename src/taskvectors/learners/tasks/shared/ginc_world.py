"""GINC: documents of a mixture of hidden Markov models that differ in one matrix.

A hidden state is a value (an entity) and a slot (a property), which move independently; its symbol
is looked up in a memory table. A model is told from another by its slot matrix alone: that is the
task a prompt has to reveal. Half of the models write the documents, the others are kept for out of
distribution tests. This module draws; `ginc_bayes.py` has the predictors that need no learner.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.shared.hmm import (
    HiddenMarkovModels,
    forward_states,
    next_symbol,
)
from taskvectors.learners.tasks.shared.permutations import PermutationMixtures, draw_mixtures, walk

END_OF_TEXT = 0
"""Token id that no symbol has; symbol s is token s + 1."""
DELIMITER = 1
"""Token id of "/", the symbol of slot 0."""
EXAMPLE_LENGTHS = (3, 5, 8, 10)
"""Tokens of a prompt's examples, the answer included, in the released code."""
EXAMPLE_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Examples of a prompt, the query apart, as far as the prompt has at most 1024 tokens."""

PromptKind = Literal["id", "ood-hmm", "ood-slots"]


class WorldSizes(BaseModel):
    """The sizes of the generator; the defaults are those of the published experiments."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    n_symbols: int = Field(default=50, ge=2)
    """Symbols, the delimiter included."""
    n_values: int = Field(default=10, ge=1)
    """Values a hidden state can have (entities)."""
    n_slots: int = Field(default=10, ge=2)
    """Slots a hidden state can have (properties); slot 0 is the delimiter's."""
    n_hmms: int = Field(default=10, ge=2, multiple_of=2)
    """Models; the first half writes the documents."""
    transition_temperature: float = Field(default=0.1, gt=0)
    """Of the softmax over permutations."""
    start_temperature: float = Field(default=10.0, gt=0)
    """Of the softmax over first states."""
    value_identity: float = Field(default=0.9, ge=0, lt=1)
    """Probability that the value stays, apart from its chain's own move."""

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary: the symbols and the end of text."""
        return self.n_symbols + 1


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts of one shape, and what the next token should be."""

    tokens: Int[Tensor, "batch pos"]
    """Examples joined by delimiters; the last one lacks its answer."""
    labels: Int[Tensor, " batch"]
    """The likeliest next token given the query alone; -1 where the query is impossible."""
    hmm: Int[Tensor, " batch"]
    """Which of all models each belongs to."""
    example_length: int
    """Tokens of an example, the answer included."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents that are drawn once and shown again and again."""

    documents: Int[Tensor, "document pos"]
    hmm: Int[Tensor, " document"]
    """The model each is by."""

    def to(self, device: torch.device) -> "Corpus":
        """The same on a device."""
        return Corpus(documents=self.documents.to(device), hmm=self.hmm.to(device))

    def stream(self) -> Int[Tensor, " pos"]:
        """The text as it was published: one after another, a delimiter after each."""
        return torch.nn.functional.pad(self.documents, (0, 1), value=DELIMITER).flatten()


@dataclass(frozen=True, kw_only=True)
class World:
    """One drawn world: the memory and all models. The first half of the models is in use."""

    sizes: WorldSizes
    memory: Int[Tensor, "value slot"]
    """The symbol of each hidden state."""
    slots: PermutationMixtures
    """One chain per model."""
    values: PermutationMixtures
    """One chain, shared by all models."""
    start: Float[Tensor, "hmm state"]
    """Probability of each first state; state = value · n_slots + slot."""

    def to(self, device: torch.device) -> "World":
        """The same on a device."""
        return replace(
            self,
            memory=self.memory.to(device),
            slots=self.slots.to(device),
            values=self.values.to(device),
            start=self.start.to(device),
        )

    @property
    def n_trained(self) -> int:
        """How many models write the documents."""
        return self.sizes.n_hmms // 2

    @cached_property
    def models(self) -> HiddenMarkovModels:
        """All models, in float64."""
        value, slot = self.values.matrices()[0], self.slots.matrices()
        n_states = self.start.shape[1]
        transition = torch.einsum("vw,hst->hvswt", value, slot).reshape(-1, n_states, n_states)
        emission = torch.nn.functional.one_hot(self.memory.flatten(), self.sizes.n_symbols)
        shape = (self.sizes.n_hmms, -1, -1)
        return HiddenMarkovModels(
            start=self.start, transition=transition, emission=emission.double().expand(shape)
        )

    @property
    def trained(self) -> HiddenMarkovModels:
        """The models that write the documents."""
        return self.some(slice(0, self.n_trained))

    def some(self, which: slice) -> HiddenMarkovModels:
        """Some of the models."""
        return HiddenMarkovModels(
            start=self.models.start[which],
            transition=self.models.transition[which],
            emission=self.models.emission[which],
        )


def draw_world(sizes: WorldSizes, generator: torch.Generator) -> World:
    """A world: memory, slot chains, the value chain and the first states' probabilities.

    Source: Xie et al. (2022), https://arxiv.org/abs/2111.02080, as its released code draws them
        (sizes: its runner's). We differ: another random number generator, so another world for
        each seed.
    """
    device = generator.device
    shape = (sizes.n_values, sizes.n_slots)
    memory = torch.randint(1, sizes.n_symbols, shape, generator=generator, device=device)
    memory[:, 0] = 0
    temperature = sizes.transition_temperature
    slots = draw_mixtures(sizes.n_hmms, sizes.n_slots, temperature, generator)
    values = draw_mixtures(1, sizes.n_values, temperature, generator)
    uniform = torch.rand(
        (sizes.n_hmms, sizes.n_values * sizes.n_slots),
        generator=generator,
        device=device,
        dtype=torch.float64,
    )
    return World(
        sizes=sizes,
        memory=memory,
        slots=slots,
        values=values.with_identity(sizes.value_identity),
        start=torch.softmax((uniform - 0.5) / sizes.start_temperature, dim=-1),
    )


def draw_documents(
    world: World, hmm: Int[Tensor, " batch"], length: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """Documents of `length` tokens, each by the model named for it."""
    state = torch.multinomial(world.start[hmm], 1, generator=generator).squeeze(1)
    value, slot = state // world.sizes.n_slots, state % world.sizes.n_slots
    return _roll(world, hmm, (value, slot), length, generator)


def draw_trained(world: World, n: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    """One of the models that write documents for each of `n` sequences, uniformly."""
    return torch.randint(world.n_trained, (n,), generator=generator, device=generator.device)


def draw_corpus(world: World, n_documents: int, length: int, generator: torch.Generator) -> Corpus:
    """A fixed corpus as it was published.

    Args:
        world: The world.
        n_documents: 1,000 in the published training set, 100 for validation.
        length: Tokens of a document: 10,240, and 1,024 for validation.
        generator: Where randomness comes from.
    """
    hmm = draw_trained(world, n_documents, generator)
    return Corpus(documents=draw_documents(world, hmm, length, generator), hmm=hmm)


def draw_segments(
    world: World,
    hmm: Int[Tensor, " batch"],
    value: Int[Tensor, " batch"],
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """What a model writes from a delimiter on, the delimiter included: `length` + 1 tokens.

    Args:
        world: The world.
        hmm: The models.
        value: The value at the delimiter; in a long document it is uniform.
        length: Tokens after the delimiter.
        generator: Where randomness comes from.
    """
    return _roll(world, hmm, (value, torch.zeros_like(value)), length + 1, generator)


def draw_histories(
    world: World,
    hmm: Int[Tensor, " batch"],
    value: Int[Tensor, " batch"],
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Tokens of long documents, after which a delimiter comes.

    They are drawn backwards from the delimiter: a chain whose stationary distribution is uniform
    has its transposed matrix backwards in time.

    Args:
        world: The world.
        hmm: The models.
        value: The value at the delimiter; in a long document it is uniform.
        length: Tokens before the delimiter.
        generator: Where randomness comes from.
    """
    backwards = replace(world, slots=world.slots.transposed(), values=world.values.transposed())
    tokens = _roll(backwards, hmm, (value, torch.zeros_like(value)), length + 1, generator)
    return tokens[:, 1:].flip(1)


def draw_prompts(
    world: World,
    kind: PromptKind,
    n: int,
    *,
    n_examples: int,
    example_length: int,
    generator: torch.Generator,
) -> Prompts:
    """Prompts of `n_examples` examples and a query, with the likeliest answer to the query.

    Args:
        world: The world.
        kind: `id`: a model of the documents; all examples begin in one slot, drawn for the
            prompt, each with a fresh value. `ood-hmm`: the same by a model that was kept apart.
            `ood-slots`: each position's slot is uniform, the value constant within an example, and
            a model that was kept apart says what the answer is.
        n: Number of prompts.
        n_examples: Examples before the query.
        example_length: Tokens of an example, the answer included.
        generator: Where randomness comes from.

    Raises:
        TaskVectorsError: There is no room for an input and an answer in an example.

    Source: Xie et al. (2022), https://arxiv.org/abs/2111.02080, as its released code makes `id` and
        `ood-slots` prompts. We differ: `ood-hmm` is ours; and where the query has probability zero
        under its model, the released arg-max falls on NaN, while here the label is -1.
    """
    if example_length < 2:
        raise TaskVectorsError(
            f"examples of {example_length} tokens have no input and answer; give 2 or more"
        )
    first, count = (0, world.n_trained) if kind == "id" else (world.n_trained, world.n_trained)
    hmm = first + _uniform(count, (n,), generator)
    start_slot = 1 + _uniform(world.sizes.n_slots - 1, (n,), generator)
    shape = (n, n_examples + 1)
    value = _uniform(world.sizes.n_values, shape, generator)
    if kind == "ood-slots":
        slot = 1 + _uniform(world.sizes.n_slots - 1, (*shape, example_length), generator)
        examples = world.memory[value[..., None], slot] + 1
    else:
        per_example = (value.flatten(), start_slot.repeat_interleave(n_examples + 1))
        of = hmm.repeat_interleave(n_examples + 1)
        examples = _roll(world, of, per_example, example_length, generator)
        examples = examples.reshape(*shape, example_length)
    known = None if kind == "ood-slots" else start_slot
    joined = torch.nn.functional.pad(examples, (0, 1), value=DELIMITER).flatten(start_dim=1)
    return Prompts(
        tokens=joined[:, :-2],
        labels=_likeliest(world, hmm, examples[:, -1, :-1], known),
        hmm=hmm,
        example_length=example_length,
    )


def _uniform(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
    return torch.randint(high, shape, generator=generator, device=generator.device)


def _roll(
    world: World,
    hmm: Int[Tensor, " batch"],
    start: tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]],
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Tokens along a walk from a first value and slot."""
    value, slot = start
    values = walk(world.values, torch.zeros_like(hmm), value, length - 1, generator)
    slots = walk(world.slots, hmm, slot, length - 1, generator)
    return world.memory[values, slots] + 1


def _likeliest(
    world: World,
    hmm: Int[Tensor, " batch"],
    query: Int[Tensor, "batch pos"],
    start_slot: Int[Tensor, " batch"] | None,
) -> Int[Tensor, " batch"]:
    """The token that is likeliest after a query, for the model it is by; -1 where impossible."""
    state = torch.arange(world.start.shape[1], device=query.device)
    allowed = torch.ones_like(query[:, :1], dtype=torch.bool).expand(-1, len(state))
    if start_slot is not None:
        allowed = state % world.sizes.n_slots == start_slot[:, None]
    labels = torch.full_like(hmm, -1)
    for one in range(world.sizes.n_hmms):
        rows = (hmm == one).nonzero().squeeze(1)
        model = world.some(slice(one, one + 1))
        log_start = allowed[rows].double().log()[:, None]
        *_, states = forward_states(model, query[rows] - 1, log_start)
        joint = next_symbol(model, states).squeeze(1)
        found = joint.argmax(dim=-1) + 1
        labels[rows] = torch.where(joint.isneginf().all(dim=-1), -1, found)
    return labels
