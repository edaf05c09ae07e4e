"""Words to a verb, by tyro; its boxes of errors become one line."""

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, Protocol, runtime_checkable

from taskvectors.cli.arguments import Output
from taskvectors.cli.compare import Compare
from taskvectors.cli.demo import Demo
from taskvectors.cli.estimate import Estimate
from taskvectors.cli.evaluate import Evaluate
from taskvectors.cli.examples import EXAMPLES, FIRST_EXAMPLES
from taskvectors.cli.explain import Explain
from taskvectors.cli.export import Export
from taskvectors.cli.extract import Extract
from taskvectors.cli.families import Families
from taskvectors.cli.generate import Generate
from taskvectors.cli.help import common_first
from taskvectors.cli.learn import Learn
from taskvectors.cli.listings import Runs, Vectors
from taskvectors.cli.methods import Methods
from taskvectors.cli.names import CHOICES
from taskvectors.cli.play import Play
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
    "Begin with `taskvectors demo`. Completion of a shell: "
    "`taskvectors --tyro-print-completion bash` (or zsh); --version prints the version."
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
    "play": Play,
    "explain": Explain,
    "train": Train,
    "reproduce": Reproduce,
    "estimate": Estimate,
    "report": Report,
    "export": Export,
    "runs": Runs,
    "vectors": Vectors,
}

# what tyro adds below an error that is no part of what went wrong
_ASIDES = (
    *("Argument helptext", "For full helptext", "Perhaps you meant", "Arguments similar"),
    "Arguments are applied",
)


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
    name = words[0] if words else ""
    if name and not name.startswith("-") and name not in VERBS:
        raise TaskVectorsError(_see(f"there is no verb {name!r}{_close(name, VERBS)}", PROGRAM))
    said, helped = io.StringIO(), _LikeStdout()
    asks = name in VERBS and ("-h" in words or "--help" in words)
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(helped) if asks else contextlib.nullcontext(),
        ):
            return _parsed(words)
    except SystemExit as stop:
        if not stop.code:
            if asks:
                print(common_first(helped.getvalue()), end="")
            if name in VERBS or name in ("-h", "--help"):
                lines = EXAMPLES[name] if name in VERBS else FIRST_EXAMPLES
                print("Examples:", *(f"\n  $ {PROGRAM} {line}" for line in lines), sep="")
            return None
    place = f"{PROGRAM} {name}" if name in VERBS else PROGRAM
    raise TaskVectorsError(_see(_unknown(words) or _gist(said.getvalue()), place))


class _LikeStdout(io.StringIO):
    """Text with the colours and the frames that standard output would have."""

    def __init__(self) -> None:
        super().__init__()
        self._stdout = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of standard output."""
        return self._stdout.encoding or "ascii"

    def isatty(self) -> bool:
        """Whether standard output is a terminal."""
        return self._stdout.isatty()


def _see(text: str, place: str) -> str:
    """What went wrong, with where to look; a question keeps its mark."""
    see = f"see {place} --help"
    return f"{text} ({see})" if text.endswith("?") else f"{text}; {see}"


def _parsed(words: Sequence[str]) -> Verb:
    from tyro.conf import DisallowNone, FlagCreatePairsOff, OmitArgPrefixes
    from tyro.extras import subcommand_cli_from_dict

    with CHOICES:
        verb: Verb = subcommand_cli_from_dict(
            VERBS,
            prog=PROGRAM,
            description=DESCRIPTION,
            args=list(words),
            config=(OmitArgPrefixes, FlagCreatePairsOff, DisallowNone),
        )
    check_values(verb)
    _check_not_empty(words)
    return verb


def _check_not_empty(words: Sequence[str]) -> None:
    """Refuse an empty text, which would be read as if nothing was given."""
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word.removesuffix("=")
        if not word or word == f"{flag}=":
            place = f"{flag}: " if flag else ""
            raise TaskVectorsError(f"{place}'' is no value; give one, or leave it out")


def _unknown(words: Sequence[str]) -> str:
    """What to say of the first option that a verb does not have; nothing where it has all."""
    verbs = list(takewhile(_is_verb, words))
    if verbs == ["estimate"]:  # it has no options before the verb that it is asked for
        return ""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        _parsed([*verbs, "--help"])
    flags = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", shown.getvalue())))
    given = (word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--"))
    wrong = next((flag for flag in given if flag not in flags), "")
    return f"there is no option {wrong}{_close(wrong, flags)}" if wrong else ""


def _is_verb(word: str) -> bool:
    """Whether a word is a verb; `estimate` has one after it."""
    return word in VERBS


def _close(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


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
    kept = [part for part in parts if not part.startswith(_ASIDES)]
    return _CHOICE.sub(_with_close_choice, "; ".join(kept)) or box


_CHOICE = re.compile(r"(invalid choice '([^']*)' for argument '[^']*')\. (Expected one of \(.*?\))")


def _with_close_choice(found: re.Match[str]) -> str:
    said, word, choices = found.groups()
    near = _close(word, re.findall("'([^']+)'", choices))
    return f"{said}{near or '.'} {choices}"
