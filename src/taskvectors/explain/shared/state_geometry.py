"""How the states of two labels' queries lie along the direction between the labels.

Mathematics on tensors alone, in float64: no model, no prompts. Formulas are those of appendix C of
Yang et al. (2025), https://arxiv.org/abs/2505.18752, as far as we know them: there, states are of
one layer at the last token and u is the difference of the two labels' unembeddings, of length 1.
"""

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.models.tensors import in_double

_MOST_STEPS = 100
"""Of the logistic regression, as in the source."""


@dataclass(frozen=True, kw_only=True)
class PairGeometry:
    """How the states of two labels' queries lie."""

    separability: float
    """Accuracy on one half of a logistic regression that was fitted on the other."""
    singular_alignment: float
    """Largest absolute cosine of u with the first two right singular vectors."""
    variance_alignment: float
    """Share of the states' variance that lies along u."""
    mean_alignment: float
    """Distance of the two means along u, in standard deviations within a label."""

    @property
    def composite_alignment(self) -> float:
        """Product of the variance and the mean alignment."""
        return self.variance_alignment * self.mean_alignment

    def numbers(self) -> dict[str, float]:
        """All of them by name."""
        return asdict(self) | {"composite_alignment": self.composite_alignment}


def pair_geometry(
    first: Float[Tensor, "query d_state"],
    second: Float[Tensor, "query d_state"],
    direction: Float[Tensor, " d_state"],
) -> PairGeometry:
    """Separability and alignment of two labels' states.

    Args:
        first: States of the first label's queries, two or more.
        second: Those of the second's.
        direction: From the second label's unembedding to the first's; of any length.
    """
    a, b, u = in_double(first), in_double(second), in_double(direction)
    u = u / u.norm()
    states = torch.cat([a, b])
    centred = states - states.mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    along = centred @ u
    within = sum(float((x @ u).var(unbiased=False)) * len(x) for x in (a, b)) / len(states)
    gap = float((a.mean(dim=0) - b.mean(dim=0)) @ u)
    return PairGeometry(
        separability=separability(a, b),
        singular_alignment=float((axes @ u).abs().max()),
        variance_alignment=float(along.square().sum() / centred.square().sum()),
        mean_alignment=gap / within**0.5 if within else float("nan"),
    )


def effective_dimension(states: Float[Tensor, "query d_state"]) -> float:
    """(Σσ²)²/Σσ⁴ over the singular values of centred states: how many directions they fill.

    Example:
        >>> effective_dimension(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        2.0
    """
    centred = in_double(states) - in_double(states).mean(dim=0)
    squares = torch.linalg.svdvals(centred).square()
    return float(squares.sum().square() / squares.square().sum())


def separability(
    first: Float[Tensor, "query d_state"], second: Float[Tensor, "query d_state"]
) -> float:
    """Share of every second state that a logistic regression on the others tells apart.

    Source: https://arxiv.org/abs/2505.18752. We differ: every second query of each label is held
        out, so that both halves have both labels.
    """
    seen = in_double(torch.cat([first[::2], second[::2]]))
    is_first = torch.arange(len(seen)) < len(first[::2])
    weight, bias = logistic_regression(seen, is_first)
    right = int((in_double(first[1::2]) @ weight + bias > 0).sum())
    right += int((in_double(second[1::2]) @ weight + bias <= 0).sum())
    return right / (len(first[1::2]) + len(second[1::2]))


def logistic_regression(
    inputs: Float[Tensor, "sample d_in"], is_first: Tensor
) -> tuple[Float[Tensor, " d_in"], float]:
    """Weight and bias that minimise Σ log-loss + ‖weight‖²/2, in at most 100 steps of L-BFGS.

    Args:
        inputs: Samples, in float64.
        is_first: Whether each is of the class with positive scores.
    """
    # the weight lies in the span of the samples, which are few
    u, values, basis = torch.linalg.svd(inputs, full_matrices=False)
    coordinates, sign = u * values, torch.where(is_first, 1.0, -1.0).to(inputs)
    solved = torch.zeros(len(values) + 1, dtype=inputs.dtype, device=inputs.device)
    with torch.enable_grad():
        solved.requires_grad_(True)
        solver = torch.optim.LBFGS(
            [solved], max_iter=_MOST_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            solver.zero_grad()
            scores = coordinates @ solved[:-1] + solved[-1]
            total = torch.nn.functional.softplus(-sign * scores).sum()
            total = total + solved[:-1].square().sum() / 2
            total.backward()  # type: ignore[no-untyped-call]
            return total

        solver.step(loss)  # type: ignore[no-untyped-call]
    found = solved.detach()
    return found[:-1] @ basis, float(found[-1])
