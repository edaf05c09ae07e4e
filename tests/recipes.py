"""The recipe of tests that train few steps by labels alone, from the start of the papers."""

from functools import partial

from taskvectors.methods import load_recipe

from_zero = partial(load_recipe, "from-zero")
