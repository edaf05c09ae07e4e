"""Names of methods, and times, as a reader sees them."""

import re

from taskvectors.format import ABSENT, SPACE
from taskvectors.progress import format_duration

_METHODS = {
    "zero-shot": "Zero-shot",
    "icl": "In-context learning",
    "vanilla": "Vanilla vector",
    "learned": "Learned vector",
    "icv": "In-context vector",
    "state-vector": "State vector",
    "multi-injection": "Vectors at every separator",
    "linear": "Linear map",
    "library": "Library of vectors",
    "adaptive": "Adaptive vectors",
    "majority": "Majority answer",
    "random": "Random vector",
    "other-task": "Another task's vector",
    "shuffled-labels": "Learned on shuffled answers",
    "logit-bias": "Constant logit bias",
    "icl-most-shots": "In-context learning, as many shots as fit",
    "learned-from-shots": "Learned from the demonstrations alone",
}


def method_name(method: str) -> str:
    """A method's name for people; an unknown one keeps its own."""
    return _METHODS.get(method, method)


def duration(seconds: float | None) -> str:
    """A time span; an en dash where it is not known."""
    if seconds is None:
        return ABSENT
    return re.sub(r"(\d) ", rf"\1{SPACE}", format_duration(seconds))
