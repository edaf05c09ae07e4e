"""Every method on every family, and every method and control on paper.

Run with `pytest tests/methods/test_contract.py`.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_device import fake_device, moved
from full_pass import running
from pydantic import BaseModel, TypeAdapter, ValidationError

from taskvectors.errors import PositionError, TaskVectorsError, UnsupportedModelError
from taskvectors.methods import METHODS, MethodConfig, Recipe
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.training.recipe import RECIPES
from taskvectors.models.identity import ENGINES
from taskvectors.models.sites import width_of
from taskvectors.vectors import TaskVector, sites_at

ROOT = Path(__file__).parents[2]
WITHOUT_MEANING = {"bitfit": lambda model: not has_biases(model)}
"""What a method cannot do on a model, and says."""
WITH_VECTOR = [name for name, method in METHODS.items() if method.gives_vector]
WITH_LAYERS = [name for name in WITH_VECTOR if "layers" in METHODS[name].config.model_fields]
WITH_POSITIONS = [name for name in WITH_VECTOR if "positions" in METHODS[name].config.model_fields]
QUICK = ("icl", "learned", "vanilla", "function-vector", "icv")
"""Methods that are compared on all engines in the fast tier, too."""
PLACES: dict[str, tuple[tuple[int | str, ...], str]] = {
    "icv": (("all",), "mlp_out"),
    "state-vector": ((-1,), "z"),
    "multi-injection": (("separator_1", "separator_2", "last"), "resid_post"),
}
"""Positions and component of the vectors that do not act on the last token's residual stream."""
SOME_LAYERS = {"linear": {3}, "library": {1, 2}}
"""Methods that by default do not act at every layer, and where these do."""


@pytest.fixture
def shelved(tmp_path: Path) -> Any:
    """`shelved(context)`: what a context's methods need of it, a folder with two vectors."""

    def fill(context: Any) -> dict[str, Any]:
        for layer, task in enumerate((context.task.name, "capital"), start=1):
            values = torch.ones(1, context.model.d_model)
            origin = replace(context.origin("vanilla"), task=task)
            TaskVector(values=values, sites=sites_at([layer], [-1]), origin=origin).save(
                tmp_path / "shelf" / task
            )
        return {"folder": str(tmp_path / "shelf")}

    return fill


def has_biases(model: Any) -> bool:
    return any(name.endswith("bias") for name, _ in model.blocks[0].named_parameters())


def config_of(name: str, **about: Any) -> BaseModel:
    return METHODS[name].config(**METHODS[name].quick | about)


# --- on every family


@pytest.mark.parametrize("name", METHODS)
def test_a_method_finds_candidates_on_every_family(
    tiny_model: Any, bench_of: Any, mixed: Any, shelved: Any, tiny_name: str, name: str
) -> None:
    model = tiny_model(tiny_name)
    context = bench_of(model, mixed, sizes=(8, 4, 2))
    if WITHOUT_MEANING.get(name, lambda _: False)(model):
        with pytest.raises(TaskVectorsError, match="has no meaning"):
            METHODS[name].find(context, config_of(name))
        return
    about = shelved(context) if name == "library" else {}
    candidates = METHODS[name].find(context, config_of(name, **about))
    assert candidates
    layers = []
    for one in candidates:
        assert one.method == name
        assert one.cost.examples >= 0
        layers += [site.layer for site in one.sites]
        if one.vector is not None:
            places, component = PLACES.get(name, ((-1,), "resid_post"))
            assert one.vector.sites == sites_at(one.vector.layers, places, component)
            assert one.vector.d_model == width_of(model, one.vector.layers[0], component)
            assert one.vector.values.dtype == torch.float32
            assert one.vector.norm() > 0
            one.vector.check_model(model)
    if name == "multi-head":  # it chooses heads, so layers too
        assert set(layers) <= set(range(model.n_layers))
    elif layers:
        assert set(layers) == SOME_LAYERS.get(name, set(range(model.n_layers)))
    scores = score_candidates(context, "validation", candidates)
    assert len(scores) == len(candidates)
    assert all(bool(one.log_probability.isfinite().all()) for one in scores)
    assert 0 <= choose(scores) < len(candidates)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow(small_models=True))
        for name in METHODS
    ],
)
def test_a_method_finds_and_scores_the_same_on_every_engine(
    fresh_model: Any, bench_of: Any, mixed: Any, shelved: Any, name: str
) -> None:
    found = []
    for engine in ENGINES:
        context = bench_of(running(fresh_model("llama-biased"), engine), mixed, sizes=(6, 3, 3))
        config = config_of(name, **(shelved(context) if name == "library" else {}))
        candidates = METHODS[name].find(context, config)
        found.append((candidates, score_candidates(context, "test", candidates)))
    (first, expected), *others = found
    for candidates, scores in others:
        for one, other in zip(first, candidates, strict=True):
            assert one.sites == other.sites
            if one.vector is not None:
                close = {"atol": 1e-4 * float(one.vector.values.abs().max()), "rtol": 1e-3}
                torch.testing.assert_close(other.vector.values, one.vector.values, **close)
        for one, other in zip(expected, scores, strict=True):
            torch.testing.assert_close(
                other.log_probability, one.log_probability, atol=2e-4, rtol=1e-4
            )
            assert torch.equal(other.first_token, one.first_token)


@pytest.mark.gpu
def test_all_methods_and_controls_run_on_a_gpu(
    gpu_model: Any, bench_of: Any, mixed: Any, shelved: Any, tiny_kind: str
) -> None:
    context = bench_of(gpu_model(tiny_kind), mixed)
    shelf = shelved(context)
    candidates = [
        one
        for name in METHODS
        if name not in WITHOUT_MEANING or not WITHOUT_MEANING[name](context.model)
        for one in METHODS[name].find(
            context, config_of(name, **(shelf if name == "library" else {}))
        )
    ]
    chosen = next(one for one in candidates if one.vector is not None)
    candidates += [
        control.make(context, chosen, config_of("learned")) for control in CONTROLS.values()
    ]
    for one in score_candidates(context, "test", candidates):
        assert one.is_correct.device.type == "cpu"
        assert one.log_probability.isfinite().all() or one.forward_tokens == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow(small_models=True))
        for name in METHODS
    ],
)
def test_a_method_and_controls_run_on_a_device_that_has_no_float64(
    fresh_model: Any, bench_of: Any, mixed: Any, shelved: Any, name: str
) -> None:
    """As on MPS; and tensors of two devices are not mixed, as on every GPU."""
    plain, model = fresh_model("llama-biased"), fresh_model("llama-biased")
    expected, _ = _scored(bench_of(plain, mixed, sizes=(6, 3, 2)), shelved, name)
    with fake_device():
        moved(model.hf)
        context = bench_of(model, mixed, sizes=(6, 3, 2))
        assert context.model.device.type == "mps"
        found, candidates = _scored(context, shelved, name)
        if name == "learned":
            made = [one.make(context, candidates[0], config_of(name)) for one in CONTROLS.values()]
            score_candidates(context, "test", made)
    for one, other in zip(found, expected, strict=True):
        assert one.is_correct.device.type == "cpu"
        torch.testing.assert_close(one.log_probability, other.log_probability)


def _scored(context: Any, shelved: Any, name: str) -> tuple[list[Any], list[Any]]:
    about = shelved(context) if name == "library" else {}
    candidates = METHODS[name].find(context, config_of(name, **about))
    return score_candidates(context, "test", candidates), list(candidates)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_vectors_if_and_only_if_it_says_so(
    tiny_model: Any, bench_of: Any, mixed: Any, shelved: Any, name: str
) -> None:
    context = bench_of(tiny_model("llama-biased"), mixed, sizes=(6, 3, 2))
    config = config_of(name, **(shelved(context) if name == "library" else {}))
    found = [one.vector is not None for one in METHODS[name].find(context, config)]
    assert set(found) == {METHODS[name].gives_vector}


@pytest.mark.parametrize("recipe", ["ours", "from-zero"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_reads_few_shot_prompts_if_and_only_if_it_says_so(
    tiny_model: Any, bench_of: Any, shelved: Any, name: str, recipe: str
) -> None:
    about: dict[str, Any] = {"shots": None} if name == "icl" else {}
    if "recipe" in METHODS[name].config.model_fields:
        about = {"recipe": Recipe(steps=2, distillation=0.5 if recipe == "ours" else 0)}
        if name == "learned":
            about = {"recipe": RECIPES[recipe]}
    contexts = [bench_of(tiny_model("llama-biased"), shots=n) for n in (2, 3)]
    config = config_of(name, **(shelved(contexts[0]) if name == "library" else about))
    one, other = (METHODS[name].plan(context, config) for context in contexts)
    assert (one != other) == METHODS[name].reads_shots(config)


@pytest.mark.parametrize("name", [name for name in WITH_LAYERS if name in WITH_POSITIONS])
def test_a_vector_goes_to_the_sites_that_were_asked_for(
    tiny_model: Any, bench_of: Any, name: str
) -> None:
    context = bench_of(tiny_model("llama"))
    config = config_of(name, layers=("embed", 2), positions=(-3, "last"))
    sites = {one.vector.sites for one in METHODS[name].find(context, config)}
    assert sites == {sites_at([-1, 2], [-3, "last"])}
    apart = config_of(name, layers=("embed", 2), each_layer=True)
    sites = {one.vector.sites for one in METHODS[name].find(context, apart)}
    assert sites == {sites_at([-1], [-1]), sites_at([2], [-1])}


@pytest.mark.parametrize("name", WITH_VECTOR)
def test_a_vector_knows_how_it_was_made_and_is_saved_with_it(
    tiny_model: Any, bench_of: Any, tmp_path: Path, name: str
) -> None:
    context = bench_of(tiny_model("llama"), seed=3, template="colon")
    vector = METHODS[name].find(context, config_of(name))[-1].vector
    vector.save(tmp_path / "vector")
    origin = TaskVector.load(tmp_path / "vector").origin
    assert (origin.method, origin.task, origin.template, origin.seed) == (name, "small", "colon", 3)
    is_plain = name in ("learned", "lobireft", "icv")
    assert origin.shots == (0 if is_plain else 2)
    assert origin.settings


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_a_layer_that_the_model_does_not_have_is_an_error(
    tiny_model: Any, bench_of: Any, name: str
) -> None:
    with pytest.raises(UnsupportedModelError, match="layer 4 does not exist"):
        METHODS[name].find(bench_of(tiny_model("llama")), config_of(name, layers=(1, 4)))


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("layer", [-1, -2])
def test_a_negative_layer_is_refused_before_it_is_taken_for_the_embedding(
    name: str, layer: int
) -> None:
    with pytest.raises(ValidationError, match=f"{layer} is no layer; give numbers from 0 up"):
        config_of(name, layers=(1, layer))


@pytest.mark.parametrize("name", WITH_POSITIONS)
def test_a_position_that_a_prompt_does_not_have_is_an_error(
    tiny_model: Any, bench_of: Any, name: str
) -> None:
    context = bench_of(tiny_model("llama"))
    config = config_of(name, positions=(300,))
    with pytest.raises(PositionError):
        score_candidates(context, "validation", METHODS[name].find(context, config))


# --- on paper


@pytest.mark.parametrize("name", METHODS)
def test_a_config_is_found_by_its_kind(name: str) -> None:
    config = TypeAdapter(MethodConfig).validate_python({"kind": name})
    assert type(config) is METHODS[name].config
    assert TypeAdapter(MethodConfig).dump_python(config) == config.model_dump()


def test_a_config_of_no_method_and_one_with_a_wrong_field_are_refused() -> None:
    union = TypeAdapter(MethodConfig)
    with pytest.raises(ValidationError, match="there is no method 'strange'; there are adaptive"):
        union.validate_python({"kind": "strange"})
    with pytest.raises(ValidationError, match="extra"):
        union.validate_python({"kind": "vanilla", "colour": "blue"})


@pytest.mark.parametrize("name", METHODS)
def test_a_file_is_named_after_its_method(name: str) -> None:
    assert METHODS[name].name == name
    assert METHODS[name].config.__module__ == f"taskvectors.methods.{name.replace('-', '_')}"


@pytest.mark.parametrize("name", METHODS)
def test_a_row_is_complete(name: str) -> None:
    method = METHODS[name]
    assert method.title
    assert method.summary
    assert method.fails.endswith(".")
    assert method.papers or name == "zero-shot"
    assert all(paper.address.startswith("https://") for paper in method.papers)


@pytest.mark.parametrize("name", METHODS)
def test_a_config_is_frozen_refuses_what_it_does_not_know_and_survives_json(name: str) -> None:
    config = config_of(name)
    assert type(config).model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="extra"):
        config_of(name, colour="blue")
    with pytest.raises(ValidationError, match="frozen"):
        config.kind = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page_with_its_source_and_all_of_its_options(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    method = METHODS[name]
    assert method.summary
    for paper in method.papers:
        assert paper.address in page
    options = set(method.config.model_fields) - {"kind"}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) >= options
    for heading in ("Source", "When it fails", "Options"):
        assert f"\n## {heading}" in page


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("zero-shot", "icl")])
def test_a_function_that_makes_vectors_cites_its_source_and_says_what_differs(name: str) -> None:
    text = METHODS[name].find.__doc__ or ""
    assert "Source:" in text
    assert "https://arxiv.org/abs/" in text
    assert "We differ" in text


def test_the_page_of_learned_explains_every_setting_and_every_recipe() -> None:
    page = (ROOT / "docs" / "methods" / "learned.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert set(Recipe.model_fields) <= set(explained)
    for recipe in RECIPES:
        assert f"`{recipe}`" in page


def told(value: Any) -> str:
    """A value as the pages write it."""
    if isinstance(value, tuple):
        return ", ".join(map(told, value))
    if value is None:
        return "none"
    if isinstance(value, Recipe):
        return next(name for name, recipe in RECIPES.items() if recipe == value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_on_a_methods_page_are_the_defaults(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    for option, field in METHODS[name].config.model_fields.items():
        if option != "kind":
            assert f"\n| `{option}` | {told(field.default)} |" in page


def test_the_recipes_on_the_page_of_learned_are_the_recipes() -> None:
    page = (ROOT / "docs" / "methods" / "learned.md").read_text()
    recipes = [RECIPES[name] for name in ("ours", "from-zero", "paper", "released-code")]
    for setting in Recipe.model_fields:
        cells = " | ".join(told(getattr(recipe, setting)) for recipe in recipes)
        assert f"\n| `{setting}` | {cells} |" in page


def test_the_page_of_measures_names_every_control_and_every_field_of_a_row() -> None:
    from taskvectors.evaluate import Measures, SideEffects
    from taskvectors.results import ComparisonRow

    page = (ROOT / "docs" / "measures.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", page))
    for kind in (Measures, SideEffects):
        assert set(kind.__dataclass_fields__) <= named
    assert set(ComparisonRow.__dataclass_fields__) - {"correct"} <= named
    assert set(CONTROLS) <= named


def test_a_comparison_names_and_cites_every_method_and_every_control() -> None:
    from taskvectors.experiments.works import about_methods

    about = about_methods((*METHODS, *CONTROLS))
    assert set(about) == {*METHODS, *CONTROLS}
    for name, method in METHODS.items():
        assert about[name]["title"] == method.title
        for paper in method.papers:
            assert paper.title in about[name]["citation"]
            assert paper.address in about[name]["citation"]
    assert [name for name in METHODS if not about[name]["citation"]] == ["zero-shot"]


def test_the_papers_of_methods_are_in_the_citation_file() -> None:
    known = (ROOT / "CITATION.cff").read_text()
    papers = {paper.address for method in METHODS.values() for paper in method.papers}
    assert {address for address in papers if f"{address}\n" not in known} == set()


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controls_row_is_complete(name: str) -> None:
    control = CONTROLS[name]
    assert control.name == name
    assert control.title
    assert control.summary
