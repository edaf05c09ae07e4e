"""What vectors themselves read as, layer by layer: their tokens, and where the labels are.

Nothing is run: a vector is taken as if it were the last state. A random vector of its length stands
beside each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from taskvectors.explain.shared.analysis import Analysis, in_lines
from taskvectors.explain.shared.case import Case, one_layer
from taskvectors.explain.shared.cost import nothing
from taskvectors.explain.shared.labels import label_alignment, lens
from taskvectors.explain.shared.layer_fits import layered_vectors
from taskvectors.explain.shared.measured import COLUMNS, Measured, frame_of, line, measured_line
from taskvectors.methods import RunContext
from taskvectors.registry import ANALYSES
from taskvectors.results.figures import BLUE, GREY, PURPLE, Figure
from taskvectors.vectors import TaskVector

_SEED = 15_000_017
_SHOWN = (
    ("label_rank", "vector", "labels, of the vector", BLUE),
    ("matched_rank", "vector", "token sets of their size and frequency (95 %)", GREY),
    ("label_rank", "random", "labels, of a random vector of its length", PURPLE),
)


@dataclass(frozen=True, kw_only=True)
class VectorLens:
    """Tokens of vectors, and how near they are to the labels, by layer."""

    rows: tuple[Measured, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, measure and, for tokens, rank."""
        return frame_of(self.rows)

    def figure(self) -> Figure:
        """Where the labels stand among all tokens, by layer."""
        return Figure(
            name="lens",
            title="Where the labels stand among all tokens that a vector reads as",
            x_label="Layer of the vector",
            y_label="Share of the vocabulary below",
            series=tuple(line(self.rows, *one) for one in _SHOWN),
        )


def _find(case: Case) -> VectorLens:
    """What a case's vectors read as, those of its task and method at other layers among them."""
    vectors = sorted(layered_vectors(case), key=lambda vector: vector.layers[0])
    return read_vectors(case.context, vectors, seed=case.context.seed)


def read_vectors(
    context: RunContext, vectors: Sequence[TaskVector], *, seed: int = 0
) -> VectorLens:
    """Top tokens and label alignment of vectors that each sit at one layer.

    Args:
        context: Model and task; the task's answers are the labels.
        vectors: Added at one layer, at the last token.
        seed: Of the random vectors and of the matched token sets.

    Raises:
        TaskVectorsError: A vector sits elsewhere.

    Source: the logit lens on vectors of Yang et al. (2026), https://arxiv.org/abs/2509.24169. We
        differ: alignment is a share and a rank, beside matched token sets and random vectors.
    """
    generator = torch.Generator().manual_seed(seed + _SEED)
    labels = sorted(context.label_starts)
    rows: list[Measured] = []
    for vector in vectors:
        vector.check_model(context.model)
        layer = one_layer(vector, "what a vector reads as")
        directions = torch.stack([vector.values[0], vector.random_like(generator).values[0]])
        read = lens(context.model, directions)
        aligned = label_alignment(context.model, directions, labels, generator)
        for around, tokens, one in zip(("vector", "random"), read, aligned, strict=True):
            rows += [
                Measured(
                    layer=layer, around=around, measure="lens", at=float(place), value=logit,
                    text=token,
                )
                for place, (token, logit) in enumerate(tokens)
            ]  # fmt: skip
            rows += one.rows(layer, around)
    return VectorLens(rows=tuple(rows))


_NUMBERS = in_lines(
    measured_line("labels stand above", "label_rank"),
    measured_line("matched token sets above", "matched_rank"),
    measured_line("labels in a random vector above", "label_rank", "random"),
)


def _summary(rows: pd.DataFrame) -> str:
    first = rows[rows["layer"] == rows["layer"].iloc[0]]
    tokens = first[(first["measure"] == "lens") & (first["around"] == "vector")]
    top = ", ".join(repr(token) for token in tokens["text"].head(5))
    return f"layer {first['layer'].iloc[0]:.0f}: {top}; {_NUMBERS(first)} of the vocabulary"


ANALYSES.register(
    Analysis(
        name="lens",
        title="Lens",
        question="Does the vector itself decode to the task's words?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=COLUMNS,
        works=nothing,
        caption="Share of the vocabulary whose logits lie below those of the task's labels when "
        "the unembedding reads the vector itself, after the final norm.",
        summary=_summary,
        reads_shots=False,
    )
)
