"""`composition`: do two vectors together do both of their tasks?

English→French plus masculine→feminine, asked for the French feminine of an English masculine word.
Each answer is one of four words, so the table tells which of the two tasks was done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate import score, wilson_interval
from taskvectors.explain.shared.analysis import CI, Analysis, Line, in_lines
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes, plain
from taskvectors.explain.shared.rows import table
from taskvectors.explain.transfer import bench_of
from taskvectors.methods import RunContext
from taskvectors.prompts import Prompt
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import Heatmap
from taskvectors.tasks.builtin import read_forms
from taskvectors.tasks.task import Example
from taskvectors.trunk import Branch
from taskvectors.trunk.work import Work, as_much
from taskvectors.vectors import TaskVector

TASK = "english-masculine-french-feminine"
PARTS = ("english-french", "masculine-feminine")
FORMS = ("english_masculine", "english_feminine", "french_masculine", "french_feminine")
OTHER = len(FORMS)
STRENGTHS = (1.0, 0.5)
_RANDOM_SEED = 13_000_027


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one vector, or none, makes of the words."""

    vector: str
    strength: float | None
    shots: int
    english_masculine: float
    """Share answered with the word itself."""
    english_feminine: float
    french_masculine: float
    french_feminine: float
    """Share answered with what both tasks together ask for."""
    ci_low: float
    ci_high: float
    other: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Outcomes of sums, differences and parts."""

    rows: tuple[Outcome, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per vector and strength."""
        return table(self.rows)

    def figure(self) -> Heatmap:
        """The four-way table."""
        outcomes = (*FORMS, "other")
        return Heatmap(
            name="composition",
            title="Which of four words is answered",
            x_label="Answer",
            y_label="What is added",
            columns=tuple(name.replace("_", " ") for name in outcomes),
            rows=tuple(_label(row) for row in self.rows),
            values=tuple(tuple(getattr(row, name) for name in outcomes) for row in self.rows),
            value_label="Share of answers",
            limits=(0.0, 1.0),
            shares=True,
        )


def _find(case: Case) -> Composition:
    """The composition of a case's two vectors on the built-in task for it."""
    by_task = {vector.origin.task: vector for vector in reversed(case.vectors)}
    missing = [task for task in PARTS if task not in by_task]
    if missing:
        raise TaskVectorsError(
            f"composition needs vectors of {' and '.join(PARTS)}; there is none of "
            f"{', '.join(missing)}. Learn it and name it among --vectors"
        )
    context = bench_of(case, TASK)
    left, right = (by_task[task] for task in PARTS)
    return compose(context, left, right, whole=by_task.get(TASK))


def compose(
    context: RunContext,
    left: TaskVector,
    right: TaskVector,
    whole: TaskVector | None = None,
    forms: Sequence[Mapping[str, str]] | None = None,
) -> Composition:
    """Outcomes of two vectors alone, together and apart, of a random one, and of no vector.

    Args:
        context: The task of both together; its test words are asked, its training pairs shown.
        left: The vector of the first part.
        right: The vector of the second.
        whole: A vector learned on the task of both, to compare with.
        forms: The four words of each pair; those of the built-in task by default.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169, composition of vectors. We differ:
        outcomes are told apart four ways.
    """
    words = _words(context, forms if forms is not None else read_forms(TASK))
    total = left + right
    random = total.random_like(torch.Generator().manual_seed(context.seed + _RANDOM_SEED))
    named: list[tuple[str, float | None, Branch]] = [
        ("none", None, ()),
        (PARTS[0], 1.0, left.edits()),
        (PARTS[1], 1.0, right.edits()),
        *(("sum", strength, total.edits(strength)) for strength in STRENGTHS),
        ("difference", 1.0, (left - right).edits()),
        ("random", 1.0, random.edits()),
    ]
    if whole is not None:
        named.append(("learned on both", 1.0, whole.edits()))
    rows = []
    for shots, shown in ((0, named), (context.shots, named[:1])):
        asked = [_prompts(context, words, form, shots) for form in FORMS]
        found = _outcomes(context, asked, [branch for _, _, branch in shown])
        for (name, strength, _), outcome in zip(shown, found, strict=True):
            rows.append(_row(name, strength, shots, outcome))
    return Composition(rows=tuple(rows))


def _words(context: RunContext, forms: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The forms of the test words of which all four differ."""
    asked = {(pair.input, pair.output) for pair in context.task.test}
    words = [
        word
        for word in forms
        if (word["english_masculine"], word["french_feminine"]) in asked
        and len({word[form].casefold() for form in FORMS}) == len(FORMS)
    ]
    if not words:
        raise TaskVectorsError(
            f"none of the {len(context.task.test)} test words has four forms that differ; take "
            "more test pairs"
        )
    return words


def _prompts(
    context: RunContext, words: Sequence[Mapping[str, str]], form: str, shots: int
) -> list[Prompt]:
    """The same prompts for every form, with that form as the answer.

    Demonstrations are drawn by query and answer, so the prompts are those of the right answer.
    """
    right = [Example(input=w[FORMS[0]], output=w[FORMS[3]]) for w in words]
    answer = [Example(input=w[FORMS[0]], output=w[form]) for w in words]
    return [
        replace(prompt, answer_ids=other.answer_ids)
        for prompt, other in zip(context.ask(right, shots), context.ask(answer, 0), strict=True)
    ]


def _outcomes(
    context: RunContext, asked: Sequence[Sequence[Prompt]], branches: Sequence[Branch]
) -> Int[Tensor, "branch word"]:
    """Which form each branch answers with; `OTHER` for none of them."""
    hits = torch.stack(
        [
            score(context.model, prompts, branches, memory=context.memory).is_correct
            for prompts in asked
        ]
    )
    lengths = torch.tensor([[len(prompt.answer_ids) for prompt in prompts] for prompts in asked])
    return longest_said(hits, lengths)


def longest_said(
    hits: Bool[Tensor, "form branch word"], lengths: Int[Tensor, "form word"]
) -> Int[Tensor, "branch word"]:
    """The form that was said: one can begin another ("prince", "princesse"), the longest counts.

    Args:
        hits: Whether every token of a form is what was said.
        lengths: Tokens of each form.
    """
    said = torch.where(hits, lengths.unsqueeze(1), 0)
    return torch.where(hits.any(dim=0), said.argmax(dim=0), OTHER)


def _row(name: str, strength: float | None, shots: int, outcome: Tensor) -> Outcome:
    n = len(outcome)
    counts = torch.bincount(outcome, minlength=OTHER + 1).tolist()
    low, high = wilson_interval(counts[3], n)
    return Outcome(
        vector=name,
        strength=strength,
        shots=shots,
        english_masculine=counts[0] / n,
        english_feminine=counts[1] / n,
        french_masculine=counts[2] / n,
        french_feminine=counts[3] / n,
        ci_low=low,
        ci_high=high,
        other=counts[OTHER] / n,
        n=n,
    )


def _label(row: Outcome) -> str:
    if row.vector == "none":
        return f"{row.shots}-shot" if row.shots else "zero-shot"
    return row.vector if row.strength in (None, 1.0) else f"{row.vector} x {row.strength:g}"


def _french_feminine(label: str, **of: Any) -> Line:
    return Line(label=label, of=of, value="french_feminine", low="ci_low", high="ci_high")


def _works(sizes: Sizes) -> list[Work]:
    """Each of the forms that a word has is scored as an answer."""
    context, n = sizes.context, 6 + len(STRENGTHS)
    works = []
    for form in FORMS:
        works += [
            as_much(sizes.branches("sums", context.prompts("test"), n), f"sums, {form}"),
            as_much(plain(context, context.shots), f"shown, {form}"),
        ]
    return works


ANALYSES.register(
    Analysis(
        name="composition",
        title="Composition",
        question="Do two vectors together do both of their tasks?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("vector", "strength"),
            names={"strength": "factor"},  # it tells rows apart, and was not chosen
            measures={
                "french_feminine": CI,
                "french_masculine": None,
                "english_feminine": None,
                "english_masculine": None,
                "other": None,
            },
        ),
        works=_works,
        caption="Share of words answered with each of four forms, greedily and as whole words; "
        "only words of which all four forms differ.",
        summary=in_lines(
            _french_feminine("French feminine with the sum", vector="sum", strength=1.0),
            *(_french_feminine(f"with {part} alone", vector=part) for part in PARTS),
            _french_feminine("without a vector", vector="none", shots=0),
            _french_feminine("with a random vector", vector="random"),
        ),
        needs="vectors",
    )
)
