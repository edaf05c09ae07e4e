"""The scripts that make the data files of docs/results: what they write, from planted runs.

Run with `pytest tests/test_tools.py`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskvectors.results import COLUMNS, OVER_TASKS, Measurement, frame_of

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts import each other, as they do when they are run."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield
    for path in TOOLS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def row(**about: Any) -> dict[str, Any]:
    return Measurement(measure="accuracy", value=2 / 3, method="vanilla", about=about).as_row(
        experiment="main", model="tiny", task="capital", seed=0
    )


def test_a_file_of_evidence_has_the_common_columns_of_chosen_rows(tmp_path: Path) -> None:
    from evidence import write_rows  # type: ignore[import-not-found]

    chosen = frame_of([row(selected=True, layer=3), row(selected=False, layer=4)])
    nothing_to_choose = frame_of([row(head=1)])
    write_rows([chosen, nothing_to_choose], tmp_path / "new" / "rows.csv")
    written = pd.read_csv(tmp_path / "new" / "rows.csv")
    assert list(written.columns) == list(COLUMNS)
    assert list(written.configuration) == ["layer 3", "head 1"]
    assert list(written.value) == [0.666667, 0.666667]


def test_joint_sites_are_compared_prompt_by_prompt(tmp_path: Path) -> None:
    from joint_sites import JOINT, rows_of  # type: ignore[import-not-found]

    def cell(joint: str, best: str) -> dict[str, Any]:
        about = {"sites": [["embed", -1]], "accuracy": 0.5, "validation_accuracy": 0.5}
        return {f"joint {name}": about | {"correct": joint} for name in JOINT} | {
            f"best single of {name}": about | {"correct": best} for name in JOINT
        }

    cells = {("capital", 4): cell("1111", "1100"), ("antonym", 4): cell("0000", "0000")}
    rows = frame_of(rows_of(cells))
    gaps = rows[rows.measure == "difference_to_best_single"].set_index(["task", "configuration"])
    assert gaps.value["capital", "joint both"] == 0.5
    assert gaps.value["antonym", "joint both"] == 0
    assert gaps.value[OVER_TASKS, "joint both"] == 0.25
    assert len(rows[rows.measure == "accuracy"]) == 2 * 2 * len(JOINT)


def test_a_bias_on_the_logits_changes_all_queries_alike() -> None:
    import torch
    from constant_share import constant_share, preference  # type: ignore[import-not-found]

    bias = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert constant_share(bias.expand(8, -1)) == pytest.approx(1)
    assert constant_share(torch.eye(8)) == pytest.approx(1 / 8)
    change = torch.zeros(2, 6)
    change[:, [0, 1]], change[:, [2, 3]] = 3.0, 1.0
    change[0, 2] = change[1, 3] = 100.0  # each query's own answer
    own, trained, tested = (torch.tensor(tokens) for tokens in ([2, 3], [0, 1], [2, 3]))
    assert preference(change, own, trained, tested) == pytest.approx(2)
    assert preference(change, own, trained[:0], tested) is None
