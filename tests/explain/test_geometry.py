"""Alignment of vectors and its null, where it is known which lie together.

Run with `pytest tests/explain/test_geometry.py`.
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES
from taskvectors.explain.geometry import (
    Geometry,
    compare_vectors,
    principal_components,
    separations,
)
from taskvectors.results.figures import Figure
from taskvectors.vectors import Site, TaskVector, VectorOrigin

TASKS, WIDTH = ("ant", "bee", "cat"), 24


def vectors_of(
    shared: float, *, layers: tuple[int, ...] = (2,), initialisation: str = "zero"
) -> list[TaskVector]:
    """Five seeds of three tasks: noise, and as much of the task's own direction as is said."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for layer in layers:
        for task in TASKS:
            own = torch.randn(WIDTH, generator=generator)
            for seed in range(5):
                value = shared * own + torch.randn(WIDTH, generator=generator)
                found.append(
                    TaskVector(
                        values=value.unsqueeze(0),
                        sites=(Site(layer=layer, position=-1),),
                        origin=VectorOrigin(
                            task=task, seed=seed, settings={"initialisation": initialisation}
                        ),
                    )
                )
    return found


def whole(found: Geometry) -> list:
    return [row for row in found.rows if row.task == "all"]


def test_planted_task_directions_are_found_and_noise_is_not() -> None:
    (planted,), (control,) = (
        whole(compare_vectors(vectors_of(2))),
        whole(compare_vectors(vectors_of(0))),
    )
    assert planted.separation > 0.5
    assert planted.p_value < 0.01
    assert planted.separation > planted.null_high
    assert abs(control.separation) < 0.2
    assert control.p_value > 0.05


@pytest.mark.parametrize(("n_tasks", "smallest"), [(2, 8 / 24), (3, 48 / 720)])
def test_two_vectors_of_few_tasks_cannot_give_a_small_p(n_tasks: int, smallest: float) -> None:
    tasks = [f"task {i}" for i in range(n_tasks) for _ in range(2)]
    units = torch.eye(n_tasks, 8).repeat_interleave(2, dim=0)
    (row, *_) = separations(units, tasks, 0)
    assert row.p_value == pytest.approx(smallest)
    assert row.smallest_p_value == pytest.approx(smallest)


def test_the_nearest_task_is_the_one_that_shares_a_direction() -> None:
    vectors = vectors_of(2)
    of_task = {task: [v for v in vectors if v.origin.task == task] for task in TASKS}
    alike = [
        TaskVector(values=a.values + b.values, sites=b.sites, origin=b.origin)
        for a, b in zip(of_task["ant"], of_task["cat"], strict=True)
    ]
    found = compare_vectors([*of_task["ant"], *of_task["bee"], *alike])
    nearest = {row.task: row for row in found.rows}
    assert (nearest["ant"].nearest, nearest["cat"].nearest) == ("cat", "ant")
    units = {
        task: torch.stack([v.values[0] / v.values[0].norm() for v in some])
        for task, some in (of_task | {"cat": alike}).items()
    }
    expected = (units["ant"] @ units["cat"].T).mean()
    assert nearest["ant"].nearest_cosine == pytest.approx(float(expected), abs=1e-6)
    assert nearest["all"].nearest is None


def test_alignments_are_those_of_a_loop_over_pairs() -> None:
    vectors = vectors_of(1)
    found = compare_vectors(vectors)
    within, across = [], []
    by_task = {task: ([], []) for task in TASKS}
    for one, other in combinations(vectors, 2):
        cosine = one.cosine(other)
        same = one.origin.task == other.origin.task
        (within if same else across).append(cosine)
        for task in {one.origin.task, other.origin.task}:
            by_task[task][not same].append(cosine)
    (row,) = whole(found)
    assert row.intra == pytest.approx(np.mean(within))
    assert row.inter == pytest.approx(np.mean(across))
    for row in found.rows[1:]:
        assert row.intra == pytest.approx(np.mean(by_task[row.task][0]))
        assert row.inter == pytest.approx(np.mean(by_task[row.task][1]))


def test_layers_are_compared_apart_and_the_best_is_drawn() -> None:
    vectors = vectors_of(0.2, layers=(1,)) + vectors_of(3, layers=(7,))
    found = compare_vectors(vectors)
    assert [row.layer for row in whole(found)] == [1, 7]
    figure = found.figure()
    assert isinstance(figure, Figure)
    assert "layer 7" in figure.title
    assert [series.label for series in figure.series] == list(TASKS)
    assert all(len(series.x) == 5 for series in figure.series)
    assert len(found.points_frame()) == 30
    first, second = ANALYSES["geometry"].summarise(found.to_frame()).split("; layer")
    assert first.startswith("layer 1: cosine within tasks")
    assert "15 vectors, p = " in second
    assert "the smallest that its test could give is" in second


def test_principal_components_are_those_of_numpy() -> None:
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()
    places, shares = principal_components(rows)
    values, axes = np.linalg.eigh(np.cov(rows.numpy().T))
    assert shares[0] == pytest.approx(values[-1] / values.sum())
    assert shares[1] == pytest.approx(values[-2] / values.sum())
    expected = (rows.numpy() - rows.numpy().mean(axis=0)) @ axes[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(places.numpy()), np.abs(expected), atol=1e-9)


def test_vectors_that_started_from_the_same_random_values_are_refused() -> None:
    with pytest.raises(TaskVectorsError, match="started from the same random values"):
        compare_vectors(vectors_of(1, initialisation="uniform"))


def test_one_task_or_one_seed_is_too_little() -> None:
    vectors = vectors_of(1)
    for few in (vectors[:5], vectors[::5]):
        with pytest.raises(TaskVectorsError, match="at least two tasks"):
            compare_vectors(few)
