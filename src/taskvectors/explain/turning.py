"""`turning`: which part of the blocks turns a vector into the labels?

The exact mean Jacobian from the vector's layer to the last block is a sum: identity, and what each
block's OV circuits, pattern changes, norm scales and MLP add. Three things of the vector are shared
out among them, each so that the shares add up: its image Jθ, the rise of the labels among all
tokens from θ to Jθ, and the turn that the polar rotation of J gives it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.explain.shared.analysis import Analysis, Curve, Line, in_lines
from taskvectors.explain.shared.case import Case, blocks_above, one_layer
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.fitted_map import FitSettings
from taskvectors.explain.shared.layer_fits import responses_works
from taskvectors.explain.shared.linear_map import MAIN, polar, relative_distance
from taskvectors.explain.shared.measured import COLUMNS, Measured, frame_of, measured_line
from taskvectors.explain.shared.responses import Responses
from taskvectors.explain.shared.tangents import PARTS, tangents_above
from taskvectors.models import LanguageModel
from taskvectors.models.tensors import in_double
from taskvectors.prompts import Prompt
from taskvectors.registry import ANALYSES
from taskvectors.results.figures import BLUE, GREEN, GREY, PURPLE, VERMILION, Figure, Series
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

IDENTITY = "identity"
PATHS = (IDENTITY, *PARTS)
_LABELS = dict(
    zip(
        PATHS,
        ("identity", "OV circuits", "pattern changes", "norm scales", "MLPs"),
        strict=True,
    )
)
_STYLES = dict(zip(PATHS, (GREY, BLUE, PURPLE, GREEN, VERMILION), strict=True))
_SEED = 23_000_009
_SMALL = 1e-5
"""Length of a turn, relative to what is turned, below which nothing turned it."""


@dataclass(frozen=True, kw_only=True)
class Turning:
    """What each path of the mean Jacobian makes of a vector."""

    rows: tuple[Measured, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per path (`text`), block and measure; sums over blocks at the vector's layer."""
        return frame_of(self.rows)

    def figure(self) -> Figure:
        """Share of the turn by block, a series per path."""

        def series(path: str) -> Series:
            found = [
                row
                for row in self.rows
                if row.measure == "turn_share_of_block"
                and row.around == "vector"
                and row.text == path
            ]
            return Series(
                label=_LABELS[path],
                x=tuple(row.layer for row in found),
                y=tuple(row.value for row in found),
                style=_STYLES[path],
            )

        return Figure(
            name="turning",
            title="What turns the vector, block by block",
            x_label="Block",
            y_label="Share of the turn",
            series=tuple(series(path) for path in PARTS),
        )


def turning(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vector: TaskVector,
    labels: Sequence[int],
    *,
    seed: int = 0,
    memory: int | None = None,
) -> Turning:
    """Share out what the mean Jacobian makes of a vector among the parts of the blocks above.

    Args:
        model: The model; in float32 the parts add up to the whole to 1e-5.
        prompts: The queries over which the Jacobian is a mean.
        vector: Added at one layer at the last token, below the last block.
        labels: First tokens of the task's labels.
        seed: Of the random vector that stands in the vector's place.
        memory: Budget in bytes.

    Raises:
        TaskVectorsError: The vector is not such a one, or no block lies above it.

    Source: ours, on the Jacobian and W = QΣ of Yang et al. (2026), arXiv 2509.24169.
    """
    layer = one_layer(vector, "who turns a vector")
    blocks = blocks_above(model, vector, "who turns a vector")
    generator = torch.Generator().manual_seed(seed + _SEED)
    theta, random = vector.values[0].float().cpu(), vector.random_like(generator).values[0]
    jacobian = in_double(Responses.of(model, prompts, layer, memory).mean_jacobian(theta))
    parts = polar(jacobian, energy=MAIN)
    inputs = in_double(torch.stack([theta, random.float().cpu()]))
    # J (Σ⁺θ) = Qθ: what the rotation makes of θ is what the Jacobian makes of Σ⁺θ
    unstretched = (inputs @ parts.right / parts.singular_values) @ parts.right.T
    followed = tangents_above(
        model, prompts, layer, theta, torch.cat([inputs, unstretched]).float()
    )
    added = in_double(followed.parts)
    rows: list[Measured] = []
    for number, around in enumerate(("vector", "random")):
        start, image = inputs[number], jacobian @ inputs[number]
        rows += _shares("image_share", around, (layer, blocks), start, added[number], image)
        seen = start @ parts.right @ parts.right.T
        rotated = jacobian @ unstretched[number]
        turn = rotated - (rotated @ seen) / (seen @ seen) * seen
        rows.append(
            Measured(
                layer=layer, around=around, measure="turn_cosine",
                value=float(parts.turn_cosine(start)),
            )
        )  # fmt: skip
        if float(turn.norm()) > _SMALL * float(rotated.norm()):
            added_to_turn = added[2 + number]
            start = unstretched[number]
            rows += _shares("turn_share", around, (layer, blocks), start, added_to_turn, turn)
        sums = added[number].sum(dim=1).mean(dim=1)
        rows += _rank_gains(model, labels, (layer, around), inputs[number], sums)
    whole = inputs[0] + added[0].sum(dim=(0, 1)).mean(dim=0)
    residual = relative_distance(whole, jacobian @ inputs[0])
    rows.append(Measured(layer=layer, around="vector", measure="residual", value=residual))
    return Turning(rows=tuple(rows))


def _shares(
    measure: str,
    around: str,
    at: tuple[int, range],
    start: Float[Tensor, " d_model"],
    added: Float[Tensor, "part block query d_model"],
    whole: Float[Tensor, " d_model"],
) -> list[Measured]:
    """What identity and each part, in all and block by block, have of a whole along itself.

    Intervals are those of the mean over queries.
    """
    layer, blocks = at
    unit = whole / whole.square().sum()
    along = added @ unit  # [part, block, query]
    n = along.shape[-1]

    def row(name: str, path: str, layer: int, values: Tensor) -> Measured:
        mean = float(values.mean())
        reach = 1.96 * float(values.std()) / n**0.5 if n > 1 else None
        return Measured(
            layer=layer, around=around, measure=name, value=mean, text=path, n=n,
            low=None if reach is None else mean - reach,
            high=None if reach is None else mean + reach,
        )  # fmt: skip

    rows = [row(measure, IDENTITY, layer, (start @ unit).expand(n))]
    for path, of_path in zip(PARTS, along, strict=True):
        rows.append(row(measure, path, layer, of_path.sum(dim=0)))
        rows += [
            row(f"{measure}_of_block", path, block, values)
            for block, values in zip(blocks, of_path, strict=True)
        ]
    return rows


def _rank_gains(
    model: LanguageModel,
    labels: Sequence[int],
    at: tuple[int, str],
    start: Float[Tensor, " d_model"],
    sums: Float[Tensor, "part d_model"],
) -> list[Measured]:
    """How far each part lifts the labels among all tokens from θ to Jθ: Shapley values.

    A rank is no linear function of a direction, so what a part adds depends on those added before;
    the mean over all orders is the one fair share that adds up to the whole.
    """
    layer, around = at
    ranks = _label_ranks(model, labels, start, sums)
    orders = list(permutations(range(len(PARTS))))
    gains = torch.zeros(len(PARTS), dtype=torch.float64)
    for order in orders:
        before = 0
        for part in order:
            after = before | 1 << part
            gains[part] += (ranks[after] - ranks[before]) / len(orders)
            before = after
    total = float(ranks[-1] - ranks[0])
    found = dict(zip(PATHS, [0.0, *gains.tolist()], strict=True))
    rows = [
        Measured(layer=layer, around=around, measure="rank_gain", value=gain, text=path)
        for path, gain in found.items()
    ]
    if total:
        rows += [
            Measured(
                layer=layer, around=around, measure="rank_gain_share", value=gain / total, text=path
            )
            for path, gain in found.items()
        ]
    ends = {"label_rank": ranks[0], "label_rank_of_image": ranks[-1]}
    return rows + [
        Measured(layer=layer, around=around, measure=name, value=float(rank))
        for name, rank in ends.items()
    ]


def _label_ranks(
    model: LanguageModel, labels: Sequence[int], start: Tensor, sums: Tensor
) -> Float[Tensor, " subset"]:
    """Share of the vocabulary below the labels, with each subset of the parts added."""
    n_parts = len(sums)
    chosen = torch.tensor([[s >> part & 1 for part in range(n_parts)] for s in range(2**n_parts)])
    directions = start + in_double(chosen) @ sums
    with torch.no_grad():
        logits = model.logits(directions.to(model.device, model.dtype)).float()
    at = torch.tensor(list(labels), device=logits.device)
    below = [in_double(logits < logits[:, token : token + 1]).mean(dim=1) for token in at.tolist()]
    return torch.stack(below).mean(dim=0) * logits.shape[1] / (logits.shape[1] - 1)


def _find(case: Case) -> Turning:
    return turning(
        case.model,
        case.prompts("train")[: FitSettings().n_queries],
        case.vector,
        sorted(case.context.label_starts),
        seed=case.context.seed,
        memory=case.context.memory,
    )


def _lines(measure: str) -> Iterator[Line]:
    for path in PATHS:
        yield Line(
            label=_LABELS[path], of={"measure": measure, "around": "vector", "text": path},
            value="value", low="low", high="high", style=_STYLES[path],
        )  # fmt: skip


_CURVE = Curve(
    title="What turns vectors",
    y_label="Share of the turn",
    lines=tuple(_lines("turn_share")),
    shares=False,
)


def _works(sizes: Sizes) -> list[Work]:
    layer, width = sizes.layer, sizes.context.model.d_model
    return [
        responses_works(sizes, "Jacobian", "train", layer, width, is_jacobian=True),
        # a tangent goes along with each state: about as much as the way back
        responses_works(sizes, "tangents", "train", layer, 4, is_jacobian=True),
    ]


ANALYSES.register(
    Analysis(
        name="turning",
        title="Who turns the vector",
        question="Do attention's OV circuits turn the vector into the labels, or other parts?",
        citation="ours, after Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=COLUMNS,
        works=_works,
        caption="Share of each part of the blocks above in the turn from θ to Qθ, where J = QΣ is "
        "the exact mean Jacobian at the vector, on the singular directions that hold "
        f"{MAIN:.0%} of it. Shares add up to 1 over all parts and blocks, and can be negative. "
        "95 % intervals over queries.",
        summary=in_lines(
            measured_line("cos(θ, Qθ)", "turn_cosine"), *_lines("turn_share"), shares=False
        ),
        over_layers=_CURVE,
        reads_shots=False,
    )
)
