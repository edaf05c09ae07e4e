"""The verbs in Python: the ten lines of the design, in-memory tasks and vectors, results as values.

Run with `pytest tests/api/test_runs.py`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from recipes import from_zero

import taskvectors as tv
from taskvectors.errors import DataError, TaskVectorsError, VectorMismatchError
from taskvectors.methods.learned import Learned
from taskvectors.results import read_run

PAIRS = [(f"{'ab'[i % 2] * (i % 3)}{i}", "rouge" if i % 4 else "cold") for i in range(40)]
SIZES = {"n_train": 12, "n_validation": 6, "n_test": 8}
FEW = Learned(recipe=from_zero(steps=2, batch_size=4), layers=(1,))


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> Any:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def task() -> Any:
    return tv.load_task(PAIRS, **SIZES)


@pytest.fixture(scope="module")
def vector(model: Any, task: Any) -> Any:
    return tv.learn(model, task, layers=1, recipe=from_zero(steps=2, batch_size=4))


@pytest.fixture(scope="module")
def compared(model: Any, task: Any) -> Any:
    return tv.compare(model, task, ["icl", "vanilla"], shots=2, seeds=2, n_shown=2)


def test_the_lines_of_the_design_run(model: Any, tmp_path: Path) -> None:
    task = tv.load_task("capital", **SIZES)
    vector = tv.learn(model, task, layers=1, recipe=from_zero(steps=2, batch_size=4))
    assert tv.evaluate(model, task.test, vector).n == 8
    result = tv.compare(model, task, methods=["icl", "vanilla", FEW], seeds=3, shots=1, n_shown=0)
    assert set(result.to_frame()["seed"].dropna()) == {0, 1, 2}
    assert result.plot().data
    explained = tv.explain(model, vector, analyses="lens", limit=4, shots=2)
    assert "lens" in explained.figures
    query = model.tokenizer("Q: Peru", return_tensors="pt")
    with tv.inject(model, vector):
        model.hf.generate(**query, max_new_tokens=2)
    vector.save(tmp_path / "v")
    total = tv.TaskVector.load(tmp_path / "v") + 0.5 * vector
    assert total.norm() == pytest.approx(1.5 * vector.norm(), rel=1e-5)


def test_a_comparison_of_pairs_in_memory_gives_what_the_verb_gives(compared: Any) -> None:
    frame = compared.to_frame()
    shown = frame[frame["measure"] == "accuracy"]
    assert set(shown["method"]) >= {"icl", "vanilla", "majority", "random"}
    assert compared.record.folder is None
    assert compared.vector.origin.method == "vanilla"
    assert compared.figures
    with pytest.raises(TaskVectorsError, match="no figure 'nought'; there are"):
        compared.plot("nought")


def test_a_result_is_saved_as_a_run_that_is_read_again(compared: Any, tmp_path: Path) -> None:
    report = compared.save(tmp_path / "run")
    again = read_run(tmp_path / "run")
    pd.testing.assert_frame_equal(again.frame, compared.to_frame(), check_dtype=False)
    assert report.read_text(encoding="utf-8").startswith("<!")
    assert tv.TaskVector.load(tmp_path / "run").norm() == compared.vector.norm()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("kept")
    with pytest.raises(DataError):
        compared.save(tmp_path / "mine")


def test_a_run_with_a_folder_goes_on_and_refuses_another_task(
    model: Any, task: Any, tmp_path: Path
) -> None:
    asked = {"methods": ["icl"], "shots": 2, "n_shown": 0, "out": tmp_path / "run"}
    first = tv.compare(model, task, **asked).to_frame()
    assert tv.compare(model, task, **asked).to_frame().equals(first)
    other = tv.load_task([(a, b[::-1]) for a, b in PAIRS], **SIZES)
    with pytest.raises(DataError, match="pairs"):
        tv.compare(model, other, **asked)


def test_seeds_split_a_known_source_anew_and_keep_pairs_in_memory(task: Any) -> None:
    assert task.with_seed(3).test == task.test
    known = tv.load_task("capital", **SIZES)
    assert known.with_seed(3).test == tv.load_task("capital", seed=3, **SIZES).test != known.test


def test_explain_takes_a_vector_and_a_task_that_are_in_memory(
    model: Any, task: Any, vector: Any
) -> None:
    asked = {"analyses": ["lens"], "limit": 4, "shots": 2}
    with pytest.raises(DataError, match="name the task"):
        tv.explain(model, vector, **asked)
    found = tv.explain(model, [vector, vector * 2], task=task, **asked)
    assert (found.to_frame()["experiment"] == "explain").all()


def test_train_changes_a_preset_and_names_a_field_that_is_close() -> None:
    small = {"n_layers": 2, "d_model": 16, "n_heads": 2, "steps": 4, "tvp_from": 2}
    found = tv.train("offset", tvp_layers=[None], n_trials=16, batch_size=4, **small)
    assert (found.to_frame()["experiment"] == "train").all()
    with pytest.raises(TaskVectorsError, match="no setting 'step'; did you mean steps"):
        tv.train("offset", step=4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model, task: tv.compare(model, task, ["icl", "learnt"]), "learnt"),
        (lambda model, task: tv.compare(model, task, shots=0), "shots"),
        (lambda model, task: tv.compare(model, task, layers=99, methods="vanilla"), "layer"),
        (lambda model, task: tv.compare(model.hf, task), r"tv.load_model\(model, tokenizer\)"),
        (lambda model, task: tv.explain(model, 3), "give a TaskVector or its folder"),
        (lambda model, task: tv.reproduce("all"), "runs one experiment"),
    ],
)
def test_what_is_wrong_is_said_as_the_command_line_says_it(
    model: Any, task: Any, call: Any, said: str
) -> None:
    with pytest.raises(TaskVectorsError, match=said):
        call(model, task)


def test_generate_gives_both_texts_and_the_likeliest_tokens(
    model: Any, vector: Any, tmp_path: Path
) -> None:
    found = tv.generate(model, vector, input="bak", max_new_tokens=3)
    none = tv.generate(model, vector, input="bak", max_new_tokens=3, strength=0.0)
    assert found.plain == none.plain == none.edited
    assert all(one.plain == pytest.approx(one.edited) for one in none.next_tokens)
    assert len(found.plot().data) == 2
    assert len(tv.generate(model, prompt="Q: bak").to_frame()) == 1
    found.save(tmp_path / "said.json")
    assert found.prompt in pd.read_json(tmp_path / "said.json", typ="series")["prompt"]


def test_a_vector_at_new_tokens_alone_changes_what_follows_the_first(
    model: Any, vector: Any
) -> None:
    later = replace(vector * 9, sites=(replace(vector.sites[0], position="generated"),))
    found = tv.generate(model, later, prompt="Q: bak", max_new_tokens=4)
    assert all(one.plain == one.edited for one in found.next_tokens)


def test_the_likeliest_tokens_are_those_of_the_models_own_logits(model: Any, vector: Any) -> None:
    found = tv.generate(model, vector * 3, prompt="Q: bak", max_new_tokens=1)
    ids = model.tokenizer("Q: bak", return_tensors="pt")
    with tv.inject(model, vector * 3):
        shares = model.hf(**ids).logits[0, -1].softmax(0)
    assert found.next_tokens[0].edited == pytest.approx(float(shares.max()), rel=1e-5)


def test_the_halves_make_the_vector_that_a_method_makes(model: Any, task: Any) -> None:
    about = {"demonstrations": task.train, "seed": 0}
    shown = tv.build_prompts(model.tokenizer, "qa", task.train, shots=2, **about)
    plain = tv.build_prompts(model.tokenizer, "qa", task.train)
    states = tv.read_states(model, shown)
    made = tv.aggregate(model, states, tv.read_states(model, plain), layers=2)
    from taskvectors.methods.vanilla import Vanilla

    kind = Vanilla(strengths=(1.0,), n_prompts=12, layers=(2,))
    own = tv.extract(model, task, kind, shots=2, template="qa")
    assert made.cosine(own) == pytest.approx(1, abs=1e-6)
    assert made.norm() == pytest.approx(own.norm(), rel=1e-5)
    with pytest.raises(TaskVectorsError, match="as read_states gives them"):
        tv.aggregate(model, states[:2], layers=1)


def test_what_is_read_is_what_hooks_see(model: Any) -> None:
    import torch

    from taskvectors.models import capture

    texts = ["Q: bak", "hot -> cold and more"]
    states, heads = tv.read_states(model, texts), tv.read_heads(model, texts)
    for number, text in enumerate(texts):
        seen: list[Any] = []
        with capture(model, 2, "z", seen.append), capture(model, 2, "resid_post", seen.append):
            model.hf(**model.tokenizer(text, return_tensors="pt"))
        z, state = (one[0, -1] for one in seen)
        torch.testing.assert_close(states[3, number], state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(heads[2, number].flatten(), z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["model", "task", "vector", "compared"])
def test_a_value_shows_itself_within_bounds(name: str, request: pytest.FixtureRequest) -> None:
    value = request.getfixturevalue(name)
    assert len(repr(value)) < 400
    html = value._repr_html_()
    assert html.startswith("<table>")
    assert len(html) < 12_000


def test_html_of_a_task_shows_text_as_text(task: Any) -> None:
    pair = replace(task.train[0], input="<script>" + "x" * 500)
    html = replace(task, train=(pair, *task.train[1:]))._repr_html_()
    assert "<script>" not in html
    assert "x" * 201 not in html


def test_dir_lists_public_names_alone() -> None:
    assert dir(tv) == sorted(tv.__all__)


def test_a_vector_of_another_model_is_refused(task: Any, vector: Any, tiny_model: Any) -> None:
    with pytest.raises(VectorMismatchError):
        tv.explain(tiny_model("gpt2"), vector, task=task)


def test_a_tracker_that_is_not_installed_is_said_before_the_work(
    model: Any, task: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TaskVectorsError, match="package wandb; install it"):
        tv.compare(model, task, "icl", tracker="wandb", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tracker_is_told_the_curves_of_a_comparison(
    model: Any, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    fake = ModuleType("trackio")
    fake.init = lambda **about: None  # type: ignore[attr-defined]
    fake.log = lambda values, step: told.append(values)  # type: ignore[attr-defined]
    fake.finish = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    found = tv.compare(model, task, [FEW], controls=["majority"], n_shown=0, tracker="trackio")
    assert len(told) == found.record.curves["step"].nunique() > 0
    assert all(name.startswith("method learned/seed 0/layer 1/") for one in told for name in one)
