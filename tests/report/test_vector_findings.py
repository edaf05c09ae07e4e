"""Sentences about vectors, from their tables.

Run with `pytest tests/report/test_vector_findings.py`.
"""

from typing import Any

import pandas as pd

from taskvectors.report import FINDINGS


def outcome(vector: str, strength: float | None, share: float, shots: int = 0) -> dict[str, Any]:
    return {
        "vector": vector,
        "strength": strength,
        "shots": shots,
        "n": 20,
        "french_feminine": share,
        "ci_low": share - 0.1,
        "ci_high": share + 0.1,
    }


def test_the_sum_of_two_vectors_is_spoken_of_at_strength_1_also_where_another_does_better() -> None:
    rows = pd.DataFrame(
        [
            outcome("none", None, 0.0),
            outcome("english-french", 1.0, 0.2),
            outcome("masculine-feminine", 1.0, 0.1),
            outcome("sum", 1.0, 0.3),
            outcome("sum", 0.5, 0.7),
            outcome("none", None, 0.4, shots=8),
        ]
    )
    said = FINDINGS["composition"](rows).replace("\N{NO-BREAK SPACE}", " ")
    assert "French feminine for 30 %" in said
    assert "at strength 0.5 for 70 %" in said
    assert "english-french alone gives it for 20 %" in said
    assert "8-shot for 40 %" in said
