# %% [markdown]
# # A learner from scratch
#
# A small transformer is trained from scratch to continue sequences whose rule, an offset on a
# circle of symbols, it has to find in its demonstrations. Trained on that alone, it need not keep
# the rule in one place. The TVP-loss also asks that the state after one block, put into a fresh
# query, does the job: is the vector then there, at that block, and does in-context learning suffer?

# %% tags=["parameters"]
LAYER = 1  # the block after which the vector is to form
STEPS = 2100
ALONE = 1500  # of them on the in-context loss alone; begun much earlier, the TVP-loss can undo it
N_TRIALS = 640
SMALL = {}  # such as {"d_model": 16}

# %%
import taskvectors as tv

learners = tv.train(
    "offset",
    tvp_layers=(None, LAYER),
    steps=STEPS,
    tvp_from=ALONE,
    n_trials=N_TRIALS,
    out="learners",
    **SMALL,
)
learners

# %% [markdown]
# Both variants share the first steps; then one of them gets the TVP-loss, too. Recovery is the
# share of what demonstrations gain that the vector keeps: 1 is all of it.

# %%
rows = learners.to_frame()
final = rows[rows["measure"].isin(["icl_error", "tvp_error", "recovery"])]
final.pivot_table(index=["method", "layer"], columns="measure", values="value").round(3)

# %%
learners.plot()

# %% [markdown]
# A learner is a plain transformers model, so everything that works on language models works on it.

# %%
from taskvectors.learners import Learner

learner = Learner.load(f"learners/seed-0/tvp-{LAYER}")
learner.language_model()

# %% [markdown]
# The control: if the vector carries the task, then another task's vector gives other answers.

# %%
import pandas as pd

from taskvectors.learners.measures import measure

found = measure(learner, n_trials=N_TRIALS, seed=1)
wrong = {
    "with demonstrations": found.icl,
    "the query alone": found.zero_shot,
    "the query with its task's vector": found.prompted.reset[LAYER],
    "the query with another task's vector": found.prompted.wrong[LAYER],
}
pd.Series({name: found.mean(errors) for name, errors in wrong.items()}, name="wrong").round(3)
