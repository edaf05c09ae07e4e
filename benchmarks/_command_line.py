"""What every benchmark takes on the command line, and how it prints its rows."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any


def arguments(description: str, rounds: int = 0) -> argparse.ArgumentParser:
    """A parser with --json, and --rounds where a benchmark repeats itself."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def show(rows: Sequence[Any], *, as_json: bool, line: Callable[[Any], str] | None = None) -> None:
    """Print rows as JSON, or each as a line for people."""
    if as_json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
        return
    for row in rows:
        text = line(row) if line else ", ".join(f"{name} {value}" for name, value in row.items())
        sys.stdout.write(f"{text}\n")
