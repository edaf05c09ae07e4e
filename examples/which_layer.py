# %% [markdown]
# # At which layer does a vector work?
#
# A vector can be added after any block. Here one is extracted and one is learned for every layer;
# all layers are learned in one pass, since below a vector nothing changes and need not run again.
# Layers are compared on validation pairs, and the best alone meets the test pairs.

# %%
import argparse
import sys

import taskvectors as tv
from taskvectors.methods import Recipe, RunContext
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.vanilla import Vanilla, vanilla

parser = argparse.ArgumentParser(description="At which layer does a vector work?")
parser.add_argument("--model", default="embedded")
parser.add_argument("--task", default="capital")
parser.add_argument("--fast", action="store_true", help="few pairs and steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %%
model = tv.load_model(asked.model)
sizes = {"n_train": 12, "n_validation": 4, "n_test": 8} if asked.fast else {}
task = tv.load_task(asked.task, **sizes)
context = RunContext(model=model, task=task, shots=2 if asked.fast else 8)

# %%
recipe = Recipe(steps=2, check_every=2) if asked.fast else Recipe(steps=60)
candidates = {
    "extracted": vanilla(context, Vanilla(strengths=(1.0,))),
    "learned": learned(context, Learned(recipe=recipe)),
}

# %% [markdown]
# One bar per layer: the share of validation pairs that are answered in full.

# %%
for name, found in candidates.items():
    scores = score_candidates(context, "validation", found)
    print(f"{name}, on {len(task.validation)} validation pairs")
    for candidate, score in zip(found, scores, strict=True):
        share = float(score.is_correct.double().mean())
        print(f"  layer {candidate.sites[0].layer:2d} {share:5.2f} {'#' * round(40 * share)}")
    best = found[choose(scores)]
    (tested,) = score_candidates(context, "test", [best])
    accuracy = float(tested.is_correct.double().mean())
    print(f"  chosen: layer {best.sites[0].layer}; on {len(task.test)} test pairs {accuracy:.2f}")
