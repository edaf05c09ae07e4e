"""Analyses by name: every one keeps the contract, and one of a user's own appears everywhere.

Run with `pytest tests/explain/test_registry.py`.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from explain.own_analysis import OWN, check_contract

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES, Analysis, Case, register
from taskvectors.explain.shared.cost import Sizes
from taskvectors.vectors import Site, TaskVector, VectorOrigin

SLOW = {"ov-reconstruction", "head-ablation", "bijections", "propagation", "rotation"}


@pytest.fixture
def own() -> Iterator[Analysis]:
    yield register(OWN)
    ANALYSES.unregister(OWN.name)


@pytest.fixture(scope="module")
def case(tiny_model: Any, small_bench: Any) -> Case:
    def vector(layer: int, task: str, seed: int) -> TaskVector:
        generator = torch.Generator().manual_seed(seed)
        return TaskVector(
            values=torch.randn(1, 32, generator=generator),
            sites=(Site(layer=layer, position=-1),),
            origin=VectorOrigin(task=task, method="learned", seed=seed),
        )

    words = ("cold", "rouge", "maison", "small", "yes")
    pairs = [(f"{'ab'[n % 2]}{n}", words[n % 5]) for n in range(15)]
    others = small_bench(tiny_model("llama"), "others", pairs[::-1])
    explained = vector(1, "words", 0)
    return Case(
        context=small_bench(tiny_model("llama"), "words", pairs),
        vector=explained,
        vectors=(explained, vector(1, "words", 1), vector(1, "others", 2)),
        other=Case(context=others, vector=vector(1, "others", 2), limit=4),
        limit=4,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow(small_models=True)) if name in SLOW else name
        for name in ANALYSES
        if name not in ("composition", "bijections")  # of their own tasks: tested with these
    ],
)
def test_every_analysis_keeps_the_contract(case: Case, name: str) -> None:
    one = case if ANALYSES[name].needs == "vectors" else dataclasses.replace(case, _memo={})
    if name == "transfer":  # one vector of a task
        one = dataclasses.replace(case, vectors=case.vectors[::2])
    check_contract(ANALYSES[name], one)


@pytest.mark.parametrize("name", [name for name in ANALYSES if name != "bijections"])
def test_an_analysis_reads_few_shot_prompts_if_and_only_if_it_says_so(
    case: Case, name: str
) -> None:
    works = [
        ANALYSES[name].works(Sizes(context=dataclasses.replace(case.context, shots=n), layers=(1,)))
        for n in (2, 3)
    ]
    assert (works[0] != works[1]) == ANALYSES[name].reads_shots


def test_each_file_of_the_folder_is_an_analysis_of_that_name() -> None:
    folder = Path(sys.modules["taskvectors.explain"].__file__ or "").parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in ANALYSES} == files
    assert all(ANALYSES[name].name == name for name in ANALYSES)


def test_names_are_known_without_torch() -> None:
    code = (
        "import sys; from taskvectors.registry import ANALYSES; "
        "assert 'key-heads' in ANALYSES; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_analysis_of_ones_own_keeps_the_contract(own: Analysis, case: Case) -> None:
    check_contract(own, case)


def test_an_analysis_of_another_package_comes_in_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "from taskvectors.explain import ANALYSES\n"
        "from dataclasses import replace\n"
        "analysis = replace(ANALYSES['lens'], name='their-lens')\n"
    )
    about = tmp_path / "theirs-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[taskvectors.analyses]\ntheir-lens = theirs:analysis\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from taskvectors.registry import ANALYSES\n"
        "assert 'their-lens' in list(ANALYSES) and 'torch' not in sys.modules\n"
        "assert ANALYSES['their-lens'].name == 'their-lens'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_analyses_of_one_name_are_an_error(own: Analysis) -> None:
    with pytest.raises(TaskVectorsError, match="'own-norms' already; register yours under another"):
        register(dataclasses.replace(own, title="Another"))
    with pytest.raises(TaskVectorsError, match="'lens' already"):
        register(dataclasses.replace(own, name="lens"))
    assert register(own) is own
    with pytest.raises(TaskVectorsError, match="no analysis 'lnes'; there are attention, bijec"):
        ANALYSES.find("lnes")
