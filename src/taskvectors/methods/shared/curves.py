"""What the training of methods logs, for whoever listens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.shared.method import METHODS
from taskvectors.methods.shared.run_context import RunContext

_LISTENING: ContextVar[list[dict[str, Any]] | None] = ContextVar("_LISTENING", default=None)


@contextmanager
def noted_curves() -> Iterator[list[dict[str, Any]]]:
    """The points of every training in the block: its method, seed, layer and numbers."""
    found: list[dict[str, Any]] = []
    token = _LISTENING.set(found)
    try:
        yield found
    finally:
        _LISTENING.reset(token)


def note_curves(points: Sequence[Mapping[str, Any]]) -> None:
    """Tell points of a training to the block of `noted_curves` that this runs in, if to any."""
    found = _LISTENING.get()
    if found is not None:
        found += map(dict, points)


def tried(context: RunContext, config: Any) -> list[Candidate]:
    """What a method finds; the curves of its training are noted.

    Args:
        context: Model, task and prompts.
        config: The method's config.

    Raises:
        TaskVectorsError: The method cannot be run as it is asked for.
    """
    found = METHODS[config.kind].find(context, config)
    note_curves(curves_of(found, context.seed))
    return found


def curves_of(candidates: Sequence[Candidate], seed: int) -> list[dict[str, Any]]:
    """What was logged in training some candidates, point by point."""
    return [
        {
            "method": one.method,
            "seed": seed,
            "layer": layer_name(one.sites[0].layer) if one.sites else None,
            **point,
        }
        for one in candidates
        for point in one.curve
    ]
