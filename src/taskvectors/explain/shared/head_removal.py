"""Taking one head out at a time: what the first-order score of a head estimates, exactly.

Every head is a branch of its own, all over one trunk of the prompts: no full forward pass is made
for a head.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.models import LanguageModel
from taskvectors.models.tensors import in_double, require_finite
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk import Branch, Edit, Trunk, prompts_that_fit, resolve_budget, shape_of


def removal_effects(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    branch: Branch = (),
    *,
    layers: Iterable[int] | None = None,
    memory: int | None = None,
) -> Float[Tensor, "prompt head"]:
    """What putting each head to zero at the last token changes in the answer's probability.

    Args:
        model: The model.
        prompts: Prompts with their answers, of which the first token is asked for.
        branch: What is done in every run, such as a vector's edits; nothing by default.
        layers: Blocks whose heads are taken out; all by default.
        memory: Budget in bytes.

    Returns:
        Heads of the blocks side by side, in the order of `layers`.

    Raises:
        MemoryBudgetError: One prompt with all heads does not fit the budget.
    """
    layers = range(model.n_layers) if layers is None else layers
    branches: list[Branch] = [branch] + [
        [
            *branch,
            Edit(layer=layer, component="z", head=head, operation="replace", value=silent),
        ]
        for layer in layers
        for silent in (torch.zeros(model.heads(layer).d_head),)
        for head in range(model.heads(layer).n_heads)
    ]
    asked = with_first_tokens(prompts)
    positions = tuple(dict.fromkeys((*(p for edit in branch for p in edit.positions), -1)))
    budget = resolve_budget(memory, model.device)
    step = prompts_that_fit(model, shape_of(asked, positions, n_branches=len(branches)), budget)
    parts = []
    for start in range(0, len(asked), step):
        trunk = Trunk.build(model, asked[start : start + step], positions=positions)
        batch = trunk.batch()
        with torch.no_grad():
            scores = trunk.answer_scores(trunk.run(branches, batch), batch)
        require_finite(scores.log_probability, "log-probabilities of answers")
        p = in_double(scores.log_probability[:, :, 0]).exp()
        parts.append((p[:, 1:] - p[:, :1]).float())
    return torch.cat(parts)
