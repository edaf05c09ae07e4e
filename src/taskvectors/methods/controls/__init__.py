"""Controls: baselines that must score lower if a vector's result means what it seems to.

Each file here is a control, named after it. Most are made for the vector that was chosen, at its
sites, with the same data and steps.
"""

from taskvectors.methods.controls.shared.control import CONTROLS, Control

register = CONTROLS.register

__all__ = ["CONTROLS", "Control", "register"]
