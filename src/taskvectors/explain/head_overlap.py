"""Whether two sets of heads are the same more often than chance would make them.

Key heads of one vector against those of another task's vector, of another seed's, and against the
heads that a function vector is made of.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb

import pandas as pd

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.key_heads import key_heads, key_heads_of, key_heads_works
from taskvectors.explain.shared.analysis import Analysis
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.rows import points, table
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREY, Figure
from taskvectors.results.record import named_rows
from taskvectors.trunk.work import Work, as_much

Heads = Collection[tuple[int, int]]
"""Heads by layer and head."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Key heads against one other set."""

    reference: str
    shared: int
    n_key: int
    n_reference: int
    """Of the other set, those that could be key heads: above the vector."""
    share: float
    """Of the key heads, those that are in the other set."""
    chance: float
    """The same share for heads drawn at random."""
    p_value: float
    """Probability that so many or more would be shared by chance."""
    smallest_p_value: float
    """The same for as many as could be shared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadOverlap:
    """Key heads against other sets."""

    rows: tuple[Overlap, ...]
    n_heads: int
    """Heads that could be key heads."""

    def to_frame(self) -> pd.DataFrame:
        """One row per other set."""
        return table(self.rows, n_heads=self.n_heads)

    def figure(self) -> Figure:
        """Shared heads beside what chance would give."""
        places = tuple(float(place) for place in range(len(self.rows)))
        return Figure(
            name="head-overlap",
            title="Key heads that are in other sets, too",
            x_label="The other set",
            y_label="Share of the key heads",
            series=(
                points("found", places, self.rows, BLUE, value="share", ends=None),
                points("by chance", places, self.rows, GREY, value="chance", ends=None),
            ),
            x_ticks=tuple(zip(places, (row.reference for row in self.rows), strict=True)),
            shares=True,
            caption=f"Of {self.n_heads} heads above the vector.",
        )


def head_overlap(key: Heads, references: Mapping[str, Heads], among: Heads) -> HeadOverlap:
    """How many of the key heads are in other sets.

    Args:
        key: The key heads.
        references: Other sets of heads by name.
        among: All heads that could be key heads.

    Raises:
        TaskVectorsError: There is nothing to compare with.

    Source:
        The chance is that of the hypergeometric distribution (Fisher's exact test, one-sided).

    Example:
        >>> pool = [(layer, head) for layer in range(2) for head in range(4)]
        >>> found = head_overlap(pool[:2], {"twin": pool[:2]}, pool)
        >>> found.rows[0].share, round(found.rows[0].p_value, 4)
        (1.0, 0.0357)
    """
    if not references:
        raise TaskVectorsError(
            "there is nothing to compare the key heads with; give another task's vector "
            "(--other-vector) or vectors of other seeds (--vectors)"
        )
    pool, ours = set(among), set(key)
    rows = []
    for name, heads in references.items():
        theirs = set(heads) & pool
        shared = len(ours & theirs)
        sizes = {"n": len(ours), "marked": len(theirs), "pool": len(pool)}
        rows.append(
            Overlap(
                reference=name,
                shared=shared,
                n_key=len(ours),
                n_reference=len(theirs),
                share=shared / len(ours),
                chance=len(theirs) / len(pool),
                p_value=at_least(shared, **sizes),
                smallest_p_value=at_least(min(len(ours), len(theirs)), **sizes),
            )
        )
    return HeadOverlap(rows=tuple(rows), n_heads=len(pool))


def at_least(shared: int, *, n: int, marked: int, pool: int) -> float:
    """Probability that n draws of a pool hold so many or more of its marked ones."""
    ways = sum(comb(marked, k) * comb(pool - marked, n - k) for k in range(shared, n + 1))
    return ways / comb(pool, n)


def _find(case: Case) -> HeadOverlap:
    heads = key_heads_of(case)
    references: dict[str, Heads] = {}
    if case.other is not None:
        references[f"another task: {case.other.context.task.name}"] = key_heads_of(case.other).key
    for number, vector in enumerate(case.vectors):
        seed = vector.origin.seed
        label = f"{number + 1}: {vector.origin.label}" + ("" if seed is None else f", seed {seed}")
        made_of = vector.origin.settings.get("heads")
        if made_of:  # of a function vector
            references[f"heads that make up {label}"] = tuple((at, head) for at, head in made_of)
        elif vector is not case.vector and vector.origin.task == case.vector.origin.task:
            prompts = case.prompts("train")
            found = key_heads(case.model, prompts, vector, memory=case.context.memory)
            references[label] = found.key
    return head_overlap(heads.key, references, heads.ranked)


def _summary(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{row.shared:.0f} of {row.n_key:.0f} key heads in {row.reference} (by chance "
        f"{row.chance * row.n_key:.1f}, p = {row.p_value:.2g}; the smallest that its test could "
        f"give is {row.smallest_p_value:.1g})"
        for row in named_rows(rows)
    )


def _works(sizes: Sizes) -> list[Work]:
    own = key_heads_works(sizes)
    other = [as_much(work, f"{work.name}, other task") for work in own]
    return own + (other if sizes.has_other else [])


ANALYSES.register(
    Analysis(
        name="head-overlap",
        title="Overlap of key heads",
        question="Are they the same heads for other tasks and other seeds?",
        citation="Fisher's exact test",
        find=_find,
        columns=Columns(
            keys=("reference", "n_key", "n_reference"),
            measures={
                "shared": None,
                "share": None,
                "chance": None,
                "p_value": None,
                "smallest_p_value": None,
            },
            constants=("n_heads",),
        ),
        works=_works,
        caption="Share of the key heads that are in another set of heads, beside the share "
        "expected of heads drawn at random.",
        summary=_summary,
        needs_other=True,
        reads_shots=False,
    )
)
