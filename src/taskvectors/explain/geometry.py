"""`geometry`: do vectors of one task lie together, and those of different tasks apart?

Vectors learned from different seeds, compared layer by layer. The null shuffles which vector is of
which task.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial, prod

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate import orders
from taskvectors.explain.shared.analysis import Analysis
from taskvectors.explain.shared.cost import nothing
from taskvectors.explain.shared.rows import points, table
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import Figure, style_at
from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Vectors of one place: how alike within tasks, how alike across."""

    layer: int
    task: str
    """One task against the others; `all` for the mean over pairs."""
    n_vectors: int
    intra: float
    """Mean cosine of two vectors of one task."""
    inter: float
    """Mean cosine of two vectors of different tasks."""
    separation: float
    """Their difference."""
    p_value: float | None
    """Share of shuffled task names that separate as well; for `all` only."""
    smallest_p_value: float | None
    """The smallest that the test could give with so many vectors of each task."""
    null_high: float | None
    """The 97.5th percentile of the separation under shuffling."""
    nearest: str | None = None
    """The other task whose vectors are most like the task's."""
    nearest_cosine: float | None = None
    """Mean cosine with these."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One vector on the two principal components of a layer."""

    layer: int
    task: str
    seed: int | None
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where vectors of several tasks and seeds lie."""

    rows: tuple[Separation, ...]
    points: tuple[Point, ...]
    explained: tuple[tuple[int, float, float], ...]
    """Per layer, the share of variance of the two components."""

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and task."""
        return table(self.rows)

    def points_frame(self) -> pd.DataFrame:
        """The vectors on their principal components, one row each."""
        return table(self.points)

    def figure(self) -> Figure:
        """The principal components of the layer at which the tasks separate best."""
        best = max(self._whole(), key=lambda row: row.separation)
        tasks = sorted({point.task for point in self.points})
        first, second = next(shares for layer, *shares in self.explained if layer == best.layer)
        series = []
        for number, task in enumerate(tasks):
            mine = [p for p in self.points if p.task == task and p.layer == best.layer]
            first_of = (point.first for point in mine)
            series.append(points(task, first_of, mine, style_at(number), value="second", ends=None))
        return Figure(
            name="geometry",
            title=f"Vectors of {len(tasks)} tasks (layer {best.layer})",
            x_label=f"First principal component ({first:.0%} of the variance)",
            y_label=f"Second ({second:.0%})",
            series=tuple(series),
        )

    def _whole(self) -> list[Separation]:
        return [row for row in self.rows if row.task == "all"]


def compare_vectors(vectors: Sequence[TaskVector], *, seed: int = 0) -> Geometry:
    """Intra-task alignment, inter-task separation and principal components, layer by layer.

    Args:
        vectors: Of at least two tasks, and of at least two seeds of some task; each at one site, or
            all at the same sites.
        seed: Of the random orders, where there are too many to count.

    Raises:
        TaskVectorsError: There are too few, or vectors of different tasks started from one and the
            same random start, which alone would make them alike.

    Source: Intra-class alignment and inter-class separation of Yang et al. (2026),
        https://arxiv.org/abs/2509.24169, whose formulas are not known. Ours are mean cosines, with
        a null by permutation.
    """
    _check_starts(vectors)
    groups: dict[tuple[tuple[int, str, int | str], ...], list[TaskVector]] = {}
    for vector in vectors:
        groups.setdefault(tuple(sorted(site.place for site in vector.sites)), []).append(vector)
    rows: list[Separation] = []
    points: list[Point] = []
    explained = []
    for place, here in sorted(groups.items()):
        tasks = [vector.origin.task for vector in here]
        if len(set(tasks)) < 2 or len(set(tasks)) == len(tasks):
            continue
        layer = place[0][0]
        flat = torch.stack([vector.values.flatten().double().cpu() for vector in here])
        units = flat / flat.norm(dim=1, keepdim=True)
        rows += separations(units, tasks, layer, seed=seed)
        places, shares = principal_components(units)
        explained.append((layer, *shares))
        points += [
            Point(layer=layer, task=task, seed=vector.origin.seed, first=first, second=second)
            for vector, task, (first, second) in zip(here, tasks, places.tolist(), strict=True)
        ]
    if not rows:
        raise TaskVectorsError(
            f"geometry needs vectors of at least two tasks, and two seeds of one of them, at one "
            f"layer; the {len(vectors)} given have no such layer. Learn them with --seed 0 and "
            "--seed 1"
        )
    return Geometry(rows=tuple(rows), points=tuple(points), explained=tuple(explained))


def separations(
    units: Float[Tensor, "vector d_model"], tasks: Sequence[str], layer: int, *, seed: int = 0
) -> list[Separation]:
    """Mean cosines within and across tasks, and how often shuffled names do as well.

    Args:
        units: Vectors of length 1.
        tasks: The task of each; at least two, one of them with two vectors.
        layer: For the rows.
        seed: Of the random orders, where there are too many to count.
    """
    names = sorted(set(tasks))
    codes = torch.tensor([names.index(task) for task in tasks])
    cosines = units @ units.T
    intra, inter = _means(cosines, codes.unsqueeze(0))
    compared = orders(len(tasks), seed=seed)
    null = torch.sub(*_means(cosines, codes[compared.values[:, 0]]))
    observed = float(intra - inter)
    p = compared.p_value(null, observed, _share_of_same_groups(tasks))
    rows = [
        Separation(
            layer=layer,
            task="all",
            n_vectors=len(tasks),
            intra=float(intra),
            inter=float(inter),
            separation=observed,
            p_value=p.value,
            smallest_p_value=p.smallest,
            null_high=float(null.quantile(0.975)),
        )
    ]
    for code, name in enumerate(names):
        mine = codes == code
        count = int(mine.sum())
        if count < 2:
            continue
        within = (float(cosines[mine][:, mine].sum()) - count) / (count * (count - 1))
        across = float(cosines[mine][:, ~mine].mean())
        with_each = {
            other: float(cosines[mine][:, codes == place].mean())
            for place, other in enumerate(names)
            if other != name
        }
        nearest = max(with_each, key=lambda other: with_each[other])
        rows.append(
            Separation(
                layer=layer,
                task=name,
                n_vectors=count,
                intra=within,
                inter=across,
                separation=within - across,
                p_value=None,
                smallest_p_value=None,
                null_high=None,
                nearest=nearest,
                nearest_cosine=with_each[nearest],
            )
        )
    return rows


def _share_of_same_groups(tasks: Sequence[str]) -> float:
    """Share of all orders of the task names that leave the same groups of vectors."""
    sizes = Counter(tasks).values()
    same = prod(map(factorial, sizes)) * prod(map(factorial, Counter(sizes).values()))
    return same / factorial(len(tasks))


def _means(
    cosines: Float[Tensor, "vector other"], codes: Tensor
) -> tuple[Float[Tensor, " draw"], Float[Tensor, " draw"]]:
    """Mean cosine of pairs of one task and of pairs of two, for several namings."""
    same = codes.unsqueeze(2) == codes.unsqueeze(1)
    apart = ~torch.eye(len(cosines), dtype=torch.bool)
    within, across = same & apart, ~same
    return (
        (cosines * within).sum(dim=(1, 2)) / within.sum(dim=(1, 2)),
        (cosines * across).sum(dim=(1, 2)) / across.sum(dim=(1, 2)),
    )


def principal_components(
    rows: Float[Tensor, "vector d_model"],
) -> tuple[Float[Tensor, "vector component"], tuple[float, float]]:
    """Rows on their first two principal components, and the share of variance of each."""
    left, values, _ = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    shares = values.square() / values.square().sum()
    return left[:, :2] * values[:2], (float(shares[0]), float(shares[1]))


def _check_starts(vectors: Sequence[TaskVector]) -> None:
    starts: dict[int | None, set[str]] = {}
    for vector in vectors:
        if vector.origin.settings.get("initialisation") in ("uniform", "normal"):
            starts.setdefault(vector.origin.seed, set()).add(vector.origin.task)
    for seed, tasks in starts.items():
        if len(tasks) > 1:
            raise TaskVectorsError(
                f"the vectors of {', '.join(sorted(tasks))} with seed {seed} started from the same "
                "random values, which alone makes them alike; learn each task with seeds of its "
                "own, or from zero"
            )


def _summary(rows: pd.DataFrame) -> str:
    whole = rows[rows["task"] == "all"]
    return "; ".join(
        f"layer {row.layer:.0f}: cosine within tasks {row.intra:.2f}, across {row.inter:.2f} "
        f"({row.n_vectors:.0f} vectors, p = {row.p_value:.2g}; the smallest that its test could "
        f"give is {row.smallest_p_value:.1g})"
        for row in whole.itertuples()
    )


ANALYSES.register(
    Analysis(
        name="geometry",
        title="Geometry",
        question="Do vectors of one task lie together, and those of different tasks apart?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=lambda case: compare_vectors(case.vectors),
        columns=Columns(
            keys=("layer", "task", "n_vectors", "nearest"),
            names={"task": "one_task"},
            measures={
                "intra": None,
                "inter": None,
                "separation": None,
                "nearest_cosine": None,
                "p_value": None,
                "smallest_p_value": None,
                "null_high": None,
            },
        ),
        works=nothing,
        caption="Vectors of unit length on their first two principal components, centred, at the "
        "layer at which the tasks separate most; one point per seed.",
        summary=_summary,
        needs="vectors",
        reads_shots=False,
    )
)
