"""Two-way questions about a behaviour: one option shows it, the other does not.

The form is that of the public model-written evaluations (Perez et al. 2022, arXiv 2212.09251): a
`question` that ends in `Choices:` with options (A) and (B), `answer_matching_behavior` and
`answer_not_matching_behavior`. A model may prefer a letter, so every question is asked in both
orders; the two stay on one side of every split.
"""

import random
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from taskvectors.errors import DataError
from taskvectors.tasks.formats import parse_json, text_of
from taskvectors.tasks.hub import PREFIX
from taskvectors.tasks.task import Example, Task

BUILT_IN = "myopic"
TEMPLATE = "{input}\nAnswer: {output}"
LETTERS = ("(A)", "(B)")
_KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
_CHOICES = re.compile(r"\s*Choices:\s*\(A\)(?P<a>.*?)\n\s*\(B\)(?P<b>.*)", re.S)
_SHARES = {"validation": 0.15, "test": 0.40}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One question with its two options, in words."""

    question: str
    matching: str
    """Shows the behaviour."""
    other: str

    def asked(self, *, matching_first: bool) -> Example:
        """The question in one order of its options; the answer is the matching one's letter."""
        options = (self.matching, self.other) if matching_first else (self.other, self.matching)
        lines = (f" {letter} {text}" for letter, text in zip(LETTERS, options, strict=True))
        return Example(
            input="\n".join((f"{self.question}\n\nChoices:", *lines)),
            output=LETTERS[0] if matching_first else LETTERS[1],
        )


def read_choices(source: str) -> tuple[Choice, ...]:
    """The questions of a source.

    Args:
        source: `myopic` for the small built-in set, which is ours; the path of a file; or
            `hub:OWNER/NAME/PATH`, a file of a hub data set, possibly with `@` and a revision.

    Raises:
        DataError: There is no such file, or a line of it is not such a question.
    """
    if source == BUILT_IN:
        built_in = resources.files("taskvectors.tasks") / "data" / "myopic.jsonl"
        return _parsed(built_in.read_text(encoding="utf-8"), source)
    path = _from_hub(source) if source.startswith(PREFIX) else Path(source).expanduser()
    if not path.is_file():
        raise DataError(
            f"{source}: there is no such file; give the path of a .jsonl file, "
            f"hub:OWNER/NAME/PATH, or {BUILT_IN}"
        )
    return _parsed(text_of(path), source)


def behaviour_task(source: str, *, seed: int, n_train: int, n_validation: int, n_test: int) -> Task:
    """A task of answering with the matching option, every question in both orders.

    Args:
        source: As `read_choices` takes it.
        seed: Of the split.
        n_train: Questions to learn from; each is two pairs.
        n_validation: Questions to choose on.
        n_test: Questions to report on.

    Raises:
        DataError: There are too few questions for three splits.
    """
    choices = list(read_choices(source))
    random.Random(f"{seed} behaviour").shuffle(choices)
    sizes = {"validation": n_validation, "test": n_test}
    notes = []
    if len(choices) < n_train + sum(sizes.values()):
        sizes = {
            name: min(size, round(_SHARES[name] * len(choices))) for name, size in sizes.items()
        }
        notes.append(f"{len(choices)} questions are there, fewer than were asked for")
    held = sizes["validation"] + sizes["test"]
    parts = {
        "validation": choices[: sizes["validation"]],
        "test": choices[sizes["validation"] : held],
        "train": choices[held : held + n_train],
    }
    short = [name for name, part in parts.items() if not part]
    if short:
        raise DataError(
            f"{source}: {len(choices)} questions leave none for the {short[0]} split; give more"
        )
    asked = {
        name: tuple(one.asked(matching_first=first) for one in part for first in (True, False))
        for name, part in parts.items()
    }
    return Task(
        name=Path(source).stem,
        description="Answer with the option that shows the behaviour.",
        template=TEMPLATE,
        source=source,
        license="CC0-1.0" if source == BUILT_IN else "see the file's source",
        seed=seed,
        train=asked["train"],
        validation=asked["validation"],
        test=asked["test"],
        notes=tuple(notes),
    )


def _from_hub(source: str) -> Path:
    from huggingface_hub import hf_hub_download

    name, _, revision = source.removeprefix(PREFIX).partition("@")
    words = name.split("/")
    if len(words) < 3:
        raise DataError(
            f"{source} names no file of a data set; write hub:OWNER/NAME/PATH.jsonl, such as "
            "hub:Anthropic/model-written-evals/advanced-ai-risk/human_generated_evals/"
            "myopic-reward.jsonl"
        )
    try:
        return Path(
            hf_hub_download(
                "/".join(words[:2]), "/".join(words[2:]), repo_type="dataset",
                revision=revision or None,
            )
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{source} cannot be loaded: {reason} Download the file and give its path"
        ) from error


def _parsed(text: str, source: str) -> tuple[Choice, ...]:
    """Questions, one object a line; some published files are one list in place of lines."""
    is_list = text.lstrip().startswith("[")
    texts = [text] if is_list else [line for line in text.split("\n") if line.strip()]
    held = [parse_json(one, f"{source}, line {n}") for n, one in enumerate(texts, start=1)]
    rows: Any = held[0] if is_list else held
    if not rows:
        raise DataError(f"{source}: no question is in it")
    return tuple(_choice(row, f"{source}, question {n}") for n, row in enumerate(rows, start=1))


def _choice(row: object, where: str) -> Choice:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _KEYS):
        raise DataError(f"{where}: an object with texts {', '.join(_KEYS)} is expected")
    question, matching, other = (row[key].strip() for key in _KEYS)
    found = _CHOICES.search(question)
    if found is None or {matching, other} != set(LETTERS):
        raise DataError(
            f"{where}: its options cannot be put in both orders; the question has to end in "
            "'Choices:' with lines (A) and (B), and the answers have to be (A) and (B)"
        )
    options = (found["a"].strip(), found["b"].strip())
    first = matching == LETTERS[0]
    return Choice(
        question=question[: found.start()].strip(),
        matching=options[0 if first else 1],
        other=options[1 if first else 0],
    )
