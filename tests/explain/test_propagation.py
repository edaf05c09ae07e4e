"""Propagation and rotation where the way to the end is a rotation, then a scaling, written by hand.

The control is a model that is not linear, or one that only scales.
Run with `pytest tests/explain/test_propagation.py`.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from explain import planted
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES
from taskvectors.explain.propagation import Propagation, linear_range, propagate
from taskvectors.explain.rotation import IMAGES, Rotation, rotate
from taskvectors.explain.shared.change_point import change_point
from taskvectors.explain.shared.fitted_map import FitSettings
from taskvectors.explain.shared.layer_fits import LayerFits, fit_layers
from taskvectors.explain.shared.measured import find
from taskvectors.explain.shared.responses import Responses
from taskvectors.results.figures import Figure
from taskvectors.vectors import Site, TaskVector

TURN_ANGLE = 1.2
SETTINGS = FitSettings(n_queries=3, n_held_out=16, ridges=(1e-8, 1e-2))


def turn(angle: float) -> Tensor:
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    plane = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    return torch.block_diag(*[plane] * 4)


SCALING = torch.diag(torch.tensor([4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5]))


ASKED: Any = {
    split: planted.prompts(6, seed=seed)
    for seed, split in enumerate(("train", "validation", "test"))
}


def at_layers(*layers: int) -> list[TaskVector]:
    """The same vector along the first dimensions at several layers: it ends as token 8 or 9."""
    values = torch.zeros(1, planted.D_MODEL)
    values[0, :8] = torch.tensor([40.0, 0.0, 3.0, -2.0, 1.0, 1.0, 2.0, 0.0])
    return [TaskVector(values=values, sites=(Site(layer=layer, position=-1),)) for layer in layers]


def with_answer(prompts: Any, token: int) -> list[Any]:
    return [replace(prompt, answer_ids=(token,)) for prompt in prompts]


@cache
def planted_fits(angle: float = TURN_ANGLE) -> tuple[Any, LayerFits]:
    model = planted.turned_then_scaled(turn(angle), SCALING)
    return model, fit_layers(model, ASKED, at_layers(0, 1, 2, 3), SETTINGS)


@cache
def results(angle: float = TURN_ANGLE) -> tuple[Propagation, Rotation]:
    model, fits = planted_fits(angle)
    asked = with_answer(planted.prompts(8), 9 if angle else 8)
    return (
        propagate(model, asked, fits),
        rotate(model, asked, fits, frozenset({8, 9, 10})),
    )


# --- propagation


def test_a_planted_linear_map_is_found_and_carries_the_accuracy() -> None:
    found, _ = results()
    for layer in range(4):
        assert find(found.rows, "r2")[layer].value > 0.999
        assert find(found.rows, "r2_training_queries")[layer].value > 0.999
        assert find(found.rows, "r2_slope")[layer].value > 0.999
        assert find(found.rows, "r2_constant")[layer].value < 0.1
        assert find(found.rows, "share_between_queries")[layer].value < 0.01
        assert find(found.rows, "map_jacobian_cosine_off_vector")[layer].value > 0.999
        assert find(found.rows, "map_jacobian_cosine_at_vector")[layer].value > 0.999
        assert find(found.rows, "map_change_distance_at_vector")[layer].value < 0.01
        assert find(found.rows, "linear_from")[layer].value == -2
        assert find(found.rows, "linear_to")[layer].value == 5
    vector = find(found.rows, "first_token_accuracy")
    rebuilt = find(found.rows, "first_token_accuracy", "reconstructed")
    tangent = find(found.rows, "first_token_accuracy", "jacobian")
    assert vector[0].value == rebuilt[0].value == tangent[0].value == 1
    # above the rotation the vector ends at another token
    assert vector[1].value == rebuilt[1].value == 0
    assert find(found.rows, "first_token_accuracy", "zero-shot")[0].value == 0
    assert find(found.rows, "first_token_accuracy", "reconstructed-random")[0].value < 1
    assert found.exceptions == ()
    assert find(found.rows, "rank")[0].value == planted.D_MODEL
    said = ANALYSES["propagation"].summarise(found.to_frame())
    assert said.startswith("layer 0: R² 1; R² of the constant")
    assert "first tokens right with the vector 100\xa0% [" in said


def test_a_model_that_is_not_linear_is_not_called_so(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    values = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(0)) * 4
    vector = TaskVector(values=values, sites=(Site(layer=0, position=-1),))
    asked: Any = {split: ragged_prompts(model, 4, seed=len(split)) for split in ASKED}
    fits = fit_layers(model, asked, [vector], SETTINGS)
    found = propagate(model, ragged_prompts(model, 4), fits)
    assert find(found.rows, "r2")[0].value < 0.95
    assert find(found.rows, "linear_from")[0].value > 0.1
    assert find(found.rows, "linear_to")[0].value < 3
    assert find(found.rows, "share_between_queries")[0].value > 0.05
    assert find(found.rows, "jacobian_change_distance_at_vector")[0].value > 0.1
    figure = found.figure()
    assert isinstance(figure, Figure)
    assert figure.x_label == "Strength"


def test_an_exception_is_a_layer_whose_reconstruction_leaves_the_interval() -> None:
    model, fits = planted_fits()
    broken = fits.fits[0]
    zero = replace(broken.fitted, matrix=torch.zeros_like(broken.fitted.matrix).fill_diagonal_(1))
    changed = replace(fits, fits=(replace(broken, fitted=zero), *fits.fits[1:]))
    found = propagate(model, with_answer(planted.prompts(8), 9), changed)
    assert found.exceptions == (0,)


def test_the_linear_range_is_unbroken_and_holds_one() -> None:
    assert linear_range((0.5, 1.0, 2.0, 3.0), (0.0, 0.0, 0.2, 0.0)) == (0.5, 1.0)
    assert linear_range((1.0,), (0.0,)) == (1.0, 1.0)


def test_a_vector_without_one_layer_is_refused() -> None:
    vector = at_layers(0)[0]
    two = TaskVector(values=vector.values.repeat(2, 1), sites=(Site(0, -1), Site(2, -1)))
    elsewhere = replace(vector, sites=(Site(0, -2),))
    model = planted.turned_then_scaled(turn(0.0), SCALING)
    for refused in (two, elsewhere, replace(vector, operation="replace")):
        with pytest.raises(TaskVectorsError, match="no meaning"):
            fit_layers(model, ASKED, [refused], SETTINGS)


# --- rotation


def test_a_planted_rotation_is_found_below_it_and_a_scaling_above() -> None:
    _, found = results()
    cosine, stretch = find(found.rows, "whole_turn_cosine"), find(found.rows, "whole_stretch")
    theta = at_layers(0)[0].values[0, :8].double()
    scaling = torch.block_diag(SCALING.double())
    # W = S R = R (RᵀSR): the rotation is R, the stretching RᵀSR; here the two commute
    assert cosine[0].value == pytest.approx(float(torch.tensor(TURN_ANGLE).cos()), abs=0.01)
    expected = float(theta @ scaling @ theta / (theta @ theta))
    assert stretch[0].value == pytest.approx(expected, rel=0.02)
    for layer in (1, 2):
        assert cosine[layer].value == pytest.approx(1, abs=0.01)
        assert stretch[layer].value == pytest.approx(expected, rel=0.02)
        assert find(found.rows, "whole_distance_from_identity")[layer].value < 0.05
    assert stretch[3].value == pytest.approx(1, abs=0.01)
    # eight of sixteen dimensions turn: |U - V|² = 2 (8 - 8 cos) of 2 · 16
    turned = (0.5 * (1 - float(torch.tensor(TURN_ANGLE).cos()))) ** 0.5
    distance = find(found.rows, "whole_distance_from_identity")[0].value
    assert distance == pytest.approx(turned, abs=0.03)
    assert find(found.rows, "whole_determinant_sign")[0].value == 1
    assert find(found.rows, "whole_rank")[0].value == planted.D_MODEL


def test_the_layer_of_the_change_is_found() -> None:
    _, found = results()
    before, after = (find(found.rows, f"change_{side}") for side in ("before", "after"))
    assert list(before) == [0]
    assert before[0].at == 1
    assert before[0].value < 0.5 < after[0].value


def test_without_a_rotation_none_is_found() -> None:
    _, found = results(0.0)
    for layer in range(4):
        assert find(found.rows, "whole_turn_cosine")[layer].value == pytest.approx(1, abs=0.01)
    before, after = (find(found.rows, f"change_{side}") for side in ("before", "after"))
    assert all(after[layer].value - before[layer].value < 0.02 for layer in before)


def test_a_planted_turn_to_another_token_is_seen_in_that_tokens_rank() -> None:
    model, fits = planted_fits(TURN_ANGLE)
    asked = with_answer(planted.prompts(8), 9)
    found = rotate(model, asked, fits, frozenset({9}))
    rank = {image: find(found.rows, "label_rank", image) for image in IMAGES}
    assert rank["Q theta"][0].value == rank["W theta"][0].value == 1
    assert rank["theta"][0].value < 1
    cosine = find(found.rows, "turn_cosine")[0].value
    said = ANALYSES["rotation"].summarise(found.to_frame())
    assert said.startswith(f"layer 0: cos(θ, Qθ) {cosine:.3g};")


def test_the_images_read_as_what_the_planted_map_makes_of_the_vector() -> None:
    _, found = results()
    read = {
        (row.layer, row.around): row.text
        for row in found.rows
        if row.measure == "lens" and row.at == 0
    }
    # the first dimension is token 8; turned by 1.2 it is mostly the second, token 9
    assert [read[0, image] for image in IMAGES] == ["8", "9", "9"]
    assert [read[1, image] for image in IMAGES] == ["8", "8", "8"]
    difference = find(found.rows, "logit_difference", "W theta")[0].value
    assert find(found.rows, "logit_difference", "zero-shot")[0].value == pytest.approx(0, abs=1e-3)
    assert difference > 0.1  # logits are small: the norm divides by the large constant
    assert difference == pytest.approx(
        find(found.rows, "logit_difference", "theta")[0].value, rel=0.02
    )


def test_results_are_tables_and_figures_by_layer() -> None:
    for result, name in zip(results(), ("propagation", "rotation"), strict=True):
        frame = result.to_frame()
        assert set(frame["layer"]) == {0, 1, 2, 3}
        assert not frame["value"].isna().any()
        figure = result.figure()
        assert isinstance(figure, Figure)
        assert figure.name == name
        assert figure.series[0].x == (0, 1, 2, 3)
        assert ANALYSES[name].summarise(frame).startswith("layer 0: ")


# --- change points


def test_a_change_point_splits_a_step_and_is_rare_by_chance() -> None:
    found = change_point(range(10, 22), [0.1, 0.12] * 3 + [0.9, 0.91] * 3)
    assert found is not None
    assert (found.last_before, found.first_after) == (15, 16)
    assert found.explained > 0.99
    assert found.p.value < 0.01
    noise = torch.rand(12, generator=torch.Generator().manual_seed(1)).tolist()
    chance = change_point(range(12), noise)
    assert chance is not None
    assert chance.p.value > 0.05


@pytest.mark.parametrize(
    ("n", "smallest"), [(4, 1 / 3), (5, 1 / 5), (6, 1 / 10), (7, 2 / 35), (8, 1 / 35)]
)
def test_the_clearest_step_of_few_layers_has_the_smallest_p_the_test_can_give(n, smallest) -> None:
    step = [0.0] * (n // 2) + [1.0] * (n - n // 2)
    clearest = change_point(range(n), [value + 1e-3 * i for i, value in enumerate(step)])
    assert clearest is not None
    assert clearest.p.value == pytest.approx(smallest)
    assert clearest.p.smallest == pytest.approx(smallest)
    for seed in range(5):
        noise = torch.rand(n, generator=torch.Generator().manual_seed(seed)).tolist()
        found = change_point(range(n), noise)
        assert found is not None
        assert found.p.value >= found.p.smallest - 1e-12


def test_few_or_flat_values_have_no_change_point() -> None:
    assert change_point([0, 1, 2], [0.0, 1.0, 1.0]) is None
    assert change_point([0, 1, 2, 3], [0.5] * 4) is None


def test_responses_of_a_layer_do_not_depend_on_where_they_were_built() -> None:
    model, _ = planted_fits()
    values = at_layers(0)[0].values
    one, other = (Responses.of(model, planted.prompts(2), layer) for layer in (0, 2))
    assert torch.equal(one.at(2).changes(values).mean, other.changes(values).mean)
