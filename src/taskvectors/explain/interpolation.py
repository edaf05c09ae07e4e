"""`interpolation`: what lies between the vectors of two tasks?

(1 - t) a + t b for t from 0 to 1, on both tasks. Beside it each vector alone at the same strength:
what is lost there is lost to weakness, the rest to the other vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate import measure
from taskvectors.explain.shared.analysis import CI, Analysis
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.rows import points, table
from taskvectors.explain.transfer import bench_of
from taskvectors.format import percent
from taskvectors.methods import RunContext
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, VERMILION, Figure, Style
from taskvectors.results.record import named_rows
from taskvectors.trunk.work import Work, as_much
from taskvectors.vectors import TaskVector

STEPS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, kw_only=True)
class Between:
    """One point between two vectors, on one task."""

    task: str
    t: float
    """0 is the first vector, 1 the second."""
    mixed: bool
    """Whether the other vector is there, too."""
    accuracy: float
    ci_low: float
    ci_high: float
    first_token_accuracy: float
    in_label_set: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Both tasks along the line between two vectors."""

    rows: tuple[Between, ...]
    tasks: tuple[str, str]

    def to_frame(self) -> pd.DataFrame:
        """One row per task, place and kind."""
        return table(self.rows)

    def figure(self) -> Figure:
        """Accuracy against t."""
        series = []
        for task, style in zip(self.tasks, (BLUE, VERMILION), strict=True):
            alone = Style(light=style.light, dark=style.dark, dash="dot", marker="cross")
            for mixed, look in ((True, style), (False, alone)):
                rows = [row for row in self.rows if row.task == task and row.mixed == mixed]
                label = f"{task}{'' if mixed else ', its vector alone'}"
                ends = ("ci_low", "ci_high") if mixed else None
                along = (row.t for row in rows)
                series.append(points(label, along, rows, look, ends=ends, kind="line"))
        first, second = self.tasks
        return Figure(
            name="interpolation",
            title="Between the vectors of two tasks",
            x_label=f"t of (1 - t) {first} + t {second}",
            y_label="Accuracy (test)",
            series=tuple(series),
            shares=True,
        )


def _find(case: Case) -> Interpolation:
    """Between the case's vector and the first one of another task at its sites."""
    places = {site.place for site in case.vector.sites}
    for vector in case.vectors:
        task = vector.origin.task
        if task != case.context.task.name and {site.place for site in vector.sites} == places:
            return interpolate((case.context, bench_of(case, task)), (case.vector, vector))
    raise TaskVectorsError(
        "interpolation needs the vector of another task at the same sites; name one among --vectors"
    )


def interpolate(benches: Sequence[RunContext], vectors: Sequence[TaskVector]) -> Interpolation:
    """Score the line between two vectors on both tasks, one pass per task.

    Args:
        benches: Two, one per task.
        vectors: Theirs, in the same order, at the same sites.

    Raises:
        TaskVectorsError: The vectors are at different sites.
    """
    first, second = vectors
    if {site.place for site in first.sites} != {site.place for site in second.sites}:
        raise TaskVectorsError(
            f"{first.origin.label} and {second.origin.label} are at different sites; between them "
            "is nothing. Learn both at the same layer and position"
        )
    mixtures = [(first * (1 - t) + second * t).edits() for t in STEPS]
    rows = []
    for number, context in enumerate(benches):
        own = [1 - t for t in STEPS] if number == 0 else list(STEPS)
        alone = [vectors[number].edits(strength) if strength else () for strength in own]
        scores = context.score("test", 0, [*mixtures, *alone])
        for index in range(2 * len(STEPS)):
            found = measure(scores.branch(index), context.label_starts)
            rows.append(
                Between(
                    task=context.task.name,
                    t=STEPS[index % len(STEPS)],
                    mixed=index < len(STEPS),
                    accuracy=found.accuracy,
                    ci_low=found.ci_low,
                    ci_high=found.ci_high,
                    first_token_accuracy=found.first_token_accuracy,
                    in_label_set=found.in_label_set,
                    n=found.n,
                )
            )
    return Interpolation(rows=tuple(rows), tasks=(benches[0].task.name, benches[1].task.name))


def _summary(rows: pd.DataFrame) -> str:
    mixed = rows[rows["mixed"].astype(bool) & rows["t"].isin((0.0, 0.5, 1.0))]
    return "; ".join(
        f"{task} "
        + ", ".join(f"{percent(row.accuracy)} at t = {row.t:g}" for row in named_rows(own))
        for task, own in mixed.groupby("task", sort=False)
    )


def _works(sizes: Sizes) -> list[Work]:
    own = sizes.branches("test", sizes.context.prompts("test"), 2 * len(STEPS))
    return [own, as_much(own, "test, other task")]


ANALYSES.register(
    Analysis(
        name="interpolation",
        title="Interpolation",
        question="What lies between the vectors of two tasks?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("t", "mixed"),
            measures={"accuracy": CI, "first_token_accuracy": None, "in_label_set": None},
        ),
        works=_works,
        caption="Accuracy on both tasks along the line between their vectors. Alone: the task's "
        "own vector at the strength it has in the mixture.",
        summary=_summary,
        needs="vectors",
        reads_shots=False,
    )
)
