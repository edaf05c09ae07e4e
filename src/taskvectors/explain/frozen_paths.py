"""Accuracy with a path frozen: what is lost when one way is held as it is without the vector.

The injected run is repeated while, at the last token of every block above the vector, one thing is
held at what it is in the plain run: attention's output, the patterns alone, the values alone, the
MLPs' output, or all of it, which leaves the direct path. A last row takes the direct path away: the
vector is taken off again after the last block. These accuracies are not parts of a sum; how an
effect splits is what path expansion says.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from taskvectors.evaluate import paired_difference, score
from taskvectors.explain.shared.analysis import CI, Analysis, Curve, accuracies, in_lines
from taskvectors.explain.shared.case import Case, blocks_above
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.rows import columns, points, table
from taskvectors.explain.shared.shares import share_of
from taskvectors.models import LanguageModel, patch
from taskvectors.models.attention import AttentionPattern, record_attention
from taskvectors.prompts import Prompt
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREEN, GREY, PURPLE, VERMILION, Figure, ReferenceLine
from taskvectors.trunk import Branch, Edit
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

FROZEN = ("none", "patterns", "values", "attention", "mlps", "attention and mlps", "direct path")
"""What is frozen; branch 0 is the plain run, and branch i + 1 freezes `FROZEN[i]`."""


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Accuracy with something frozen."""

    frozen: str
    accuracy: float
    ci_low: float
    ci_high: float
    difference: float
    """To the vector with nothing frozen."""
    difference_low: float
    difference_high: float
    first_token_accuracy: float
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenPaths:
    """Accuracy with each path frozen."""

    rows: tuple[Frozen, ...]
    plain_accuracy: float

    def to_frame(self) -> pd.DataFrame:
        """One row per path."""
        return table(self.rows, plain_accuracy=self.plain_accuracy)

    def figure(self) -> Figure:
        """Accuracy with each path frozen, between the vector and no vector."""
        shown = self.rows[1:]
        places = tuple(float(place) for place in range(len(shown)))
        names = (
            "attention\npatterns", "values at the\nlast token", "attention", "MLPs",
            "attention\nand MLPs", "direct path",
        )  # fmt: skip
        return Figure(
            name="frozen-paths",
            title="Accuracy with a path frozen",
            x_label="What is held as it is without the vector",
            y_label="Accuracy on test prompts",
            series=(points("with the vector, and this frozen", places, shown, BLUE),),
            references=(
                ReferenceLine(
                    label="the vector, nothing frozen", y=self.rows[0].accuracy, style=GREEN
                ),
                ReferenceLine(label="no vector", y=self.plain_accuracy),
            ),
            x_ticks=tuple(zip(places, names, strict=True)),
            shares=True,
            caption=f"{shown[0].n} test prompts.",
        )


def frozen_paths(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vector: TaskVector,
    *,
    seed: int = 0,
    memory: int | None = None,
) -> FrozenPaths:
    """Hold one path at a time as it is without the vector.

    Args:
        model: The model.
        prompts: Test prompts with their answers.
        vector: Added to the residual stream at the last token, at any layers.
        seed: Of the bootstrap.
        memory: Budget in bytes.

    Raises:
        TaskVectorsError: It acts elsewhere, replaces, or lies at the last layer.

    Source:
        Path patching: Goldowsky-Dill et al. (2023), https://arxiv.org/abs/2304.05969. We differ:
        paths are held for the vector's change alone, at the last token, by kind.
    """
    layers = blocks_above(model, vector, "accuracy with a path frozen")
    # the plain run edits nothing and is replayed with the others, which refer to it
    nothing = Edit(layer=layers[0] - 1, value=torch.zeros(model.d_model))
    back = Edit(layer=model.n_layers - 1, value=-vector.values.sum(dim=0))
    branches: list[Branch] = [[nothing], *([*vector.edits()] for _ in FROZEN)]
    branches[1 + FROZEN.index("direct path")] = [*vector.edits(), back]
    with _held(model, layers):
        found = score(model, prompts, branches, memory=memory)
    whole = found.is_correct[1]
    rows = []
    for number, name in enumerate(FROZEN, start=1):
        lost = paired_difference([found.is_correct[number]], [whole], seed=seed)
        rows.append(
            Frozen(
                frozen=name,
                **columns("accuracy", share_of(found.is_correct[number])),
                **columns("difference", lost),
                first_token_accuracy=float(found.first_is_correct[number].double().mean()),
                n=len(prompts),
            )
        )
    return FrozenPaths(rows=tuple(rows), plain_accuracy=float(found.is_correct[0].double().mean()))


@contextmanager
def _held(model: LanguageModel, layers: range) -> Iterator[None]:
    """Each branch's own path is held at branch 0 while inside, in replays alone."""
    with ExitStack() as stack:
        looks = stack.enter_context(record_attention(model))
        for layer in layers:
            hold_heads = partial(_hold_heads, model, looks, layer)
            hold_mlp = partial(_hold_mlp, looks, layer)
            stack.enter_context(patch(model, layer, "z", hold_heads))
            stack.enter_context(patch(model, layer, "mlp_out", hold_mlp))
        yield


def _branches(*frozen: str) -> list[int]:
    return [FROZEN.index(name) + 1 for name in frozen]


def _hold_heads(
    model: LanguageModel, looks: dict[int, AttentionPattern], layer: int, z: Tensor
) -> Tensor:
    """Attention's output, its patterns or its values at the last token, held at branch 0."""
    look = looks.get(layer)
    if look is None:
        return z
    by_head, found = "row branch suffix (head d) -> row branch suffix head d", model.heads(layer)
    heads = rearrange(look.unpacked(z), by_head, head=found.n_heads).clone()
    suffix = heads.shape[2]
    n_readers = found.n_heads // found.n_key_value_heads
    own = look.own_values[:, :, :, 0].repeat_interleave(n_readers, 2)
    change = own - own[:, :1]
    weight = look.pattern[:, :, :, 0, -suffix].unsqueeze(-1)
    for branch in _branches("attention", "attention and mlps"):
        heads[:, branch, 0] = heads[:, 0, 0]
    for branch in _branches("patterns"):
        heads[:, branch, 0] = heads[:, 0, 0] + weight[:, 0] * change[:, branch]
    for branch in _branches("values"):
        heads[:, branch, 0] = heads[:, branch, 0] - weight[:, branch] * change[:, branch]
    return look.packed(heads.flatten(3))


def _hold_mlp(looks: dict[int, AttentionPattern], layer: int, out: Tensor) -> Tensor:
    """The MLP's output at the last token, held at branch 0."""
    look = looks.pop(layer, None)
    if look is None:
        return out
    by_branch = look.unpacked(out).clone()
    for branch in _branches("mlps", "attention and mlps"):
        by_branch[:, branch, 0] = by_branch[:, 0, 0]
    return look.packed(by_branch)


def _find(case: Case) -> FrozenPaths:
    return frozen_paths(
        case.model,
        case.prompts("test"),
        case.vector,
        seed=case.context.seed,
        memory=case.context.memory,
    )


_CURVE = Curve(
    title="Accuracy with a path frozen",
    y_label="Accuracy on test prompts",
    lines=accuracies(
        "frozen",
        {
            "nothing frozen": ("none", GREEN),
            "attention patterns": ("patterns", PURPLE),
            "attention": ("attention", BLUE),
            "MLPs": ("mlps", VERMILION),
            "the direct path": ("direct path", GREY),
        },
    ),
)


def _works(sizes: Sizes) -> list[Work]:
    return [sizes.branches("paths", sizes.prompts("test"), 1 + len(FROZEN))]


ANALYSES.register(
    Analysis(
        name="frozen-paths",
        title="Frozen paths",
        question="What is lost when one path is held as it is without the vector?",
        citation="Goldowsky-Dill et al. 2023, arXiv 2304.05969",
        find=_find,
        columns=Columns(
            keys=("frozen",),
            measures={
                "accuracy": CI,
                "difference": ("difference_low", "difference_high"),
                "first_token_accuracy": None,
            },
            constants=("plain_accuracy",),
        ),
        works=_works,
        caption="Accuracy with the vector while one path is held as it is without it. 95 % "
        "intervals; these accuracies do not add up to a whole.",
        summary=in_lines(*_CURVE.lines),
        over_layers=_CURVE,
        reads_shots=False,
    )
)
