"""From scores to the numbers that are reported.

The definitions are those of the page `docs/measures.md`: `accuracy` is on whole answers over the
full vocabulary.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch

from taskvectors.evaluate.labels import Labels
from taskvectors.evaluate.scoring import Scores
from taskvectors.evaluate.statistics import wilson_interval
from taskvectors.format import ABSENT, Rounded, html_table, in_words, interval, number
from taskvectors.prompts import Prompt, beginnings
from taskvectors.tasks import Task


@dataclass(frozen=True, kw_only=True, repr=False)
class Measures(Rounded):
    """How well one branch answers a set of prompts."""

    accuracy: float
    """Share of answers of which every token is the full-vocabulary arg-max, and, where prompts say
    what ends an answer, the next token ends it."""
    ci_low: float
    ci_high: float
    """95 % Wilson interval of `accuracy`."""
    n: int
    """Number of prompts."""
    first_token_accuracy: float
    label_accuracy: float | None
    """Share in which the right label has the largest summed log-probability among the task's
    labels; None unless every label occurs in the training split, or where one begins another and
    nothing says what ends an answer."""
    in_label_set: float
    """Share in which the predicted first token begins some label of the task."""
    answer_logprob: float
    """Mean over prompts of the mean log-probability of the answer's tokens, in nats."""

    def to_frame(self) -> pd.DataFrame:
        """One row, a column for each measure."""
        return pd.DataFrame([asdict(self)])

    def _repr_html_(self) -> str:
        ends = interval("accuracy", self.ci_low, self.ci_high)
        left = {name: value for name, value in asdict(self).items() if not name.startswith("ci_")}
        rows = [
            (in_words(name), ABSENT if value is None else number(name, value))
            for name, value in left.items()
        ]
        rows[0] = (rows[0][0], f"{rows[0][1]} {ends}")
        return html_table("", (), rows)


def measure(scores: Scores, label_starts: frozenset[int]) -> Measures:
    """The measures of one branch.

    Args:
        scores: Scores with a branch axis of one.
        label_starts: The first tokens of the task's labels.
    """
    n = scores.is_correct.shape[1]
    low, high = wilson_interval(int(scores.is_correct.sum()), n)
    labels = scores.label_is_correct
    predicted = scores.first_token[0].tolist()
    return Measures(
        accuracy=_mean(scores.is_correct),
        ci_low=low,
        ci_high=high,
        n=n,
        first_token_accuracy=_mean(scores.first_is_correct),
        label_accuracy=None if labels is None else _mean(labels),
        in_label_set=sum(token in label_starts for token in predicted) / n,
        answer_logprob=float(scores.log_probability.mean()),
    )


def label_tokens(task: Task, training: Sequence[Prompt]) -> Labels | None:
    """The task's labels as answer tokens, where the most probable of them can be told.

    None unless the training split shows every label. None too where one begins another and answers
    need no end: the longer of the two could never be the most probable.
    """
    shown = {prompt.query.output: prompt.answer_ids for prompt in training}
    if set(task.labels) - set(shown):
        return None
    if not training[0].end_ids and beginnings(training):
        return None
    return {label: shown[label] for label in task.labels}


def label_starts(*prompts: Sequence[Prompt]) -> frozenset[int]:
    """First tokens of the answers of some prompts."""
    return frozenset(prompt.answer_ids[0] for some in prompts for prompt in some)


def _mean(values: torch.Tensor) -> float:
    return float(values.double().mean())
