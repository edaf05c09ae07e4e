"""Edits: what a branch changes, and where.

An edit is a site of the model, some positions of the prompt, an operation and a value. A branch is
a few edits that hold together. Edits say nothing about prompts: positions are resolved against each
prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.sites import Component, check_site, width_of

Operation = Literal["add", "replace", "rotate"]
"""`rotate` changes the direction of what is there and keeps its length; see `rotated`."""
Position = int | str
"""A token position of the prompt (negative from its end), or a name that a prompt resolves."""


FromState = Callable[[Float[Tensor, "row position width"]], Float[Tensor, "row position width"]]
"""A value that depends on what it changes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """One change at one site.

    `value` is `[width]` (the same at all positions), `[position, width]`, or `[prompt, position,
    width]` (its own for each prompt of the trunk), or a function that makes the last of what the
    branch has at the site (`[row, position, width]`, earlier edits included). Its width is d_model;
    for `z` it is n_heads * d_head, or d_head when one `head` is named.
    """

    layer: int
    component: Component = "resid_post"
    positions: tuple[Position, ...] = (-1,)
    operation: Operation = "add"
    value: Float[Tensor, "..."] | FromState
    head: int | None = None

    @property
    def site(self) -> tuple[int, Component]:
        """Layer and component; `resid_pre` of a block is `resid_post` of the one below."""
        if self.component == "resid_pre":
            return self.layer - 1, "resid_post"
        return self.layer, self.component

    @property
    def held(self) -> Tensor:
        """The value of an edit that does not depend on the state."""
        assert isinstance(self.value, Tensor)
        return self.value

    @property
    def start_layer(self) -> int:
        """The last block whose output this edit does not change."""
        layer, component = self.site
        return layer if component == "resid_post" else layer - 1


def rotated(
    state: Float[Tensor, "... width"], value: Float[Tensor, "... width"]
) -> Float[Tensor, "... width"]:
    """A state rotated towards a direction, as long as it was.

    With n(x) = x / |x|, it is n(n(x) + s v) |x|, where s = 1 + max(0, cos(x, -v)): more is added
    to a state that points away. The value's length is the strength. Computed in float32.

    Source: Liu et al. (2024), https://arxiv.org/abs/2311.06668, after their released code, whose
        lambda is |v|.
    """
    x, v = state.float(), value.float()
    unit = torch.nn.functional.normalize(x, dim=-1)
    against = -torch.nn.functional.cosine_similarity(x, v, dim=-1).unsqueeze(-1)
    moved = torch.nn.functional.normalize(unit + (1 + against.clamp(min=0)) * v, dim=-1)
    result: Tensor = (moved * x.norm(dim=-1, keepdim=True)).to(state.dtype)
    return result


def check_edit(model: LanguageModel, edit: Edit) -> None:
    """Raise if a model has no such site or head, or a value does not fit it.

    Raises:
        UnsupportedModelError: No such layer, component or head.
        ValueError: The value has another shape than the site.
    """
    check_site(model, edit.layer, edit.component)
    width = width_of(model, edit.layer, edit.component)
    if edit.head is not None:
        n_heads = model.heads(edit.layer).n_heads
        if edit.component != "z" or not 0 <= edit.head < n_heads:
            raise UnsupportedModelError(
                f"there is no head {edit.head} at {edit.component} of layer {edit.layer}: "
                f"{model.source} has heads 0 to {n_heads - 1}, at z."
            )
        width = model.heads(edit.layer).d_head
    if callable(edit.value):
        return
    shape = tuple(edit.value.shape)
    are_numbers = all(isinstance(position, int) for position in edit.positions)
    fits = 1 <= len(shape) <= 3 and shape[-1] == width
    if len(shape) > 1 and are_numbers:
        fits = fits and shape[-2] in (1, len(edit.positions))
    if not fits:
        raise ValueError(
            f"the value of an edit at {edit.component} of layer {edit.layer} has shape {shape}; "
            f"expected [{width}], [position, {width}] or [prompt, position, {width}]."
        )


Branch = Sequence[Edit]
"""Edits of one run, made in the order given; an empty branch is the plain run.

Where two of them replace the same token's state, the later one stays; one edit that names a token
twice to replace it is refused.
"""


def start_layer(branch: Branch, n_layers: int) -> int:
    """The layer after which a branch first differs from the plain run."""
    return min((edit.start_layer for edit in branch), default=n_layers - 1)
