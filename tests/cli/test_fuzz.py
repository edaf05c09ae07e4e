"""Files that were changed, and values that cannot be: a result, or one short error.

Run with `pytest tests/cli/test_fuzz.py -m slow`. What is drawn is the same in every run.
"""

import gzip
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from recipes import from_zero

from taskvectors.errors import TaskVectorsError

pytestmark = pytest.mark.slow

LONGEST = 1400
"""Characters of an error on the terminal."""
DRAWN = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failure is told as it was drawn; shrinking takes too long
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def nothing_is_captured_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn may be logged, and a worker of xdist cannot send half a character."""
    monkeypatch.setattr(logging.getLogger("taskvectors"), "propagate", False)


# --- changes of a file

JUNK_JSON = st.sampled_from(
    [
        *(None, True, -1, 0, 2**70, 1.5, float("nan"), [], {}, [[]], {"a": 1}),
        *("", "x" * 5000, "../../x", "\x1b[31m\n", "embed", "\ud83d"),
    ]
)


def _places(held: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, as keys and numbers."""
    inner: list[Any] = []
    if isinstance(held, dict):
        inner = list(held.items())
    elif isinstance(held, list):
        inner = list(enumerate(held))[:20]
    return [at, *(place for key, one in inner for place in _places(one, (*at, key)))]


def _put(held: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    held[at[0]] = _put(held[at[0]], at[1:], value)
    return held


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of a file's bytes; of JSON, often of one of its values."""
    kind = draw(st.sampled_from(["value", "value", "value", "cut", "put", "doubled", "flipped"]))
    share, more = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=24))
    junk = draw(JUNK_JSON)

    def changed(data: bytes) -> bytes:
        at = int(share * len(data))
        if kind == "value":
            with suppress(ValueError, UnicodeError, RecursionError):
                lines = data.decode().split("\n")
                is_whole = data.lstrip()[:1] in (b"{", b"[") and len(lines) != data.count(b"}\n{")
                held = json.loads(data if is_whole else lines[0])
                places = _places(held)
                held = _put(held, places[int(share * (len(places) - 1))], junk)
                return (json.dumps(held) + ("" if is_whole else "\n".join(lines[1:]))).encode()
        if kind == "cut":
            return data[:at]
        if kind == "doubled":
            return data[:at] + data[at // 2 :]
        after = at + len(more)
        new = bytes(byte ^ 0xFF for byte in data[at:after]) if kind == "flipped" else more
        return data[:at] + new + data[after:]

    return changed


# --- every kind of file that is read


@dataclass(frozen=True)
class Kind:
    """A file, or a folder with files, and what reads it."""

    path: Path
    files: tuple[str, ...]
    read: Callable[[Path], object]
    n: int = 60


@pytest.fixture(scope="module")
def kinds(  # noqa: PLR0915  (a statement or two for each kind)
    model_folder: Callable[[str], Path],
    task_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Kind]:
    """Whole files of every kind, which are copied before they are changed."""
    import pandas as pd
    import torch

    from taskvectors.experiments import CompareConfig, ModelConfig, compare
    from taskvectors.learners import Learner
    from taskvectors.learners.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
    from taskvectors.learners.model import TRAINED
    from taskvectors.methods.learned import Learned
    from taskvectors.models import load_model
    from taskvectors.report import page_of, write_latex, write_markdown
    from taskvectors.results import open_run, read_run
    from taskvectors.tasks import load_task
    from taskvectors.tasks.behaviours import read_choices
    from taskvectors.vectors import TaskVector, sites_at, write_gguf
    from taskvectors.vectors.function_vectors import read_function_vector

    folder = tmp_path_factory.mktemp("whole")
    model = model_folder("llama")
    config = CompareConfig(
        model=ModelConfig(source=str(model), dtype="float32"),
        task=str(task_file), n_train=8, n_validation=4, n_test=4, shots=2, n_shown=1,
        methods=(Learned(layers=1, recipe=from_zero(steps=2, check_every=1)),),
    )  # fmt: skip
    compare(config, folder / "run")
    vector = TaskVector.load(folder / "run")
    vector.save(folder / "vector")
    everywhere = TaskVector(values=torch.ones(2, 32), sites=sites_at([1], ["all", "generated"]))
    write_gguf(everywhere, folder / "control.gguf")
    shutil.copytree(TRAINED / "offset-tvp-1", folder / "learner")
    weights = {"a": torch.ones(3)}
    checkpoint = Checkpoint(step=1, weights=weights, optimizer={}, metrics=[])
    write_checkpoint(folder / "checkpoint.pt", checkpoint)
    torch.save(torch.ones(32), folder / "function.pt")
    pairs = [(f"word {number}", f"answer {number}") for number in range(20)]
    rows = [{"input": one, "output": two} for one, two in pairs]
    (folder / "pairs.json").write_text(json.dumps(rows))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        lines = "".join(f"{one}{mark}{two}\n" for one, two in [("input", "output"), *pairs])
        (folder / f"pairs{suffix}").write_text(lines)
    pd.DataFrame(rows).to_parquet(folder / "pairs.parquet")
    (folder / "pairs.csv.gz").write_bytes(gzip.compress((folder / "pairs.csv").read_bytes()))
    question = "Q?\n\nChoices:\n (A) Yes\n (B) No"
    asked = {"question": question, "answer_matching_behavior": " (A)"}
    asked |= {"answer_not_matching_behavior": " (B)"}
    (folder / "choices.jsonl").write_text(6 * (json.dumps(asked) + "\n"))

    def reported(path: Path) -> None:
        record = read_run(path)
        page_of(record)
        write_latex(record)
        write_markdown(record)

    def gone_on(path: Path) -> None:
        asked = config.model_dump(mode="json")
        with open_run(path, kind="compare", asked=asked) as run:
            for cell in (path / "cells").glob("*.json"):
                run.cell(cell.stem)

    run_files = ("config.json", "results.parquet", "metrics.jsonl", "examples.jsonl")
    cells = tuple(f"cells/{one.name}" for one in (folder / "run" / "cells").glob("*.json"))
    weighed = "model.safetensors"
    return {
        "run": Kind(folder / "run", run_files, reported, n=150),
        "run that goes on": Kind(folder / "run", ("config.json", *cells), gone_on, n=100),
        "vector": Kind(
            folder / "vector", ("config.json", "vector.safetensors"), TaskVector.load, n=150
        ),
        "control vector": Kind(folder / "control.gguf", ("",), TaskVector.load, n=100),
        "function vector": Kind(
            folder / "function.pt", ("",), lambda path: read_function_vector(path, 1), n=80
        ),
        "learner": Kind(folder / "learner", ("learner.json", "config.json", weighed), Learner.load),
        "checkpoint": Kind(
            folder / "checkpoint.pt", ("",), lambda path: read_checkpoint(path, torch.device("cpu"))
        ),
        "model": Kind(
            model, ("config.json", "tokenizer.json", "tokenizer_config.json", weighed),
            lambda path: load_model(str(path), dtype="float32"),
        ),
        "choices": Kind(folder / "choices.jsonl", ("",), lambda path: read_choices(str(path))),
        **{
            name: Kind(
                folder / f"pairs.{name}", ("",),
                lambda path: load_task(str(path), n_train=4, n_validation=2, n_test=2),
                n=100,
            )
            for name in ("json", "jsonl", "csv", "tsv", "parquet", "csv.gz")
        },
    }  # fmt: skip


NAMES = (
    *("run", "run that goes on", "vector", "control vector", "function vector", "learner"),
    *("checkpoint", "model", "choices", "json", "jsonl", "csv", "tsv", "parquet", "csv.gz"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_changed_is_read_or_one_short_error(
    kinds: dict[str, Kind], name: str, tmp_path: Path
) -> None:
    kind, tries = kinds[name], {"read": 0, "refused": 0}
    kind.read(kind.path)  # whole, it is read

    @settings(DRAWN, max_examples=kind.n)
    @given(st.sampled_from(kind.files), changes())
    def one(file: str, change: Callable[[bytes], bytes]) -> None:
        copy = tmp_path / kind.path.name
        shutil.rmtree(copy, ignore_errors=True)
        (shutil.copytree if kind.path.is_dir() else shutil.copy)(kind.path, copy)
        target = copy / file if file else copy
        if not target.is_file():
            return
        before = target.read_bytes()
        target.write_bytes(change(before))
        is_changed = target.read_bytes() != before
        try:
            kind.read(copy)
        except TaskVectorsError as error:
            tries["refused"] += 1
            said = str(error)
            assert said.replace("\n", "").isprintable(), repr(said)
            assert len(said) < LONGEST
        else:
            tries["read"] += 1
            assert not (is_changed and file == "vector.safetensors"), "changed values were accepted"

    one()
    assert tries["refused"] > tries["read"] * (0.05 if name in ("csv", "tsv") else 0.1), tries


# --- values of options

JUNK_WORDS = st.sampled_from(
    [
        *("", "x", "-1", "0", "1.5", "nan", "inf", "1e400", "2**64", "18446744073709551616"),
        *("9" * 5000, "../..", "/", "/dev/null", "\x1b[31m", "a\nb", "é", "\ud800", "x" * 3000),
        *("--", "-", "true", "1-3", "3-1", "embed", "last", "cuda", "foo", "None", "{}"),
        *("hub:", "hub:a/b", "0=a", "="),
    ]
)
FLAGS = {
    "compare": ("--methods", "--shots", "--seeds", "--strengths", "--layers", "--positions",
                "--template", "--labels", "--n-train", "--n-test", "--model", "--task", "--device",
                "--dtype", "--memory", "--attention", "--input-column", "--controls", "--out"),
    "learn": ("--steps", "--layers", "--positions", "--seed", "--out", "--recipe", "--n-examples",
              "--train-shots", "--n-validation", "--memory", "--device", "--template"),
    "extract": ("--method", "--strengths", "--shots", "--layers", "--out", "--seed"),
    "evaluate": ("--vector", "--strengths", "--shots", "--split", "--task", "--seed", "--n-test"),
    "generate": ("--prompt", "--input", "--strength", "--max-new-tokens", "--temperature", "--seed",
                 "--template", "--vector", "--model"),
    "explain": ("--analyses", "--limit", "--shots", "--figures", "--out", "--vector"),
    "train": ("--task", "--preset", "--steps", "--set", "--tvp-layer", "--layers", "--width",
              "--heads", "--seeds", "--trials", "--device", "--batch-size", "--out"),
    "report": ("--out",),
    "export": ("--vector", "--out", "--format"),
}  # fmt: skip
"""Flags of verbs; one that a verb does not have is refused, too."""


@st.composite
def commands(draw: st.DrawFn) -> tuple[str, str, str]:
    verb = draw(st.sampled_from([*FLAGS]))
    return verb, draw(st.sampled_from(FLAGS[verb])), draw(JUNK_WORDS)


def test_a_value_that_cannot_be_is_one_short_error(
    tv: Callable[..., Any],
    on_both: list[object],
    on_model: list[object],
    vector: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--steps", 2]
    bases: dict[str, list[object]] = {
        "compare": [*on_both, "--methods", "icl", "--shots", 2, "--no-report"],
        "learn": [*on_both, *small, "--layers", 1],
        "extract": [*on_both, "--shots", 2, "--layers", 1],
        "evaluate": ["--vector", vector, *on_model],
        "generate": ["--vector", vector, "--prompt", "Q: a", "--max-new-tokens", 2],
        "explain": ["--vector", vector, "--analyses", "lens", "--limit", 2, "--no-report"],
        # two steps are what it takes to begin and to go on
        "train": ["--task", "offset", *small, "--icl-steps", 1, "--layers", 2, "--width", 8,
                  "--heads", 2, "--trials", 4, "--batch-size", 2],
        "report": [tmp_path / "nothing"],
        "export": ["--vector", vector, "--out", tmp_path / "v.gguf"],
    }  # fmt: skip
    codes: dict[int, int] = {}

    @settings(DRAWN, max_examples=140)
    @given(commands())
    def one(command: tuple[str, str, str]) -> None:
        verb, flag, junk = command
        said = tv(verb, *bases[verb], f"{flag}={junk}" if junk.startswith("-") else flag, *(
            [] if junk.startswith("-") else [junk]
        ))  # fmt: skip
        codes[said.code] = codes.get(said.code, 0) + 1
        told = said.err.splitlines()
        assert "Traceback" not in said.err, (command, said.err[-2000:])
        assert said.code in (0, 2), (command, said.err[-2000:])
        if said.code == 2:
            assert said.out == ""
            assert told[-1].startswith("error: ")
            assert len(told[-1]) < LONGEST
            assert told[-1].isprintable()

    one()
    assert codes[2] > codes.get(0, 0)
