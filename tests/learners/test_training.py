"""The training loop: what is resumed, what is shared, and what depends on what."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import Curriculum, LearnerShape, TrainingConfig, load_family, train
from taskvectors.learners.devices import Devices
from taskvectors.learners.training import (
    CHECKPOINT,
    METRICS,
    SHARED,
    draw_batch,
    rate_at,
    stage_at,
)

FAMILY = load_family("offset", {"n_symbols": 7, "n_demonstrations": 3})
CONFIG = TrainingConfig(
    shape=LearnerShape(n_layers=2, d_model=16, n_heads=2),
    steps=8,
    tvp_from=4,
    tvp_layer=0,
    batch_size=4,
    warmup_steps=2,
    checkpoint_every=3,
    measure_every=2,
)


class KilledError(Exception):
    """What ends a run in the middle."""


def run(folder: Path, config: TrainingConfig = CONFIG, **options: Any) -> Any:
    return train(
        FAMILY, config, folder, family_source="offset", devices=Devices("cpu"), **options
    ).learner.hf.state_dict()


def killed_at(step: int) -> Callable[..., Any]:
    def measure(_: Any, now: int) -> dict[str, Any]:
        if now == step:
            raise KilledError
        return {"seen": now}

    return measure


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_was_killed_ends_bit_for_bit_where_it_would_have(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", measure=killed_at(-1))
    with pytest.raises(KilledError):  # after the checkpoint of step 3, and more steps
        run(tmp_path / "cut", measure=killed_at(6))
    assert torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)["step"] == 3
    again = run(tmp_path / "cut", measure=killed_at(-1))
    assert same(whole, again)
    lines = [(tmp_path / name / METRICS).read_text() for name in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert [json.loads(line)["step"] for line in lines[0].splitlines()] == [2, 4, 6, 8]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert same(first, run(tmp_path, measure=killed_at(8)))


def test_variants_share_their_start(tmp_path: Path) -> None:
    vanilla = CONFIG.model_copy(update={"tvp_layer": None})
    run(tmp_path / "vanilla", vanilla)
    alone = run(tmp_path / "alone")
    shared = run(tmp_path / "shared", shared=tmp_path / "vanilla")
    assert same(alone, shared)
    starts = [
        torch.load(tmp_path / name / SHARED, weights_only=True)["weights"]
        for name in ("vanilla", "alone")
    ]
    assert same(*starts)
    assert not same(alone, starts[0])


def test_the_tvp_loss_and_its_settings_change_what_is_learned(tmp_path: Path) -> None:
    found = [
        run(tmp_path / str(number), CONFIG.model_copy(update=change))
        for number, change in enumerate(
            [
                {},
                {"tvp_layer": None},
                {"tvp_weight": 3.0},
                {"stop_gradient": True},
                {"seed": 1},
                {"precision": "bfloat16"},
                {"curriculum": Curriculum(every=2, demonstrations=(1, 3, 1))},
                {"clip": 1e-3},
            ]
        )
    ]
    assert not any(same(found[0], other) for other in found[1:])


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(DataError, match="other settings"):
        run(tmp_path, CONFIG.model_copy(update={"seed": 5}))


def test_a_start_that_was_not_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train it first"):
        run(tmp_path / "new", shared=tmp_path / "nowhere")


def test_the_loss_falls_and_the_tvp_loss_begins_where_it_is_to(tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={"steps": 60, "tvp_from": 30, "learning_rate": 1e-2, "batch_size": 32}
    )
    done = train(FAMILY, config, tmp_path, family_source="offset", devices=Devices("cpu"))
    losses = [point["icl_loss"] for point in done.curve]
    assert sum(losses[-5:]) < sum(losses[:5])
    prompted = [point["tvp_loss"] for point in done.curve]
    assert set(prompted[:15]) == {0.0}
    assert min(prompted[15:]) > 0


def test_sequences_are_a_function_of_seed_and_step() -> None:
    devices = Devices("cpu")

    def drawn(seed: int, step: int) -> torch.Tensor:
        config = CONFIG.model_copy(update={"seed": seed})
        return draw_batch(FAMILY, config, step, devices).inputs

    assert torch.equal(drawn(0, 5), drawn(0, 5))
    assert not torch.equal(drawn(0, 5), drawn(0, 6))
    assert not torch.equal(drawn(0, 5), drawn(1, 5))


def test_a_step_puts_some_sites_into_the_loss_each_with_its_own_query() -> None:
    config = CONFIG.model_copy(update={"sites_per_sequence": 2})
    everything = draw_batch(FAMILY, CONFIG, 0, Devices("cpu"))
    some = draw_batch(FAMILY, config, 0, Devices("cpu"))
    assert some.sites.shape == (4, 2)
    for number, site in enumerate(some.sites[0].tolist()):
        at = everything.sites[0].tolist().index(site)
        assert torch.equal(some.queries[:, number], everything.queries[:, at])
        assert torch.equal(some.query_targets[:, number], everything.query_targets[:, at])


def test_the_rate_rises_stays_and_falls_to_a_tenth() -> None:
    config = TrainingConfig(steps=100, tvp_from=50, warmup_steps=9, learning_rate=1.0)
    rates = [rate_at(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_a_curriculum_stops_where_it_ends() -> None:
    curriculum = Curriculum(every=10, dims=(5, 20, 1), demonstrations=(10, 40, 2))
    at = [stage_at(step, curriculum) for step in (0, 25, 10_000)]
    assert [(one.n_dims, one.n_demonstrations) for one in at] == [(5, 10), (7, 14), (20, 40)]


def test_a_layer_after_which_nothing_reads_the_query_is_refused() -> None:
    with pytest.raises(ValidationError, match="0 to 2"):
        TrainingConfig(shape=LearnerShape(n_layers=4), tvp_layer=3)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(TaskVectorsError, match="do not divide"):
        LearnerShape(d_model=18, n_heads=4).build(FAMILY, seed=0)


def test_building_a_learner_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    LearnerShape(n_layers=2, d_model=8, n_heads=1).build(FAMILY, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_a_tracker_is_told_what_the_file_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []

    class Listening:
        def log(self, point: Any, step: int) -> None:
            told.append((step, point["icl_loss"]))

        def close(self) -> None:
            """Nothing is open."""

    run(tmp_path, tracker=Listening())
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert told == [(line["step"], line["icl_loss"]) for line in lines]
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("text", [b"", b"PK", b"not a checkpoint", b"\x80\x02csys\nexit\n."])
def test_a_damaged_checkpoint_is_said_and_runs_nothing(tmp_path: Path, text: bytes) -> None:
    run(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(text)
    with pytest.raises(DataError, match=r"checkpoint\.pt .*delete it, and training starts"):
        run(tmp_path)


def test_a_checkpoint_of_another_learner_is_said(tmp_path: Path) -> None:
    wider = CONFIG.model_copy(update={"shape": CONFIG.shape.model_copy(update={"d_model": 24})})
    run(tmp_path / "one")
    run(tmp_path / "wider", wider)
    shutil.copy(tmp_path / "wider" / CHECKPOINT, tmp_path / "one" / CHECKPOINT)
    with pytest.raises(DataError, match="is of another learner"):
        run(tmp_path / "one")
