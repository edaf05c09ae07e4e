"""Several devices: two processes on the CPU make the step that one would make of both shares."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from taskvectors.learners import Learner, TrainingConfig, load_family, train
from taskvectors.learners.devices import Devices

SETTINGS = {"n_symbols": 7, "n_demonstrations": 3}
TRAINING = {
    "shape": {"n_layers": 2, "d_model": 8, "n_heads": 1},
    "steps": 3,
    "tvp_from": 1,
    "tvp_layer": 0,
    "batch_size": 8,
}
PROGRAM = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from taskvectors.learners import TrainingConfig, load_family, train
from taskvectors.learners.devices import Devices
settings, training, folder = json.loads(sys.argv[1])
devices = Devices("cpu")
done = train(load_family("offset", settings), TrainingConfig(**training), Path(folder),
             family_source="offset", devices=devices)
weights = torch.cat([p.detach().flatten() for p in done.learner.hf.parameters()])
Path(folder, f"sum-{devices.rank}").write_text(repr(float(weights.double().sum())))
"""

COMPILED = """
import json, sys
from pathlib import Path
import torch
from taskvectors.learners import TrainingConfig, load_family, train
from taskvectors.learners.devices import Devices
settings, training, folder = json.loads(sys.argv[1])
found = [
    train(load_family("offset", settings), TrainingConfig(**training),
          Path(folder, str(compiled)), family_source="offset",
          devices=Devices("cpu", compile=compiled)).learner.hf.state_dict()
    for compiled in (False, True)
]
for name, value in found[0].items():
    torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_processes_share_a_batch_and_keep_the_same_weights(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, json.dumps([SETTINGS, TRAINING, str(tmp_path)])]
    about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "WORLD_SIZE": "2"}
    about |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            words,
            env=os.environ | about | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    sums = [(tmp_path / f"sum-{rank}").read_text() for rank in range(2)]
    assert sums[0] == sums[1]
    alone = train(
        load_family("offset", SETTINGS),
        TrainingConfig(**TRAINING),
        tmp_path / "alone",
        family_source="offset",
        devices=Devices("cpu"),
    )
    kept = Learner.load(tmp_path).hf.parameters()
    assert not all(
        torch.equal(one, other)
        for one, other in zip(kept, alone.learner.hf.parameters(), strict=True)
    )


def test_one_process_is_the_main_one() -> None:
    devices = Devices("cpu")
    assert (devices.is_main, devices.n, devices.device.type) == (True, 1, "cpu")


@pytest.mark.slow
def test_a_compiled_step_trains_as_an_eager_one_does(tmp_path: Path) -> None:
    # in a process of its own: checks of shapes at run time are no part of what is compiled
    training = TRAINING | {"steps": 4, "tvp_from": 2, "batch_size": 4}
    words = json.dumps([SETTINGS, training, str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
