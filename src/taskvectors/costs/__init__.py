"""What work will cost before it is run: tokens, operations, memory, time.

Methods, analyses and experiments say what they will run as a list of `Work`; `costs_of` turns it
into figures from the shape of a model, whose weights are not needed, and a device's ceilings.
"""

from taskvectors.costs.devices import GPUS, LOCAL, Device, find_device, with_ceilings
from taskvectors.costs.roofline import (
    Cost,
    cost_of,
    costs_of,
    devices_needed,
    room_beside,
    total,
    weight_bytes,
)

__all__ = [
    "GPUS",
    "LOCAL",
    "Cost",
    "Device",
    "cost_of",
    "costs_of",
    "devices_needed",
    "find_device",
    "room_beside",
    "total",
    "weight_bytes",
    "with_ceilings",
]
