"""One training step as a CUDA graph.

A step through the trunk is many small kernels, so on a GPU most of it is launching them. Its shapes
are static and nothing in it waits for the host, so it is captured once and replayed with each batch
copied into place. On a CPU, or where capture fails (some mixtures of experts), the step simply
runs.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.trunk.batch import Batch

logger = logging.getLogger(__name__)

_WARM_UPS = 3
"""Runs before capture, as torch's notes on CUDA graphs ask for."""


class GraphedLosses:
    """Losses and their gradients, batch by batch; a drop-in for computing them directly.

    Args:
        losses: From a batch (and whatever is passed along) to one loss per branch.
        parameters: Where gradients go; they are set anew by each call.
        device: Where this runs.
    """

    def __init__(
        self,
        losses: Callable[[Batch, Any], Float[Tensor, " branch"]],
        parameters: Sequence[Tensor],
        device: torch.device,
    ) -> None:
        self._losses = losses
        self._parameters = parameters
        self._is_cuda = device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._key: tuple[int, ...] = ()
        self._batch: Batch | None = None
        self._out: Tensor | None = None

    def __call__(self, batch: Batch, active: Sequence[Any]) -> Float[Tensor, " branch"]:
        """The losses of some branches on a batch; the parameters' gradients are set."""
        if not self._is_cuda:
            return self._eager(batch, active)
        key = tuple(id(one) for one in active)
        if key != self._key:
            self._key = key
            self._graph = self._captured(batch, active)
        if self._graph is None or self._batch is None or self._out is None:
            return self._eager(batch, active)
        _copy_into(self._batch, batch)
        self._graph.replay()
        return self._out

    def forget(self) -> None:
        """Capture anew at the next call: something that the losses read is in other memory."""
        self._key, self._graph = (), None

    def _eager(self, batch: Batch, active: Sequence[Any]) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        losses = self._losses(batch, active)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _captured(self, batch: Batch, active: Sequence[Any]) -> torch.cuda.CUDAGraph | None:
        try:
            self._batch = _copy_of(batch)
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self._eager(self._batch, active)
            torch.cuda.current_stream().wait_stream(side)
            for parameter in self._parameters:
                parameter.grad = torch.zeros_like(parameter)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for parameter in self._parameters:
                    assert parameter.grad is not None
                    parameter.grad.zero_()
                losses = self._losses(self._batch, active)
                losses.sum().backward()  # type: ignore[no-untyped-call]
                self._out = losses.detach()
        except RuntimeError as error:
            logger.warning(
                "this step cannot be captured as a CUDA graph and runs eagerly: %s", error
            )
            return None
        return graph


def _copy_of(batch: Batch) -> Batch:
    held: dict[str, Any] = {
        f.name: value.clone()
        for f in fields(batch)
        if isinstance(value := getattr(batch, f.name), Tensor)
    }
    return replace(batch, **held)


def _copy_into(static: Batch, batch: Batch) -> None:
    """The packing stays: with static shapes it is the same for all batches."""
    for f in fields(batch):
        mine = getattr(static, f.name)
        if isinstance(mine, Tensor):
            mine.copy_(getattr(batch, f.name), non_blocking=True)
