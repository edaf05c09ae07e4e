"""Experiments by name on small random models: results, figures, repetition, going on.

Run with `pytest tests/experiments/test_reproduce.py`.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import EXPERIMENTS, GroupResult, Preset, RunUnit, WorkDir
from taskvectors.experiments.reproduce import ReproduceConfig, estimate, reproduce
from taskvectors.report import (
    page_of,
    write_figures,
    write_latex,
    write_markdown,
    write_report,
)
from taskvectors.report.table import markdown_text
from taskvectors.results import COLUMNS, OVER_TASKS, Measurement, Record, read_run
from taskvectors.results.record import TIMED

FIRST = "ltv-lens"
FILES = {"config.json", "results.parquet", "figures.json"}


@pytest.fixture(autouse=True)
def without_bars() -> None:
    """transformers writes bars where it saves learners."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def smoke(name: str, folder: Path, **about: Any) -> Record:
    (found,) = reproduce(ReproduceConfig(experiment=name, preset="smoke", **about), folder)
    return found


def results(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


@pytest.fixture(scope="session")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A finished run, only to be read."""
    return smoke(FIRST, tmp_path_factory.mktemp("runs") / "lens")


def test_a_run_is_a_folder_of_what_was_asked_measured_drawn_and_published(
    lens: Record,
) -> None:
    assert {path.name for path in lens.folder.iterdir()} >= FILES
    config = json.loads((lens.folder / "config.json").read_text())
    for key in (
        *("experiment", "title", "question", "paper", "what_the_paper_did"),
        *("what_we_do_otherwise", "model", "tasks", "seeds", "preset", "command", "versions"),
        *("device", "warnings"),
    ):
        assert key in config, key
    assert config["model"] == "random"
    rows = results(lens.folder)
    assert list(rows.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert set(rows["experiment"]) == {FIRST}
    assert rows[rows["measure"].ne("error")]["value"].notna().all()
    figures = json.loads((lens.folder / "figures.json").read_text())
    assert [figure["kind"] for figure in figures] == ["Figure"]
    assert config["published"][0]["value"] == "not read"


def test_figures_have_names_of_their_own_and_are_those_that_reports_draw(
    tmp_path: Path,
) -> None:
    from pydantic import TypeAdapter

    from taskvectors.results.figures import Figure, Heatmap

    kinds = {"Figure": TypeAdapter(Figure), "Heatmap": TypeAdapter(Heatmap)}
    smoke(FIRST, tmp_path, tasks=("capital", "antonym"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len({figure["name"] for figure in figures}) == len(figures) == 2
    for figure in figures:
        kinds[figure.pop("kind")].validate_python(figure)


def test_the_same_group_with_the_same_seed_is_the_same_bit_for_bit(
    lens: Record, tmp_path: Path
) -> None:
    smoke(FIRST, tmp_path)
    again, first = results(tmp_path), results(lens.folder)
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    text = "figures.json"
    assert (tmp_path / text).read_bytes() == (lens.folder / text).read_bytes()


@pytest.mark.slow(small_models=True)
def test_a_comparison_repeats_in_all_but_what_is_timed(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        smoke("ltv-stride", tmp_path / name)
        rows = results(tmp_path / name)
        tables.append(rows[~rows["measure"].isin(TIMED)].reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    means = tables[0][tables[0]["task"].eq(OVER_TASKS)]
    assert {"zero-shot", "icl", "learned"} <= set(means["method"])
    assert means[means["measure"].eq("accuracy")]["low"].notna().all()


@pytest.mark.slow(small_models=True)
def test_seeds_and_tasks_replace_those_of_the_preset(tmp_path: Path) -> None:
    found = smoke(FIRST, tmp_path, seeds=(3, 4), tasks=("antonym",))
    rows = results(tmp_path)
    assert set(rows["seed"].dropna()) == {3, 4}
    assert set(rows["task"]) == {"antonym", OVER_TASKS}
    assert found.metadata["groups"] == 2
    mean = rows[rows["task"].eq(OVER_TASKS) & rows["measure"].eq("label_share")].iloc[0]
    parts = rows[
        rows["task"].eq("antonym")
        & rows["measure"].eq("label_share")
        & rows["configuration"].eq(mean["configuration"])
    ]
    assert mean["value"] == pytest.approx(parts["value"].mean())
    assert len(parts) == 2


def test_one_model_takes_the_place_of_the_presets(tmp_path: Path) -> None:
    from taskvectors.experiments.config import ModelConfig

    loading = ModelConfig(dtype="float32")
    smoke(FIRST, tmp_path, models=("random-gpt2",), loading=loading)
    assert set(results(tmp_path)["model"]) == {"random-gpt2"}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"experiment": "ltv-lense"}, "did you mean ltv-lens"),
        ({"experiment": "tvp-loss", "models": ("embedded",)}, "takes no --model"),
        ({"experiment": "tvp-loss", "recipe": "paper"}, "takes no --recipe"),
        ({"experiment": "tvp-loss", "n_test": 5}, "takes no --n-test"),
        ({"experiment": FIRST, "tasks": ("no-such-task",)}, "no task is called 'no-such-task'"),
        ({"experiment": FIRST, "tasks": ("capital", "capital")}, "called alike"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_says_so(
    about: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TaskVectorsError, match=message):
        reproduce(ReproduceConfig(preset="smoke", **about), tmp_path / "run")


def test_a_published_recipe_is_kept_whole_and_published_values_say_what_they_stand_beside() -> None:
    from taskvectors.experiments.catalog.shared.learned_vectors import recipe
    from taskvectors.experiments.reproduce import _published
    from taskvectors.methods.training.recipe import RECIPES

    main = EXPERIMENTS["ltv-main-table"]
    ours, paper = (
        ReproduceConfig(experiment=main.name, recipe=name).preset_for(main)
        for name in ("from-zero", "paper")
    )
    sized = ReproduceConfig(experiment=main.name, n_train=7, n_validation=3, n_test=872)
    assert sized.preset_for(main) == ours.model_copy(
        update={"n_train": 7, "n_validation": 3, "n_test": 872}
    )
    assert recipe(paper) == RECIPES["paper"]
    assert recipe(paper).learning_rate == 1e-3
    assert recipe(paper).weight_decay == 0.01
    assert recipe(ours).steps == ours.steps != recipe(paper).steps
    assert _published(main, "paper") == main.published
    for was, now in zip(main.published, _published(main, "from-zero"), strict=True):
        if was.method == "learned":
            assert now == replace(was, note="trained as published; ours by --recipe from-zero")
        else:
            assert now == was


def test_a_folder_of_another_run_is_refused(lens: Record) -> None:
    with pytest.raises(DataError, match="other settings"):
        smoke(FIRST, lens.folder, seeds=(7,))


# --- an experiment of the tests' own


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`counted(stop)`: groups that are run from now on; `stop` is raised for the second seed."""
    ran: list[str] = []
    raised: dict[str, BaseException | None] = {"what": None}

    def run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
        ran.append(unit.key)
        what = raised["what"]
        if what is not None and unit.seed == preset.seeds[1]:
            raise what
        one = Measurement(measure="accuracy", value=unit.seed / 10, method="counting")
        return GroupResult(measurements=[one], warnings=["a note"])

    monkeypatch.setitem(
        EXPERIMENTS._entries, FIRST, replace(EXPERIMENTS[FIRST], run=run, figures=None)
    )

    def start(stop: BaseException | None = None) -> list[str]:
        raised["what"] = stop
        ran.clear()
        return ran

    return start


def test_finished_groups_are_not_run_again(
    counted: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = counted(KeyboardInterrupt())
    caplog.set_level(logging.INFO)
    config = ReproduceConfig(experiment=FIRST, preset="smoke", seeds=(0, 1, 2))
    with pytest.raises(KeyboardInterrupt):
        reproduce(config, tmp_path)
    said = caplog.messages
    told = [one for one in said if "estimated for this machine" in one]
    assert said.index(told[0]) < next(i for i, one in enumerate(said) if "in hand" in one)
    assert len(ran) == 2
    assert "1 of 3 groups done" in " ".join(said)
    assert said[-1].startswith("Stopped.")
    assert set(results(tmp_path)["seed"].dropna()) == {0}  # what is finished can be looked at
    ran = counted()
    (found,) = reproduce(config, tmp_path)
    assert [key[-5:] for key in ran] == ["seed1", "seed2"]
    first = Estimator()
    whole = estimate(config, first)
    assert len(whole) == 3
    # of all three groups, whenever they were run
    assert found.metadata["estimate"]["seconds"] == pytest.approx(sum(x.seconds for x in whole))
    kept = [json.loads(one.read_text()) for one in sorted((tmp_path / "cells").glob("*.json"))]
    assert len(kept) == 3
    assert all(one["metadata"]["seconds"] > 0 for one in kept)
    assert found.metadata["seconds"] == sum(one["metadata"]["seconds"] for one in kept)
    rows = results(tmp_path)
    assert sorted(rows["seed"].dropna()) == [0, 1, 2]
    assert list(found.warnings) == [f"random-capital-seed{seed}: a note" for seed in range(3)]


def test_a_group_that_cannot_be_run_is_told_and_tried_again(
    counted: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counted(TaskVectorsError("no such thing"))
    config = ReproduceConfig(experiment=FIRST, preset="smoke", seeds=(0, 1))
    (found,) = reproduce(config, tmp_path)
    assert found.metadata["groups_failed"] == 1
    assert "no such thing" in found.warnings[-1]
    assert "no such thing" in caplog.text
    ran = counted()
    (found,) = reproduce(config, tmp_path)
    assert [key[-5:] for key in ran] == ["seed1"]
    assert found.metadata["groups_failed"] == 0


def test_a_bug_in_a_group_is_raised_and_loses_nothing(
    counted: Callable[..., list[str]], tmp_path: Path
) -> None:
    counted(ZeroDivisionError())
    config = ReproduceConfig(experiment=FIRST, preset="smoke", seeds=(0, 1))
    with pytest.raises(ZeroDivisionError):
        reproduce(config, tmp_path)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 1


@pytest.mark.slow(small_models=True)
def test_all_is_every_experiment_in_a_folder_of_its_own(
    counted: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted()
    for name in list(EXPERIMENTS):
        one = replace(EXPERIMENTS[name], run=EXPERIMENTS[FIRST].run, figures=None)
        monkeypatch.setitem(EXPERIMENTS._entries, name, one)
    found = reproduce(ReproduceConfig(experiment="all", preset="smoke"), tmp_path)
    assert [one.folder.name for one in found] == list(EXPERIMENTS)
    assert all((one.folder / "results.parquet").is_file() for one in found)


@pytest.mark.slow(small_models=True)
def test_one_that_cannot_be_run_does_not_stop_all_of_them(
    counted: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
        raise TaskVectorsError("no such data set")

    counted()
    for name, one in dict(EXPERIMENTS).items():
        run = fail if name == "ltv-ov" else EXPERIMENTS[FIRST].run
        monkeypatch.setitem(EXPERIMENTS._entries, name, replace(one, run=run, figures=None))
    found = reproduce(ReproduceConfig(experiment="all", preset="smoke"), tmp_path)
    failed = {one.metadata["experiment"]: one.metadata["groups_failed"] for one in found}
    assert {name for name, count in failed.items() if count} == {"ltv-ov"}


# --- what it will take


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_group_of_every_experiment_is_estimated(name: str) -> None:
    config = ReproduceConfig(experiment=name, preset="smoke", seeds=(0, 1))
    costs = estimate(config, Estimator())
    preset = config.preset_for(EXPERIMENTS[name])
    assert [one.name for one in costs] == [g.key for g in EXPERIMENTS[name].units(name, preset)]
    assert all(one.seconds > 0 and one.forward_tokens > 0 for one in costs)
    assert all(one.peak_bytes > 0 for one in costs)


def test_what_several_experiments_share_is_counted_once() -> None:
    estimator = Estimator()
    names = ("tvp-loss", "tvp-layer", "tvp-context")
    first, again, measured = (
        estimate(ReproduceConfig(experiment=name, preset="smoke"), estimator)[0] for name in names
    )
    assert again.seconds == 0
    assert 0 < measured.seconds < first.seconds


@pytest.mark.slow(small_models=True)
def test_all_is_estimated_without_what_cannot_be() -> None:
    config = ReproduceConfig(experiment="all", preset="smoke", tasks=("capital",))
    estimator = Estimator()
    costs = estimate(config, estimator)
    assert {one.name for one in costs} >= {"ltv-main-table", "methods-all"}
    # capital is no family of learners
    assert any(one.startswith("tvp-loss: ") for one in estimator.left_out)


def test_what_cannot_be_estimated_is_told_and_run(
    counted: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unknown(*given: Any) -> Any:
        raise TaskVectorsError("nobody knows")

    counted()
    monkeypatch.setitem(EXPERIMENTS._entries, FIRST, replace(EXPERIMENTS[FIRST], estimate=unknown))
    caplog.set_level(logging.INFO)
    (found,) = reproduce(ReproduceConfig(experiment=FIRST, preset="smoke"), tmp_path)
    assert f"{FIRST}: not estimated: nobody knows" in caplog.messages
    assert found.metadata["estimate"] is None
    assert found.metadata["groups_failed"] == 0


# --- what people are shown


@pytest.mark.slow(small_models=True)
def test_the_published_value_stands_beside_the_row_with_its_keys(tmp_path: Path) -> None:
    found = smoke("ltv-peft", tmp_path)
    names = [table.name for table in page_of(found).tables()]
    assert "published-alone" not in names
    main = next(table for table in page_of(found).tables() if table.name == "results")
    headings, rows = main.headings, main.texts
    beside = {row[0]: row[headings.index("accuracy, published")] for row in rows}
    assert beside["lora"] == "0.916 (Llama-3.1-8B, sst2)"
    assert beside["learned"] == "0.929 (Llama-3.1-8B, sst2)"
    assert {"seconds per step, published", "peak bytes, published"} <= set(headings)
    assert any("ours is on top of it" in text for table in page_of(found).tables()
               for text in table.after)  # fmt: skip


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_experiment_runs_on_small_models(
    name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    found = smoke(name, tmp_path)
    assert found.metadata["groups_failed"] == 0
    rows = results(tmp_path)
    assert len(rows) > 10
    assert set(found.metadata["shown"]) & set(rows["measure"])
    keys = [*COLUMNS[:10], "group"]
    further = [c for c in ("preset", "strength", "selected", "place", "correct") if c in rows]
    assert not rows.duplicated([*keys, *further]).any()
    run = read_run(tmp_path)
    names = [figure.name for figure in run.figures]
    assert len(set(names)) == len(names)
    drawn = write_figures(run, ("svg",))
    assert len(drawn) == len(names)
    title = found.metadata["title"]
    assert title in write_report(run).read_text()
    assert markdown_text(title) in write_markdown(run).read_text()
    assert title in write_latex(run).read_text()
    if name in ("ltv-ov", "ltv-key-heads"):
        assert "nothing of ours beside it" not in write_markdown(run).read_text()
