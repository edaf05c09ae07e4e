# %% [markdown]
# # Does one vector replace eight demonstrations?
#
# Eight examples before a question make a model do a task. Here one vector, learned with the model
# frozen, is added to the residual stream at the last token of the bare question instead. A random
# vector of the same length is the control: if it did as well, the direction would not matter.

# %%
import argparse
import sys
from dataclasses import replace

import torch

import taskvectors as tv
from taskvectors.methods import Recipe

parser = argparse.ArgumentParser(description="Does one vector replace eight demonstrations?")
parser.add_argument("--model", default="embedded")
parser.add_argument("--task", default="capital")
parser.add_argument("--fast", action="store_true", help="few pairs and steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %% [markdown]
# Pairs are split so that nothing is learned from what is tested.

# %%
model = tv.load_model(asked.model)
sizes = {"n_train": 12, "n_validation": 4, "n_test": 8} if asked.fast else {}
task = tv.load_task(asked.task, **sizes)
shots = 2 if asked.fast else 8

# %% [markdown]
# The vector goes after the middle block. It has as many numbers as the model is wide.

# %%
layer = model.n_layers // 2
recipe = Recipe(steps=4, check_every=2) if asked.fast else Recipe(steps=100)
vector = tv.learn(model, task, layers=[layer], recipe=recipe)

# %%
generator = torch.Generator().manual_seed(0)
noise = torch.randn(vector.values.shape, generator=generator)
random = replace(vector, values=noise * vector.values.norm() / noise.norm())

# %%
shown = {"template": task.template, "demonstrations": task.train, "shots": shots}
found = {
    "the question alone": tv.evaluate(model, task.test, template=task.template),
    f"{shots} demonstrations": tv.evaluate(model, task.test, **shown),
    "the learned vector": tv.evaluate(model, task.test, vector),
    "a random vector": tv.evaluate(model, task.test, random),
}
print(f"{task.name}, layer {layer}, {vector.values.numel()} numbers")
for name, measured in found.items():
    interval = f"[{measured.ci_low:.2f}, {measured.ci_high:.2f}]"
    print(f"{name:>22}: {measured.accuracy:.2f} {interval} of {measured.n}")
