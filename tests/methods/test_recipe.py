"""Recipes by name, as values, and in files that people write."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import taskvectors as tv
from taskvectors.errors import TaskVectorsError
from taskvectors.methods import Recipe, load_recipe
from taskvectors.methods.learned import Learned
from taskvectors.methods.loreft import LoReFT
from taskvectors.methods.training.recipe import RECIPES

MINE = Recipe(
    steps=7,
    learning_rate=1e-3,
    schedule="cosine",
    initialisation="normal",
    patience=None,
    learn_strength=True,
    penalty_weight=2,
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(text, name)`: a file with that text."""

    def write(text: str | bytes, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_name_is_the_recipe_of_that_name(recipe: str) -> None:
    assert load_recipe(recipe) is RECIPES[recipe]
    assert load_recipe(RECIPES[recipe]) is RECIPES[recipe]


@pytest.mark.parametrize("recipe", [MINE, *RECIPES.values()])
def test_a_file_of_all_fields_is_the_recipe(recipe: Recipe, written: Callable[..., Path]) -> None:
    fields = recipe.model_dump()
    for path in (
        written(yaml.safe_dump(fields)),
        written(yaml.safe_dump(fields), "mine.yml"),
        written(json.dumps(fields, indent="\t"), "mine.json"),
    ):
        assert load_recipe(path) == load_recipe(str(path)) == recipe


def test_there_is_one_default_and_the_others_say_what_differs() -> None:
    assert Recipe() == load_recipe("ours") == Learned().recipe == Learned(recipe="ours").recipe
    changed = {
        name: value
        for name, value in load_recipe("from-zero").model_dump().items()
        if value != getattr(Recipe(), name)
    }
    assert changed == {"initialisation": "zero", "distillation": 0, "learning_rate": 0.01}
    assert load_recipe("paper", steps=3).model_dump() == RECIPES["paper"].model_dump() | {
        "steps": 3
    }


def test_a_low_rank_edit_fills_a_recipe_from_zero() -> None:
    edit = LoReFT(recipe=Recipe(steps=3))
    assert edit.recipe == load_recipe("from-zero", steps=3)
    assert LoReFT.model_validate_json(edit.model_dump_json()) == edit
    assert LoReFT().recipe == LoReFT(recipe=Recipe()).recipe == RECIPES["from-zero"]
    with pytest.raises(ValidationError, match="initialisation has no meaning"):
        LoReFT(recipe=Recipe(initialisation="extracted"))


def test_what_a_file_leaves_out_is_as_in_ours(written: Callable[..., Path]) -> None:
    assert load_recipe(written("steps: 3")) == Recipe(steps=3)
    assert load_recipe(written("\ufeffsteps: 3\n# as in table 2\npatience: null")) == Recipe(
        steps=3, patience=None
    )
    assert load_recipe(written('{"scale": 1}', "a.json")) == Recipe(scale=1)


@pytest.mark.parametrize(
    ("number", "value"),
    [("1e-3", 1e-3), ("1E+1", 10.0), ("2.5e-4", 2.5e-4), (".5", 0.5), ("1", 1.0)],
)
def test_numbers_are_read_as_people_write_them(
    number: str, value: float, written: Callable[..., Path]
) -> None:
    assert load_recipe(written(f"learning_rate: {number}")).learning_rate == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", r"no field 'stepz'; it has steps, batch_size, .*learning_rate"),
        ("steps: 0", "steps: it should be greater than or equal to 1, not 0"),
        ("steps: many", "steps: it should be a valid integer, not 'many'"),
        ("steps: '3'", "steps: it should be a valid integer, not '3'"),
        ("steps: 2.5", "steps: .*integer.*not 2.5"),
        ("steps: yes", "steps: .*integer.*not True"),
        ("steps:", "steps: .*integer, not None"),
        ("steps: [1, 2]", r"steps: .*not \[1, 2\]"),
        ("learning_rate: -1e-3", "learning_rate: it should be greater than 0, not -0.001"),
        ("learning_rate: .inf", "learning_rate: .*finite number, not inf"),
        ("learning_rate: .nan", "learning_rate: .*finite number, not nan"),
        ("distillation: 1.5", "distillation: it should be less than or equal to 1, not 1.5"),
        ("schedule: step", "schedule: it should be 'constant', 'linear' or 'cosine', not 'step'"),
        ("schedule: no", "schedule: it should be 'constant', .*, not False"),
        ("steps: 0\nscale: -1", r"steps: .*; scale: .*not -1"),
        ("steps: 3\nsteps: 4", "'steps' stands twice"),
        ("1: 3", "a recipe is fields with values"),
        ("", "a recipe is fields with values"),
        ("- steps", "a recipe is fields with values"),
        ("steps", "a recipe is fields with values"),
        ("steps: [", "cannot be read as yaml: .*expected"),
        ("? [1]\n: 2", "cannot be read as yaml"),
        ("steps: !!python/object/apply:os.getcwd []", "cannot be read as yaml: .*python"),
        ("<<: {steps: 3}", "cannot be read as yaml"),
        ("a: &a [*a, *a]\nsteps: *a", "a recipe has no field 'a'"),
        (b"steps: \xff", "cannot be read as yaml"),
        ("x" * 70_000, "70000 bytes are too many"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    text: str | bytes, message: str, written: Callable[..., Path]
) -> None:
    path = written(text)
    with pytest.raises(TaskVectorsError, match=message) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"steps": 3, "steps": 4}', "'steps' stands twice"),
        ('{"learning_rate": NaN}', "learning_rate: .*finite"),
        ('{"steps": 3', "cannot be read as json"),
        ("[" * 30_000, "cannot be read as json"),
        ("3", "a recipe is fields with values"),
    ],
)
def test_what_is_wrong_with_a_json_file_is_said(
    text: str, message: str, written: Callable[..., Path]
) -> None:
    with pytest.raises(TaskVectorsError, match=message):
        load_recipe(written(text, "mine.json"))


@pytest.mark.parametrize("name", ["theirs", "", "none.yaml", "a" * 5000, "a\0b", "."])
def test_neither_a_name_nor_a_file_is_an_error_that_names_both(name: str) -> None:
    with pytest.raises(
        TaskVectorsError, match="there are ours, from-zero, paper, released-code, or give"
    ):
        load_recipe(name)


def test_a_file_of_another_kind_is_not_read(written: Callable[..., Path]) -> None:
    with pytest.raises(TaskVectorsError, match=re.escape("ends in .yaml, .yml or .json")):
        load_recipe(written("steps = 3", "mine.toml"))


def test_a_config_takes_names_values_and_path_objects_but_no_path_as_text(
    written: Callable[..., Path],
) -> None:
    path = written("steps: 3")
    for given in (path, Recipe(steps=3), {"steps": 3}):
        config = Learned.model_validate({"recipe": given})
        assert config.recipe == Recipe(steps=3)
        assert Learned.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match=r"there is no recipe .*mine.yaml.*or give a Path"):
        Learned.model_validate({"recipe": str(path)})


def test_learn_takes_a_recipe_in_each_of_its_forms(
    tiny_model: Any, task_of: Any, written: Callable[..., Path]
) -> None:
    path = written("steps: 2\nlearning_rate: 0.25")
    model, task = tiny_model("llama"), task_of("cold")
    forms = (path, str(path), Recipe(steps=2, learning_rate=0.25))
    vectors = [tv.learn(model, task, layers=1, recipe=form) for form in forms]
    for one in vectors:
        assert one.origin.settings["learning_rate"] == 0.25
        assert one.values.equal(vectors[0].values)
    with pytest.raises(TaskVectorsError, match="there is no recipe 'theirs'"):
        tv.learn(model, task, recipe="theirs")
