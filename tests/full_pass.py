"""What branches are compared with: one prompt, whole, without padding or cache, and plain hooks.

Edits are described without their values, which are drawn at random, about as large as the residual
stream.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from taskvectors.models import Engine, LanguageModel, patch
from taskvectors.models.sites import width_of
from taskvectors.models.structure import Verified
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit

Spec = dict[str, Any]
"""An edit without its value; `each` says what has a value of its own: "position" or "prompt"."""


def running(model: LanguageModel, engine: Engine) -> LanguageModel:
    """A model that is said to run on an engine."""
    model.__dict__["verified"] = Verified(engine=engine, error=0.0, reasons={})
    return model


def branches_of(
    model: LanguageModel, case: Sequence[Sequence[Spec]], prompts: Sequence[Prompt], seed: int = 0
) -> list[list[Edit]]:
    """The edits of a case with random values, as large as the residual stream itself."""
    generator = torch.Generator().manual_seed(seed)

    def edit(spec: Spec) -> Edit:
        spec = dict(spec)
        each = spec.pop("each", None)
        width = width_of(model, spec["layer"], spec.get("component", "resid_post"))
        width = model.d_head if spec.get("head") is not None else width
        places = spec.get("positions", (-1,))
        n = max(len(places_in(prompt, places)) for prompt in prompts)
        shape = {None: (width,), "position": (n, width), "prompt": (len(prompts), n, width)}[each]
        return Edit(value=torch.randn(shape, generator=generator) * 2, **spec)

    return [[edit(spec) for spec in branch] for branch in case]


def positions_of(branches: Sequence[Branch]) -> list[int | str]:
    return list(
        dict.fromkeys(place for branch in branches for e in branch for place in e.positions)
    )


def places_in(prompt: Prompt, positions: Sequence[int | str]) -> list[int]:
    """Where positions are in a prompt, counted by hand."""
    n = len(prompt.token_ids)
    after = (n, n + len(prompt.answer_ids) - 1)
    spans = {**prompt.spans, "last": (n - 1, n), "all": (0, n), "answer": after, "generated": after}
    found: list[int] = []
    for position in positions:
        if isinstance(position, str):
            found += range(*spans[position])
        else:
            found.append(position if position >= 0 else n + position)
    return found


def write(model: LanguageModel, edit: Edit, prompt: Prompt, number: int, state: Tensor) -> Tensor:
    """One edit on `[1, pos, width]`, a position at a time."""
    state = state.clone()
    own = slice(None)
    if edit.head is not None:
        width = model.heads(edit.layer).d_head
        own = slice(edit.head * width, (edit.head + 1) * width)
    value = edit.value[number] if edit.value.dim() == 3 else edit.value
    for i, place in enumerate(places_in(prompt, edit.positions)):
        row = value[i] if value.dim() == 2 else value
        there = state[0, place, own].clone()
        written = {"add": partial(torch.add, there), "rotate": partial(turn, there)}
        state[0, place, own] = written.get(edit.operation, Tensor.clone)(row)
    return state


def turn(x: Tensor, v: Tensor) -> Tensor:
    """One state turned towards v, as the formula says it."""
    cosine = (x @ v) / (x.norm() * v.norm())
    s = 1 - cosine if bool(cosine < 0) else 1
    mixed = x / x.norm() + s * v
    return mixed / mixed.norm() * x.norm()


def full_logits(model: LanguageModel, prompt: Prompt, branch: Branch, number: int = 0) -> Tensor:
    """Logits that predict the answer's tokens, `[answer, d_vocab]`, from one whole forward pass."""
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    with ExitStack() as stack:
        for edit in branch:
            rewrite = partial(write, model, edit, prompt, number)
            stack.enter_context(patch(model, edit.layer, edit.component, rewrite))
        logits: Tensor = model.hf(input_ids=tokens).logits[0, len(prompt.token_ids) - 1 :]
    return logits
