"""The command line: one file per verb, and no logic.

A verb is a frozen dataclass whose fields are its flags and whose `run` gives a `Result`. `main`
alone prints results, turns errors into one line and an exit code, and keeps standard output free of
anything else. torch is imported when a verb that needs it runs; all else of the package, when
`main` runs, so that Ctrl-C while something is imported ends like any other.
"""

import contextlib
import io
import math
import os
import shlex
import signal
import sys
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
        keep_to_quota()
        code = main()
    except KeyboardInterrupt:  # a second one, while the first was said
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter ends now
    sys.exit(code)


def keep_to_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> None:
    """As many threads as a container's share of the processor, where it is set to have one.

    torch starts a thread for each core that it sees, which is every core of the machine; more
    threads than the share wait for one another. What the user has set stays.
    """
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return
    if share < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


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
        return _said_of(error, words, debug=debug)
    return DONE


_OF_THE_MACHINE = (OSError, UnicodeError, RecursionError, OverflowError, MemoryError)
"""Errors of Python that files, names, sizes and disks cause, and not the program."""
_HERE = f"{Path(__file__).parents[1]}{os.sep}"


def _said_of(error: Exception, words: Sequence[str], *, debug: bool) -> int:
    """Say an error that is none of ours in one line, with the line of ours that it passed last.

    What files, sizes and the machine do not cause is a defect; its traceback is kept in a file.
    """
    kind, trace = type(error), traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in trace if frame.filename.startswith(_HERE)] or trace
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    place = f"{ours[-1].filename.removeprefix(_HERE)}:{ours[-1].lineno}"
    text = f"{str(error) or 'no more is known'} ({name} at {place}"
    is_out_of_memory = kind.__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    if isinstance(error, _OF_THE_MACHINE) or is_out_of_memory:
        return _said(f"{text}; --debug shows all of it)", USER_ERROR, debug=debug)
    kept = "" if debug else _kept_traceback(words)
    where = f"the traceback in {kept}" if kept else "what --debug shows"
    return _said(f"{text}); this is a defect: please report it with {where}", BUG, debug=debug)


def _kept_traceback(words: Sequence[str]) -> str:
    """The file that the traceback of the error in hand was written to; nothing where it cannot."""
    import tempfile

    from taskvectors._version import __version__

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="taskvectors-", suffix=".txt", encoding="utf-8",
            errors="backslashreplace", delete=False,
        ) as file:  # fmt: skip
            file.write(f"taskvectors {__version__}: {shlex.join(words)}\n{traceback.format_exc()}")
    except OSError:
        return ""
    return file.name


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
