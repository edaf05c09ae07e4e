"""Reading a run folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from taskvectors.errors import DataError
from taskvectors.report.old import read_run
from taskvectors.report.old.run import plain

MakeRun = Callable[..., Path]


def test_a_run_is_read_whole(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert run.config["model"] == "gemma3-270m"
    assert len(run.measurements) == len(run.rows) == 45
    assert len(run.examples) == 5
    assert len(run.metrics) == 13 * 18


def test_lists_and_absent_values_become_plain_python(make_run: MakeRun) -> None:
    rows = read_run(make_run()).measurements
    zero = rows[0]
    learned = next(row for row in rows if row.method == "learned" and row.selected)
    assert learned.layers == (9,)
    assert learned.positions == (-1,)
    assert isinstance(learned.parameters, int)
    assert zero.parameters is None
    assert zero.converged is None
    assert zero.layers == ()


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("[4, 9]", (4, 9)),
        ('["embed", 3]', ("embed", 3)),
        (["embed", "3"], ("embed", 3)),
        ([-1.0], (-1,)),
        (7, (7,)),
        ("last", ("last",)),
        (None, ()),
        (float("nan"), ()),
    ],
)
def test_layers_are_read_in_every_form_parquet_can_hold(stored: object, read: tuple) -> None:
    assert plain("layers", stored) == read


def test_missing_pieces_leave_empty_ones(make_run: MakeRun) -> None:
    run = read_run(make_run(examples=None, metrics=None))
    assert run.examples == ()
    assert run.metrics.empty


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json does not exist.*not a run folder"):
        read_run(tmp_path)


def test_a_run_without_results_says_how_to_go_on(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "results.parquet").unlink()
    with pytest.raises(DataError, match="start its command again"):
        read_run(folder)


def test_a_table_without_the_needed_columns_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    pd.DataFrame({"method": ["icl"]}).to_parquet(folder / "results.parquet")
    with pytest.raises(DataError, match="lacks the columns accuracy, selected, is_control"):
        read_run(folder)


def test_a_broken_table_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "results.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a parquet table"):
        read_run(folder)


def test_a_broken_line_is_named_by_its_number(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 235 is not JSON"):
        read_run(folder)


def test_an_example_without_its_answer_is_named(make_run: MakeRun) -> None:
    with pytest.raises(DataError, match=r"examples\.jsonl, item 1 lacks answer, predictions"):
        read_run(make_run(examples=[{"input": "France", "correct": {}}]))


def test_a_config_without_a_model_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "config.json").write_text(json.dumps({"task": "capital"}))
    with pytest.raises(DataError, match="lacks model"):
        read_run(folder)
