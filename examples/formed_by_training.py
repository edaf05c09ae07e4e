# %% [markdown]
# # Can a task vector be made to form?
#
# A small transformer is trained from scratch to continue sequences whose rule (an offset on a
# circle of symbols) it has to find in its demonstrations. Trained on that alone, it need not keep
# the rule in one place. The TVP-loss also asks that the state after one block, put into a fresh
# query, does the job: is the vector then there, at that block, and does in-context learning
# suffer?

# %%
import argparse
import sys
import tempfile
from pathlib import Path

from taskvectors.learners import LearnerShape, TrainingConfig, VariantsConfig
from taskvectors.learners.variants import train_variants
from taskvectors.results.learners import finding_of

parser = argparse.ArgumentParser(description="Can a task vector be made to form?")
parser.add_argument("--layer", type=int, default=1, help="block after which it is to form")
parser.add_argument("--fast", action="store_true", help="few steps: only that it runs")
asked = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has none

# %% [markdown]
# Both variants share the first steps, on the in-context loss; then one of them gets the TVP-loss,
# too. When it begins matters: 500 steps earlier, with this seed, it undid in-context learning.

# %%
training = TrainingConfig(
    shape=LearnerShape(n_layers=4, d_model=64, n_heads=4),
    steps=3_000,
    tvp_from=2_000,
)
n_trials = 1_280
if asked.fast:
    training = TrainingConfig(
        shape=LearnerShape(n_layers=3, d_model=16, n_heads=2),
        steps=4,
        tvp_from=2,
        batch_size=8,
        warmup_steps=1,
        measure_every=2,
        n_curve_trials=8,
    )
    n_trials = 16
config = VariantsConfig(
    task="offset",
    settings={"n_symbols": 11, "n_demonstrations": 6},
    training=training,
    tvp_layers=(None, asked.layer),
    n_trials=n_trials,
)

# %%
with tempfile.TemporaryDirectory() as folder:
    found = finding_of(train_variants(config, Path(folder)).frame)

# %% [markdown]
# Recovery is the share of what demonstrations gain that the vector keeps: 1 is all of it.

# %%
print("variant     block   ICL error   error with the vector   recovery")
for row in found.rows:
    recovery = "none" if row["recovery"] is None else f"{row['recovery']:.2f}"
    print(
        f"{row['variant']:<11} {row['layer']:5d} {row['icl_error']:11.3f} {row['tvp_error']:23.3f} "
        f"{recovery:>10}"
    )
