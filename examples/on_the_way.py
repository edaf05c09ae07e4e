# %% [markdown]
# # What does a vector become on the way to the logits?
#
# The logit lens reads the residual stream after every block as if it were the last one. With a
# vector and without it, it shows at which block the answer begins to stand out.

# %%
import argparse
import sys

import torch

import taskvectors as tv
from taskvectors.methods import Recipe, RunContext

parser = argparse.ArgumentParser(description="What does a vector become on the way to the logits?")
parser.add_argument("--model", default="embedded")
parser.add_argument("--task", default="capital")
parser.add_argument("--fast", action="store_true", help="few pairs and steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %%
model = tv.load_model(asked.model)
sizes = {"n_train": 12, "n_validation": 4, "n_test": 8} if asked.fast else {}
task = tv.load_task(asked.task, **sizes)
layer = model.n_layers // 3
recipe = Recipe(steps=2, check_every=2) if asked.fast else Recipe(steps=60)
vector = tv.learn(model, task, layers=[layer], recipe=recipe)
prompts = RunContext(model=model, task=task).prompts("test")[: 4 if asked.fast else 30]


# %% [markdown]
# `hidden_states[i]` is what block i reads; that of the block after which the vector is added was
# recorded before it was. The last entry is after the final norm, so the last block is read from the
# logits themselves.


# %%
def through_the_lens(tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities at the last token after every block."""
    with torch.inference_mode():
        run = model.hf(tokens, output_hidden_states=True)
        states = torch.stack([state[0, -1] for state in run.hidden_states[1:-1]])
        logits = torch.cat([model.logits(states), run.logits[:, -1]])
    return logits.float().log_softmax(dim=1)


# %%
plain = torch.zeros(model.n_layers)
injected = torch.zeros(model.n_layers)
for prompt in prompts:
    tokens = torch.tensor([prompt.token_ids], device=model.device)
    answer = prompt.answer_ids[0]
    plain += through_the_lens(tokens)[:, answer].cpu() / len(prompts)
    with tv.inject(model, vector):
        injected += through_the_lens(tokens)[:, answer].cpu() / len(prompts)

# %%
print(f"log-probability of the answer's first token, mean over {len(prompts)} test prompts")
print("block  without     with   gained")
for block in range(model.n_layers):
    gained = injected[block] - plain[block]
    mark = "  <- the vector" if block == layer else ""
    print(f"{block:5d} {plain[block]:8.2f} {injected[block]:8.2f} {gained:8.2f}{mark}")
