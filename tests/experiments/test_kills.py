"""A run that is killed at random moments ends with the results of one that never was.

Run with `pytest tests/experiments/test_kills.py -m slow`.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from experiments.forked_runs import SEEDS
from safetensors.torch import load_file

from taskvectors.files import PARTIAL
from taskvectors.results.record import TIMED

KILLS = 10
HERE = Path(__file__).parent


class Runner:
    """The process that forks runs."""

    def __init__(self) -> None:
        folders = os.pathsep.join((str(HERE.parents[1] / "src"), str(HERE.parent)))
        self.process = subprocess.Popen(
            [sys.executable, HERE / "forked_runs.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": folders, "OMP_NUM_THREADS": "1"},
        )

    def start(self, folder: Path, what: str = "reproduce") -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {folder}\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self) -> str:
        return self._line()

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Groups that are kept, and which file each is: a file that is written anew is another one."""
    found = (folder / "cells").glob("*.json")
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.mark.slow
def test_ten_kills_lose_at_most_the_group_in_hand_and_repeat_none(tmp_path: Path) -> None:
    runner = Runner()
    try:
        whole = tmp_path / "whole"
        runner.start(whole)
        assert runner.ended() == "done"
        rng, kills, number, killed_at = random.Random(0), 0, 0, []
        while kills < KILLS:
            number += 1
            folder = tmp_path / f"cut-{number}"
            outcome = "gone"
            while outcome == "gone":
                before = finished(folder)
                child = runner.start(folder)
                if kills < KILLS:
                    # at a random file of those that the run has yet to write, so that kills fall
                    # all over it however fast the machine is; the moment after it is random, too
                    wanted = len(before) + rng.randrange(0, 3)
                    killed_at.append(_kill_when(folder, child, wanted, rng.random()))
                outcome = runner.ended()
                kills += outcome == "gone"
                after = finished(folder)
                assert before.items() <= after.items()
            begun = Counter(folder.with_suffix(".begun").read_text().splitlines())
            ours = pd.read_parquet(folder / "results.parquet")
            theirs = pd.read_parquet(whole / "results.parquet")
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
            assert len(finished(folder)) == len(SEEDS)
            # each kill costs the beginning of one group at most
            assert sum(begun.values()) - len(begun) <= kills
        assert len(set(killed_at)) > 2
    finally:
        runner.stop()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compare", "learn", "train"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(
    what: str, tmp_path: Path
) -> None:
    runner, rng, kills, tries = Runner(), random.Random(what), 0, 0
    try:
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        runner.start(whole, what)
        started = time.monotonic()  # of the run: the runner itself has been imported
        assert runner.ended() == "done"
        took = time.monotonic() - started
        while kills < KILLS // 2 and tries < 4 * KILLS:
            tries += 1
            child = runner.start(cut, what)
            # anywhere in what an undisturbed run takes
            until = time.monotonic() + took * rng.random()
            while time.monotonic() < until and _is_alive(child):
                threading.Event().wait(0.005)
            if _is_alive(child):
                os.kill(child, signal.SIGKILL)
            if runner.ended() == "done":
                shutil.rmtree(cut)
            else:
                kills += 1
        runner.start(cut, what)
        assert runner.ended() == "done"
        assert kills == KILLS // 2
        assert not [one for one in cut.rglob("*") if one.name.endswith(PARTIAL)]
        assert _named(cut) == _named(whole)
        _check_same(cut, whole)
    finally:
        runner.stop()


def _named(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def _check_same(cut: Path, whole: Path) -> None:
    """Tables and weights are the same, times apart."""
    if (cut / "results.parquet").is_file():
        ours, theirs = (pd.read_parquet(folder / "results.parquet") for folder in (cut, whole))
        ours, theirs = (one[~one["measure"].isin(TIMED)] for one in (ours, theirs))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    weights = sorted(name for name in _named(whole) if name.endswith(".safetensors"))
    assert weights
    for name in weights:
        one, other = (load_file(folder / name) for folder in (cut, whole))
        assert all(torch.equal(one[key], other[key]) for key in one), name
        assert one.keys() == other.keys()


def _kill_when(folder: Path, child: int, wanted: int, fraction: float) -> int:
    """Kill a run once it has so many groups, after a moment, or let it end.

    Returns:
        How many groups it had.
    """
    pause = threading.Event()
    while len(finished(folder)) < wanted and _is_alive(child):
        pause.wait(0.005)
    pause.wait(0.3 * fraction)
    if _is_alive(child):
        os.kill(child, signal.SIGKILL)
    return len(finished(folder))


def _is_alive(child: int) -> bool:
    """Whether a process runs: one that has ended is waited for at once by its parent."""
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return False
    return True
