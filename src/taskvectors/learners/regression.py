"""Regression families y = w·φ(x): their rows, shifts and closed-form predictors.

A real-valued sequence is written in coordinates: d for the input, one for the output, one each for
the separator and the delimiter. The learner's embedding has a row per coordinate, so the separator
is one learned vector, and an input is the mixture of d of them. Families differ in φ alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.learners.family import IN_DISTRIBUTION, Episode, Extent, Trial
from taskvectors.learners.pairs import (
    Format,
    Question,
    pair_episode,
    pair_trial,
    shown_extent,
)

Features = Callable[[Float[Tensor, "*batch d"]], Float[Tensor, "*batch d"]]

SCALES: dict[str, float] = {"third": 1 / 3, "half": 1 / 2, "double": 2.0, "triple": 3.0}
SHIFTS: tuple[str, ...] = (
    IN_DISTRIBUTION,
    "skewed",
    "half-subspace",
    "orthants",
    *(f"x-{scale}" for scale in SCALES),
    *(f"y-{scale}" for scale in SCALES),
    "label-noise",
    "query-shown",
)
ORTHOGONAL = "query-orthogonal"
"""Meaningful where y is linear in x itself."""


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Which coordinate of a row means what; `PairRows` of real-valued pairs."""

    n_dims: int

    @property
    def n(self) -> int:
        """Coordinates of a row."""
        return self.n_dims + 3

    def input_rows(self, x: Float[Tensor, "batch n d"]) -> Float[Tensor, "batch n width"]:
        """Inputs fill the first coordinates."""
        return torch.nn.functional.pad(x, (0, 3))

    def output_rows(self, y: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n width"]:
        """The output has the next one."""
        return torch.nn.functional.pad(y.unsqueeze(-1), (self.n_dims, 2))

    def marker_row(self, marker: Literal["z", "d"], like: Tensor) -> Float[Tensor, " width"]:
        """Separator and delimiter have one each."""
        row = torch.zeros(self.n, device=like.device, dtype=like.dtype)
        row[self.n_dims + (1 if marker == "z" else 2)] = 1
        return row

    def prediction(self, logits: Float[Tensor, "*reads width"]) -> Float[Tensor, "*reads"]:
        """What the model says the output is."""
        return logits[..., self.n_dims]


def regression_episode(
    features: Features,
    form: Format,
    w: Float[Tensor, "batch d"],
    generator: torch.Generator,
    n_demonstrations: int,
    extent: Extent,
) -> Episode:
    """Training sequences with x ~ N(0, I).

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066: generator and curriculum, which
        sets the trailing dimensions of x to 0. We differ: separate coordinates for x and y.
    """
    batch, d = w.shape
    n = shown_extent(extent, n_demonstrations)
    x = torch.randn(batch, n + 2, d, generator=generator, device=w.device)
    if extent.n_dims is not None:
        x[..., extent.n_dims :] = 0
    return pair_episode(Coordinates(n_dims=d), form, x, _outputs(features, x, w))


def regression_trial(  # noqa: PLR0913, PLR0917  (a family's own choices, then the trial's)
    features: Features,
    form: Format,
    variance: float,
    w: Float[Tensor, "batch d"],
    generator: torch.Generator,
    n_demonstrations: int,
    shift: str,
    n_dummies: int,
) -> Trial:
    """A question for each w, drawn under a shift; errors are squared, over the outputs' variance.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066, the shifts of the released code's
        `eval.py`. We differ: a basis for each prompt, and no label noise in the query's answer.
    """
    batch, d = w.shape
    n = min(n_demonstrations, d - 1) if shift == ORTHOGONAL else n_demonstrations
    x = torch.randn(batch, n + n_dummies + 1, d, generator=generator, device=w.device)
    x = _shifted_inputs(x, n, shift, generator)
    scale = SCALES[shift.removeprefix("y-")] if shift.startswith("y-") else 1.0
    noise = 1.0 if shift == "label-noise" else 0.0
    scale *= (variance / (variance + noise)) ** 0.5
    y = _outputs(features, x, w * scale)
    shown = y[:, :n]
    if noise:
        shown = shown + scale * torch.randn(shown.shape, generator=generator, device=w.device)
    query, answer = x[:, -1], y[:, -1]
    phi, phi_query = features(x[:, :n]), features(query)
    optimal = ridge(phi, shown, phi_query, penalty=noise)
    ols = ridge(phi, shown, phi_query, penalty=0.0)
    wrong = _outputs(features, query.unsqueeze(1), w.roll(1, 0) * scale)[:, 0]
    return pair_trial(
        Coordinates(n_dims=d),
        form,
        Question(
            x=x[:, :n],
            y=shown,
            dummies=x[:, n : n + n_dummies],
            query=query,
            answer=answer,
            wrong_answer=wrong,
            tasks=w,
            baselines={
                "without": answer.square() / variance,
                "optimal": (optimal - answer).square() / variance,
                "ols": (ols - answer).square() / variance,
            },
        ),
    )


def ridge(
    phi: Float[Tensor, "batch n d"],
    y: Float[Tensor, "batch n"],
    query: Float[Tensor, "batch d"],
    *,
    penalty: float,
) -> Float[Tensor, " batch"]:
    """The posterior mean of y at a query under w ~ N(0, I) and noise of variance `penalty`.

    Without a penalty it is least squares, and of least norm where the demonstrations are fewer than
    the dimensions.
    """
    phi = phi.double()  # what float32 rounds would pass for directions of its own
    gram = phi @ phi.transpose(1, 2)
    gram = gram + penalty * torch.eye(gram.shape[1], device=phi.device, dtype=gram.dtype)
    solved = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ y.double().unsqueeze(2)
    weights = phi.transpose(1, 2) @ solved
    predicted: Tensor = (weights[..., 0] * query.double()).sum(dim=1)
    return predicted.to(y.dtype)


def _outputs(
    features: Features, x: Float[Tensor, "batch n d"], w: Float[Tensor, "batch d"]
) -> Float[Tensor, "batch n"]:
    return (features(x) * w.unsqueeze(1)).sum(dim=-1)


def _shifted_inputs(
    x: Float[Tensor, "batch n d"], n: int, shift: str, generator: torch.Generator
) -> Float[Tensor, "batch n d"]:
    """Inputs under a shift; the first n are demonstrations, the last is the query."""
    batch, _, d = x.shape
    if shift in ("skewed", "half-subspace"):
        spread = 1 / torch.arange(1, d + 1, device=x.device)
        if shift == "half-subspace":
            spread = (torch.arange(d, device=x.device) < max(1, d // 2)).float()
        spread = spread * (d / spread.square().sum()).sqrt()
        square = torch.randn(batch, d, d, generator=generator, device=x.device)
        basis = torch.linalg.qr(square).Q
        skewed: Tensor = x @ (basis * spread) @ basis.transpose(1, 2)
        return skewed
    if shift == "orthants":
        signs = torch.randn(batch, 1, d, generator=generator, device=x.device).sign()
        return torch.cat([x[:, :-1].abs() * signs, x[:, -1:]], dim=1)
    if shift.startswith("x-"):
        return x * SCALES[shift.removeprefix("x-")]
    if shift == "query-shown":
        picked = torch.randint(n, (batch,), generator=generator, device=x.device)
        shown = x[torch.arange(batch, device=x.device), picked]
        return torch.cat([x[:, :-1], shown.unsqueeze(1)], dim=1)
    if shift == ORTHOGONAL:
        basis = torch.linalg.qr(x[:, :n].transpose(1, 2)).Q  # [batch, d, n]
        query = x[:, -1:]
        query = query - (query @ basis) @ basis.transpose(1, 2)
        query = query * (d**0.5 / query.norm(dim=-1, keepdim=True))
        return torch.cat([x[:, :-1], query], dim=1)
    return x
