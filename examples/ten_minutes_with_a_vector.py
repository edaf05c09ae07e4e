# %% [markdown]
# # Ten minutes with a vector
#
# Eight examples before a question make a model do a task. Here one vector does it, added to the
# residual stream at the last token of the bare question. You learn one, measure it against a
# control, move it, add two, and keep them.

# %% tags=["parameters"]
MODEL = "embedded"  # or a hub id, a local folder, a .gguf file
TASK, OTHER_TASK = "capital", "antonym"
SIZES = {}  # such as {"n_train": 50}
LAYER = 9
STEPS = 40

# %%
import pandas as pd
import torch

import taskvectors as tv
from taskvectors.methods import Recipe

model = tv.load_model(MODEL)
model

# %% [markdown]
# Pairs are split, so that nothing is learned from what is tested.

# %%
task = tv.load_task(TASK, **SIZES)
task

# %% [markdown]
# The model stays frozen; the vector is all that is trained. It has as many numbers as the model is
# wide.

# %%
recipe = Recipe(steps=STEPS)
vector = tv.learn(model, task, layers=LAYER, recipe=recipe)
vector

# %% [markdown]
# What does the model say now?

# %%
asked = task.test[0].input
answer = tv.generate(model, vector, input=asked, max_new_tokens=8)
answer

# %%
answer.plot()

# %% [markdown]
# One question proves little. The control is a random vector of the same length: if it did as well,
# the direction would not matter.

# %%
shots = min(8, len(task.train))
random = vector.random_like(torch.Generator().manual_seed(0))
asking = {"template": task.template}
measured = {
    "the question alone": tv.evaluate(model, task.test, **asking),
    f"{shots} demonstrations": tv.evaluate(model, task, shots=shots, **asking),
    "the learned vector": tv.evaluate(model, task.test, vector),
    "a random vector": tv.evaluate(model, task.test, random),
}
pd.concat({name: found.to_frame() for name, found in measured.items()}).droplevel(1).round(3)

# %% [markdown]
# Half of it, twice of it, against it:

# %%
strengths = (-1, 0.5, 1, 2)
doses = {s: tv.evaluate(model, task.test, vector, strength=s).accuracy for s in strengths}
pd.Series(doses, name="accuracy").rename_axis("strength").round(3)

# %% [markdown]
# Vectors of one model add up. If each task had a direction of its own and nothing else, the sum
# would do both. A sum is longer than either, and length alone may do harm: so half of it, too.

# %%
other = tv.load_task(OTHER_TASK, **SIZES)
second = tv.learn(model, other, layers=LAYER, recipe=recipe, template=task.template)
print(f"cosine of the two: {vector.cosine(second):.2f}")
tried = {TASK: vector, OTHER_TASK: second, "sum": vector + second, "half": 0.5 * (vector + second)}
pd.DataFrame(
    {
        f"on {one.name}": {
            name: tv.evaluate(model, one.test, v, template=task.template).accuracy
            for name, v in tried.items()
        }
        for one in (task, other)
    }
).round(3)

# %% [markdown]
# A vector is a folder of two files. It knows its model, task and layer.

# %%
vector.save("my-vector")
tv.TaskVector.load("my-vector")
