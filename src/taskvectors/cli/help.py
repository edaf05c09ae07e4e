"""The help of a verb with the options that are used most in front.

tyro has a box for each group of options, and the groups' order is that of the fields. Here the
dozen that most commands are made of are taken out of their boxes and put into the first one.
"""

import re

COMMON = (
    "vector", "task", "model", "methods", "method", "analyses", "layers", "positions", "preset",
    "seeds", "seed", "shots", "steps", "strengths", "strength", "out", "dry-run", "json",
)  # fmt: skip
"""In the order in which they are shown; no verb has more than a dozen of them."""
_FEW = 20
"""With fewer options the help is a screen, as it is."""
_TITLE = re.compile(r"^\W+([\w ]*options) \W*$")
_CODES = re.compile(r"\x1b\[[0-9;]*m")


def common_first(text: str) -> str:
    """A help text whose first box has the common options; as it is where it has no such boxes.

    Args:
        text: What tyro prints.
    """
    before: list[str] = []
    boxes: list[list[str]] = []
    entries: dict[str, list[str]] = {}
    entry: list[str] | None = None
    for line in text.splitlines():
        plain = _CODES.sub("", line)
        if _TITLE.match(plain):
            boxes.append([])
        target = boxes[-1] if boxes else before
        name = re.match(r"^(?:\W )?--([a-z][a-z-]*)", plain)
        if name or re.match(r"^(\W )?-h\b|^\W*$", plain) or not boxes:
            entry = entries.setdefault(name[1], []) if name and name[1] in COMMON else None
        (target if entry is None else entry).append(line)
    if text.count(" --") < _FEW or not boxes or not entries:
        return text
    (title, *_), *_ = boxes
    bottom = boxes[0][-1]
    first = [line for name in COMMON for line in entries.get(name, ())]
    head = re.sub(r"([─ -])\1{7}", r"\1", title.replace("options", "common options", 1), count=1)
    rest = [line for box in boxes if _has_options(box) for line in box]
    begun = [line for line in boxes[0][1:-1] if not re.search(r"\w", _CODES.sub("", line))]
    return "\n".join([*before, head, *begun[:1], *first, bottom, *rest, ""])


def _has_options(box: list[str]) -> bool:
    return any(re.match(r"^(?:\W )?--?[a-z]", _CODES.sub("", line)) for line in box)
