"""What methods share: one model, one task, its prompts, and what was already computed for them.

Every method of a comparison works on the same run context, so it sees the same prompts, splits and
demonstrations, and nothing is computed twice.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import DataError
from taskvectors.evaluate import (
    Scores,
    label_starts,
    label_tokens,
    score_alike,
    score_whole,
    score_with,
)
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapter
from taskvectors.models.sites import Component
from taskvectors.prompts import Prompt, answer_ends, beginnings, build_prompts, ends_of_text
from taskvectors.tasks import Example, Task
from taskvectors.trunk import Branch, Position, TrunkCache, prompts_that_fit, shape_of
from taskvectors.trunk.reading import read_at
from taskvectors.vectors import VectorOrigin

logger = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, eq=False)
class LastTokens:
    """What plain runs of some prompts hold at their last tokens; float32."""

    states: Float[Tensor, "layer prompt d_model"]
    """`resid_post`, from `embed` up."""
    z: Float[Tensor, "block prompt width"]
    """The heads' outputs before W_O, side by side; no block where blocks have none, or others."""
    seconds: float
    """What reading them took."""


class _Token(NamedTuple):
    """What a plain run of one prompt holds at one token, and its share of the time."""

    states: Float[Tensor, "layer d_model"]
    z: Float[Tensor, "block width"]
    seconds: float


@dataclass(kw_only=True, eq=False)
class RunContext:
    """A model and a task, ready for methods.

    Attributes:
        model: The model.
        task: The task, split.
        template: Name or text of the prompt template; the task's own by default.
        shots: Demonstrations in a few-shot prompt.
        seed: Seed of demonstrations and initialisations.
        memory: Budget in bytes; a share of what is free by default.
        chat: Whether prompts go through the tokenizer's chat template.
        end_of_answer: Whether the token after a right answer has to end it.
        test_model: The same model in another type, to score the test split in.
    """

    model: LanguageModel
    task: Task
    template: str = ""
    shots: int = 8
    seed: int = 0
    memory: int | None = None
    chat: bool = False
    end_of_answer: bool = False
    test_model: LanguageModel | None = None
    _prompts: dict[tuple[Split, int, bool], tuple[Prompt, ...]] = field(default_factory=dict)
    _memo: dict[Hashable, Any] = field(default_factory=dict)
    _read: dict[tuple[tuple[int, ...], Position], _Token] = field(default_factory=dict)
    """What was read, by the tokens of a prompt and the position."""

    def __post_init__(self) -> None:
        """The task's own template is the default."""
        self.template = self.template or self.task.template

    def prompts(
        self, split: Split, shots: int = 0, *, shared_demonstrations: bool = False
    ) -> tuple[Prompt, ...]:
        """Prompts of a split with some demonstrations from the training split.

        Args:
            split: Whose pairs are asked.
            shots: Demonstrations in each prompt.
            shared_demonstrations: Show all queries the same ones in the same order.
        """
        key = (split, shots, shared_demonstrations)
        if key not in self._prompts:
            pairs = getattr(self.task, split)
            if not pairs:
                raise DataError(
                    f"the {split} split of {self.task.name} has no pairs; ask for at least one"
                )
            self._prompts[key] = self.ask(pairs, shots, shared_demonstrations=shared_demonstrations)
        return self._prompts[key]

    def ask(
        self, queries: Sequence[Example], shots: int, *, shared_demonstrations: bool = False
    ) -> tuple[Prompt, ...]:
        """Prompts of some pairs, with demonstrations from the training split."""
        return build_prompts(
            self.model.tokenizer,
            self.template,
            queries,
            demonstrations=self.task.train,
            shots=shots,
            seed=self.seed,
            max_tokens=self.model.context_length,
            chat=self.chat,
            shared_demonstrations=shared_demonstrations,
            ends=self.ends if self.end_of_answer else (),
        )

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        tokenizer = self.model.tokenizer
        stops = ends_of_text(self.model.hf, tokenizer)
        return answer_ends(tokenizer, self.template, stops, chat=self.chat)

    def notes_on_ends(self, split: Split) -> list[str]:
        """What a reader has to know of where answers of a split end."""
        if self.end_of_answer:
            return ["an answer is right only if the token after it ends it"]
        splits: tuple[Split, ...] = ("train", "validation", "test")
        every = [p for s in splits if getattr(self.task, s) for p in self.prompts(s)]
        begun = beginnings(every)
        asked = [prompt.query.output for prompt in self.prompts(split)]
        count = sum(output in begun for output in asked)
        if not count:
            return []
        shorter, longer = next(iter(begun.items()))
        return [
            f"{count} of {len(asked)} {split} answers begin another answer of the task, as "
            f"{shorter!r} begins {longer!r}, and count as right though the model may go on; with "
            "--end-of-answer the next token has to end them"
        ]

    @cached_property
    def trunks(self) -> TrunkCache:
        """Trunks that methods share."""
        return TrunkCache(self.memory)

    @cached_property
    def labels(self) -> Any:
        """The task's labels as tokens, or None where the training split does not show them all."""
        return label_tokens(self.task, self.prompts("train"))

    @cached_property
    def label_starts(self) -> frozenset[int]:
        """First tokens of all answers of the task."""
        splits: tuple[Split, ...] = ("train", "validation", "test")
        return label_starts(*(self.prompts(s) for s in splits if getattr(self.task, s)))

    def score(
        self,
        split: Split,
        shots: int,
        branches: Sequence[Branch] = ((),),
        *,
        logit_bias: Float[Tensor, " d_vocab"] | None = None,
    ) -> Scores:
        """Score branches on a split's prompts."""
        return score_with(
            self.trunks,
            self.model_for(split),
            self.prompts(split, shots),
            branches,
            labels=self.labels,
            logit_bias=logit_bias,
        )

    def score_alike(self, split: Split, shots: int) -> Scores:
        """Score a plain run of prompts with the same demonstrations, which run once."""
        prompts = self.prompts(split, shots, shared_demonstrations=True)
        model = self.model_for(split)
        return score_alike(model, prompts, labels=self.labels, memory=self.memory)

    def score_adapted(self, split: Split, shots: int, adapter: Adapter) -> Scores:
        """Score a split's prompts with an adapter on the model; it is off again afterwards."""
        model = self.model_for(split)
        with adapter.on(model) as adapted:
            return score_whole(
                model,
                self.prompts(split, shots),
                adapted.forward,
                labels=self.labels,
                memory=self.memory,
            )

    def model_for(self, split: Split) -> LanguageModel:
        """What a split is scored in."""
        is_tested = split == "test" and self.test_model is not None
        return self.test_model if is_tested else self.model  # type: ignore[return-value]

    def cached(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """Return the cached value for `key`; call `make` the first time."""
        if key not in self._memo:
            self._memo[key] = make()
        made: _Made = self._memo[key]
        return made

    def last_states(
        self, split: Split, shots: int, most: int | None = None
    ) -> Float[Tensor, "layer prompt d_model"]:
        """`resid_post` of every layer, from `embed` up, at the last token; float32.

        Args:
            split: Whose prompts.
            shots: Demonstrations in them.
            most: Only this many prompts, the first ones.
        """
        return self.states(self.prompts(split, shots)[:most])

    def demonstrations_effect(self, most: int | None = None) -> Float[Tensor, "layer d_model"]:
        """Mean over training prompts of h(with demonstrations) - h(without), at the last token.

        Args:
            most: Only this many prompts, the first ones.
        """
        shown, plain = (self.last_states("train", shots, most) for shots in (self.shots, 0))
        return (shown - plain).mean(dim=1)

    def last_tokens(self, split: Split, shots: int, most: int | None = None) -> LastTokens:
        """States and heads' outputs at the last tokens, read in one pass; see `last_states`."""
        prompts = self.prompts(split, shots)[:most]
        read = self._tokens(prompts, "last")
        return LastTokens(
            states=torch.stack([token.states for token in read], dim=1),
            z=torch.stack([token.z for token in read], dim=1),
            seconds=sum(token.seconds for token in read),
        )

    def states(
        self, prompts: Sequence[Prompt], position: Position = "last"
    ) -> Float[Tensor, "layer prompt d_model"]:
        """`resid_post` of every layer, from `embed` up, at one token of each prompt; float32.

        What was read before is not computed again, whichever method asked for it.

        Args:
            prompts: The prompts.
            position: A position that is one token in each of them.
        """
        return torch.stack([token.states for token in self._tokens(prompts, position)], dim=1)

    def _tokens(self, prompts: Sequence[Prompt], position: Position) -> list[_Token]:
        """What is read at one token of each prompt; of prompts read before, what was kept."""
        missing = [p for p in prompts if (p.token_ids, position) not in self._read]
        while missing:
            shape = shape_of(missing, (position,), n_branches=0)
            step = self.trunks.plan(self.model, partial(prompts_that_fit, self.model, shape))
            self._read_tokens(missing[:step], position)
            missing = missing[step:]
        return [self._read[p.token_ids, position] for p in prompts]

    def _read_tokens(self, prompts: Sequence[Prompt], position: Position) -> None:
        started = self.trunks.clock()
        sites: list[tuple[int, Component]] = []
        first, *others = self.model.structure.blocks
        if first.output_projection and all(
            parts.output_projection and parts.heads == first.heads for parts in others
        ):  # else methods of the residual stream read what there is
            sites = [(block, "z") for block in range(self.model.n_layers)]
        states, z = read_at(self.trunks, self.model, prompts, position, sites)
        seconds = (self.trunks.clock() - started) / len(prompts)
        by_prompt = states.unbind(1), z.unbind(1)
        for prompt, own, heads in zip(prompts, *by_prompt, strict=True):
            token = _Token(states=own.clone(), z=heads.clone(), seconds=seconds)
            self._read[prompt.token_ids, position] = token

    def with_task(self, task: Task, *, shots: int | None = None) -> "RunContext":
        """The same context for another task, in the same template.

        Args:
            task: The task.
            shots: Demonstrations in a few-shot prompt; as many as here by default.
        """
        return RunContext(
            model=self.model,
            task=task,
            template=self.template,
            shots=self.shots if shots is None else shots,
            seed=self.seed,
            memory=self.memory,
            chat=self.chat,
            end_of_answer=self.end_of_answer,
            test_model=self.test_model,
        )

    def origin(self, method: str, **about: Any) -> VectorOrigin:
        """Where a vector made here comes from."""
        return VectorOrigin.of_model(
            self.model,
            method=method,
            template=self.template,
            seed=self.seed,
            chat=self.chat,
            **about,
        ).made_on(self.task)
