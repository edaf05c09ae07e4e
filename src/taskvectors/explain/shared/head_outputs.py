"""What heads write in some prompts, and the edits that put something else in its place."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from taskvectors.explain.shared.case import Case
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit, Position, Trunk
from taskvectors.vectors import TaskVector

Place = tuple[int, int]
"""A head by layer and number."""
Mode = Literal["zero", "mean", "resample"]
MODES: tuple[Mode, ...] = ("zero", "mean", "resample")
_ROWS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """Prompts, and the vector they run with, in which heads are taken out."""

    name: Literal["vector", "icl", "other-task"]
    vector: TaskVector | None
    training: Sequence[Prompt]
    """Prompts that means and other prompts' outputs are taken from."""
    test: Sequence[Prompt]

    @classmethod
    def of(
        cls,
        case: Case,
        name: Literal["vector", "icl", "other-task"],
        vector: TaskVector | None,
        shots: int = 0,
    ) -> "Condition":
        """A case's own prompts, with a vector or with demonstrations."""
        train, test = case.prompts("train", shots), case.prompts("test", shots)
        return cls(name=name, vector=vector, training=train, test=test)

    @property
    def branch(self) -> Branch:
        """Its edits, before any head is taken out."""
        return () if self.vector is None else self.vector.edits()

    @property
    def positions(self) -> tuple[Position, ...]:
        """Where it edits, and the last token."""
        own = () if self.vector is None else self.vector.positions
        return tuple(dict.fromkeys((*own, -1)))


Outputs = dict[int, Float[Tensor, "prompt head d_head"]]
"""z of each layer at the last token of training prompts, in a condition."""


def outputs_at_last(model: LanguageModel, condition: Condition, layers: Sequence[int]) -> Outputs:
    """Z of the heads of some layers at the last token of the training prompts, edited."""
    kept: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for start in range(0, len(condition.training), _ROWS):
        prompts = condition.training[start : start + _ROWS]
        trunk, read = _read_outputs(model, condition, prompts, condition.positions, layers)
        column = trunk.columns((-1,)).index[:, 0]
        for layer in layers:
            kept[layer].append(read[layer][torch.arange(len(prompts)), column])
    return {layer: torch.cat(parts) for layer, parts in kept.items()}


def _read_outputs(
    model: LanguageModel,
    condition: Condition,
    prompts: Sequence[Prompt],
    positions: tuple[Position, ...],
    layers: Sequence[int],
) -> tuple[Trunk, dict[int, Float[Tensor, "prompt suffix head d_head"]]]:
    """Z of some layers at the suffix of some prompts."""
    trunk = Trunk.build(model, prompts, positions=positions)
    with torch.no_grad():
        _, read = trunk.run_and_read([condition.branch], [(layer, "z") for layer in layers])
    by_head = "row token (head d) -> row token head d"
    return trunk, {
        layer: rearrange(z[:, 0].float(), by_head, head=model.heads(layer).n_heads)
        for (layer, _), z in read.items()
    }


def taken_out(
    outputs: Outputs,
    mode: Mode,
    n_test: int,
    seed: int,
    heads: Collection[Place],
) -> list[Edit]:
    """Edits that take heads out at the last token of `n_test` prompts.

    Args:
        outputs: What heads write in other prompts.
        mode: What is put in place of a head's z: zero, its mean, or that of another prompt.
        n_test: Prompts that the edits are for.
        seed: Of which prompt's output replaces which.
        heads: Those to take out.
    """
    found = []
    for layer, head in sorted(heads):
        z = outputs[layer][:, head]
        if mode == "zero":
            value = torch.zeros_like(z[0])
        elif mode == "mean":
            value = z.mean(dim=0)
        else:  # the same prompts for every head: one other run stands in
            drawn = torch.randint(len(z), (n_test,), generator=torch.Generator().manual_seed(seed))
            value = z[drawn.to(z.device)].unsqueeze(1)
        found.append(Edit(layer=layer, component="z", head=head, operation="replace", value=value))
    return found


def outputs_over_tokens(
    model: LanguageModel, condition: Condition, layers: Sequence[int]
) -> dict[int, Float[Tensor, "head d_head"]]:
    """Mean z of the heads of some layers over all tokens of the training prompts, edited."""
    totals: dict[int, Tensor] = {}
    count = 0
    for start in range(0, len(condition.training), _ROWS):
        prompts = condition.training[start : start + _ROWS]
        _, read = _read_outputs(model, condition, prompts, (*condition.positions, 0), layers)
        column = torch.arange(read[layers[0]].shape[1])
        is_prompt: Bool[Tensor, "prompt suffix"] = column < torch.tensor(
            [[len(prompt.token_ids)] for prompt in prompts]
        )
        count += int(is_prompt.sum())
        for layer, z in read.items():
            totals[layer] = totals.get(layer, 0) + z[is_prompt].sum(dim=0)
    return {layer: total / count for layer, total in totals.items()}
