"""GINC: documents of a mixture of hidden Markov models that differ in one matrix.

A hidden state is a value (an entity) and a slot (a property), which move independently; its symbol
is looked up in a memory table. A model is told from another by its slot matrix alone: that is the
task a prompt has to reveal. Half of the models write the documents, the others are kept for out of
distribution tests.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.hmm import (
    HiddenMarkovModels,
    forward_states,
    log_evidence,
    log_likelihood_by_start,
    next_symbol,
)
from taskvectors.learners.tasks.permutations import PermutationMixtures, draw_mixtures, walk

END_OF_TEXT = 0
"""Token id that no symbol has; symbol s is token s + 1."""
DELIMITER = 1
"""Token id of "/", the symbol of slot 0."""
EXAMPLE_LENGTHS = (3, 5, 8, 10)
"""Tokens of a prompt's examples, the answer included, in the released code."""
EXAMPLE_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Examples of a prompt, the query apart, as far as the prompt has at most 1024 tokens."""

PromptKind = Literal["id", "ood-hmm", "ood-slots"]


class GincConfig(BaseModel):
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
class Ginc:
    """One drawn world: the memory and all models. The first half of the models is in use."""

    config: GincConfig
    memory: Int[Tensor, "value slot"]
    """The symbol of each hidden state."""
    slots: PermutationMixtures
    """One chain per model."""
    values: PermutationMixtures
    """One chain, shared by all models."""
    start: Float[Tensor, "hmm state"]
    """Probability of each first state; state = value · n_slots + slot."""

    @property
    def n_trained(self) -> int:
        """How many models write the documents."""
        return self.config.n_hmms // 2

    @cached_property
    def models(self) -> HiddenMarkovModels:
        """All models, in float64."""
        value, slot = self.values.matrices()[0], self.slots.matrices()
        n_states = self.start.shape[1]
        transition = torch.einsum("vw,hst->hvswt", value, slot).reshape(-1, n_states, n_states)
        emission = torch.nn.functional.one_hot(self.memory.flatten(), self.config.n_symbols)
        shape = (self.config.n_hmms, -1, -1)
        return HiddenMarkovModels(
            start=self.start, transition=transition, emission=emission.double().expand(shape)
        )

    @cached_property
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


def draw_ginc(config: GincConfig, generator: torch.Generator) -> Ginc:
    """A world: memory, slot chains, the value chain and the first states' probabilities.

    Source: Xie et al. (2022), https://arxiv.org/abs/2111.02080, as its released code draws them
        (sizes: its runner's). We differ: another random number generator, so another world for
        each seed.
    """
    device = generator.device
    shape = (config.n_values, config.n_slots)
    memory = torch.randint(1, config.n_symbols, shape, generator=generator, device=device)
    memory[:, 0] = 0
    temperature = config.transition_temperature
    slots = draw_mixtures(config.n_hmms, config.n_slots, temperature, generator)
    values = draw_mixtures(1, config.n_values, temperature, generator)
    uniform = torch.rand(
        (config.n_hmms, config.n_values * config.n_slots),
        generator=generator,
        device=device,
        dtype=torch.float64,
    )
    return Ginc(
        config=config,
        memory=memory,
        slots=slots,
        values=values.with_identity(config.value_identity),
        start=torch.softmax((uniform - 0.5) / config.start_temperature, dim=-1),
    )


def draw_documents(
    world: Ginc, hmm: Int[Tensor, " batch"], length: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """Documents of `length` tokens, each by the model named for it."""
    state = torch.multinomial(world.start[hmm], 1, generator=generator).squeeze(1)
    value, slot = state // world.config.n_slots, state % world.config.n_slots
    return _roll(world, hmm, (value, slot), length, generator)


def draw_trained(world: Ginc, n: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    """One of the models that write documents for each of `n` sequences, uniformly."""
    return torch.randint(world.n_trained, (n,), generator=generator, device=generator.device)


def draw_corpus(
    world: Ginc, n_documents: int, length: int, generator: torch.Generator
) -> Int[Tensor, " pos"]:
    """A fixed corpus as it was published: documents one after another, a delimiter after each.

    Args:
        world: The world.
        n_documents: 1,000 in the published training set, 100 for validation.
        length: Tokens of a document: 10,240, and 1,024 for validation.
        generator: Where randomness comes from.
    """
    documents = draw_documents(
        world, draw_trained(world, n_documents, generator), length, generator
    )
    return torch.nn.functional.pad(documents, (0, 1), value=DELIMITER).flatten()


def draw_segments(
    world: Ginc, hmm: Int[Tensor, " batch"], length: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """What a model writes from a delimiter on, the delimiter included: `length` + 1 tokens.

    The value at the delimiter is uniform, as it is in a long document.
    """
    value = _uniform(world.config.n_values, hmm.shape, generator)
    return _roll(world, hmm, (value, torch.zeros_like(value)), length + 1, generator)


def draw_prompts(
    world: Ginc,
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
    start_slot = 1 + _uniform(world.config.n_slots - 1, (n,), generator)
    shape = (n, n_examples + 1)
    value = _uniform(world.config.n_values, shape, generator)
    if kind == "ood-slots":
        slot = 1 + _uniform(world.config.n_slots - 1, (*shape, example_length), generator)
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


def document_surprise(
    world: Ginc, tokens: Int[Tensor, "batch pos"], *, begin: Literal["document", "segment"]
) -> Float[Tensor, "batch pos"]:
    """What the Bayes predictor pays for each token, in nats: no predictor pays less on average.

    Σ_h p(h | tokens before) p(token | tokens before, h), over the models that write documents.

    Args:
        world: The world.
        tokens: Whole documents, or segments from their delimiter on.
        begin: What the first state is drawn from: a model's own first states, or a uniform value
            in the delimiter's slot.
    """
    log_start = None
    if begin == "segment":
        by_slot = torch.zeros_like(world.trained.start[:1])
        by_slot[:, :: world.config.n_slots] = 1 / world.config.n_values
        log_start = by_slot.log()[None].expand(-1, world.n_trained, -1)
    evidence = log_evidence(world.trained, tokens - 1, log_start).logsumexp(dim=1)
    total = evidence - torch.tensor(float(world.n_trained), dtype=evidence.dtype).log()
    return -torch.diff(total, dim=1, prepend=torch.zeros_like(total[:, :1]))


def prompt_predictor(world: Ginc, prompts: Prompts) -> Float[Tensor, "batch token"]:
    """The Bayes predictor of a prompt's next token: Σ_h p(h | prompt) p(y | prompt, h).

    It knows how `id` prompts are made: a model, a start slot shared by all examples, and fresh
    values. Both the model and the slot are inferred from the examples and the query.

    Raises:
        TaskVectorsError: A prompt is impossible under every model that writes documents.
    """
    length, n_slots = prompts.example_length, world.config.n_slots
    n_prompts = prompts.tokens.shape[0]
    # back to whole examples: [prompt, example, token and delimiter]; the answer is filled, then cut
    padded = torch.nn.functional.pad(prompts.tokens, (0, 2), value=DELIMITER)
    examples = padded.reshape(n_prompts, -1, length + 1)[..., :length] - 1
    log_prior = _log_start_of_slots(world)[None]  # [1, hmm, state]
    shown = examples[:, :-1].reshape(-1, length)
    if len(shown):
        by_state = log_likelihood_by_start(world.trained, shown)
        by_slot = by_state.view(*by_state.shape[:2], -1, n_slots).logsumexp(
            dim=-2
        )  # mean over values, ...
        by_slot = by_slot.view(n_prompts, -1, *by_slot.shape[1:]).sum(dim=1)  # ... up to a constant
        log_prior = log_prior + by_slot.repeat(1, 1, world.config.n_values)
    *_, states = forward_states(
        world.trained, examples[:, -1, : length - 1], log_prior.expand(n_prompts, -1, -1)
    )
    joint = next_symbol(world.trained, states).logsumexp(dim=1)
    total = joint.logsumexp(dim=-1, keepdim=True)
    if total.isneginf().any():
        raise TaskVectorsError(
            f"{int(total.isneginf().sum())} of {n_prompts} prompts are impossible under every "
            "model of the documents, so there is no posterior; the predictor is for `id` prompts"
        )
    return torch.nn.functional.pad((joint - total).exp(), (1, 0))


def _uniform(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
    return torch.randint(high, shape, generator=generator, device=generator.device)


def _roll(
    world: Ginc,
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


def _log_start_of_slots(world: Ginc) -> Float[Tensor, "hmm state"]:
    """The first state of an example: any value, any slot but the delimiter's."""
    slot = torch.arange(world.start.shape[1], device=world.start.device) % world.config.n_slots
    weight = (slot > 0).double() / ((world.config.n_slots - 1) * world.config.n_values)
    return weight.log().expand(world.n_trained, -1)


def _likeliest(
    world: Ginc,
    hmm: Int[Tensor, " batch"],
    query: Int[Tensor, "batch pos"],
    start_slot: Int[Tensor, " batch"] | None,
) -> Int[Tensor, " batch"]:
    """The token that is likeliest after a query, for the model it is by; -1 where impossible."""
    state = torch.arange(world.start.shape[1], device=query.device)
    allowed = torch.ones_like(query[:, :1], dtype=torch.bool).expand(-1, len(state))
    if start_slot is not None:
        allowed = state % world.config.n_slots == start_slot[:, None]
    labels = torch.full_like(hmm, -1)
    for one in range(world.config.n_hmms):
        rows = (hmm == one).nonzero().squeeze(1)
        model = world.some(slice(one, one + 1))
        log_start = allowed[rows].double().log()[:, None]
        *_, states = forward_states(model, query[rows] - 1, log_start)
        joint = next_symbol(model, states).squeeze(1)
        found = joint.argmax(dim=-1) + 1
        labels[rows] = torch.where(joint.isneginf().all(dim=-1), -1, found)
    return labels
