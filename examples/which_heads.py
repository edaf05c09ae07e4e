# %% [markdown]
# # Which heads carry a vector?
#
# A vector is read by attention heads above it. A head's score is how much the answer's probability
# changes with its output, to first order; `removed` is what really happens when that head alone is
# put to zero at the last token. If both name the same heads, the score can be trusted to find
# them.

# %%
import argparse
import sys

import taskvectors as tv
from taskvectors.explain.key_heads import key_heads
from taskvectors.methods import Recipe, RunContext

parser = argparse.ArgumentParser(description="Which heads carry a vector?")
parser.add_argument("--model", default="embedded")
parser.add_argument("--task", default="capital")
parser.add_argument("--fast", action="store_true", help="few pairs and steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %%
model = tv.load_model(asked.model, dtype="float32")  # effects are small differences
sizes = {"n_train": 12, "n_validation": 4, "n_test": 8} if asked.fast else {}
task = tv.load_task(asked.task, **sizes)
layer = model.n_layers // 3
recipe = Recipe(steps=2, check_every=2) if asked.fast else Recipe(steps=60)
vector = tv.learn(model, task, layers=[layer], recipe=recipe)

# %%
prompts = RunContext(model=model, task=task).prompts("train")[: 6 if asked.fast else 60]
found = key_heads(model, prompts, vector)
heads = found.to_frame().sort_values("score", ascending=False)

# %% [markdown]
# The key heads are the tenth with the highest scores.

# %%
print(f"{task.name}, vector at layer {layer}, {len(heads)} heads above it, {len(prompts)} prompts")
print(heads[["layer", "head", "score", "removed", "is_key"]].head(10).to_string(index=False))
share = heads.loc[heads["is_key"], "score"].sum() / heads["score"].sum()
print(f"key heads: {heads['is_key'].sum()} of {len(heads)}, with {share:.0%} of all scores")
agreement = heads["score"].rank().corr(heads["removed"].abs().rank())
print(f"rank correlation of the score with the size of what removal does: {agreement:.2f}")
