"""One learning step for all layers in one pass, against one layer after another through the trunk.

    python benchmarks/layer_sweep.py [--json] [--rounds 3]

Both train one vector per layer at the last token on the same 32 prompts of `capital`, embedded
model. The trunk is built once on both sides. `at_once_bytes` is the
peak of that pass on top of what the process held before.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

from taskvectors.methods.peak import PeakMemory
from taskvectors.models import load_model
from taskvectors.prompts import build_prompts
from taskvectors.tasks import load_task
from taskvectors.trunk import Edit, Trunk

N_PROMPTS = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    model = load_model("embedded", dtype="bfloat16")
    task = load_task("capital")
    prompts = build_prompts(model.tokenizer, task.template, task.train[:N_PROMPTS])
    trunk = Trunk.build(model, prompts)
    batch = trunk.batch()
    theta = torch.zeros(model.n_layers, model.d_model, requires_grad=True)
    layers = range(model.n_layers)

    def at_once() -> None:
        branches = [[Edit(layer=layer, value=theta[layer])] for layer in layers]
        trunk.answer_losses(trunk.run(branches, batch), batch).sum().backward()

    def one_by_one() -> None:
        for layer in layers:
            states = trunk.run([[Edit(layer=layer, value=theta[layer])]], batch)
            trunk.answer_losses(states, batch).sum().backward()

    times: dict[str, list[float]] = {"at_once": [], "one_by_one": []}
    peaks: dict[str, int] = {}
    steps: dict[str, Callable[[], None]] = {"at_once": at_once, "one_by_one": one_by_one}
    for number in range(asked.rounds + 1):
        for name, step in steps.items():
            theta.grad = None
            started = time.perf_counter()
            with PeakMemory(model.device) as peak:
                step()
            if number:
                times[name].append(time.perf_counter() - started)
            peaks[name] = max(peaks.get(name, 0), peak.bytes)
    one, many = (statistics.median(times[name]) for name in ("one_by_one", "at_once"))
    row = {
        "model": "embedded",
        "layers": len(layers),
        "prompts": N_PROMPTS,
        "one_by_one_s": one,
        "at_once_s": many,
        "ratio": one / many,
        "at_once_bytes": peaks["at_once"],
    }
    if asked.json:
        sys.stdout.write(json.dumps({"rows": [row]}) + "\n")
    else:
        sys.stdout.write(
            f"{len(layers)} layers: one by one {one:.2f} s, at once {many:.2f} s, ratio "
            f"{one / many:.2f}; the pass held {peaks['at_once'] / 1e6:.0f} MB\n"
        )


if __name__ == "__main__":
    main()
