"""Exit codes, one-line errors, what goes to which stream, and what help costs.

Run with `pytest tests/cli/test_main.py`.
"""

import io
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from taskvectors import __version__
from taskvectors.cli import keep_to_quota, main, parsing, progress, results
from taskvectors.cli.estimate import Machine
from taskvectors.cli.examples import EXAMPLES, FIRST_EXAMPLES
from taskvectors.cli.help import COMMON, common_first
from taskvectors.cli.parsing import VERBS, parse
from taskvectors.cli.results import Result
from taskvectors.cli.tasks import Tasks
from taskvectors.cli.values import RULES
from taskvectors.errors import TaskVectorsError

ROOT = Path(__file__).parents[2]
Tv = Callable[..., Any]


def in_fresh_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def raising(error: BaseException) -> Callable[[Tasks], Result]:
    def run(self: Tasks) -> Result:
        raise error

    return run


def test_no_help_loads_torch_or_transformers() -> None:
    code = (
        "import sys\nfrom taskvectors.cli import main\nfrom taskvectors.cli.parsing import VERBS\n"
        "codes = [main([*verb, '--help']) for verb in [[], *([name] for name in VERBS)]]\n"
        "assert codes == [0] * (1 + len(VERBS)), codes\n"
        "assert main(['tasks']) == 0\n"
        "heavy = {'torch', 'transformers', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = in_fresh_process(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


WITH_FLAGS = [*({*VERBS} - {"estimate"}), "estimate compare", "estimate explain", "estimate train"]


@pytest.mark.parametrize("verb", sorted(WITH_FLAGS))
def test_every_verb_has_a_help_that_explains_each_flag(tv: Tv, verb: str) -> None:
    said = tv(*verb.split(), "--help")
    assert said.code == 0
    assert said.err == ""
    lines = [line.strip("│ ") for line in said.out.splitlines()]  # the frame, where there is one
    flags = [line for line in lines if re.match(r"--?[a-z-]+(,| |$)", line)]
    assert {"--json", "--debug"} <= {flag.split()[0] for flag in flags}
    text = " ".join(lines)
    for flag in flags:
        name = flag.split()[0]
        after = text.partition(f"{name} ")[2].partition("(default")[0].partition("(required")[0]
        assert any(word[0].isalpha() and word.islower() for word in after.split()), flag


def test_the_help_names_every_verb(tv: Tv) -> None:
    out = tv("--help").out
    assert [name for name in VERBS if not re.search(rf"[•*-] {name} ", out)] == []


def test_the_version_is_printed(tv: Tv) -> None:
    assert tv("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Expected one of {demo, tasks"),
        (
            ["learnx"],
            "there is no verb 'learnx'; did you mean learn? (see taskvectors --help)\n",
        ),
        (
            ["learn", "--tsk", "x"],
            "there is no option --tsk; did you mean --task? (see taskvectors learn --help)\n",
        ),
        (["wash"], "there is no verb 'wash'; see taskvectors --help\n"),
        (
            ["compare", "--task", "capital", "--methods", "learnd"],
            "invalid choice 'learnd' for argument '--methods'; did you mean learned? Expected one",
        ),
        (["learn"], "Missing from taskvectors learn: --task"),
        (["compare", "--task", "capital", "--methods", "magic"], "invalid choice 'magic'"),
        (["tasks", "--jason"], "there is no option --jason; did you mean --json?"),
        (["learn", "--task", "capital", "--steps", "many"], "Error parsing --steps"),
        (["learn", "--task", "capital", "--patience", "3"], "there is no option --patience"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(tv: Tv, words: list[str], message: str) -> None:
    said = tv(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"error: {message}")
    place = f"taskvectors {words[0]}" if words and words[0] in VERBS else "taskvectors"
    assert re.search(rf"(; see {place} --help|\? \(see {place} --help\))\n$", said.err)


def test_an_error_of_the_user_is_one_line_and_exit_code_2(
    tv: Tv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tasks, "run", raising(TaskVectorsError("a file\nis [broken]")))
    said = tv("tasks", "--json")
    assert (said.code, said.out, said.err) == (2, "", "error: a file is [broken]\n")


def test_debug_shows_where_an_error_came_from(tv: Tv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tasks, "run", raising(TaskVectorsError("a file is broken")))
    said = tv("tasks", "--debug")
    assert said.code == 2
    assert said.err.startswith("Traceback")
    assert "test_main.py" in said.err
    assert "a file is broken" in said.err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("lost"), "'lost' (KeyError at "),
        (IndexError(), "no more is known (IndexError at "),
        (ValueError("not enough values"), "not enough values (ValueError at "),
        (TypeError("int, not str"), "int, not str (TypeError at "),
        (AssertionError("never"), "never (AssertionError at "),
        (RuntimeError("mat1 and mat2\n" + "x" * 9999), "mat1 and mat2 xxx"),
    ],
)
def test_a_defect_is_one_short_line_with_its_place_and_a_file_with_the_traceback(
    tv: Tv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, says: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Tasks, "run", raising(error))
    said = tv("tasks", "--json")
    assert (said.code, said.out) == (1, "")
    found = re.fullmatch(
        r"error: .* at \S+\.py:\d+\); this is a defect: please report it with the traceback in "
        r"(\S+)\n",
        said.err,
    )
    assert found, said.err
    assert said.err.startswith(f"error: {says}")
    assert len(said.err) < 1400
    kept = Path(found[1]).read_text()
    assert kept.startswith(f"taskvectors {__version__}: tasks --json\nTraceback")
    assert f"{type(error).__name__}" in kept.splitlines()[-1] or str(error)[-9:] in kept
    shown = tv("tasks", "--debug")
    assert (shown.code, shown.err.startswith("Traceback")) == (1, True)
    assert len([*tmp_path.iterdir()]) == 1, "--debug shows it, and keeps no file"


def test_a_defect_where_nothing_can_be_written_is_still_one_line(
    tv: Tv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    monkeypatch.setattr(Tasks, "run", raising(KeyError("lost")))
    said = tv("tasks")
    assert said.code == 1
    assert said.err.endswith("please report it with what --debug shows\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device (OSError at "),
        (UnicodeError("a lone surrogate"), "a lone surrogate (UnicodeError at "),
        (RecursionError("too deep"), "too deep (RecursionError at "),
        (OverflowError("too large"), "too large (OverflowError at "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "DefaultCPUAllocator: can't"),
    ],
)
def test_what_the_machine_says_is_one_short_line_with_its_place(
    tv: Tv, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    monkeypatch.setattr(Tasks, "run", raising(error))
    said = tv("tasks")
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(r"error: .* at \S+\.py:\d+; --debug shows all of it\)\n", said.err)
    assert said.err.startswith(f"error: {says}")
    assert "Traceback" in tv("tasks", "--debug").err


@pytest.mark.parametrize(
    ("said", "set_before", "expected"),
    [
        ("150000 100000\n", None, "2"),
        ("10000 100000\n", None, "1"),
        ("max 100000\n", None, None),
        ("800000 100000\n", None, None),  # more than there are cores
        ("no number\n", None, None),
        ("150000 100000\n", "3", "3"),
    ],
)
def test_threads_keep_to_the_share_of_a_container(
    said: str, set_before: str | None, expected: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "cpu.max").write_text(said)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("OMP_NUM_THREADS", set_before or "")  # taken back at the end
    if set_before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    keep_to_quota(tmp_path)
    assert os.environ.get("OMP_NUM_THREADS") == expected
    keep_to_quota(tmp_path / "none")


@pytest.mark.parametrize("place", [(Tasks, "run"), (parsing, "parse"), (results, "print_result")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_control_c_at_any_moment_is_one_line_and_exit_code_130(
    tv: Tv, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], wrapped: bool
) -> None:
    def stopped(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not wrapped:
                raise
            raise ImportError("a library's import was cut off")  # noqa: B904

    monkeypatch.setattr(*place, stopped)
    said = tv("tasks")
    assert (said.code, said.out, said.err) == (130, "", "interrupted\n")


def test_control_c_while_the_program_is_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt\n")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom taskvectors.cli import run\nrun()"
    )
    done = in_fresh_process(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


VALUES = [
    (["--seed", "18446744073709551616"], "--seed: 18446744073709551616 is not a whole number"),
    (["--seed", "-1"], "--seed: -1 is not a whole number from 0"),
    (["--device", "foo"], "--device: 'foo' is not cpu, cuda"),
    (["--positions", ""], "--positions: '' is not a position"),
    (["--layers", "1-"], "--layers: '1-' is not a layer"),
    (["--layers", "9" * 5000], "--layers: '9999"),
    (["--layers=-1"], "--layers: '-1' is not a layer: a number from 0"),
    (["--memory", "nanGB"], "--memory: 'nanGB' is not a size"),
    (["--learning-rate", "nan"], "--learning-rate: nan is not a finite number"),
    (["--n-test", "0"], "--n-test: 0 is not a whole number from 1"),
    (["--task", "\0"], "--task: '\\x00' is not a text without NUL"),
]


@pytest.mark.parametrize(("words", "message"), VALUES)
def test_a_value_that_cannot_be_is_refused_when_it_is_parsed(
    tv: Tv, words: list[str], message: str
) -> None:
    said = tv("learn", "--task", "capital", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {message}")
    assert len(said.err) < 1200


def test_every_rule_is_of_a_flag_that_some_verb_has() -> None:
    fields = {name for kind in (*VERBS.values(), Machine) for name in _field_names(kind)}
    assert set(RULES) - fields == set()


def _field_names(kind: Any) -> Iterator[str]:
    for name, type_ in get_type_hints(kind).items():
        yield name
        if is_dataclass(type_):
            yield from _field_names(type_)


def test_what_a_library_prints_does_not_reach_standard_output(
    tv: Tv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Tasks) -> Result:
        sys.stdout.write("a library says hello\n")
        return Result(data={"rows": []}, shown=["nothing"])

    monkeypatch.setattr(Tasks, "run", run)
    said = tv("tasks", "--json")
    assert said.json == {"rows": []}
    assert said.err == "a library says hello\n"


def test_warnings_are_said_and_more_with_verbose(tv: Tv, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Tasks) -> Result:
        logger = logging.getLogger("taskvectors.somewhere")
        logger.debug("a detail")
        logger.info("a step")
        logger.warning("take\ncare")
        return Result(data={}, shown=[])

    monkeypatch.setattr(Tasks, "run", run)
    usual, verbose = (
        re.sub(r"\[ *\d+ s\] ", "", tv("tasks", *flags).err) for flags in ([], ["--verbose"])
    )
    assert usual == "a step\nwarning: take care\n"
    assert verbose == "a detail\na step\nwarning: take care\n"
    tv("tasks")
    assert not logging.getLogger("taskvectors").handlers, "nothing is left behind"


def test_what_is_being_done_stands_beside_the_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 112.4])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with progress.logging_to_stderr(verbose=False):
        logging.getLogger("taskvectors.any").info("Writing")
    assert capsys.readouterr() == ("", "[   12 s] Writing\n")


@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_reader_that_leaves_early_is_no_error(flag: str) -> None:
    code = (
        "import os, sys\nread, write = os.pipe()\n"
        "os.dup2(write, 1)\nos.close(read)\nos.close(write)\n"
        f"from taskvectors.cli import main\nsys.exit(main(['tasks', *{flag.split()!r}]))\n"
    )
    done = in_fresh_process(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verb_can_be_typed_and_stand_in_its_help(tv: Tv, verb: str) -> None:
    said = " ".join(tv(verb, "--help").out.split())
    assert EXAMPLES[verb]
    for line in EXAMPLES[verb]:
        assert f"$ taskvectors {line}" in said
        assert type(parse(shlex.split(line))).__name__.lower().startswith(verb)


def test_the_help_of_the_program_ends_with_examples(tv: Tv) -> None:
    said = tv("--help").out
    assert said.endswith("".join(f"  $ taskvectors {line}\n" for line in FIRST_EXAMPLES))
    for line in FIRST_EXAMPLES:
        parse(shlex.split(line))


@pytest.mark.parametrize("verb", ["compare", "learn", "extract", "evaluate", "explain", "train"])
def test_the_help_of_a_verb_begins_with_the_common_options(tv: Tv, verb: str) -> None:
    names = re.findall(r"^(?:\W )?--([a-z][a-z-]*)", tv(verb, "--help").out, re.M)
    first = [name for name in names if name in COMMON]
    assert names[: len(first)] == first
    assert len(first) <= 12
    assert {"task", "out", "json"} <= set(first)
    assert len(names) == len(set(names)) > len(first) + 8, "none is lost, none is twice"
    shown = tv(verb, "--help").out
    titles = [line for line in shown.splitlines() if re.match(r"^\W+[a-z ]*options \W*$", line)]
    widths = set(map(len, titles))
    assert len(widths) == 1
    assert "common options" in shown
    assert common_first("no boxes\n") == "no boxes\n"


def test_completion_of_a_shell_is_listed_and_printed(tv: Tv) -> None:
    assert "--tyro-print-completion" in tv("--help").out
    said = tv("--tyro-print-completion", "bash")
    assert said.code == 0
    assert "complete" in said.out


@pytest.mark.parametrize("line", ["tasks", "tasks --json", "learn --help", "--version"])
def test_a_reader_that_leaves_is_no_error(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                raise BrokenPipeError
            return 0

    monkeypatch.setattr(sys, "stdout", Left())
    assert main(line.split()) == 0


def test_python_runs_the_package_as_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskvectors", "--version"],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")
