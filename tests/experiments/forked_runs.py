"""A process that runs things in children, one for each order it reads, and never itself.

Children are forked after the imports, so that each begins within moments, at a random one of which
it can be killed. Orders are lines on standard input: what to run (`reproduce`, `compare`, `learn`,
`train`) and a folder to run in; each is answered with the child's number, and with `done` or `gone`
when it has ended.
"""

import logging
import os
import sys
from pathlib import Path

import torch
from costs.made_up import DEVICE

import taskvectors.methods.lora  # noqa: F401  (imported before children are forked)
from taskvectors.cli import main
from taskvectors.experiments import estimates
from taskvectors.experiments.reproduce import ReproduceConfig, reproduce

SEEDS = tuple(range(12))


def run_compare(folder: str) -> None:
    """A small comparison; what is learned has an adapter beside its cell."""
    methods = ("icl", "vanilla", "learned", "lora")
    words = ["--methods", *methods, "--shots", "2", "--steps", "6", "--layers", "1", "--no-report"]
    _command("compare", *_SMALL, *words, "--seeds", "0", "1", "--out", folder)


def run_learn(folder: str) -> None:
    """A small vector."""
    _command("learn", *_SMALL, "--steps", "40", "--layers", "1", "--out", folder)


def run_train(folder: str) -> None:
    """Learners too small to learn anything."""
    steps = ["--steps", "60", "--icl-steps", "20", "--batch-size", "4", "--trials", "8"]
    shape = ["--layers", "3", "--width", "8", "--heads", "1", "--tvp-layer", "none", "0", "1"]
    settings = ["--set", "n_symbols=7", "n_demonstrations=3"]
    _command("train", "--task", "offset", *settings, *steps, *shape, "--out", folder)


_SMALL = ("--model", "random-gpt2", "--task", "antonym", "--n-train", "16", "--n-validation", "6",
          "--n-test", "8")  # fmt: skip


def _command(*words: str) -> None:
    if main([*words]):
        raise SystemExit(1)


def run_reproduce(folder: str) -> None:
    """The whole run, noting each group when it begins."""
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


RUNS = {
    "reproduce": run_reproduce,
    "compare": run_compare,
    "learn": run_learn,
    "train": run_train,
}


def answer_orders() -> None:
    """Answer orders until there are no more; no child measures this machine."""
    estimates.find_device = lambda name, dtype: DEVICE
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # answers alone go to the pipe
                torch.set_num_threads(1)
                what, _, folder = line.strip().partition(" ")
                RUNS[what](folder)
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
    answer_orders()
