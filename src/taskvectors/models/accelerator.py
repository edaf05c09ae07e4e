"""What an accelerator is asked beside its computing: to wait, for memory, for random states."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def first_device() -> str:
    """The kind of device to take where none is named: a GPU, MPS, or the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device now."""
    import psutil

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    if device.type == "mps":  # shares the CPU's memory, and takes no more than a part of it
        ours = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return max(0, min(free, ours))
    return free


def all_bytes(device: torch.device) -> int:
    """Memory that a device has, free or not; of this machine also what it swaps to."""
    import psutil

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global random states start at a seed inside, and are as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # fork_rng asks for the state of device n, which MPS has not
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)
