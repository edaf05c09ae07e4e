"""A device whose figures are made up, so that estimates measure none."""

from taskvectors.costs import Device

DEVICE = Device(
    name="even",
    flops=1e12,
    bandwidth=1e11,
    weight_bandwidth=1e11,
    block_seconds=1e-4,
    step_seconds=3e-4,
    attention_seconds=1e-11,
    attention_step_seconds=3e-11,
    logit_seconds=1e-10,
    loss_seconds=2e-10,
    memory=1e10,
    source="made up for tests",
)
