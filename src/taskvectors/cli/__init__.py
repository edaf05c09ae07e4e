"""The command line: one file per verb, and no logic.

A verb is a frozen dataclass whose fields are its flags and whose `run` gives a `Result`. `main`
alone prints results, turns errors into one line and an exit code, and keeps standard output free of
anything else. torch is imported when a verb that needs it runs.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from taskvectors._version import __version__
from taskvectors.cli.parsing import Verb, parse
from taskvectors.cli.progress import logging_to_stderr, one_line
from taskvectors.cli.results import Result, print_result
from taskvectors.cli.typed import typed
from taskvectors.errors import TaskVectorsError

DONE, BUG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for a bug, 2 for an error of the user, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(__version__)
        return DONE
    try:
        verb = parse(words)
    except TaskVectorsError as error:
        _say_error(error)
        return USER_ERROR
    if verb is None:  # help was asked for, and printed
        return DONE
    with typed(words):
        found = _run(verb)
    if isinstance(found, int):
        return found
    return _print(found, as_json=verb.output.json)


def _run(verb: Verb) -> Result | int:
    """A verb's result, or the exit code of what went wrong."""
    try:
        # what a library prints is no result
        with logging_to_stderr(verb.output.verbose), contextlib.redirect_stdout(sys.stderr):
            return verb.run()
    except TaskVectorsError as error:
        if verb.output.debug:
            traceback.print_exc()
        else:
            _say_error(error)
        return USER_ERROR
    except KeyboardInterrupt:
        if verb.output.debug:
            traceback.print_exc()
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # the border of the program: everything else is a bug, shown whole
        traceback.print_exc()
        print("error: this should not happen; please report the lines above", file=sys.stderr)
        return BUG


def _print(result: Result, *, as_json: bool) -> int:
    try:
        print_result(result, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _say_error(error: TaskVectorsError) -> None:
    print(f"error: {one_line(str(error))}", file=sys.stderr)
