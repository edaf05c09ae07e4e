"""Flags: what they become, and that they say what the library's configs say.

Run with `pytest tests/cli/test_arguments.py`.
"""

from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import ValidationError
from recipes import from_zero

from taskvectors.cli.arguments import (
    ModelChoice,
    SiteChoice,
    TaskChoice,
    TrainingChoice,
    method_config,
)
from taskvectors.cli.compare import Compare
from taskvectors.cli.extract import Extract
from taskvectors.cli.learn import Learn
from taskvectors.cli.parsing import VERBS, parse
from taskvectors.cli.unused import given, reads
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments import CompareConfig, ModelConfig
from taskvectors.methods import METHODS, Recipe
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.methods.training.recipe import RECIPES


def words_of(hint: Any) -> set[str]:
    """The words that an annotation lets through."""
    if get_origin(hint) is Literal:
        return {word for word in get_args(hint) if isinstance(word, str)}
    if get_origin(hint) is Annotated:
        return words_of(get_args(hint)[0])
    is_union = isinstance(hint, UnionType) or "Union" in str(get_origin(hint))
    return set().union(*map(words_of, get_args(hint))) if is_union else set()


def choices(kind: type[Any]) -> dict[str, set[str]]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: words_of(hint) for name, hint in hints.items() if name != "model_config"}


def defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


def parsed(*words: str) -> Any:
    return parse(list(words))


# --- the same as in the library


def test_the_flags_of_a_model_are_those_of_its_config() -> None:
    flags = choices(ModelChoice)
    assert flags.pop("memory") == set()
    flags["source"] = flags.pop("model")
    assert flags == choices(ModelConfig)
    given = {"source" if name == "model" else name: v for name, v in defaults(ModelChoice).items()}
    for name, field in ModelConfig.model_fields.items():
        assert given[name] == field.default, name


def test_the_flags_of_training_are_those_of_a_recipe() -> None:
    flags = choices(TrainingChoice).keys() - {"recipe", "train_shots", "n_examples"}
    assert flags < Recipe.model_fields.keys()
    assert {name: v for name, v in defaults(TrainingChoice).items() if v} == {"recipe": "ours"}
    for name in flags:  # each reaches the recipe
        value = Recipe.model_fields[name].annotation(0.5) or 1
        choice = TrainingChoice(**{name: value})
        assert getattr(method_config("learned", SiteChoice(), choice).recipe, name) == value


def test_methods_and_controls_are_those_of_the_registries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb = parsed("compare", "--task", "t", "--methods", *METHODS, "--controls", *CONTROLS)
    assert (verb.methods, verb.controls) == (tuple(METHODS), tuple(CONTROLS))
    for flag in ("--methods", "--controls"):
        with pytest.raises(TaskVectorsError, match="strange"):
            parsed("compare", "--task", "t", flag, "strange")
    for name in METHODS:
        assert parsed("extract", "--task", "t", "--method", name).method == name
    parsed("compare", "--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*METHODS, *CONTROLS))


def test_extract_refuses_a_method_without_a_vector_and_names_those_with_one() -> None:
    with pytest.raises(TaskVectorsError, match=r"icl gives no vector; these do: .*vanilla"):
        parsed("extract", "--task", "t", "--method", "icl").config()


@pytest.mark.parametrize("name", ["shots", "seeds", "n_train", "n_validation", "n_test", "chat"])
def test_defaults_of_a_comparison_are_those_of_its_config(name: str) -> None:
    flags = defaults(Compare) | {k: v for k, v in defaults(TaskChoice).items() if k != "task"}
    assert flags[name] == CompareConfig.model_fields[name].default


def test_a_comparison_without_flags_compares_what_its_config_compares() -> None:
    flags, config = defaults(Compare), CompareConfig()
    assert flags["methods"] == tuple(one.kind for one in config.methods)
    verb = parsed("compare", "--task", "t")
    assert verb.controls is None
    assert verb._controls() == config.controls
    assert flags["test_dtype"] == config.test_dtype
    assert choices(Compare)["test_dtype"] == choices(CompareConfig)["test_dtype"]


def test_a_comparison_without_a_vector_has_no_control_that_needs_one() -> None:
    vectorless = [name for name, method in METHODS.items() if not method.gives_vector]
    verb = parsed("compare", "--task", "t", "--methods", *vectorless)
    assert verb._controls() == ("majority",)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_gets_the_flags_that_mean_something_to_it(name: str) -> None:
    words = ["compare", "--task", "t", "--layers", "1", "--positions", "-2", "--strengths", "3"]
    config = parsed(*words)._config(name)
    assert type(config) is METHODS[name].config
    given = {"layers": (1,), "positions": (-2,), "strengths": (3.0,)}
    for field in given.keys() & type(config).model_fields.keys():
        assert getattr(config, field) == given[field]


def test_adapters_have_no_control_that_needs_a_vector() -> None:
    verb = parsed("compare", "--task", "t", "--methods", "icl", "lora", "loreft")
    assert verb._controls() == ("majority",)
    assert parsed("compare", "--task", "t", "--methods", "lobireft")._controls() == (
        "majority",
        "random",
    )


def test_a_recipe_and_flags_go_to_adapters_and_low_rank_edits_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("patience: null\nsteps: 9\ncheck_every: 3\n")
    verb = parsed(
        *("compare", "--task", "t", "--methods", "lora", "loreft", "--steps", "7", "--layers"),
        *("4", "--learning-rate", "0.02", "--recipe", str(path), "--n-examples", "9"),
    )
    lora, edit = map(verb._config, verb.methods)
    assert (lora.steps, lora.learning_rates, lora.patience, lora.n_examples) == (
        7,
        (0.02,),
        None,
        9,
    )
    assert (edit.layers, edit.n_examples) == ((4,), 9)
    assert (lora.check_every, lora.batch_size) == (3, 32)
    assert edit.recipe == from_zero(steps=7, learning_rate=0.02, check_every=3, patience=None)


def test_a_named_recipe_is_of_learned_alone_and_the_others_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    verb = parsed("compare", "--task", "t", "--recipe", "paper")
    for name in ("learned", "vanilla", "icl"):
        verb._config(name)
    assert not caplog.messages
    for name in ("lora", "loreft", "adaptive"):
        assert verb._config(name) == METHODS[name].config()
        assert caplog.messages.pop() == (
            f"--recipe paper says nothing to {name}, which trains its own way"
        )


def test_each_method_gets_the_flags_that_mean_something_for_it() -> None:
    words = ("--layers", "1", "2", "--each-layer", "--positions", "4", "--library", "shelf")
    verb = parsed("compare", "--task", "t", *words)
    found = {name: verb._config(name).model_dump() for name in METHODS}
    plain = parsed("compare", "--task", "t")
    for name in ("icv", "multi-injection", "linear", "adaptive"):
        assert found[name]["layers"] == (1, 2), name
        assert plain._config(name) == METHODS[name].config()
    assert found["multi-injection"]["each_layer"]
    assert found["library"]["folder"] == "shelf"
    assert found["state-vector"] == METHODS["state-vector"].config().model_dump()


# --- lists


def test_lists_are_words_separated_by_blanks() -> None:
    verb = parsed(
        *("compare", "--task", "t", "--methods", "zero-shot", "icl", "learned"),
        *("--layers", "4", "9", "--positions", "-1", "4", "last", "--seeds", "0", "1"),
        *("--strengths", "-1", "0", "0.5", "--controls", "--json"),
    )
    assert verb.methods == ("zero-shot", "icl", "learned")
    assert verb.sites.layers == ("4", "9")
    assert verb.sites.positions == ("-1", "4", "last")
    assert verb.seeds == (0, 1)
    assert verb.strengths == (-1.0, 0.0, 0.5)
    assert verb.controls == ()
    assert verb.output.json


def test_one_seed_and_one_strength_have_names_of_their_own() -> None:
    verb = parsed("compare", "--task", "t", "--seed", "3", "--strength", "2")
    assert (verb.seeds, verb.strengths) == ((3,), (2.0,))


@pytest.mark.parametrize(
    ("method", "unheard"),
    [
        ("vanilla", []),
        ("learned", ["strengths"]),
        ("learned-heads", ["layers", "strengths"]),
        ("lora", ["layers", "positions", "strengths"]),
    ],
)
def test_flags_that_say_nothing_to_a_method_are_named(method: str, unheard: list[str]) -> None:
    words = ["--layers", "4", "--positions", "4", "--strengths", "2"]
    verb = parsed("compare", "--task", "t", *words)
    flags = given(verb.sites) + given(verb, "strengths")
    assert flags == ["layers", "positions", "strengths"]
    assert [name for name in flags if not reads(method, name)] == unheard
    assert given(parsed("compare", "--task", "t").sites) == []


@pytest.mark.parametrize(
    ("words", "layers", "each"),
    [
        ([], None, False),
        (["--each-layer"], None, True),
        (["--layers", "embed", "4"], ("embed", 4), False),
        (["--each-layer", "--layers", "4", "9"], (4, 9), True),
        (["--layers", "4-6", "9", "--positions", "-2", "cue"], (4, 5, 6, 9), False),
    ],
)
def test_layers_are_of_one_vector_unless_each_has_its_own(
    words: list[str], layers: Any, each: bool
) -> None:
    config = method_config("learned", parsed("learn", "--task", "t", *words).sites)
    assert (config.layers, config.each_layer) == (layers, each)
    assert config.positions == ((-2, "cue") if "--positions" in words else (-1,))


@pytest.mark.parametrize("word", ["-1", "last", "4.0", "", "6-4", "4-", "\u0663"])
def test_what_is_no_layer_is_an_error(word: str) -> None:
    with pytest.raises(TaskVectorsError, match=r"--layers: .* is no layer; give numbers from 0"):
        method_config("learned", SiteChoice(layers=(word,)))


@pytest.mark.parametrize("word", ["", "nonsense", "separator_0", "4.0"])
def test_what_is_no_position_is_an_error(word: str) -> None:
    with pytest.raises(TaskVectorsError, match=r"--positions: .* is no position; give a number"):
        method_config("learned", SiteChoice(positions=(word,)))


@pytest.mark.parametrize("field", ["layers", "positions"])
@pytest.mark.parametrize("value", [True, 1.5, [2, None], "", []])
def test_what_is_no_place_in_python_is_an_error(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Learned(**{field: value})


@pytest.mark.parametrize(
    ("given", "layers"),
    [(4, (4,)), ("4-6", (4, 5, 6)), (range(4, 7), (4, 5, 6)), ([4, "embed"], (4, "embed"))],
)
def test_python_and_the_command_line_say_layers_alike(given: Any, layers: Any) -> None:
    assert Learned(layers=given, positions="last").layers == layers


def test_help_gives_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["learn", "--help"]) is None
    assert "--learning-rate" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS.values())
def test_the_first_line_about_a_verb_is_a_sentence(verb: type[Any]) -> None:
    assert (verb.__doc__ or "").split("\n")[0].endswith(".")


# --- what is learned


def test_training_without_flags_is_the_recipe() -> None:
    choice = TrainingChoice(recipe="paper", n_examples=8, train_shots=2)
    config = method_config("learned", SiteChoice(layers=("4",), positions=("4", "last")), choice)
    assert config == Learned(
        recipe="paper", n_examples=8, train_shots=2, layers=(4,), positions=(4, "last")
    )


def test_flags_change_a_named_recipe_and_nothing_else_of_it() -> None:
    choice = TrainingChoice(recipe="released-code", steps=7, distillation=0.0)
    changed = RECIPES["released-code"].model_copy(update={"steps": 7})
    assert method_config("learned", SiteChoice(), choice).recipe == changed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"steps": 0}, "--steps: .*greater than or equal to 1, not 0"),
        ({"learning_rate": -1.0}, "--learning-rate: .*greater than 0, not -1.0"),
        ({"n_examples": 0}, "--n-examples: "),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_flag(
    flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskVectorsError, match=message):
        method_config("learned", SiteChoice(), TrainingChoice(**flags))


def test_what_a_config_says_itself_is_said_with_the_flag() -> None:
    with pytest.raises(TaskVectorsError, match=r"^--positions: -1, last names a place twice$"):
        method_config("learned", SiteChoice(positions=("-1", "last")), TrainingChoice())


@pytest.mark.parametrize("verb", [Learn, Extract])
def test_verbs_that_save_say_what_happens_to_an_old_vector(verb: type[Any]) -> None:
    assert "out" in defaults(verb)
