"""What users give is taken in every form that means one thing; what they get shows itself.

Run with `pytest tests/api/test_border.py`.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recipes import from_zero

import taskvectors as tv
from taskvectors.errors import TaskVectorsError
from taskvectors.tasks import as_examples

PAIRS = [(f"a{number}", "cold" if number % 3 else "hot") for number in range(24)]
FRAME = pd.DataFrame(PAIRS, columns=["input", "output"])
FEW = from_zero(steps=1, batch_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any, tokenizer: Any) -> Path:
    """A folder of a small model."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama").hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return tv.load_model(folder)


@pytest.fixture(scope="module")
def vector(model: Any) -> Any:
    return tv.learn(model, PAIRS, layers=1, positions="last", recipe=FEW)


@pytest.fixture(scope="module")
def saved(vector: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vector's folder."""
    path = tmp_path_factory.mktemp("vectors") / "v"
    vector.save(path)
    return path


def test_a_model_may_be_given_by_its_folder(model: Any, folder: Path, vector: Any) -> None:
    assert tv.learn(folder, PAIRS, layers=1, positions="last", recipe=FEW).norm() == vector.norm()
    asked: dict[str, Any] = {"layers": 1, "shots": 2}
    extracted = tv.extract(str(folder), FRAME, **asked)
    assert extracted.values.equal(tv.extract(model, PAIRS, **asked).values)
    assert tv.read_states(folder, "hot ->").equal(tv.read_states(model, ["hot ->"]))
    assert tv.read_heads(folder, "hot ->").equal(tv.read_heads(model, ["hot ->"]))


def test_pairs_are_measured_in_every_form(model: Any, vector: Any, tmp_path: Path) -> None:
    examples = [tv.Example(input=asked, output=answer) for asked, answer in PAIRS]
    wanted = tv.evaluate(model, examples, vector, allow_overlap=True)
    forms: tuple[Any, ...] = (PAIRS, FRAME, dict(PAIRS), FRAME.to_dict("records"))
    for form in forms:
        assert tv.evaluate(model, form, vector, allow_overlap=True) == wanted
    FRAME.to_csv(tmp_path / "pairs.csv", index=False)
    task = tv.load_task(tmp_path / "pairs.csv")
    of_task = tv.evaluate(model, task.test, vector, allow_overlap=True)
    for form in (task, tmp_path / "pairs.csv", str(tmp_path / "pairs.csv")):
        assert tv.evaluate(model, form, vector, allow_overlap=True) == of_task
    prompts = tv.build_prompts(model.tokenizer, "qa", PAIRS[:3], demonstrations=FRAME, shots=2)
    assert prompts == tv.build_prompts(
        model.tokenizer, "qa", examples[:3], demonstrations=examples, shots=2
    )


def test_all_rows_count_where_a_column_names_their_split() -> None:
    split = ["train", "validation", "test", "train"]
    assert len(as_examples(FRAME[:4].assign(split=split))) == 4


def test_a_vector_may_be_given_by_its_folder(
    model: Any, folder: Path, vector: Any, saved: Path
) -> None:
    examples = [tv.Example(input="b", output="hot")]
    wanted = tv.evaluate(model, examples, vector)
    assert (
        tv.evaluate(model, examples, saved) == tv.evaluate(folder, examples, str(saved)) == wanted
    )
    asked: dict[str, Any] = {"input": "b", "max_new_tokens": 2}
    assert tv.generate(folder, saved, **asked) == tv.generate(model, vector, **asked)
    tokens = model.tokenizer("b", return_tensors="pt")
    with tv.inject(model, vector):
        wanted_logits = model.hf(**tokens).logits
    with tv.inject(model, saved):
        assert model.hf(**tokens).logits.equal(wanted_logits)


def test_what_is_no_model_or_vector_is_said(model: Any, saved: Path) -> None:
    with pytest.raises(TaskVectorsError, match=r"type LlamaForCausalLM.*tv.load_model\(model, tok"):
        tv.compare(model.hf, PAIRS)
    with pytest.raises(TaskVectorsError, match="type int; give a TaskVector or its folder"):
        tv.explain(model, 3)


def test_measures_and_tasks_show_themselves(model: Any, vector: Any) -> None:
    found = tv.evaluate(model, PAIRS, vector, allow_overlap=True)
    frame = found.to_frame()
    assert frame["n"].tolist() == [24]
    assert frame["accuracy"].tolist() == [found.accuracy]
    shown = found._repr_html_()
    assert "<td>accuracy</td>" in shown
    assert f"[{found.ci_low:.3f}, {found.ci_high:.3f}]" in shown
    assert "ci_low" not in shown
    task = tv.load_task(PAIRS, n_train=10, n_validation=4, n_test=6)
    rows = task.to_frame()
    assert rows["split"].value_counts().to_dict() == {"train": 10, "test": 6, "validation": 4}
    assert rows[["input", "output"]].iloc[0].tolist() == [task.train[0].input, task.train[0].output]
