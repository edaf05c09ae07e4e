"""What the playground does, without a page: one model, some vectors, and looks at prompts.

The part of a prompt's pass that vectors leave as it is is kept, so another strength or layer is one
branch; see `taskvectors.trunk`.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.api.generation import NextToken, likeliest, prompt_for, write
from taskvectors.errors import TaskVectorsError
from taskvectors.format import after_layers, at_positions, printable
from taskvectors.models import EMBED, LanguageModel
from taskvectors.models.calls import check_context
from taskvectors.models.sites import check_site
from taskvectors.models.tensors import require_finite
from taskvectors.prompts import Prompt, resolve_positions
from taskvectors.prompts.prompt import PAST_THE_PROMPT
from taskvectors.trunk import TrunkCache
from taskvectors.vectors import TaskVector, on_the_prompt

OWN_TEMPLATE, AS_IT_IS = "the vector's own", "none: the text as it is"
"""Choices of a template beside the names of templates."""
_DONE = {"add": "Added", "replace": "Put in place of the state", "rotate": "Rotated towards"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is typed and moved."""

    query: str
    vectors: tuple[str, ...] = ()
    """Names of vectors, which are added."""
    template: str = OWN_TEMPLATE
    strength: float = 1.0
    layer: int | None = None
    """Where the lowest part of the vector goes, the others as far above it as they are; where it
    was made by default."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a model makes of a prompt without a vector and with it."""

    prompt: Prompt
    tokens: tuple[tuple[str, bool], ...]
    """The prompt's tokens, and whether the vector is there."""
    next_tokens: tuple[NextToken, ...]
    """The ten likeliest with the vector, then those without."""
    vector: TaskVector | None
    """The vector as it was put; None where there is none, or it could not be put."""
    strength: float
    place: str
    """Where the vector is, as a sentence; empty without one."""
    problem: str = ""
    """Why there is no vector although one was asked for."""


@dataclass(kw_only=True, eq=False)
class Playground:
    """A model and vectors to try on it."""

    model: LanguageModel
    vectors: Mapping[str, TaskVector] = field(default_factory=dict)
    """By the name under which they are offered."""

    def __post_init__(self) -> None:
        self._trunks = TrunkCache()
        self._plain: dict[tuple[Prompt, int], str] = {}

    def combined(self, names: tuple[str, ...]) -> TaskVector | None:
        """The sum of some vectors, checked against the model; None of none.

        Raises:
            TaskVectorsError: There is no such vector, they do not go together, or one was made for
                another model.
        """
        unknown = [name for name in names if name not in self.vectors]
        if unknown:
            raise TaskVectorsError(f"there is no vector {unknown[0]!r} any more; pick another")
        chosen = [self.vectors[name] for name in names]
        for vector in chosen:
            vector.check_model(self.model)
        return reduce(operator.add, chosen) if chosen else None

    def fitting(self) -> str | None:
        """The first of the vectors that was made for the model, if any."""
        for name, vector in self.vectors.items():
            try:
                vector.check_model(self.model)
            except TaskVectorsError:
                continue
            return name
        return None

    def layers(self, vector: TaskVector) -> range:
        """Where the lowest part of a vector can go."""
        lowest, highest = min(vector.layers), max(vector.layers)
        begins_with = {site.component for site in vector.sites if site.layer == lowest}
        floor = EMBED if begins_with == {"resid_post"} else 0
        return range(floor, self.model.n_layers - (highest - lowest))

    def look(self, asked: Asked) -> Look:
        """A prompt's likeliest next tokens without the vectors and with them.

        Where the vectors cannot be put, the look is without them and says why.

        Args:
            asked: What is typed and moved.

        Raises:
            TaskVectorsError: The query is empty or too long, or the template is none.
        """
        vector, problem = None, ""
        try:
            vector = self.combined(asked.vectors)
        except TaskVectorsError as error:
            problem = str(error)
        prompt = self._prompt(asked, vector)
        try:
            return self._look(prompt, self._moved(vector, asked.layer), asked.strength, problem)
        except TaskVectorsError as error:
            if vector is None:
                raise
            return self._look(prompt, None, asked.strength, str(error))

    def answers(self, look: Look, max_new_tokens: int = 8) -> tuple[str, str | None]:
        """What the model writes after a prompt: without the vector, which is kept, and with it.

        Raises:
            TaskVectorsError: The answer does not fit the model's context.
        """
        check_context(self.model, len(look.prompt.token_ids), max_new_tokens)
        key = (look.prompt, max_new_tokens)
        if key not in self._plain:
            self._plain = {key: write(self.model, None, look.prompt, 1.0, max_new_tokens)}
        if look.vector is None:
            return self._plain[key], None
        edited = write(self.model, look.vector, look.prompt, look.strength, max_new_tokens)
        return self._plain[key], edited

    def _prompt(self, asked: Asked, vector: TaskVector | None) -> Prompt:
        query = asked.query
        if not query.strip():
            raise TaskVectorsError("type a query: what the model is asked, such as a country")
        if asked.template == AS_IT_IS:
            prompt = prompt_for(self.model, None, prompt=query, input=None)
        else:
            template = None if asked.template == OWN_TEMPLATE else asked.template
            prompt = prompt_for(self.model, vector, prompt=None, input=query, template=template)
        check_context(self.model, len(prompt.token_ids))
        return prompt

    def _moved(self, vector: TaskVector | None, layer: int | None) -> TaskVector | None:
        """A vector whose lowest part is at a layer.

        Raises:
            TaskVectorsError: Its highest part would be above the last block.
        """
        if vector is None or layer is None:
            return vector
        by = layer - min(vector.layers)
        for site in vector.sites:
            check_site(self.model, site.layer + by, site.component)
        sites = tuple(replace(site, layer=site.layer + by) for site in vector.sites)
        return replace(vector, sites=sites)

    def _look(
        self, prompt: Prompt, vector: TaskVector | None, strength: float, problem: str
    ) -> Look:
        here = None if vector is None else on_the_prompt(vector)
        positions = () if here is None else here.positions
        marked = set(resolve_positions(prompt, positions))
        probabilities = self._probabilities(prompt, here, strength)
        decode = self.model.tokenizer.decode
        return Look(
            prompt=prompt,
            tokens=tuple(
                (printable(decode([token])), index in marked)
                for index, token in enumerate(prompt.token_ids)
            ),
            next_tokens=likeliest(
                probabilities if vector else probabilities[:1], self.model.tokenizer.decode
            ),
            vector=vector,
            strength=strength,
            place="" if vector is None else _place(vector, strength),
            problem=problem,
        )

    def _probabilities(
        self, prompt: Prompt, vector: TaskVector | None, strength: float
    ) -> list[Float[Tensor, " d_vocab"]]:
        """Of the next token, without the vector and with it, as two branches of one trunk."""
        edits = () if vector is None else vector.edits(strength)
        positions = (-1,) if vector is None else vector.positions
        with torch.no_grad():
            trunk = self._trunks.build(self.model, [prompt], positions=positions)
            batch = trunk.batch()
            states = trunk.answer_states(trunk.run([(), edits], batch), batch)[0]
            logits = self.model.unembedding.logits(self.model.read_state(states))
        require_finite(logits, "logits of the next token")
        return list(logits.float().softmax(dim=-1).cpu())


def _place(vector: TaskVector, strength: float) -> str:
    """Where a vector is, as a sentence."""
    layers = ["embed" if layer == EMBED else layer for layer in vector.layers]
    inside = [one for one in vector.positions if one not in PAST_THE_PROMPT]
    places = [at_positions(inside)] if inside else []
    places += ["tokens of the answer"] if len(inside) < len(vector.positions) else []
    return (
        f"{_DONE[vector.operation]} {after_layers(layers)}, at the {' and '.join(places)}, with "
        f"strength {strength:g}."
    )
