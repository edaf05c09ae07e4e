"""Groups on a cluster of two nodes on this machine, one of which is killed in the middle.

Run with `pytest tests/experiments/test_on_ray.py`; what needs a cluster is marked slow.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from experiments.waiting_groups import NAME, SEEDS, SIGNS
from filelock import FileLock, Timeout

from taskvectors.errors import TaskVectorsError
from taskvectors.experiments import on_ray
from taskvectors.experiments.experiment import EXPERIMENTS, GroupResult, Preset, RunUnit, WorkDir
from taskvectors.experiments.runner import Job

HERE = Path(__file__).parent
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed; pip install 'taskvectors[ray]'",
)
PAUSE = threading.Event()


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskVectorsError, match=r"taskvectors\[ray\]"):
        on_ray.on_ray("auto", gpus=0)


def test_groups_on_one_machine_share_what_they_keep_and_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
        with work_dir.locked("learners/one") as folder:
            with pytest.raises(Timeout):
                FileLock(f"{folder}.lock").acquire(timeout=0)
            seen.append(folder.is_dir())
            folder.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock").acquire(timeout=0):
            return GroupResult(measurements=[])

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    experiment = replace(EXPERIMENTS[NAME], run=run)
    preset = experiment.presets["smoke"]
    (unit,) = experiment.units(NAME, preset)
    job = Job(experiment=experiment, unit=unit, preset=preset)
    found = [on_ray._work(job, name) for name in ("of-one-run", "of-one-run", "of-another")]
    assert [one.error for one in found] == [""] * 3
    assert seen == [False, True, False]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`cluster("start", ...)`: a command with ray, which ends with the test."""
    scratch = Path(tempfile.mkdtemp(prefix="ray"))  # paths of sockets have to be short
    (tmp_path / "signs").mkdir()
    path = f"{HERE.parents[1] / 'src'}{os.pathsep}{HERE.parent}"
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        SIGNS: str(tmp_path / "signs"),
    }
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: str) -> subprocess.Popen[bytes]:
        if words[0] == "start":
            words = ("-m", "ray.scripts.scripts", *words, "--block", "--num-cpus=1")
            words += ("--disable-usage-stats", "--object-store-memory=100000000")
            if "--head" in words:
                words += (f"--temp-dir={scratch}", "--include-dashboard=false")
        with (tmp_path / f"log-{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        started.append(process)
        return process

    yield begin
    for process in reversed(started):
        for one in [*_below(process), process]:
            _kill(one.pid)
        process.wait()
    shutil.rmtree(scratch, ignore_errors=True)


def _below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def begun(signs: Path) -> list[tuple[int, str]]:
    """Seed and node of every group that began, as often as it did."""
    words = [path.name.split(".") for path in signs.iterdir() if path.name != "go"]
    return [(int(seed), node) for seed, node, _ in words]


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_killed_loses_nothing_and_doubles_nothing(
    cluster: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{_free_port()}"
    head = cluster("start", "--head", f"--port={address.partition(':')[2]}")
    _wait_for([head], lambda: _answers(address))
    second = cluster("start", f"--address={address}")
    signs, run = tmp_path / "signs", tmp_path / "run"
    driver = cluster("-m", "experiments.waiting_groups", address, str(run))
    _wait_for([head, second, driver], lambda: len({node for _, node in begun(signs)}) == 2)
    killed = _below(second)  # raylet and workers; the last one that was started is no head
    for one in killed:
        _kill(one.pid)
    (signs / "go").touch()
    assert driver.wait() == 0, (tmp_path / "log-2").read_text()[-4000:]
    rows = pd.read_parquet(run / "results.parquet")
    own = rows[rows["seed"].notna()]
    assert not own.duplicated(["seed", "measure"]).any()
    assert sorted(set(own["seed"])) == list(SEEDS)
    assert set(own["experiment"]) == {NAME}
    for seed, part in own.groupby("seed"):
        wanted = torch.randn(3, generator=torch.Generator().manual_seed(int(seed)))
        assert sorted(part["value"]) == sorted(map(float, wanted))
    seeds = [seed for seed, _ in begun(signs)]
    again = {seed for seed in seeds if seeds.count(seed) > 1}
    assert len(again) == 1  # what the lost node had in hand, and nothing else


def _wait_for(processes: list[subprocess.Popen[bytes]], is_so: Callable[[], bool]) -> None:
    """Wait until something is so, as long as the processes live that are to bring it about."""
    while not is_so():
        assert [one.poll() for one in processes] == [None] * len(processes), "one ended before"
        PAUSE.wait(0.1)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as one:
        return one.connect_ex((host, int(port))) == 0
