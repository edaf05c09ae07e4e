"""One learning step for all layers in one pass, against one layer after another through the trunk.

    python benchmarks/layer_sweep.py [--json] [--rounds 3]

Both train one vector per layer at the last token on the same 32 prompts of `capital`, embedded
model, and build their trunk once, before the clock starts. Each side runs in a process of its own,
in turns with the other: `*_s` is the median time of a step, `*_bytes` the peak of resident memory
on top of the loaded model, trunk included. `ratio` and `memory_ratio` are one by one over at once:
more than 1 is in favour of the one pass.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _command_line import arguments, show

from taskvectors.methods.training import PeakMemory
from taskvectors.models import load_model
from taskvectors.prompts import build_prompts
from taskvectors.tasks import load_task
from taskvectors.trunk import Edit, Trunk

N_PROMPTS = 32
SIDES = ("one_by_one", "at_once")


def step_of(side: str, trunk: Trunk) -> Callable[[], None]:
    """A learning step for every layer of the model."""
    batch = trunk.batch()
    layers = range(trunk.model.n_layers)
    theta = torch.zeros(len(layers), trunk.model.d_model, requires_grad=True)

    def at_once() -> None:
        branches = [[Edit(layer=layer, value=theta[layer])] for layer in layers]
        trunk.answer_losses(trunk.run(branches, batch), batch).sum().backward()

    def one_by_one() -> None:
        for layer in layers:
            states = trunk.run([[Edit(layer=layer, value=theta[layer])]], batch)
            trunk.answer_losses(states, batch).sum().backward()

    def step() -> None:
        theta.grad = None
        {"at_once": at_once, "one_by_one": one_by_one}[side]()

    return step


def run_side(side: str) -> None:
    """Make a step for each line that is read, and write its seconds; at the end the peak.

    The first line written says how many layers there are, when all is ready.
    """
    model = load_model("embedded", dtype="bfloat16")
    task = load_task("capital")
    prompts = build_prompts(model.tokenizer, task.template, task.train[:N_PROMPTS])
    with PeakMemory(model.device) as peak:
        step = step_of(side, Trunk.build(model, prompts))
        step()  # what is set up on first use is not a step's
        answer(model.n_layers)
        for _ in sys.stdin:
            started = time.perf_counter()
            step()
            answer(time.perf_counter() - started)
    answer(peak.bytes)


def answer(value: float) -> None:
    """A line for the process that asks."""
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


class Side:
    """A side in its own process."""

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.n_layers = int(self.read())

    def read(self) -> str:
        """The next line that it wrote."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended early, with exit code {self.process.wait()}")
        return line

    def seconds(self) -> float:
        """The time of one more step."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self.read())

    def peak(self) -> int:
        """End it, and its peak memory."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        found = int(self.read())
        self.process.wait()
        return found


def measure(rounds: int) -> dict[str, Any]:
    """The row."""
    sides = {name: Side(name) for name in SIDES}
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side.seconds())
    seconds = {name: statistics.median(times[name]) for name in SIDES}
    peaks = {name: side.peak() for name, side in sides.items()}
    return {
        "model": "embedded",
        "layers": sides["at_once"].n_layers,
        "prompts": N_PROMPTS,
        "one_by_one_s": seconds["one_by_one"],
        "at_once_s": seconds["at_once"],
        "ratio": seconds["one_by_one"] / seconds["at_once"],
        "one_by_one_bytes": peaks["one_by_one"],
        "at_once_bytes": peaks["at_once"],
        "memory_ratio": peaks["one_by_one"] / peaks["at_once"],
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        run_side(asked.side)
        return
    row = measure(asked.rounds)
    shown = (
        f"{row['layers']} layers: one by one {row['one_by_one_s']:.2f} s, at once "
        f"{row['at_once_s']:.2f} s, ratio {row['ratio']:.2f}; peaks of "
        f"{row['one_by_one_bytes'] / 1e6:.0f} and {row['at_once_bytes'] / 1e6:.0f} MB, ratio "
        f"{row['memory_ratio']:.2f}"
    )
    show([row], as_json=asked.json, line=lambda _: shown)


if __name__ == "__main__":
    main()
