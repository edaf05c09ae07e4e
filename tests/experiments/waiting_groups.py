"""An experiment whose groups wait for a sign, and the command that runs it on a cluster.

A group notes that it began, on which node and in which process, and ends when there is a file `go`.
Workers find this module by its name, so the tests' folder is on their path.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from taskvectors.costs import Cost
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import EXPERIMENTS, GroupResult, Preset, RunUnit, WorkDir
from taskvectors.experiments.reproduce import ReproduceConfig, reproduce
from taskvectors.results import Measurement

NAME = "ltv-lens"
SEEDS = tuple(range(6))
SIGNS = "TASKVECTORS_TEST_SIGNS"
"""Environment variable: the folder of the notes and of `go`."""


def run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """Note where it runs, wait for the sign, and compute a little."""
    import ray

    signs = Path(os.environ[SIGNS])
    node = ray.get_runtime_context().get_node_id()
    (signs / f"{unit.seed}.{node}.{os.getpid()}").touch()
    while not (signs / "go").exists():
        time.sleep(0.05)
    draws = torch.randn(3, generator=torch.Generator().manual_seed(unit.seed))
    values = [Measurement(measure=f"draw_{n}", value=float(x)) for n, x in enumerate(draws)]
    return GroupResult(measurements=values)


def nothing(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """Nobody waits for a device to be measured."""
    return []


def main(address: str, folder: str) -> None:
    """Run it on a cluster."""
    own = {"run": run, "estimate": nothing, "figures": None}
    EXPERIMENTS._entries[NAME] = replace(EXPERIMENTS[NAME], **own)
    config = ReproduceConfig(experiment=NAME, preset="smoke", seeds=SEEDS, ray=address)
    reproduce(config, Path(folder))


if __name__ == "__main__":
    from experiments import waiting_groups  # under its own name, by which workers find it

    waiting_groups.main(*sys.argv[1:])
