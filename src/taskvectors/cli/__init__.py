"""The command line: one file per verb, and no logic.

A verb is a frozen dataclass whose fields are its flags and whose `run` gives a `Result`. `main`
alone prints results, turns errors into one line and an exit code, and keeps standard output free of
anything else. torch is imported when a verb that needs it runs; all else of the package, when
`main` runs, so that Ctrl-C while something is imported ends like any other.
"""

import contextlib
import io
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

DONE, BUG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def run() -> NoReturn:
    """Run the command of this process, and end it."""
    code = INTERRUPTED
    try:
        sys.unraisablehook = _unraisable
        if isinstance(sys.stdout, io.TextIOWrapper):  # letters that it lacks are shown as codes
            sys.stdout.reconfigure(errors="backslashreplace")
        code = main()
    except KeyboardInterrupt:  # a second one, while the first was said
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter ends now
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for a bug, 2 for an error of the user, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _done(words)
    except BaseException as error:
        if isinstance(error, SystemExit) or not _is_interrupt(error):
            raise
        if "--debug" in words:
            traceback.print_exc()
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _done(words: list[str]) -> int:
    """Parse the words, run the verb, print what it gave."""
    from taskvectors._version import __version__
    from taskvectors.errors import TaskVectorsError

    debug = "--debug" in words
    try:
        if words == ["--version"]:
            print(__version__)
            return DONE
        from taskvectors.cli.parsing import parse
        from taskvectors.cli.progress import logging_to_stderr
        from taskvectors.cli.results import print_result
        from taskvectors.cli.typed import typed

        verb = parse(words)
        if verb is None:  # help was asked for, and printed
            sys.stdout.flush()
            return DONE
        debug = verb.output.debug
        # what a library prints is no result
        with typed(words), logging_to_stderr(verb.output.verbose):
            with contextlib.redirect_stdout(sys.stderr):
                result = verb.run()
            print_result(result, as_json=verb.output.json)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        with contextlib.suppress(OSError, ValueError):  # what is no file has nothing to redirect
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # the border of the program
        if _is_interrupt(error):
            raise
        if isinstance(error, TaskVectorsError):
            return _said(str(error), USER_ERROR, debug=debug)
        return _said_of(error, debug=debug)
    return DONE


_OF_THE_MACHINE = (OSError, UnicodeError, RecursionError, OverflowError, MemoryError)
"""Errors of Python that files, names, sizes and disks cause, and not the program."""


def _said_of(error: Exception, *, debug: bool) -> int:
    """Say an error that is none of ours: in one line, or whole where it is a bug of ours."""
    kind, trace = type(error), traceback.extract_tb(error.__traceback__)
    is_of_machine = isinstance(error, _OF_THE_MACHINE)
    # what torch raises in C has a line of ours as its last
    is_theirs = kind is RuntimeError or kind.__module__ != "builtins"
    if not (is_of_machine or is_theirs or trace[-1].filename.startswith(_INSTALLED)):
        traceback.print_exc()
        print("error: this should not happen; please report the lines above", file=sys.stderr)
        return BUG
    ours = [frame for frame in trace if frame.filename.startswith(_HERE)] or trace
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    place = f"{ours[-1].filename.removeprefix(_HERE)}:{ours[-1].lineno}"
    text = f"{str(error) or 'no more is known'} ({name} at {place}; --debug shows all of it)"
    return _said(text, USER_ERROR if is_of_machine else BUG, debug=debug)


_HERE = f"{Path(__file__).parents[1]}{os.sep}"
_INSTALLED = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib"))
"""Where other packages lie."""


def _said(text: str, code: int, *, debug: bool) -> int:
    """Print an error in one line, or where it came from."""
    from taskvectors.cli.progress import one_line
    from taskvectors.format import shortened

    if debug:
        traceback.print_exc()
    else:
        print(f"error: {one_line(shortened(text))}", file=sys.stderr)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries raise others while it passes through them."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _unraisable(found: Any) -> None:
    """Pass Ctrl-C on that came where Python would print and forget it, as in a destructor."""
    if isinstance(found.exc_value, KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(found)
