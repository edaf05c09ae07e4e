"""Peak memory: the largest excess that was seen, however it is seen.

Run with `pytest tests/methods/test_peak.py`.
"""

import threading
import time
from collections.abc import Callable

import pytest
import torch

from taskvectors.methods.training import PeakMemory

CPU = torch.device("cpu")


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the process seems to use; tests write its one number."""
    now = [1000]
    monkeypatch.setattr(PeakMemory, "_now", lambda self: now[0])
    return now


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("never")


def test_the_peak_is_the_largest_excess_and_stays_when_memory_is_freed(in_use: list[int]) -> None:
    with PeakMemory(CPU) as peak:
        in_use[0] = 1700
        wait_for(lambda: peak.bytes == 700)
        in_use[0] = 1100
    assert peak.bytes == 700


def test_memory_that_is_only_freed_has_no_peak(in_use: list[int]) -> None:
    with PeakMemory(CPU) as peak:
        in_use[0] = 200
    assert peak.bytes == 0


def test_nobody_watches_on_even_after_an_error(in_use: list[int]) -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), PeakMemory(CPU):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_what_is_really_allocated_is_seen() -> None:
    with PeakMemory(CPU) as peak:
        held = torch.ones(16 * 2**20)  # 64 MiB
        wait_for(lambda: peak.bytes > 32 * 2**20)
    assert held.sum() > 0


@pytest.mark.gpu
def test_on_a_gpu_the_peak_is_exact() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")
    with PeakMemory(torch.device("cuda")) as peak:
        held = torch.ones(2**20, device="cuda")
        del held
    assert peak.bytes == 4 * 2**20
