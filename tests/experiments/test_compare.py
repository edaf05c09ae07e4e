"""A comparison from its config to its folder: rows, choices, resumption, failures.

Run with `pytest tests/experiments/test_compare.py`.
"""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from experiments.wide import rows_in
from pydantic import ValidationError
from recipes import from_zero

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.evaluate import Scores, evaluate, measure, paired_difference, pooled_interval
from taskvectors.experiments import CompareConfig, ModelConfig, compare, comparison_json, one_seed
from taskvectors.methods import METHODS, RunContext
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.hendel import Hendel
from taskvectors.methods.icl import InContext
from taskvectors.methods.learned import Learned
from taskvectors.methods.learned_heads import LearnedHeads
from taskvectors.methods.library import Library
from taskvectors.methods.lora import Lora
from taskvectors.methods.loreft import LoReFT
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.vanilla import Vanilla
from taskvectors.methods.zero_shot import ZeroShot
from taskvectors.models import engines
from taskvectors.results import COLUMNS, ComparisonRow, RunFolder, comparison_rows, read_run
from taskvectors.tasks import load_task
from taskvectors.vectors import TaskVector

compare_module = sys.modules[compare.__module__]

# the table of the design, and of what was added to it
DESIGNED = {
    *("method", "layers", "positions", "shots", "accuracy", "ci_low", "ci_high", "label_accuracy"),
    *("n", "seconds", "selected", "configuration", "seed", "validation_accuracy"),
    *("difference_to_icl", "difference_low", "difference_high", "parameters", "seconds_per_step"),
    *("peak_bytes", "forward_tokens", "error"),
}
VECTORLESS = (ZeroShot(), InContext())


def bench_of(config: CompareConfig, seed: int = 0) -> RunContext:
    """What the comparison works on, made by hand."""
    task = load_task(
        config.task,
        seed=seed,
        n_train=config.n_train,
        n_validation=config.n_validation,
        n_test=config.n_test,
    )
    return RunContext(
        model=config.model.load(),
        task=task,
        template=config.template or "",
        shots=config.shots,
        seed=seed,
    )


def rows_of(found: Any, method: str) -> list[dict[str, Any]]:
    return [row for row in rows_in(found) if row["method"] == method]


# --- rows


def test_rows_have_the_fields_of_the_design_and_no_nesting(finished: Any) -> None:
    assert set(rows_in(finished)[0]) >= DESIGNED
    for row in rows_in(finished):
        assert set(row) == set(ComparisonRow.__dataclass_fields__) - {"correct"}
        for value in row.values():
            assert isinstance(value, str | int | float | bool | list | None)
        assert all(isinstance(item, str | int) for item in row["layers"] + row["positions"])


def test_each_method_has_its_candidates_and_one_that_is_selected(finished: Any) -> None:
    methods = list(dict.fromkeys(row["method"] for row in rows_in(finished)))
    assert methods == ["zero-shot", "icl", "vanilla", "learned", "majority", "random"]
    for method in methods:
        rows = rows_of(finished, method)
        assert [row["selected"] for row in rows].count(True) == 1
        assert all(row["is_control"] == (method in ("majority", "random")) for row in rows)
        assert {(row["n"], row["seed"], row["error"]) for row in rows} == {(8, 0, None)}
    assert [row["layers"] for row in rows_of(finished, "learned")] == [[0], [1], [2], [3]]
    plain = [row["layers"] for row in rows_of(finished, "vanilla") if row["strength"] == 1]
    assert plain == [[0], [1], [2], [3]]
    assert [row["layers"] for row in rows_of(finished, "icl")] == [[]]


def test_rows_are_what_the_methods_give_by_hand(asked: Any, finished: Any) -> None:
    config = asked()
    context = bench_of(config)
    icl = context.score("test", 2)
    for method in config.methods:
        candidates = METHODS[method.kind].find(context, method)
        validation = score_candidates(context, "validation", candidates)
        test = score_candidates(context, "test", candidates)
        best = choose(validation)
        rows = iter(rows_of(finished, method.kind))
        for index, one in enumerate(candidates):
            if one.strength != 1 and index != best:
                continue
            row = next(rows)
            measures = measure(test[index], context.label_starts)
            for name, value in vars(measures).items():
                assert row[name] == pytest.approx(value, abs=1e-5), name
            difference = paired_difference(list(test[index].is_correct), list(icl.is_correct))
            assert row["difference_to_icl"] == pytest.approx(difference.mean)
            assert row["difference_low"] == pytest.approx(difference.low)
            assert row["difference_high"] == pytest.approx(difference.high)
            assert row["selected"] == (index == best)
            assert row["strength"] == (None if one.vector is None else one.strength)
            hits = validation[index].is_correct.double().mean()
            assert row["validation_accuracy"] == pytest.approx(float(hits))
        assert next(rows, None) is None


def test_the_rows_are_not_all_alike(finished: Any) -> None:
    """Else the tests here would say little: something is learned, and it is not perfect."""
    accuracy = {row["method"]: row["accuracy"] for row in rows_in(finished) if row["selected"]}
    assert accuracy["zero-shot"] < accuracy["learned"] < 1
    assert 0.5 < accuracy["majority"] < 1
    assert accuracy["random"] < accuracy["learned"]


def test_every_row_says_what_it_cost(finished: Any) -> None:
    examples = {row["method"]: row["examples"] for row in rows_in(finished)}
    assert examples == {
        "zero-shot": 0,
        "icl": 2,
        "vanilla": 12,
        "learned": 12,
        "majority": 12,
        "random": 0,
    }
    for row in rows_in(finished):
        assert row["seconds"] >= 0
        assert (row["forward_tokens"] > 0) == (row["method"] != "majority")
        is_learned = row["method"] == "learned"
        for name in ("steps", "parameters", "seconds_per_step", "converged"):
            assert (row[name] is not None) == is_learned, name
    assert {row["parameters"] for row in rows_of(finished, "learned")} == {32}


# --- choices


def planted(hits: Sequence[int]) -> Scores:
    marks = torch.tensor([hits]).bool()
    return Scores(
        is_correct=marks,
        first_is_correct=marks,
        first_token=torch.zeros_like(marks, dtype=torch.long),
        log_probability=torch.full(marks.shape, -1.0),
        label_is_correct=None,
        forward_tokens=1,
        seconds=0.0,
    )


def test_validation_chooses_and_the_test_split_is_scored_once(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer 2 is best on validation, layer 1 on test."""
    best = {"validation": 2, "test": 1}
    seen = []

    def scores(context: Any, split: str, candidates: Sequence[Any]) -> list[Scores]:
        seen.append((split, [one.vector.layers[0] for one in candidates]))
        return [
            planted([1] * 8 if one.vector.layers[0] == best[split] else [1, 0, 0, 0] * 2)
            for one in candidates
        ]

    monkeypatch.setattr(one_seed, "score_candidates", scores)
    config = asked(methods=(Vanilla(strengths=(1.0,)),), controls=(), n_shown=0)
    found = compare(config, tmp_path / "run")
    assert seen == [("validation", [0, 1, 2, 3]), ("test", [0, 1, 2, 3])]
    assert [row["selected"] for row in rows_in(found)] == [False, False, True, False]
    assert [row["accuracy"] for row in rows_in(found)] == [0.25, 1.0, 0.25, 0.25]


def test_a_method_in_several_ways_has_one_selected_row(asked: Any, tmp_path: Path) -> None:
    recipe = from_zero(steps=4, learning_rate=0.3, check_every=2)
    methods = tuple(Learned(layers=(layer,), recipe=recipe) for layer in (0, 3, 1))
    found = compare(asked(methods=methods, controls=("random",)), tmp_path / "run")
    rows = rows_of(found, "learned")
    assert [row["layers"] for row in rows] == [[0], [3], [1]]
    reached = [row["validation_accuracy"] for row in rows]
    assert [row["selected"] for row in rows] == [
        index == reached.index(max(reached)) for index in range(3)
    ]
    # controls are made for the selected one
    assert rows_of(found, "random")[0]["layers"] == rows[reached.index(max(reached))]["layers"]


def test_the_test_split_can_be_scored_in_float32(asked: Any, tmp_path: Path) -> None:
    config = asked(methods=VECTORLESS, controls=("majority",), n_shown=0)
    low = config.model.model_copy(update={"dtype": "bfloat16"})
    exact, rounded, again = (
        compare(one, tmp_path / name)
        for name, one in (
            ("exact", config),
            ("rounded", config.model_copy(update={"model": low})),
            ("again", config.model_copy(update={"model": low, "test_dtype": "float32"})),
        )
    )
    for one, other, same in zip(rows_in(exact)[:2], rows_in(rounded), rows_in(again), strict=False):
        # what is loaded as bfloat16 and computed in float32 lies between
        assert other["answer_logprob"] != one["answer_logprob"]
        assert same["answer_logprob"] == pytest.approx(one["answer_logprob"], abs=1e-4)
    assert again.metadata["test_dtype"] == "float32"
    assert again.metadata["dtype"] == rounded.metadata["test_dtype"] == "bfloat16"


# --- what is written


def test_the_result_for_machines_is_strict_json(finished: Any) -> None:
    text = json.dumps(comparison_json(finished), allow_nan=False)
    found = json.loads(text)
    assert set(found) >= {"model", "family", "task", "template", "seed", "n_train", "n_test"}
    assert found["family"] == "llama"
    assert (found["n_train"], found["n_validation"], found["n_test"]) == (12, 6, 8)
    assert (found["template"], found["seed"], found["task"]) == ("arrow", 0, "mostly-cold")
    assert found["rows"] == rows_in(finished)
    majority = next(row for row in found["rows"] if row["method"] == "majority")
    assert majority["answer_logprob"] is None


def test_the_folder_holds_config_results_metrics_and_examples(finished: Any, asked: Any) -> None:
    folder = finished.folder
    assert not list(folder.rglob("*.partial"))
    config = json.loads((folder / "config.json").read_text())
    assert CompareConfig.model_validate(config["asked"]) == asked()
    assert config["versions"]["torch"] == torch.__version__
    table = pd.read_parquet(folder / "results.parquet")
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    pd.testing.assert_frame_equal(table, finished.frame)
    assert [row.as_dict() for row in comparison_rows(table)] == rows_in(finished)
    accuracies = table[table["measure"].eq("accuracy")]
    marks = accuracies["correct"].map(lambda text: text.count("1") / len(text))
    assert marks.tolist() == accuracies["value"].tolist()
    assert set(table["measure"]) >= {"difference_to_icl", "seconds", "validation_accuracy"}


def test_metrics_are_the_curves_of_what_was_learned(finished: Any) -> None:
    lines = (finished.folder / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    assert [(p["layer"], p["step"]) for p in points] == [(i, s) for i in range(4) for s in (8, 16)]
    assert {(p["method"], p["seed"]) for p in points} == {("learned", 0)}
    reached = [p["validation_accuracy"] for p in points]
    for layer, row in enumerate(rows_of(finished, "learned")):
        assert row["validation_accuracy"] == pytest.approx(max(reached[2 * layer : 2 * layer + 2]))


def test_examples_are_test_items_with_what_each_method_answers(finished: Any, asked: Any) -> None:
    lines = (finished.folder / "examples.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    test = bench_of(asked()).task.test
    assert [(item["input"], item["answer"]) for item in items] == [
        (pair.input, pair.output) for pair in test[:2]
    ]
    for item in items:
        assert set(item["predictions"]) == {"zero-shot", "icl", "vanilla", "learned"}
    correct = {row.method: row.correct for row in comparison_rows(finished.frame) if row.selected}
    for index, item in enumerate(items):
        for method, hit in item["correct"].items():
            assert hit == (correct[method][index] == "1"), (method, index)


def test_the_run_is_read_as_it_was_held(finished: Any) -> None:
    run = read_run(finished.folder)
    pd.testing.assert_frame_equal(run.frame, finished.frame)
    assert dict(run.metadata) == json.loads(json.dumps(dict(finished.metadata)))
    assert run.examples == finished.examples
    assert run.is_finished


def test_the_best_vector_is_that_of_the_highest_validation_accuracy(
    asked: Any, finished: Any, tmp_path: Path
) -> None:
    """Of methods that reach the same, the learned one; its strength is in its values."""
    vector = TaskVector.load(finished.folder / "best-vector")
    best = max(
        (row for row in rows_in(finished) if row["selected"] and row["layers"]),
        key=lambda row: (row["validation_accuracy"] or 0, row["method"] == "learned"),
    )
    assert vector.origin.method == best["method"] == "learned"
    assert list(vector.layers) == best["layers"]
    config = asked()
    test = bench_of(config).task.test
    assert evaluate(config.model.load(), test, vector).accuracy == best["accuracy"]
    strong = asked(methods=(Vanilla(layers=(2,), strengths=(3.0,)),), controls=(), n_shown=0)
    found = compare(strong, tmp_path / "strong")
    vector = TaskVector.load(found.folder / "best-vector")
    (row,) = rows_in(found)
    assert evaluate(config.model.load(), test, vector).answer_logprob == pytest.approx(
        row["answer_logprob"], abs=1e-4
    )
    plain = asked(methods=VECTORLESS, controls=(), n_shown=0)
    assert not (compare(plain, tmp_path / "plain").folder / "best-vector").exists()


def test_it_is_told_what_is_to_be_done_before_it_is_done(
    asked: Any, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also how long it takes, as soon as that can be known."""
    said: list[str] = []

    def info(sentence: str, *given: Any) -> None:
        said.append(f"{len(calls)} done; {sentence % given if given else sentence}")

    for module in (compare_module, one_seed):
        monkeypatch.setattr(module.logger, "info", info)

    methods = (*VECTORLESS, Vanilla(n_prompts=4), Learned(layers=(1,), recipe=from_zero(steps=5)))
    compare(asked(methods=methods, n_shown=2), tmp_path / "run")
    assert "Loading the model" in said[0]
    assert said[1] == (
        "0 done; zero-shot: scoring validation (6 prompts), scoring test (8 prompts)"
    )
    assert said[2].startswith("1 done; zero-shot: 0.")
    assert said[2].split(" (")[0].endswith("on 8 test items")
    assert re.fullmatch(
        r"1 done; icl: scoring validation .*, scoring test \(8 prompts\), about [\d.]+ s",
        said[3],
    )
    assert said[5].startswith("2 done; vanilla: reading train at 2 shots (4 prompts), reading ")
    assert said[7].startswith("3 done; learned: 5 steps of 12 prompts, checks (6 prompts), scoring")
    assert said[9] == "4 done; majority: nothing is run"
    assert said[-1].startswith("6 done; Writing answers to 2 test items")


def test_the_command_line_is_kept_as_it_was_typed(asked: Any, tmp_path: Path) -> None:
    words = ["taskvectors", "demo", "--task", "my words.csv"]
    for folder, command in ((tmp_path / "typed", words), (tmp_path / "called", [])):
        compare(asked(methods=VECTORLESS, n_shown=0), folder, command=command)
        assert json.loads((folder / "config.json").read_text())["command"] == command


# --- going on


def cut_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a method or control be interrupted where it would begin."""

    def interrupt(*given: Any) -> Any:
        raise KeyboardInterrupt

    if name in METHODS:
        monkeypatch.setitem(METHODS._entries, name, replace(METHODS[name], find=interrupt))
    else:
        monkeypatch.setitem(CONTROLS._entries, name, replace(CONTROLS[name], make=interrupt))


@pytest.mark.parametrize(
    ("at", "left"),
    [
        ("learned", ["learned", "majority", "random"]),
        ("random", ["random"]),
    ],
)
def test_a_run_that_was_cut_off_goes_on_and_ends_as_one_that_was_not(  # noqa: PLR0917
    asked: Any,
    finished: Any,
    without_time: Callable[[Any], Any],
    tmp_path: Path,
    calls: list[str],
    at: str,
    left: list[str],
) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        cut_off(at, patch)
        with pytest.raises(KeyboardInterrupt):
            compare(asked(), folder)
    calls.clear()
    found = compare(asked(), folder)
    assert calls == left
    assert without_time(found) == without_time(finished)
    for name in ("metrics.jsonl", "examples.jsonl"):
        assert (folder / name).read_text() == (finished.folder / name).read_text()


def test_a_finished_run_is_read_and_not_repeated(
    asked: Any, finished: Any, without_time: Callable[[Any], Any], tmp_path: Path, calls: list[str]
) -> None:
    first = compare(asked(), tmp_path / "run")
    calls.clear()
    again = compare(asked(), tmp_path / "run")
    assert calls == []
    assert rows_in(again) == rows_in(first)
    assert without_time(first) == without_time(finished)


def test_no_prompt_is_run_twice_whatever_methods_share_it(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[tuple[Any, ...]] = Counter()
    plain = engines.record

    def record(model: Any, tokens: Any, **about: Any) -> Any:
        lengths = zip(tokens.prefix_lengths.tolist(), tokens.suffix_lengths.tolist(), strict=True)
        for row, (before, after) in enumerate(lengths):
            start = tokens.prefix.shape[1] - before
            ids = tokens.prefix[row, start:].tolist(), tokens.suffix[row, :after].tolist()
            seen[str(ids)] += 1
        return plain(model, tokens, **about)

    monkeypatch.setattr(engines, "record", record)
    few = from_zero(steps=2, check_every=1)
    methods = (
        *VECTORLESS,
        Vanilla(),
        Hendel(),
        Learned(recipe=few),
        LearnedHeads(steps=2, check_every=1),
        LoReFT(recipe=few, layers=(1,)),
    )
    pairs = [{"input": str(i), "output": f"{i} house"} for i in range(40)]  # no set of labels
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    config = asked(
        methods=methods, controls=("random",), n_shown=0, task=str(tmp_path / "pairs.json")
    )
    compare(config, tmp_path / "run")
    # every prompt of the three splits, with and without demonstrations
    assert set(seen.values()) == {1}
    assert len(seen) == 2 * (config.n_train + config.n_validation + config.n_test)


@pytest.mark.slow(small_models=True)
def test_a_run_cut_off_between_seeds_goes_on_with_the_next(
    asked: Any, tmp_path: Path, without_time: Callable[[Any], Any], calls: list[str]
) -> None:
    config = asked(methods=VECTORLESS, controls=("majority",), n_shown=0, seeds=(0, 1))
    whole = compare(config, tmp_path / "whole")
    count = 0

    def second_time(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return method.find(*given)

    method = METHODS["icl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._entries, "icl", replace(method, find=second_time))
        with pytest.raises(KeyboardInterrupt):
            compare(config, tmp_path / "run")
    # the first seed is already on the table
    part = read_run(tmp_path / "run")
    assert set(part.frame["seed"]) == {0}
    assert not part.is_finished
    calls.clear()
    found = compare(config, tmp_path / "run")
    assert calls == ["icl", "majority"]
    assert without_time(found) == without_time(whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shots": 3}, "shots"),
        ({"n_test": 9, "template": "colon"}, "n_test, template"),
        ({"methods": (ZeroShot(),)}, "methods"),
    ],
)
def test_a_folder_of_a_run_with_other_settings_is_refused_and_left_alone(
    asked: Any, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    quick = {"methods": VECTORLESS, "controls": (), "n_shown": 0}
    compare(asked(**quick), tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(DataError, match=rf"other settings \({named}\); name another folder"):
        compare(asked(**quick | changes), tmp_path / "run")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("content", ["notes.txt", "config.json"])
def test_a_folder_of_something_else_is_refused_and_left_alone(
    asked: Any, tmp_path: Path, content: str
) -> None:
    (tmp_path / content).write_text("{}")
    with pytest.raises(DataError, match=r"name another folder|into a new folder"):
        compare(asked(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [content]


# --- failures


def test_a_method_that_fails_gives_a_row_that_says_why_and_the_others_go_on(
    asked: Any, tmp_path: Path, calls: list[str]
) -> None:
    config = asked(methods=(ZeroShot(), Library(), InContext()), controls=("majority",))
    found = compare(config, tmp_path / "run")
    assert [row["method"] for row in rows_in(found)] == ["zero-shot", "library", "icl", "majority"]
    (failed,) = rows_of(found, "library")
    assert "is no folder" in failed["error"]
    assert failed["selected"] is True
    assert failed["accuracy"] is None
    assert {row["error"] for row in rows_in(found) if row["method"] != "library"} == {None}
    assert rows_of(found, "zero-shot")[0]["difference_to_icl"] is not None
    json.dumps(comparison_json(found), allow_nan=False)
    pd.read_parquet(tmp_path / "run" / "results.parquet")
    # what was finished is not run again, and what failed is refused again before it is run
    calls.clear()
    again = compare(config, tmp_path / "run")
    assert calls == []
    assert "is no folder" in rows_of(again, "library")[0]["error"]


def test_a_control_that_has_no_vector_to_stand_beside_says_so(asked: Any, tmp_path: Path) -> None:
    found = compare(
        asked(methods=VECTORLESS, controls=("random", "majority"), n_shown=0), tmp_path / "run"
    )
    (random,) = rows_of(found, "random")
    assert "this control is made for a vector" in random["error"]
    assert random["is_control"] is True
    assert rows_of(found, "majority")[0]["error"] is None


def test_controls_are_made_for_vanilla_where_nothing_is_learned(asked: Any, tmp_path: Path) -> None:
    config = asked(methods=(Vanilla(layers=(2,), strengths=(3.0,)),), controls=("random",))
    (random,) = rows_of(compare(config, tmp_path / "run"), "random")
    assert (random["layers"], random["strength"]) == ([2], 3.0)


def test_an_error_that_is_not_the_users_is_not_hidden(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setitem(METHODS._entries, "icl", replace(METHODS["icl"], find=broken))
    with pytest.raises(ZeroDivisionError):
        compare(asked(methods=VECTORLESS), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "no-such-task"},
        {"model": ModelConfig(source="no/such/folder-here")},
        {"memory": "lots"},
    ],
    ids=["task", "model", "memory"],
)
def test_what_cannot_be_loaded_is_an_error_of_the_whole_run(
    asked: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(TaskVectorsError):
        compare(asked(**changes), tmp_path / "run")


# --- seeds


@pytest.fixture(scope="session")
def two_seeds(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    recipe = from_zero(steps=6, learning_rate=0.3, check_every=2)
    methods = (*VECTORLESS, Learned(layers=(2, 3), each_layer=True, recipe=recipe))
    config = asked(methods=methods, controls=("random",), seeds=(0, 5), n_shown=1)
    return compare(config, tmp_path_factory.mktemp("runs") / "seeds")


def test_several_seeds_are_pooled_method_by_method(two_seeds: Any) -> None:
    pooled = {row.method: row for row in comparison_rows(two_seeds.frame) if row.seed is None}
    assert list(pooled) == ["zero-shot", "icl", "learned", "random"]
    for method, row in pooled.items():
        chosen = [
            one
            for one in comparison_rows(two_seeds.frame)
            if one.method == method and one.selected and one.seed is not None
        ]
        assert [one.seed for one in chosen] == [0, 5]
        assert row.n == 16
        assert row.selected
        assert row.accuracy == pytest.approx(sum(one.accuracy for one in chosen) / 2)
        hits = [torch.tensor([mark == "1" for mark in one.correct]) for one in chosen]
        # seeds share prompts, so theirs are not one large sample
        assert (row.ci_low, row.ci_high) == pooled_interval(hits)
        assert 0 <= row.ci_low <= row.accuracy <= row.ci_high <= 1
        assert row.layers == list(dict.fromkeys(x for one in chosen for x in one.layers))
        assert row.configuration == "all 2 seeds"


def test_pooled_differences_are_paired_over_seeds(two_seeds: Any) -> None:
    def marks(method: str) -> list[torch.Tensor]:
        return [
            torch.tensor([mark == "1" for mark in row.correct])
            for row in comparison_rows(two_seeds.frame)
            if row.method == method and row.selected and row.seed is not None
        ]

    pooled = {row.method: row for row in comparison_rows(two_seeds.frame) if row.seed is None}
    expected = paired_difference(marks("learned"), marks("icl"))
    row = pooled["learned"]
    found = (row.difference_to_icl, row.difference_low, row.difference_high)
    assert found == pytest.approx((expected.mean, expected.low, expected.high))
    assert expected.low < expected.mean
    icl = pooled["icl"]
    assert (icl.difference_to_icl, icl.difference_low, icl.difference_high) == (0, 0, 0)


def test_each_seed_has_a_split_of_its_own(two_seeds: Any, asked: Any) -> None:
    splits = [bench_of(asked(), seed).task.test for seed in (0, 5)]
    assert splits[0] != splits[1]
    assert two_seeds.metadata["seed"] == [0, 5]
    lines = (two_seeds.folder / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["seed"] for line in lines} == {0, 5}


# --- the config


def test_a_config_survives_json_and_refuses_what_it_does_not_know(asked: Any) -> None:
    config = asked(controls=tuple(CONTROLS))
    assert CompareConfig.model_validate_json(config.model_dump_json()) == config
    for wrong in ({"colour": 1}, {"seeds": ()}, {"shots": 0}, {"n_test": 0}, {"controls": ("x",)}):
        with pytest.raises(ValidationError):
            asked(**wrong)
    with pytest.raises(ValidationError):
        CompareConfig.model_validate({"methods": [{"kind": "magic"}]})


def test_the_defaults_are_those_that_were_decided() -> None:
    config = CompareConfig()
    assert (config.model.source, config.model.dtype) == ("embedded", "auto")
    assert config.shots == 8
    assert (config.n_train, config.n_validation, config.n_test) == (300, 100, 200)
    assert [method.kind for method in config.methods] == ["zero-shot", "icl", "vanilla", "learned"]
    assert config.seeds == (0,)


# --- nothing stale, nothing lost


def _own_inputs(tmp_path: Path, model_folder: Path) -> dict[str, Any]:
    """A comparison of a task file and a model folder that the test may change."""
    pairs = [{"input": f"a{number}", "output": "warm" if number % 3 else "cold"}
             for number in range(40)]  # fmt: skip
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    shutil.copytree(model_folder, tmp_path / "model")
    return {
        "task": str(tmp_path / "pairs.json"),
        "model": ModelConfig(source=str(tmp_path / "model"), dtype="float32"),
        "methods": VECTORLESS,
        "controls": (),
        "n_shown": 0,
    }


def _other_answers(folder: Path) -> None:
    pairs = json.loads((folder / "pairs.json").read_text())
    changed = [pair | {"output": pair["output"].replace("cold", "hot")} for pair in pairs]
    (folder / "pairs.json").write_text(json.dumps(changed))


def _fewer_rows(folder: Path) -> None:
    pairs = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(json.dumps(pairs[:28]))


def _other_weights(folder: Path) -> None:
    """One number of one matrix, which no sample of the weights need hold."""
    from safetensors.torch import load_file, save_file

    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "down_proj" in name)
    weights[name][3, 5] += 0.25
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_other_answers, r"the pairs of .*pairs\.json, seed 0 \(was \w{12}, is \w{12}\)"),
        (_fewer_rows, r"the pairs of .*pairs\.json, seed 0"),
        (_other_weights, r"the weights of .*model \(was \w{12}, is \w{12}\)"),
    ],
)
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_is_not_mixed_with_other_inputs(
    asked: Any,
    model_folder: Path,
    tmp_path: Path,
    change: Callable[[Path], None],
    named: str,
    is_finished: bool,
) -> None:
    config = asked(**_own_inputs(tmp_path, model_folder))
    compare(config, tmp_path / "run")
    if not is_finished:
        (tmp_path / "run" / "cells" / "seed0-1-icl.json").unlink()
    before = read_run(tmp_path / "run").frame
    change(tmp_path)
    with pytest.raises(DataError, match=named):
        compare(config, tmp_path / "run")
    pd.testing.assert_frame_equal(read_run(tmp_path / "run").frame, before)


@pytest.mark.parametrize("damage", ["cut", "adapter", "vector"])
def test_a_damaged_cell_is_made_again_and_ends_as_it_was(
    asked: Any,
    tmp_path: Path,
    without_time: Callable[[Any], Any],
    calls: list[str],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a kill between a cell and what it points to, or a disk that lost a part."""
    methods = {
        "cut": (ZeroShot(), InContext()),
        "adapter": (ZeroShot(), Lora(sizes=("matched",), learning_rates=(0.01,), steps=2)),
        "vector": (ZeroShot(), Vanilla(layers=(1,), n_prompts=4)),
    }[damage]
    config = asked(methods=methods, controls=(), n_shown=0)
    first = compare(config, tmp_path / "run")
    kind = methods[1].kind
    cell = tmp_path / "run" / "cells" / f"seed0-1-{kind}.json"
    if damage == "cut":
        cell.write_text(cell.read_text()[:200])
    elif damage == "adapter":
        shutil.rmtree(tmp_path / "run" / "adapters" / f"seed0-1-{kind}")
    else:
        (tmp_path / "run" / "cells" / f"seed0-1-{kind}" / "vector.safetensors").write_bytes(b"")
    calls.clear()
    again = compare(config, tmp_path / "run")
    assert calls == [kind]
    assert "made again" in caplog.text
    assert without_time(again) == without_time(first)
    if damage == "adapter":
        assert (tmp_path / "run" / "adapters" / f"seed0-1-{kind}").is_dir()


def test_an_adapter_is_on_disk_before_the_cell_that_points_to_it(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two leaves no cell, so that the method is run again."""

    def killed(*given: Any) -> Any:
        raise KeyboardInterrupt

    methods = (Lora(sizes=("matched",), learning_rates=(0.01,), steps=2),)
    config = asked(methods=methods, controls=(), n_shown=0)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(config, tmp_path / "run")
    assert (tmp_path / "run" / "adapters" / "seed0-0-lora").is_dir()
    assert not (tmp_path / "run" / "cells").exists()
    compare(config, tmp_path / "run")
    assert (tmp_path / "run" / "cells" / "seed0-0-lora.json").is_file()
