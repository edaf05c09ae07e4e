"""Zeroing every head through the trunk against one full forward pass per head.

    python benchmarks/explain.py [--json] [--rounds 5] [--models embedded smollm2-135m]

Both sides put each head to zero at the last token of 25 prompts of 8 shots and read the probability
of the answer's first token; the trunk's time includes building it. The baseline is one forward pass
per head and prompt with a hook, logits of the last token only (from a contiguous state). 40 pairs
of head and prompt are drawn and scaled to all of them. Rounds of the two are interleaved; the
figure is the ratio of the medians. Times are in bfloat16; in float32 the same 40 effects are
compared with those of the trunk. The SmolLM2-135M shape has random weights: the time does not
depend on them.
"""

import torch
from _head_by_head import N_PROMPTS, Side, main
from learn_step import random_prompts, real_prompts, smollm2
from torch import Tensor

from taskvectors.explain.shared.head_removal import removal_effects
from taskvectors.models import load_model

SHOTS = 8


def prepared(name: str, dtype: str) -> Side:
    """A model, its prompts, and nothing for every head."""
    if name == "embedded":
        model = load_model("embedded", dtype=dtype)
        prompts = real_prompts(model, SHOTS, N_PROMPTS)
    else:
        model = smollm2(dtype)
        prompts = random_prompts(SHOTS, N_PROMPTS, model.d_vocab)

    def effects() -> Tensor:
        return removal_effects(model, prompts).unflatten(1, (model.n_layers, -1))

    return Side(
        model=model,
        prompts=prompts,
        given=torch.zeros(model.n_layers, model.n_heads, model.d_head),
        effects=effects,
    )


if __name__ == "__main__":
    main(__doc__, SHOTS, prepared)
