"""Losses as a CUDA graph are the losses computed directly; on a CPU they are nothing else.

Run with `pytest tests/trunk/test_graph.py`; what needs CUDA is marked `gpu`.
"""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from taskvectors.trunk import Batch, Edit, Trunk
from taskvectors.trunk.graph import GraphedLosses

CPU = torch.device("cpu")
LAYERS = (0, 1, 2)
N_READS = 16
"""More answer tokens than any batch here has, as static shapes ask for."""


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")
    return torch.device("cuda")


def setting(model: Any, prompts: Sequence[Any]) -> tuple[Trunk, Tensor, Any]:
    """A trunk, one parameter per layer, and the losses of the branches at some of the layers."""
    trunk = Trunk.build(model, prompts, positions=(-2, -1))
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(LAYERS), model.d_model, generator=generator).to(model.device)
    theta = values.requires_grad_()

    def losses(batch: Batch, active: Sequence[int]) -> Tensor:
        branches = [[Edit(layer=LAYERS[i], positions=(-2, -1), value=theta[i])] for i in active]
        return trunk.answer_losses(trunk.run(branches, batch), batch)

    return trunk, theta, losses


def eager(losses: Any, theta: Tensor, batch: Batch, active: Sequence[int]) -> list[Tensor]:
    """Losses and gradient, computed directly."""
    found = losses(batch, active)
    (gradient,) = torch.autograd.grad(found.sum(), theta)
    return [found.detach().clone(), gradient]


def test_on_a_cpu_losses_and_gradients_are_those_of_a_plain_call(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    trunk, theta, losses = setting(model, ragged_prompts(model, 6))
    step = GraphedLosses(losses, [theta], CPU)
    for rows, active in (([0, 1, 2], [0, 1, 2]), ([3, 3, 5], [0, 1, 2]), ([4], [1])):
        batch = trunk.batch(rows)
        expected = eager(losses, theta, batch, active)
        found = step(batch, active)
        assert not found.requires_grad
        assert torch.equal(found, expected[0])
        assert theta.grad is not None
        assert torch.equal(theta.grad, expected[1])
    # the gradients of earlier calls are gone, and those of other branches are zero
    assert not theta.grad[[0, 2]].any()


def test_a_step_is_captured_once_for_some_branches_and_anew_when_it_is_forgotten(
    tiny_model: Any, ragged_prompts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a graph that only counts: what a list in other memory asks for."""
    model = tiny_model("llama")
    trunk, theta, losses = setting(model, ragged_prompts(model, 4))
    captured: list[Sequence[int]] = []
    replayed: list[int] = []

    class Graph:
        def replay(self) -> None:
            replayed.append(len(captured))

    def capture(self: GraphedLosses, batch: Batch, active: Sequence[int]) -> Graph:
        captured.append(active)
        self._batch, self._out = batch, torch.zeros(len(active))
        return Graph()

    monkeypatch.setattr(GraphedLosses, "_captured", capture)
    step = GraphedLosses(losses, [theta], torch.device("cuda"))
    batch, active = trunk.batch([0, 1]), [0, 1]
    step(batch, active)
    step(batch, active)
    assert (captured, replayed) == ([active], [1, 1])
    step.forget()
    step(batch, active)
    assert (captured, replayed) == ([active, active], [1, 1, 2])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
def test_a_captured_step_gives_the_losses_and_gradients_of_a_plain_one(
    fresh_model: Any, ragged_prompts: Any, cuda: torch.device, name: str
) -> None:
    model = fresh_model(name)
    model.hf.to(cuda)
    trunk, theta, losses = setting(model, ragged_prompts(model, 8))
    step = GraphedLosses(losses, [theta], cuda)
    graphs: list[Any] = []
    # the same branches on other rows are replayed; other branches are captured anew
    for rows, active in (
        ([0, 1, 2, 3], [0, 1, 2]),
        ([7, 6, 5, 4], [0, 1, 2]),
        ([2, 2, 0, 7], [0, 1, 2]),
        ([1, 2, 3, 4], [1]),
        ([0, 5, 6, 7], [1]),
    ):
        batch = trunk.batch(rows, n_reads=N_READS)
        expected = eager(losses, theta, batch, active)
        found = step(batch, active)
        torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=1e-4)
        assert theta.grad is not None
        torch.testing.assert_close(theta.grad, expected[1], atol=1e-4, rtol=1e-3)
        graphs.append(step._graph)
        with torch.no_grad():
            theta += 0.1 * torch.randn_like(theta)  # as a step of training does: in place
    assert None not in graphs
    assert graphs[0] is graphs[1] is graphs[2] is not graphs[3]
    assert graphs[3] is graphs[4]


@pytest.mark.gpu
def test_a_step_that_cannot_be_captured_runs_and_says_so(
    fresh_model: Any,
    ragged_prompts: Any,
    cuda: torch.device,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = fresh_model("llama")
    model.hf.to(cuda)
    trunk, theta, losses = setting(model, ragged_prompts(model, 4))

    def waiting(batch: Batch, active: Sequence[int]) -> Tensor:
        found: Tensor = losses(batch, active)
        assert float(found.detach().sum()) > 0  # a host synchronisation
        return found

    step = GraphedLosses(waiting, [theta], cuda)
    batch = trunk.batch([0, 1], n_reads=N_READS)
    expected = eager(losses, theta, batch, [0, 1])
    with caplog.at_level(logging.WARNING):
        found = step(batch, [0, 1])
    assert "cannot be captured as a CUDA graph and runs eagerly" in caplog.text
    torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theta.grad, expected[1], atol=1e-4, rtol=1e-3)
