"""Words to a verb, by tyro; its boxes of errors become one line."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from taskvectors.cli.arguments import Output
from taskvectors.cli.compare import Compare
from taskvectors.cli.demo import Demo
from taskvectors.cli.estimate import Estimate
from taskvectors.cli.evaluate import Evaluate
from taskvectors.cli.explain import Explain
from taskvectors.cli.export import Export
from taskvectors.cli.extract import Extract
from taskvectors.cli.families import Families
from taskvectors.cli.generate import Generate
from taskvectors.cli.learn import Learn
from taskvectors.cli.methods import Methods
from taskvectors.cli.names import CHOICES
from taskvectors.cli.report import Report
from taskvectors.cli.reproduce import Reproduce
from taskvectors.cli.results import Result
from taskvectors.cli.tasks import Tasks
from taskvectors.cli.train import Train
from taskvectors.cli.values import check_values
from taskvectors.errors import TaskVectorsError

PROGRAM = "taskvectors"
DESCRIPTION = (
    "Task vectors of transformer language models: learn, extract, inject, measure and explain "
    "them. "
    "Begin with `taskvectors demo`."
)

VERBS: dict[str, Callable[..., Any]] = {
    "demo": Demo,
    "tasks": Tasks,
    "methods": Methods,
    "families": Families,
    "compare": Compare,
    "learn": Learn,
    "extract": Extract,
    "evaluate": Evaluate,
    "generate": Generate,
    "explain": Explain,
    "train": Train,
    "reproduce": Reproduce,
    "estimate": Estimate,
    "report": Report,
    "export": Export,
}

# what tyro adds below an error that is no part of what went wrong
_ASIDES = ("Argument helptext", "For full helptext")
_GUESSES = "Perhaps you meant:"


@runtime_checkable
class Verb(Protocol):
    """What every verb has."""

    @property
    def output(self) -> Output:
        """How it is to speak."""

    def run(self) -> Result:
        """Do it."""


def parse(words: Sequence[str]) -> Verb | None:
    """The verb with its flags; nothing where help was asked for.

    Args:
        words: The words after the program's name.

    Raises:
        TaskVectorsError: The words make no verb.
    """
    from tyro.conf import DisallowNone, FlagCreatePairsOff, OmitArgPrefixes
    from tyro.extras import subcommand_cli_from_dict

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), CHOICES:
            verb: Verb = subcommand_cli_from_dict(
                VERBS,
                prog=PROGRAM,
                description=DESCRIPTION,
                args=list(words),
                config=(OmitArgPrefixes, FlagCreatePairsOff, DisallowNone),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        place = f"{PROGRAM} {words[0]}" if words and words[0] in VERBS else PROGRAM
        raise TaskVectorsError(f"{_gist(said.getvalue())}; see {place} --help") from None
    check_values(verb)
    return verb


def _gist(box: str) -> str:
    """What went wrong, out of the frame that tyro draws around it, in ASCII or not."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first one is a title
        text = line.strip("│╰╯ ")
        if text.strip("─-"):
            sections[-1].append(text)
        else:  # a rule, or a blank line before further details
            sections.append([])
    parts = [" ".join(lines).rstrip(".") for lines in sections if lines]
    kept = [_short(part) for part in parts if not part.startswith(_ASIDES)]
    return "; ".join(kept) or box


def _short(part: str) -> str:
    """A list of similar flags without what help says of each."""
    if not part.startswith(_GUESSES):
        return part
    flags = dict.fromkeys(re.findall(r"--[a-z][a-z-]*", part))
    return f"{_GUESSES} {', '.join(flag for flag in flags if flag != '--help')}"
