"""What a vector does where it has no business: unrelated text.

The vector is added at the last token of the first half of each passage, as it would be to a prompt,
and the second half is read as if it were the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taskvectors.evaluate.scoring import positions_of
from taskvectors.format import Rounded
from taskvectors.models import LanguageModel
from taskvectors.models.tensors import require_finite
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.trunk import (
    Branch,
    Trunk,
    logits_that_fit,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)
from taskvectors.vectors import TaskVector

PASSAGES: tuple[str, ...] = (
    "The ferry left the harbour at dawn, and by noon the island had shrunk to a grey line behind "
    "us.",
    "To move a fern to another pot, water it the day before, loosen the roots gently and use a "
    "slightly larger one.",
    "Most of the bridge was built in winter, when the river froze and carts could carry stone "
    "across.",
    "She counted the chairs twice, wrote the number on her palm and went to find the caretaker.",
    "A violin's sound post is a small dowel that carries vibrations from the front to the back "
    "plate.",
    "The council postponed the vote until spring because three members were stuck behind the snow.",
    "If the dough feels sticky, dust the board lightly with flour rather than adding more to the "
    "bowl.",
    "Glaciers move slowly downhill under their own weight, grinding the rock beneath them into "
    "powder.",
    "He had never liked the painting, but when it was gone the wall looked bare and somehow "
    "colder.",
    "The library closes early on Fridays, although the reading room stays open for members until "
    "nine.",
    "Bats find insects by listening to the echoes of short calls that are too high for us to hear.",
    "After the storm the farmers met in the old barn to decide which of the fences to mend first.",
)
"""Sentences written for this project; none is about a built-in task."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SideEffects(Rounded):
    """How far a vector changes what the model says about unrelated text."""

    kl: float
    """Mean KL divergence from the plain next-token distribution, in nats per token."""
    kl_first: float
    """The same at the token where the vector is added."""
    perplexity_plain: float
    """Of the second halves, without the vector."""
    perplexity: float
    """Of the second halves, with it."""
    n_tokens: int


def side_effects(
    model: LanguageModel,
    vector: TaskVector,
    *,
    strength: float = 1.0,
    passages: Sequence[str] = PASSAGES,
    memory: int | None = None,
) -> SideEffects:
    """KL divergence and perplexity on unrelated text.

    Args:
        model: The model.
        vector: The vector.
        strength: Its factor.
        passages: Texts of at least four tokens.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        VectorMismatchError: The vector was made for another model.
        MemoryBudgetError: Not even one passage fits the budget.
    """
    vector.check_model(model)
    prompts = [_halved(model, passage) for passage in passages]
    branches: list[Branch] = [(), vector.edits(strength)]
    positions = positions_of(branches)
    budget = resolve_budget(memory, model.device)
    logits_that_fit(model, 0, budget)
    step = prompts_that_fit(model, shape_of(prompts, positions, n_branches=2), budget)
    found = [
        token
        for start in range(0, len(prompts), step)
        for token in _compared(
            Trunk.build(model, prompts[start : start + step], positions=positions), branches
        )
    ]
    firsts = [token.kl for token in found if token.is_first]
    losses = torch.tensor([(token.loss_plain, token.loss) for token in found])
    require_finite(torch.tensor([token.kl for token in found]), "divergences on unrelated text")
    before, after = losses.mean(dim=0).exp().tolist()
    return SideEffects(
        kl=sum(token.kl for token in found) / len(found),
        kl_first=sum(firsts) / len(firsts),
        perplexity_plain=before,
        perplexity=after,
        n_tokens=len(found),
    )


@dataclass(frozen=True, kw_only=True)
class _Token:
    """One token of a second half, without the vector and with it."""

    kl: float
    loss_plain: float
    loss: float
    is_first: bool


def _compared(trunk: Trunk, branches: Sequence[Branch]) -> list[_Token]:
    """What the plain run and the edited one say, token by token."""
    batch = trunk.batch()
    found = []
    with torch.no_grad():
        read = trunk.answer_states(trunk.run(branches, batch), batch)
        about = zip(read, batch.targets.tolist(), batch.read_slots.tolist(), strict=True)
        for row, target, slot in about:
            # a row at a time: all logits of a large vocabulary at once would not be small
            plain, edited = trunk.model.logits(row).float().log_softmax(dim=-1)
            losses = -float(plain[target]), -float(edited[target])
            found.append(
                _Token(
                    kl=_kl(plain, edited),
                    loss_plain=losses[0],
                    loss=losses[1],
                    is_first=slot == 0,
                )
            )
    return found


def _halved(model: LanguageModel, passage: str) -> Prompt:
    ids = tuple(model.tokenizer(passage)["input_ids"])
    middle = len(ids) // 2
    text = model.tokenizer.decode(ids[:middle], skip_special_tokens=True)
    return Prompt(
        token_ids=ids[:middle],
        answer_ids=ids[middle:],
        spans={"query": (0, middle)},  # so that names such as `last` mean something
        query=Example(input=text, output=passage),
        demonstrations=(),
        text=text,
    )


def _kl(plain: Tensor, edited: Tensor) -> float:
    return float((plain.exp() * (plain - edited)).sum())
