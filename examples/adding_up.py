# %% [markdown]
# # Do vectors add up?
#
# Vectors of two tasks, learned at the same site, can be added. If each task had a direction of its
# own and nothing else, the sum would do both. Each vector and the sum is tried on both tasks; the
# cosine says how far the two directions are from being one.

# %%
import argparse
import sys

import torch

import taskvectors as tv
from taskvectors.methods import Recipe

parser = argparse.ArgumentParser(description="Do vectors add up?")
parser.add_argument("--model", default="embedded")
parser.add_argument("--tasks", nargs=2, default=["capital", "antonym"])
parser.add_argument("--fast", action="store_true", help="few pairs and steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %% [markdown]
# Both are asked in one template, so that the template cannot tell the model which task is meant.

# %%
model = tv.load_model(asked.model)
sizes = {"n_train": 12, "n_validation": 4, "n_test": 8} if asked.fast else {"n_test": 100}
tasks = [tv.load_task(name, **sizes) for name in asked.tasks]
layer = model.n_layers // 2
recipe = Recipe(steps=2, check_every=2) if asked.fast else Recipe(steps=100)
first, second = (
    tv.learn(model, task, layers=[layer], recipe=recipe, template="qa") for task in tasks
)

# %%
cosine = torch.nn.functional.cosine_similarity(first.values[0], second.values[0], dim=0)
print(f"layer {layer}, cosine of the two vectors {cosine:.2f}")

# %% [markdown]
# Half of the sum is their mean: a sum is longer than either, and length alone may do harm.

# %%
tried = {
    "none": None,
    asked.tasks[0]: first,
    asked.tasks[1]: second,
    "sum": first + second,
    "half of the sum": 0.5 * (first + second),
}
print(f"{'vector':>20} " + " ".join(f"{f'on {task.name}':>24}" for task in tasks))
for name, vector in tried.items():
    shown = []
    for task in tasks:
        found = tv.evaluate(model, task.test, vector, template="qa")
        shown.append(f"{found.accuracy:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]")
    print(f"{name:>20} " + " ".join(f"{text:>24}" for text in shown))
