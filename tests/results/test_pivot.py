"""Wide rows and tidy ones say the same.

Run with `pytest tests/results/test_pivot.py`.
"""

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskvectors.errors import DataError
from taskvectors.results import (
    Columns,
    ComparisonRow,
    Measurement,
    analysis_tables,
    chosen,
    comparison_rows,
    frame_of,
)
from taskvectors.results.pivot import failed_row

ROW = ComparisonRow(
    method="learned", configuration="12 pairs", layers=["embed", 3], positions=[-1, "query"],
    strength=2.0, shots=0, seed=0, n=4, accuracy=0.5, ci_low=0.1, ci_high=0.9,
    first_token_accuracy=0.5, answer_logprob=-1.25, validation_accuracy=0.75, selected=True,
    is_control=False, difference_to_icl=-0.25, difference_low=-0.5, difference_high=0.0,
    parameters=640, steps=16, seconds=1.5, peak_bytes=2**40 + 1, forward_tokens=12345,
    converged=False, note="a remark", correct="1010",
)  # fmt: skip

optional = st.none() | st.floats(0, 1)
CHANGES = st.builds(
    dict,
    method=st.sampled_from(["learned", "vanilla"]),
    configuration=st.sampled_from(["", "a"]),
    preset=st.sampled_from([None, "position 4"]),
    layers=st.lists(st.integers(0, 3), max_size=2),
    strength=st.none() | st.sampled_from([1.0, -0.5]),
    seed=st.none() | st.integers(0, 2),
    label_accuracy=optional,
    selected=st.booleans(),
    preset_selected=st.booleans(),
    converged=st.none() | st.booleans(),
    examples=st.none() | st.integers(0, 10),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_a_comparison_is_the_same_after_being_tidy(changes: list[dict[str, Any]]) -> None:
    """Also where nothing tells two rows apart, and through the types of a file."""
    rows = [replace(ROW, **one) for one in changes]
    rows.append(failed_row("lora", 1, DataError("no sites"), is_control=False, preset="position 4"))
    tidy = [one.as_row(experiment="compare") for row in rows for one in row.measurements("capital")]
    assert comparison_rows(frame_of(tidy)) == rows
    assert comparison_rows(json.loads(json.dumps(tidy))) == rows


def test_presets_keep_their_own_choice_beside_that_of_the_method() -> None:
    rows = [
        replace(ROW, selected=False, preset="a", preset_selected=True),
        replace(ROW, selected=False, preset="b"),
        replace(ROW, selected=True),
        replace(ROW, selected=False, layers=[1]),
    ]
    tidy = frame_of(m.as_row() for row in rows for m in row.measurements())
    kept = chosen(tidy[tidy["measure"].eq("accuracy")])
    assert list(kept["configuration"]) == ["a", "12 pairs"]
    plain = frame_of([Measurement(measure="x", value=1.0).as_row()])
    assert len(chosen(plain)) == 1


TABLES: dict[str, tuple[Columns, list[dict[str, Any]]]] = {
    "wide": (
        Columns(
            keys=("positions", "layer"), names={"positions": "ablated_at"}, constants=("plain",),
            measures={"accuracy": ("ci_low", "ci_high"), "n_heads": None},
        ),
        [
            {"positions": "last", "layer": 3, "accuracy": 0.5, "ci_low": 0.25, "ci_high": 0.75,
             "n_heads": 2.0, "plain": 0.125},
            {"positions": "all", "layer": 3, "accuracy": 0.25, "ci_low": 0.0, "ci_high": 0.5,
             "n_heads": 2.0, "plain": 0.125},
        ],
    ),
    "measured": (
        Columns(keys=("layer", "at"), measures={"value": ("low", "high")}),
        [
            {"layer": 0, "at": "a", "measure": "r2", "value": 0.5, "low": 0.25, "high": 0.75},
            {"layer": 0, "at": "a", "measure": "share", "value": 1.0, "low": 1.0, "high": 1.0},
            {"layer": 1, "at": "b", "measure": "r2", "value": 0.5, "low": 0.5, "high": 0.5},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_an_analysis_is_the_same_after_being_tidy(name: str) -> None:
    columns, rows = TABLES[name]
    other = Measurement(measure="accuracy", value=0.1, about={"analysis": "another"})
    tidy = columns.measurements("mine", rows, method="learned", layers=(3,))
    frame = frame_of(one.as_row(task="capital") for one in [other, *tidy])
    described = {"keys": columns.keys, "measures": columns.measures, "names": columns.names,
                 "constants": columns.constants}  # fmt: skip
    about = [{"name": "mine", "columns": json.loads(json.dumps(described))}]
    found = analysis_tables(frame, about)["mine"]
    pd.testing.assert_frame_equal(found[list(rows[0])], pd.DataFrame(rows), check_dtype=False)
    assert set(found["task"]) == {"capital"}
