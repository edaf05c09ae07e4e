"""Indirect effects of all heads through the trunk against one full forward pass per head.

    python benchmarks/indirect_effect.py [--json] [--rounds 5] [--models embedded smollm2-135m]

Both sides work on 25 label-shuffled prompts of 10 shots. The baseline is the published procedure:
for each head and prompt one forward pass of that prompt, the head replaced by a hook at the last
token, logits of the last token only (from a contiguous state). 40 pairs of head and prompt are
drawn and scaled to all of them. Rounds of the two are interleaved; the figure is the ratio of the
medians. Times are in bfloat16; in float32 the same 40 effects are compared with those of the trunk.
The SmolLM2-135M shape has random weights: the time does not depend on them.
"""

import torch
from _head_by_head import N_PROMPTS, Side, main
from learn_step import random_prompts, smollm2
from torch import Tensor

from taskvectors.methods import RunContext
from taskvectors.methods.shared.head_means import head_means
from taskvectors.methods.shared.indirect_effect import (
    exact_effects,
    first_token_trunk,
    label_shuffled_prompts,
)
from taskvectors.models import load_model
from taskvectors.tasks import load_task

SHOTS = 10


def prepared(name: str, dtype: str) -> Side:
    """A model, its label-shuffled prompts, and what each head is given."""
    if name == "embedded":
        model = load_model("embedded", dtype=dtype)
        context = RunContext(model=model, task=load_task("capital"), shots=SHOTS)
        prompts, _ = label_shuffled_prompts(context, N_PROMPTS, 100)
        means = head_means(context, 100).z
    else:
        model = smollm2(dtype)
        prompts = random_prompts(SHOTS, N_PROMPTS, model.d_vocab)
        # about as large as what the heads themselves give with such weights
        generator = torch.Generator().manual_seed(0)
        means = torch.randn(model.n_layers, model.n_heads, model.d_head, generator=generator)

    def through_trunk() -> Tensor:
        return exact_effects(first_token_trunk(model, prompts), means)[0]

    return Side(model=model, prompts=prompts, given=means, effects=through_trunk)


if __name__ == "__main__":
    main(__doc__, SHOTS, prepared)
