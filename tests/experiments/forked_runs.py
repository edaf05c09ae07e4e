"""A process that runs an experiment in children, one for each order it reads, and never itself.

Children are forked after the imports, so that each begins within moments, at a random one of which
it can be killed. Orders are lines on standard input: a folder to run in; each is answered with the
child's number, and with `done` or `gone` when it has ended.
"""

import logging
import os
import sys
from pathlib import Path

import torch
from costs.made_up import DEVICE

from taskvectors.experiments import estimates
from taskvectors.experiments.reproduce import ReproduceConfig, reproduce

SEEDS = tuple(range(12))


def run(folder: str) -> None:
    """The whole run, noting each group when it begins."""
    torch.set_num_threads(1)
    begun = Path(folder).with_suffix(".begun")

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "in hand: " in record.getMessage():
                with begun.open("a") as lines:
                    lines.write(record.getMessage().partition("in hand: ")[2] + "\n")

    logging.getLogger("taskvectors.experiments").addHandler(Noted())
    logging.getLogger("taskvectors.experiments").setLevel(logging.INFO)

    config = ReproduceConfig(experiment="ltv-lens", preset="smoke", seeds=SEEDS)
    reproduce(config, Path(folder))


def main() -> None:
    """Answer orders until there are no more; no child measures this machine."""
    estimates.find_device = lambda name, dtype: DEVICE
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(line.strip())
                status = 0
            finally:
                os._exit(status)
        _answer(child)
        _, status = os.waitpid(child, 0)
        _answer("done" if status == 0 else "gone")


def _answer(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
