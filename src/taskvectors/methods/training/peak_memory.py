"""Peak memory of a piece of work, on top of what was in use before."""

import ctypes
import os
import threading
from types import TracebackType

import torch

from taskvectors.trunk import TrunkCache

_SAMPLE_SECONDS = 0.02


class PeakMemory:
    """A context that finds the peak: exact on CUDA, sampled on MPS and on a CPU.

    Trunks that the work uses and other work has built count as its own.
    """

    def __init__(self, device: torch.device, trunks: TrunkCache | None = None) -> None:
        self.device = device
        self.trunks = TrunkCache() if trunks is None else trunks
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cpu":
            _give_back_freed_memory()  # else work that fits in it seems to take none
        self._before = self._now()
        self._reused = self.trunks.bytes_reused
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type == "cuda":
            self.bytes = int(torch.cuda.max_memory_allocated(self.device)) - self._before
        else:
            self._stop.set()
            self._thread.join()
        self.bytes += self.trunks.bytes_reused - self._reused

    def _now(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.memory_allocated(self.device))
        if self.device.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        import psutil

        return int(psutil.Process(os.getpid()).memory_info().rss)

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.bytes = max(self.bytes, self._now() - self._before)


def _give_back_freed_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)
