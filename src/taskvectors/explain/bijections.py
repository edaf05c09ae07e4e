"""`bijections`: can one learned vector map both ways, x to y and y to x?

Extracted vectors are known to fail at that. One vector is learned on the union of both directions,
with nothing but the query to tell which, and stands beside a vector for each direction alone and
demonstrations of both. A wrong-direction answer is a word of the query's own side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.evaluate import Scores, paired_difference, score, wilson_interval
from taskvectors.explain.shared.analysis import CI, Analysis
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes, plain
from taskvectors.explain.shared.rows import points, table
from taskvectors.format import percent
from taskvectors.methods import Recipe, RunContext, plan_of
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import best_candidate
from taskvectors.methods.shared.curves import tried
from taskvectors.methods.shared.layers import LayerName
from taskvectors.methods.shared.run_context import Split
from taskvectors.methods.training.recipe import RECIPES
from taskvectors.prompts import Prompt
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREEN, GREY, VERMILION, Figure
from taskvectors.results.record import named_rows
from taskvectors.tasks import Task
from taskvectors.tasks.derived import both_directions, one_to_one, reversed_task
from taskvectors.trunk import Branch, Position
from taskvectors.trunk.work import Work, as_much

DIRECTIONS = ("forward", "backward")
_LAST_FIVE: tuple[Position, ...] = (-5, -4, -3, -2, -1)


class Configuration(BaseModel):
    """Where the vectors of one comparison go."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    name: str
    layers: tuple[LayerName, ...] = Field(min_length=1)
    """Layers of one vector, trained together."""
    positions: tuple[Position, ...] = (-1,)
    """Its positions."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One way of answering, in one direction."""

    configuration: str
    vector: str
    """`both` learned on the union; `forward` and `backward` on one direction; `none`."""
    shots: int
    direction: str
    """Of the queries."""
    accuracy: float
    ci_low: float
    ci_high: float
    first_token_accuracy: float
    wrong_direction: float
    """Share of answers that begin like a word of the query's own side and like none of the other,
    the query itself included."""
    copied: float
    """Share of answers that begin like the query itself, and not like the right answer."""
    n: int
    difference: float | None = None
    """Accuracy minus that of the direction's own vector, on the same prompts."""
    difference_low: float | None = None
    difference_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bijections:
    """Both directions of a mapping, by configuration of the vector."""

    task: str
    rows: tuple[Answered, ...]
    n_left_out: int
    """Pairs whose words do not tell the direction."""

    def to_frame(self) -> pd.DataFrame:
        """One row per configuration, vector and direction."""
        return table(self.rows, task=self.task)

    def figure(self) -> Figure:
        """Accuracy by direction and configuration."""
        named = dict.fromkeys(row.configuration for row in self.rows if row.configuration)
        places = [(name, direction) for name in named for direction in DIRECTIONS]
        series = []
        for label, style, offset in (
            ("one vector for both directions", BLUE, -0.1),
            ("a vector for this direction alone", GREEN, 0.1),
            ("the other direction's vector", VERMILION, 0.2),
        ):
            rows = [self._shown(label, *place) for place in places]
            beside = (place + offset for place in range(len(places)))
            series.append(points(label, beside, rows, style))
        shown = [self._plain(direction) for _, direction in places]
        label = f"{shown[0].shots}-shot, both directions shown"
        series.append(points(label, range(len(places)), shown, GREY))
        return Figure(
            name="bijections",
            title=f"Both directions of {self.task}",
            x_label="Vector and direction of the query",
            y_label="Accuracy (test)",
            series=tuple(series),
            x_ticks=tuple((float(i), f"{name}\n{way}") for i, (name, way) in enumerate(places)),
            shares=True,
        )

    def _row(self, configuration: str, vector: str, direction: str) -> Answered:
        return next(
            row
            for row in self.rows
            if (row.configuration, row.vector, row.direction) == (configuration, vector, direction)
        )

    def _plain(self, direction: str) -> Answered:
        return max(
            (r for r in self.rows if r.vector == "none" and r.direction == direction),
            key=lambda row: row.shots,
        )

    def _shown(self, label: str, configuration: str, direction: str) -> Answered:
        other = next(name for name in DIRECTIONS if name != direction)
        vector = {"one": "both", "a": direction, "the": other}[label.split(maxsplit=1)[0]]
        return self._row(configuration, vector, direction)


def _find(case: Case) -> Bijections:
    """Bijections of the case's task, at the vector's layer and around it."""
    return map_both_ways(case.context, around(case.vector.layers[0], case.model.n_layers))


def around(layer: int, n_layers: int) -> tuple[Configuration, ...]:
    """Where vectors go in the analysis of one vector: where it is, more positions, more layers."""
    return (
        Configuration(name="last token", layers=(layer,)),
        Configuration(name="last five tokens", layers=(layer,), positions=_LAST_FIVE),
        Configuration(name="every fourth layer", layers=tuple(range(0, n_layers, 4))),
    )


def map_both_ways(
    context: RunContext,
    configurations: Sequence[Configuration],
    recipe: Recipe | None = None,
    *,
    keeps_unclear: bool = False,
) -> Bijections:
    """Learn one vector for both directions and one for each, and compare them.

    Args:
        context: Model and task; the task's pairs are the forward direction.
        configurations: Where the vectors go.
        recipe: How to train, `from-zero` if None; a one-direction vector gets as many steps as the
            one for both.
        keeps_unclear: Keep pairs whose words do not tell the direction, as controls whose two
            directions are one mapping need (copying, antonyms).

    Raises:
        DataError: Too few pairs tell their direction.

    Source: Dong et al. (2026), https://arxiv.org/abs/2506.09048, bijections. We differ: the vectors
        are learned, not extracted.
    """
    task = context.task if keeps_unclear else one_to_one(context.task)
    tasks = {"forward": task, "backward": reversed_task(task), "both": both_directions(task)}
    benches = {name: _bench(context, one) for name, one in tasks.items()}
    rows = []
    for shots in (0, context.shots):
        for direction in DIRECTIONS:
            # demonstrations come from both directions, whichever is asked
            prompts = benches["both"].ask(tasks[direction].test, shots)
            scores = score(context.model, prompts, memory=context.memory)
            rows.append(_answered("", "none", direction, scores, _sides(benches, direction)))
            rows[-1] = replace(rows[-1], shots=shots)
    settings = recipe or RECIPES["from-zero"]
    for configuration in configurations:
        branches = {name: _learn(benches[name], configuration, settings) for name in benches}
        for direction in DIRECTIONS:
            rows += _compare(benches, configuration.name, direction, branches)
    return Bijections(
        task=context.task.name, rows=tuple(rows), n_left_out=_lost(context.task, task)
    )


def _bench(context: RunContext, task: Task) -> RunContext:
    return RunContext(
        model=context.model,
        task=task,
        template=context.template,
        shots=context.shots,
        seed=context.seed,
        memory=context.memory,
    )


def _learn(context: RunContext, configuration: Configuration, recipe: Recipe) -> Branch:
    config = Learned(layers=configuration.layers, positions=configuration.positions, recipe=recipe)
    vector = best_candidate(context, tried(context, config)).vector
    assert vector is not None
    return vector.edits()


def _compare(
    benches: dict[str, RunContext], name: str, direction: str, branches: dict[str, Branch]
) -> list[Answered]:
    """One direction's test queries with each of the vectors, in one pass."""
    scores = benches[direction].score("test", 0, list(branches.values()))
    own = scores.branch(list(branches).index(direction))
    rows = []
    for number, vector in enumerate(branches):
        one = scores.branch(number)
        row = _answered(name, vector, direction, one, _sides(benches, direction))
        gap = paired_difference([one.is_correct[0]], [own.is_correct[0]])
        rows.append(
            replace(row, difference=gap.mean, difference_low=gap.low, difference_high=gap.high)
        )
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sides:
    """First tokens of words, where they are answers."""

    own: frozenset[int]
    """Of the side that the queries are on."""
    other: frozenset[int]
    queries: tuple[int, ...]
    """Of each test query itself."""
    answers: tuple[int, ...]


def _sides(benches: dict[str, RunContext], direction: str) -> _Sides:
    """The words of both sides as tokens; those of the query's side answer the other direction."""
    other = next(name for name in DIRECTIONS if name != direction)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    starts = {
        name: frozenset(p.answer_ids[0] for split in splits for p in benches[name].prompts(split))
        for name in DIRECTIONS
    }
    # the reversed task keeps the order of the pairs
    queries: Sequence[Prompt] = benches[other].prompts("test")
    return _Sides(
        own=starts[other],
        other=starts[direction],
        queries=tuple(prompt.answer_ids[0] for prompt in queries),
        answers=tuple(prompt.answer_ids[0] for prompt in benches[direction].prompts("test")),
    )


def _answered(
    configuration: str, vector: str, direction: str, scores: Scores, sides: _Sides
) -> Answered:
    n = scores.is_correct.shape[1]
    hits = int(scores.is_correct.sum())
    low, high = wilson_interval(hits, n)
    said = scores.first_token[0].tolist()
    wrong = [token in sides.own and token not in sides.other for token in said]
    copied = [
        token == query != answer
        for token, query, answer in zip(said, sides.queries, sides.answers, strict=True)
    ]
    return Answered(
        configuration=configuration,
        vector=vector,
        shots=0,
        direction=direction,
        accuracy=hits / n,
        ci_low=low,
        ci_high=high,
        first_token_accuracy=_share(scores.first_is_correct[0]),
        wrong_direction=sum(wrong) / n,
        copied=sum(copied) / n,
        n=n,
    )


def _share(values: Bool[Tensor, " prompt"]) -> float:
    return float(values.to(torch.float64).mean())


def _lost(before: Task, after: Task) -> int:
    splits = ("train", "validation", "test")
    return sum(len(getattr(before, s)) - len(getattr(after, s)) for s in splits)


def _summary(rows: pd.DataFrame) -> str:
    learned = rows[rows["vector"] == "both"]
    return "; ".join(
        f"{row.configuration}, {row.direction} {percent(row.accuracy)} "
        f"(minus the direction's own vector: {row.difference:+.2f} "
        f"[{row.difference_low:+.2f}, {row.difference_high:+.2f}])"
        for row in named_rows(learned)
    )


def _works(sizes: Sizes) -> list[Work]:
    context = sizes.context
    return both_ways(context, around(sizes.layer, context.model.n_layers), RECIPES["from-zero"])


def both_ways(
    context: RunContext,
    configurations: Sequence[Configuration],
    recipe: Recipe,
) -> list[Work]:
    """What learning a mapping both ways runs.

    The other direction is counted as large as the task itself, and both together as twice it.

    Args:
        context: The task.
        configurations: Where the vectors go.
        recipe: How vectors are learned.
    """
    works = [
        as_much(plain(context, shots), f"{way}, {shots} shots")
        for shots in (0, context.shots)
        for way in ("forward", "backward")
    ]
    for one in configurations:
        config = Learned(layers=one.layers, positions=one.positions, recipe=recipe)
        plan = plan_of(context, config)
        tested = replace(plan, joins=plan.joins * 3).tested(context)
        for way in ("forward", "backward"):
            works += [as_much(work, f"{way}, {work.name}") for work in (*plan.found, *tested)]
        works += [_twice(work) for work in plan.found]
    return works


def _twice(work: Work) -> Work:
    """The same steps on twice as many prompts, and checks of twice as many."""
    is_check = work.n_prompts == work.prompts_per_pass
    factor = 2 if is_check else 1
    return replace(
        as_much(work, f"both, {work.name}"),
        n_prompts=2 * work.n_prompts,
        tokens=2 * work.tokens,
        prompts_per_pass=factor * work.prompts_per_pass,
        branch_tokens=factor * work.branch_tokens,
        rows=factor * work.rows,
        kept=tuple(replace(one, n_prompts=2 * one.n_prompts) for one in work.kept),
    )


ANALYSES.register(
    Analysis(
        name="bijections",
        title="Bijections",
        question="Can one learned vector map both ways?",
        citation="Dong et al. 2026, arXiv 2506.09048",
        find=_find,
        columns=Columns(
            keys=("vector", "direction", "configuration"),
            names={"configuration": "where"},
            measures={
                "accuracy": CI,
                "difference": ("difference_low", "difference_high"),
                "first_token_accuracy": None,
                "wrong_direction": None,
                "copied": None,
            },
        ),
        works=_works,
        caption="Accuracy by direction of one vector learned on both, of one learned on that "
        "direction alone, and of the other direction's; nothing but the query tells the direction. "
        "95 % Wilson intervals.",
        summary=_summary,
        needs="vectors",
    )
)
