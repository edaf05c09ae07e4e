"""A method that this file defines appears wherever methods are listed, with nothing else edited.

Run with `pytest tests/cli/test_own_method.py`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from entry_points import installed
from pydantic import BaseModel, ConfigDict, TypeAdapter

import taskvectors as tv_package
from taskvectors.errors import TaskVectorsError
from taskvectors.methods import (
    METHODS,
    Candidate,
    Method,
    MethodConfig,
    Paper,
    Plan,
    RunContext,
    register,
)
from taskvectors.vectors import TaskVector, sites_at

Tv = Callable[..., Any]


class Ones(BaseModel):
    """All ones at the middle layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ones"] = "ones"
    size: float = 1.0


def ones(context: RunContext, config: Ones) -> list[Candidate]:
    """One candidate.

    Source: Nobody (2026), https://arxiv.org/abs/0000.00000. We differ: nowhere.
    """
    middle = context.model.n_layers // 2
    vector = TaskVector(
        values=torch.full((1, context.model.d_model), config.size),
        sites=sites_at([middle], [-1]),
        origin=context.origin("ones", shots=0, settings={"size": config.size}),
    )
    return [Candidate(method="ones", vector=vector)]


ROW = Method(
    config=Ones,
    find=ones,
    plan=lambda context, config: Plan(joins=(context.model.n_layers // 2,)),
    title="Nothing but ones",
    summary="the same number in every direction",
    papers=(Paper("Nobody", 2026, "On Ones", "https://arxiv.org/abs/0000.00000"),),
    fails="Always.",
)


@pytest.fixture
def registered() -> Iterator[None]:
    register(ROW)
    yield
    METHODS.unregister("ones")


def test_it_is_listed_compared_reported_with_its_citation_and_estimated(
    tv: Tv, registered: None, on_both: list[object], tmp_path: Path
) -> None:
    (listed,) = [row for row in tv("methods", "--json").json["rows"] if row["name"] == "ones"]
    assert listed["summary"] == ROW.summary
    assert listed["source"] == "Nobody 2026, arXiv 0000.00000"
    out = tmp_path / "run"
    said = tv("compare", *on_both, "--methods", "zero-shot", "ones", "--out", out, "--json")
    assert said.code == 0, said.err
    assert {"zero-shot", "ones"} <= {row["method"] for row in said.json["rows"]}
    (page,) = out.glob("report.html")
    text = page.read_text()
    assert "Nothing but ones" in text
    assert "On Ones" in text
    assert "arxiv.org/abs/0000.00000" in text
    estimate = tv("estimate", "compare", *on_both, "--methods", "ones", "--json")
    assert estimate.code == 0, estimate.err
    assert any(row["name"].startswith("ones") for row in estimate.json["rows"])
    made = tv("extract", *on_both, "--method", "ones", "--out", tmp_path / "v", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["method"] == "ones"


def test_a_config_of_it_is_validated_and_python_takes_it(registered: None, tiny_model: Any) -> None:
    assert TypeAdapter(MethodConfig).validate_python({"kind": "ones", "size": 2}) == Ones(size=2)
    task = tv_package.load_task("capital", n_train=8, n_validation=4, n_test=4)
    vector = tv_package.extract(tiny_model("llama"), task, Ones(size=2.0), shots=2)
    assert float(vector.values.max()) == 2.0


def test_it_comes_in_through_an_entry_point() -> None:
    with installed(METHODS, ROW):
        pass


def test_a_name_that_is_taken_is_refused() -> None:
    class Other(Ones):
        kind: Literal["vanilla"] = "vanilla"  # type: ignore[assignment]

    with pytest.raises(TaskVectorsError, match="method 'vanilla' already"):
        register(Method(**{**vars(ROW), "config": Other}))
