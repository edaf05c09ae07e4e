# %% [markdown]
# # How it works inside
#
# A vector is added after one block, at one token, and the answer comes out some blocks above. What
# happens between? At which layer does a vector work at all, when does the answer begin to stand
# out, and which attention heads carry it?

# %% tags=["parameters"]
MODEL = "embedded"
TASK = "capital"
SIZES = {}
STEPS = 20
N_PROMPTS = 30

# %%
import pandas as pd
import torch

import taskvectors as tv
from taskvectors.methods import Recipe
from taskvectors.methods.learned import Learned

model = tv.load_model(MODEL, dtype="float32")  # effects are small differences
task = tv.load_task(TASK, **SIZES)
layer = model.n_layers // 3
recipe = Recipe(steps=STEPS)
shots = min(8, len(task.train) - 1)

# %% [markdown]
# ## At which layer?
#
# One vector is extracted and one is learned after every third block. All are learned in one pass,
# since below a vector nothing changes and need not run again.

# %%
layers = tuple(range(0, model.n_layers, max(1, model.n_layers // 6)))
methods = ["icl", "vanilla", Learned(layers=layers, each_layer=True, recipe=recipe)]
compared = tv.compare(model, task, methods, layers=layers, each_layer=True, shots=shots, n_shown=0)
compared

# %%
compared.plot()

# %% [markdown]
# ## When does the answer stand out?
#
# The logit lens reads the residual stream after every block as if it were the last one.
# `hidden_states[i]` is what block i reads; the block after which the vector is added was recorded
# before it was, and the last entry is after the final norm, so that block is left out.

# %%
vector = tv.learn(model, task, layers=layer, recipe=recipe)
prompts = tv.build_prompts(model.tokenizer, task.template, task.test[:N_PROMPTS])
answers = torch.tensor([prompt.answer_ids[0] for prompt in prompts])


def through_the_lens(vector):
    """Mean log-probability of the answers' first tokens after every block."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = torch.tensor([prompt.token_ids], device=model.device)
        with torch.inference_mode(), tv.inject(model, [vector]):
            states = model.hf(tokens, output_hidden_states=True).hidden_states[1:-1]
        logits = model.logits(torch.stack([state[0, -1] for state in states]))
        found.append(logits.float().log_softmax(dim=-1)[:, answer].cpu())
    return torch.stack(found).mean(dim=0)


lens = pd.DataFrame({"without": through_the_lens(None), "with": through_the_lens(vector)})
lens["gained"] = lens["with"] - lens["without"]
lens.rename_axis("block").round(2)

# %% [markdown]
# ## Which heads carry it?
#
# A head's score is how much the answer's probability changes with its output, to first order;
# `removed` is what really happens when that head alone is put to zero at the last token. If both
# name the same heads, the score can be trusted to find them.

# %%
explained = tv.explain(model, vector, analyses=["key-heads", "lens"], limit=N_PROMPTS, shots=shots)
explained

# %%
rows = explained.to_frame()
heads = rows[rows["measure"].isin(["score", "removed"])].pivot_table(
    index=["layer", "head"], columns="measure", values="value"
)
print(f"rank correlation: {heads['score'].rank().corr(heads['removed'].abs().rank()):.2f}")
heads.sort_values("score", ascending=False).head(10).round(4)
