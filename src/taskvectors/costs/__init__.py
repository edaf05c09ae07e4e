"""What work will cost before it is run: tokens, operations, memory, time.

A verb or an experiment says what it will run as a list of `Work`; `cost_of` turns each into figures
from the shape of a model, whose weights are not needed, and the ceilings of a device.
"""

from taskvectors.costs.devices import GPUS, LOCAL, Device, find_device, with_ceilings
from taskvectors.costs.learners import continued_cost, measured_cost, train_cost
from taskvectors.costs.roofline import (
    Cost,
    cost_of,
    costs_of,
    devices_needed,
    room_beside,
    total,
    weight_bytes,
)
from taskvectors.costs.verbs import WORKS, Question

__all__ = [
    "GPUS",
    "LOCAL",
    "WORKS",
    "Cost",
    "Device",
    "Question",
    "continued_cost",
    "cost_of",
    "costs_of",
    "devices_needed",
    "find_device",
    "measured_cost",
    "room_beside",
    "total",
    "train_cost",
    "weight_bytes",
    "with_ceilings",
]
