"""A learner that is watched is the one that `train` trains, and it ends when nobody watches."""

import threading
from pathlib import Path
from typing import Any

import pytest

from taskvectors.learners import TrainingConfig
from taskvectors.learners.families import load_family, preset_of
from taskvectors.learners.rows import curve_point
from taskvectors.learners.shape import LearnerShape
from taskvectors.learners.training import train
from taskvectors.play import LivePoint, live_config, train_live
from taskvectors.play import live as module
from taskvectors.play.live import error_figure, recovery_figure

SMALL: dict[str, Any] = {
    "shape": LearnerShape(n_layers=3, d_model=16, n_heads=2),
    "batch_size": 4,
    "n_curve_trials": 8,
    "measure_every": 2,
}


def small(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**live_config().model_dump() | SMALL | changes)


def test_points_are_those_of_the_training(tmp_path: Path) -> None:
    config = small(steps=6, tvp_from=4)
    found = list(train_live(config))
    family = load_family("offset", preset_of("offset").settings)
    trained = train(
        family, config, tmp_path, family_source="offset", measure=curve_point(config.n_curve_trials)
    )
    assert found == [LivePoint.of(point) for point in trained.curve]
    assert [point.step for point in found] == [2, 4, 6]


def test_a_training_that_nobody_watches_ends() -> None:
    before = threading.active_count()
    points = train_live(small(steps=1_000_000, tvp_from=1))
    assert next(points).step == 2
    points.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_a_training_raises_is_raised_where_it_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(module, "train", broken)
    with pytest.raises(ZeroDivisionError, match="inside"):
        next(train_live(small(steps=2, tvp_from=1)))


def test_the_share_of_steps_on_the_in_context_loss_alone_stays() -> None:
    preset = preset_of("offset").training
    config = live_config(tvp_layer=None, steps=preset.steps // 3, seed=4)
    assert config.tvp_from == round(preset.tvp_from / 3)
    assert (config.tvp_layer, config.seed) == (None, 4)
    assert config.measure_every * 40 <= config.steps


def test_curves_have_a_line_per_layer_with_gaps_and_stay_in_reach() -> None:
    points = [
        LivePoint(step=1, icl_error=0.9, zero_shot_error=0.95, recovery=(None, 7.0)),
        LivePoint(step=2, icl_error=0.1, zero_shot_error=0.9, recovery=(-3.0, 0.8)),
    ]
    drawn = {one.label: one.y for one in recovery_figure(points).series}
    assert drawn == {"layer 0": (None, -0.2), "layer 1": (1.2, 0.8)}
    errors = {one.label: (one.x, one.y) for one in error_figure(points).series}
    assert errors["with demonstrations"] == ((1.0, 2.0), (0.9, 0.1))
    assert recovery_figure([]).series == ()
