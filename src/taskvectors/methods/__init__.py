"""How we get a vector, extracted or learned: one method a file.

Each file here is a method, named after it: a frozen config, a function from a run context to
candidates, what it will run, and at its end the row that registers it. `vanilla.py` is the one to
read first. `training/` has what trained methods share, `shared/` what all do, `controls/` the
baselines that must score lower. A method of your own comes in through
`taskvectors.methods.register(Method(...))`, or through an entry point of the group
`taskvectors.methods`.
"""

from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, MethodConfig, Paper, plan_of
from taskvectors.methods.shared.one_vector import extract, learn
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training.recipe import Recipe, load_recipe

register = METHODS.register

__all__ = [
    "METHODS",
    "Candidate",
    "Cost",
    "Method",
    "MethodConfig",
    "Paper",
    "Plan",
    "Recipe",
    "RunContext",
    "extract",
    "learn",
    "load_recipe",
    "plan_of",
    "register",
]
