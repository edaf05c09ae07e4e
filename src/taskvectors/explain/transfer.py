"""`transfer`: what does a vector do in tasks that it was not made for?

Every vector on every task's test prompts. Sharing label words alone can make one vector work on
another task, so a 2x2 tells label words from the task: the same task with other words, another task
with the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate import Measures, measure
from taskvectors.explain.shared.analysis import CI, Analysis
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.rows import table
from taskvectors.format import percent
from taskvectors.methods import RunContext
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import Heatmap
from taskvectors.results.record import named_rows
from taskvectors.trunk.work import Work, as_much
from taskvectors.vectors import TaskVector, task_of

NONE = "zero-shot"


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """One vector on one task."""

    vector: str
    """The task the vector was made for; `zero-shot` for no vector."""
    task: str
    """The task it is used on."""
    accuracy: float
    ci_low: float
    ci_high: float
    first_token_accuracy: float
    label_accuracy: float | None
    in_label_set: float
    n: int
    cell: str = ""
    """Its place in the 2x2, if it has one: `same task, other words` and so on."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Vectors by tasks."""

    rows: tuple[Transferred, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per vector and task."""
        return table(self.rows)

    def figure(self) -> Heatmap:
        """The matrix of accuracies."""
        vectors = tuple(dict.fromkeys(row.vector for row in self.rows))
        tasks = tuple(dict.fromkeys(row.task for row in self.rows))
        found = {(row.vector, row.task): row.accuracy for row in self.rows}
        own = tuple(
            (i, j) for (i, v), (j, t) in product(enumerate(vectors), enumerate(tasks)) if v == t
        )
        return Heatmap(
            name="transfer",
            title="Vectors on other tasks",
            x_label="Task it is used on",
            y_label="Task of the vector",
            columns=tasks,
            rows=vectors,
            values=tuple(tuple(found.get((v, t)) for t in tasks) for v in vectors),
            value_label="Accuracy (test)",
            limits=(0.0, 1.0),
            marked=own,
            mark_label="its own task",
            shares=True,
        )


def _find(case: Case) -> Transfer:
    """Every vector of a case on every task that one of them is for."""
    names = dict.fromkeys(vector.origin.task for vector in case.vectors or (case.vector,))
    return transfer_matrix([bench_of(case, name) for name in names], case.vectors or (case.vector,))


def bench_of(case: Case, task: str) -> RunContext:
    """A task's context beside a case's own: the task's own template, for which its vector was made.

    Args:
        case: The case; its own context is given for its own task.
        task: Name of a task.
    """
    if task == case.context.task.name:
        return case.context
    if case.other is not None and task == case.other.context.task.name:
        return case.other.context
    from taskvectors.tasks import load_task

    known = [one.origin for one in case.vectors if one.origin.task == task and one.origin.request]
    return RunContext(
        model=case.model,
        task=task_of(known[0]) if known else load_task(task, seed=case.context.task.seed),
        shots=case.context.shots,
        seed=case.context.seed,
        memory=case.context.memory,
    )


def transfer_matrix(
    benches: Sequence[RunContext],
    vectors: Sequence[TaskVector],
    *,
    cells: Mapping[tuple[str, str], str] | None = None,
) -> Transfer:
    """Score every vector on every task's test prompts: one pass per task.

    Args:
        benches: One per task, of one model.
        vectors: One per task at most.
        cells: Names of places in a 2x2, by task of the vector and task it is used on.

    Raises:
        TaskVectorsError: There are several vectors of a task.
    """
    by_task: dict[str, TaskVector] = {}
    for vector in vectors:
        if vector.origin.task in by_task:
            raise TaskVectorsError(
                f"transfer needs one vector per task, and there are several of "
                f"{vector.origin.task!r}; give one of each, such as its best layer's"
            )
        vector.check_model(benches[0].model)
        by_task[vector.origin.task] = vector
    names = (NONE, *by_task)
    branches = [(), *(vector.edits() for vector in by_task.values())]
    rows = []
    for context in benches:
        scores = context.score("test", 0, branches)
        for number, name in enumerate(names):
            found = measure(scores.branch(number), context.label_starts)
            cell = (cells or {}).get((name, context.task.name), "")
            rows.append(_row(name, context.task.name, found, cell))
    order = {name: number for number, name in enumerate(names)}
    return Transfer(rows=tuple(sorted(rows, key=lambda row: order[row.vector])))


def two_by_two(
    task: str, other_words: str, other_task: str, neither: str
) -> dict[tuple[str, str], str]:
    """The cells that tell label words from the task, for `transfer_matrix`.

    Args:
        task: A task, such as `sentiment` in true/false words.
        other_words: The same task with other label words.
        other_task: Another task with the words of `task`.
        neither: Another task with the words of `other_words`, or any others.
    """
    return {
        (task, task): "same task, same words",
        (other_words, task): "same task, other words",
        (other_task, task): "other task, same words",
        (neither, task): "other task, other words",
    }


def _row(name: str, task: str, found: Measures, cell: str) -> Transferred:
    return Transferred(
        vector=name,
        task=task,
        accuracy=found.accuracy,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        first_token_accuracy=found.first_token_accuracy,
        label_accuracy=found.label_accuracy,
        in_label_set=found.in_label_set,
        n=found.n,
        cell=cell,
    )


def _summary(rows: pd.DataFrame) -> str:
    own = rows[rows["vector"] == rows["task"]]
    other = rows[(rows["vector"] != rows["task"]) & (rows["vector"] != NONE)]
    parts = [f"{row.vector} on its own task {percent(row.accuracy)}" for row in named_rows(own)]
    parts += [f"{row.vector} on {row.task} {percent(row.accuracy)}" for row in named_rows(other)]
    return "; ".join(parts)


def _works(sizes: Sizes) -> list[Work]:
    test = sizes.context.prompts("test")
    own = sizes.branches("test", test, 1 + sizes.n_tasks)
    return [as_much(own, f"test, task {number}") for number in range(sizes.n_tasks)]


ANALYSES.register(
    Analysis(
        name="transfer",
        title="Transfer",
        question="What does a vector do in tasks that it was not made for?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("vector", "cell"),
            measures={
                "accuracy": CI,
                "first_token_accuracy": None,
                "label_accuracy": None,
                "in_label_set": None,
            },
        ),
        works=_works,
        caption="Accuracy of each vector on the test prompts of each task, its own task framed.",
        summary=_summary,
        needs="vectors",
        reads_shots=False,
    )
)
