"""A vector knows its task: it is loaded again, checked, and kept apart from its training pairs.

Run with `pytest tests/vectors/test_company.py`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipes import from_zero

import taskvectors as tv
from taskvectors.errors import DataError
from taskvectors.tasks import Example, Task, load_task
from taskvectors.vectors import TaskVector, VectorOrigin, check_unseen, task_of

Made = Callable[..., Any]
SIZES = {"n_train": 12, "n_validation": 6, "n_test": 6}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"input": f"in{n}", "output": f"out{n}"} for n in range(40)]))
    return path


def made(file: Path, **about: Any) -> tuple[Task, VectorOrigin]:
    task = load_task(file, seed=3, **SIZES)
    return task, replace(VectorOrigin(method="learned", seed=3), **about).made_on(task)


def test_the_same_task_comes_back_from_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task, origin = made(Path("pairs.json"))
    monkeypatch.chdir("/")
    assert task_of(origin) == replace(task, source=str(file))


def test_a_built_in_task_comes_back_by_its_name() -> None:
    task = load_task("capital", seed=1, n_train=20, n_validation=5, n_test=7)
    origin = VectorOrigin().made_on(task)
    assert origin.request is not None
    assert origin.request.source == "capital"
    assert task_of(origin) == task


def test_columns_and_labels_come_back(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,class\n" + "".join(f"review {n},{n % 2}\n" for n in range(30)))
    about = {"input_column": "text", "output_column": "class", "labels": {0: "bad", 1: "good"}}
    task = load_task(path, **SIZES, **about)
    assert task_of(VectorOrigin().made_on(task)) == task


def test_sizes_that_were_short_come_back_as_they_were(file: Path) -> None:
    task = load_task(file)
    assert task_of(VectorOrigin().made_on(task)) == task


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_pair_of_any_split_is_seen(file: Path, place: int) -> None:
    task, origin = made(file)
    split = (task.train, task.validation, task.test)[place]
    pairs = json.loads(file.read_text())
    for pair in pairs:
        if pair["input"] == split[0].input:
            pair["output"] = "another"
    file.write_text(json.dumps(pairs))
    name = ("training", "validation", "test")[place]
    with pytest.raises(DataError, match=f"its {name} pairs are no longer the same"):
        task_of(origin)
    # another split than its own is no claim about the pairs that were held out
    assert task_of(origin, seed=4)


def test_another_task_is_split_by_the_vectors_seed_and_sizes(file: Path) -> None:
    _, origin = made(file)
    assert task_of(origin, "capital") == load_task("capital", seed=3, **SIZES)
    assert task_of(origin, "capital", seed=5) == load_task("capital", seed=5, **SIZES)


def test_a_vector_of_pairs_in_memory_says_what_has_to_be_given() -> None:
    task = load_task([(f"in{n}", f"out{n}") for n in range(30)], **SIZES)
    origin = VectorOrigin(method="learned").made_on(task)
    with pytest.raises(DataError, match="learned vector of pairs does not say what its task was"):
        task_of(origin)
    check_unseen(origin, task.test)  # but which pairs it has seen is known
    with pytest.raises(DataError, match="trained on 12 of these 12 pairs"):
        check_unseen(origin, task.train)


def test_one_pair_that_was_seen_is_enough_also_in_reverse(file: Path) -> None:
    task, origin = made(file)
    seen = task.train[0]
    check_unseen(origin, (*task.validation, *task.test))
    for pair in (seen, Example(input=seen.output, output=seen.input)):
        with pytest.raises(DataError, match=r"trained on 1 of these 7 pairs.*--allow-overlap"):
            check_unseen(origin, (*task.test, pair))


def test_a_vector_of_an_earlier_version_is_measured_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_unseen(VectorOrigin(method="learned", task="capital"), [Example(input="a", output="b")])
    assert "does not say which pairs it was trained on" in caplog.text


def test_evaluate_takes_what_is_not_given_from_the_vector(tiny_model: Made, tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps([{"input": f"b{n}", "output": f"c{n % 7}"} for n in range(40)]))
    model, task = tiny_model("llama"), load_task(path, seed=2, **SIZES)
    asked = {"train_shots": 2, "seed": 2, "template": "arrow", "recipe": from_zero(steps=1)}
    tv.learn(model, task, layers=[1], **asked).save(tmp_path / "v")
    vector = TaskVector.load(tmp_path / "v")
    assert vector.origin.used_shots == 2
    written_out = tv.evaluate(
        model, task.test, vector, template="arrow", shots=2, demonstrations=task.train, seed=2
    )
    assert tv.evaluate(model, vector=vector) == written_out
    assert tv.evaluate(model, task.test, vector) == written_out
    assert tv.evaluate(model, task.test, vector, shots=0) != written_out
    with pytest.raises(DataError, match="trained on 12 of these 12"):
        tv.evaluate(model, task.train, vector)
    assert tv.evaluate(model, task.train, vector, allow_overlap=True).n == 12
