"""Comparing tensors: the same values, up to rounding or a factor; and are they numbers at all."""

from collections.abc import Sequence

import torch
from torch import Tensor

from taskvectors.errors import TaskVectorsError


def is_same(found: Tensor, expected: Tensor | None) -> bool:
    """Whether two tensors hold the same numbers, one after another; shapes may differ."""
    if expected is None or found.numel() != expected.numel():
        return False
    if found is expected:
        return True
    if found.is_meta or expected.is_meta or found.dtype != expected.dtype:
        return False
    return bool(torch.equal(found.reshape(-1), expected.reshape(-1).to(found.device)))


def is_close(found: Tensor, expected: Tensor, *, tolerance: float) -> bool:
    """Whether two tensors differ by no more than a share of the larger one's largest entry."""
    difference = (found.float() - expected.float().to(found.device)).abs().max()
    return bool(difference <= tolerance * expected.float().abs().max())


def multiple(
    state: Tensor, target: Tensor, known: Sequence[float] = (), *, tolerance: float | None = None
) -> float | None:
    """The factor by which one tensor is a multiple of another, or None.

    Args:
        state: A tensor.
        target: Another with as many entries.
        known: Numbers of the config; the factor is one of them, or one over it, where that fits.
        tolerance: Largest difference, as a share of the target's largest entry.
    """
    if state.shape[-1] != target.shape[-1] or state.numel() != target.numel() or state.is_meta:
        return None
    if is_same(state, target):
        return 1.0
    x, y = in_double(state).reshape(-1), in_double(target).reshape(-1)
    factor = float((x @ y) / (x @ x).clamp(min=torch.finfo(torch.float64).tiny))
    epsilon = torch.finfo(target.dtype).eps
    limit = 4 * epsilon if tolerance is None else tolerance
    if not factor or not is_close(x * factor, y, tolerance=limit):
        return None
    exact = [1.0, *known, *(1 / number for number in known if number)]
    best = min(exact, key=lambda number: abs(number - factor))
    return best if abs(best / factor - 1) <= max(limit, epsilon) else factor


def adds_up(total: Tensor, *parts: Tensor) -> bool:
    """Whether a tensor is the sum of some others, up to rounding in its type."""
    if total.is_meta:
        return False
    sums = [part.float().reshape(total.shape).to(total.device) for part in parts]
    size = sum((part.abs() for part in sums), torch.zeros_like(sums[0]))
    difference = (total.float() - sum(sums[1:], sums[0])).abs()
    return bool((difference <= 4 * torch.finfo(total.dtype).eps * (size + 1e-3)).all())


def in_double(tensor: Tensor) -> Tensor:
    """A tensor in float64, on the CPU: MPS does not have that type."""
    return tensor.cpu().double()


def require_finite(numbers: Tensor, what: str) -> None:
    """Check what a model computed: an infinity or a NaN would count as a wrong answer.

    Args:
        numbers: Any numbers.
        what: Their name.

    Raises:
        TaskVectorsError: Some are infinite or NaN.
    """
    count = int((~numbers.isfinite()).sum())
    if count:
        raise TaskVectorsError(
            f"{count} of {numbers.numel()} {what} are not finite: the model overflowed, or a value "
            "that was put into it did; lower the strength, or load the model in float32"
        )
