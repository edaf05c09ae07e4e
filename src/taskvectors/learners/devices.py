"""What a learner is trained on: one device, or several through accelerate.

One process per device, as `accelerate launch` or `torchrun` start them; each draws its own share of
a batch on its own device.
"""

import os
from typing import Any, cast

import torch
from torch import Tensor, nn

from taskvectors.errors import TaskVectorsError
from taskvectors.models.accelerator import first_device


class Devices:
    """The device of this process, and how it works with those of others.

    Args:
        device: A device; the first GPU, else the CPU, by default.
        compile: Whether to compile the loss: kernels are fused, and captured as a CUDA graph on a
            GPU, where a small model's time is mostly that of launching them.
    """

    def __init__(self, device: str | None = None, *, compile: bool = False) -> None:
        self._accelerator: Any = None
        self._compile = compile
        self.device = torch.device(device or first_device())
        self.rank, self.n = 0, int(os.environ.get("WORLD_SIZE", "1"))
        if self.n > 1:
            self._accelerator = _accelerator(is_cpu=self.device.type == "cpu")
            self.device = self._accelerator.device
            self.rank = self._accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def prepared(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Both, ready for these devices."""
        if self._accelerator is not None:
            objective, optimizer = self._accelerator.prepare(objective, optimizer)
        if self._compile:
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            objective = cast(nn.Module, torch.compile(objective, mode=mode))
        return objective, optimizer

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, averaged over the devices."""
        if self._accelerator is not None:
            self._accelerator.backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]


def _accelerator(*, is_cpu: bool) -> Any:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise TaskVectorsError(
            "training on several devices needs the package accelerate; install it"
        ) from error
    return Accelerator(cpu=is_cpu)
