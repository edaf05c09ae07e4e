"""`propagation`: is what a vector becomes at the end a linear map of it?

W, fitted to noisy copies of the vector, is judged on noise and queries that it has not seen, beside
the exact mean Jacobian; Wθ is added at the last block in place of θ below; and the vector is made
stronger and weaker to see how far the model answers in proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.evaluate import Scores, score
from taskvectors.explain.shared.analysis import Analysis, in_lines
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.fitted_map import FittedMap, noisy_copies
from taskvectors.explain.shared.layer_fits import (
    LayerFit,
    LayerFits,
    fits_of,
    fits_works,
    responses_works,
)
from taskvectors.explain.shared.linear_map import (
    matrix_cosine,
    off_direction,
    r_squared,
    relative_distance,
    slope_r_squared,
)
from taskvectors.explain.shared.measured import (
    COLUMNS,
    Measured,
    find,
    frame_of,
    line,
    measured_line,
    of_first_layer,
    share,
)
from taskvectors.explain.shared.responses import Responses
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.registry import ANALYSES
from taskvectors.results.figures import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    Figure,
    ReferenceLine,
    Series,
)
from taskvectors.trunk import Branch, Edit
from taskvectors.trunk.work import Work, work_of

STRENGTHS = (-2.0, -1.0, -0.5, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
TOLERANCE = 0.1
"""Relative error up to which a response counts as proportional."""
_SEED = 9_000_011
N_TEST_NOISE = 128


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """How linearly vectors travel to the last block, by layer."""

    rows: tuple[Measured, ...]

    @property
    def exceptions(self) -> tuple[int, ...]:
        """Layers at which Wθ's first-token accuracy leaves the interval of the vector's."""
        return tuple(layer for layer, row in find(self.rows, "is_exception").items() if row.value)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, measure and, for strengths and noise scales, place."""
        return frame_of(self.rows)

    def figure(self) -> Figure:
        """Accuracy of what is reconstructed by layer; for one layer, error against strength."""
        layers = sorted(find(self.rows, "r2"))
        return self._by_layer(layers) if len(layers) > 1 else self._by_strength(layers[0])

    def _by_layer(self, layers: Sequence[int]) -> Figure:
        shown = (
            ("vector", "the vector θ", BLUE),
            ("reconstructed", "Wθ at the last block", VERMILION),
            ("jacobian", "mean Jacobian times θ at the last block", GREEN),
            ("reconstructed-random", "W times a random vector", PURPLE),
        )
        plain = find(self.rows, "first_token_accuracy", "zero-shot")[layers[0]].value
        return Figure(
            name="propagation",
            title="Vectors propagated by a linear map",
            x_label="Layer of the vector",
            y_label="First-token accuracy (test)",
            series=tuple(line(self.rows, "first_token_accuracy", *one) for one in shown),
            references=(ReferenceLine(label="zero-shot", y=plain),),
            shares=True,
        )

    def _by_strength(self, layer: int) -> Figure:
        series = []
        for around, label, style in (
            ("vector", "the vector", BLUE),
            ("random", "a random vector of its length", GREY),
        ):
            errors = [
                row
                for row in self.rows
                if row.measure == "proportionality_error" and row.around == around
            ]
            series.append(
                Series(
                    label=label,
                    x=tuple(row.at for row in errors if row.at is not None),
                    y=tuple(row.value for row in errors),
                    style=style,
                )
            )
        return Figure(
            name="propagation",
            title=f"Response in proportion to strength (layer {layer})",
            x_label="Strength",
            y_label="Relative error of proportionality",
            series=tuple(series),
            references=(
                ReferenceLine(label=f"proportional to {TOLERANCE:.0%}", y=TOLERANCE, style=GREEN),
            ),
            caption="‖Δ(sθ) - sΔ(θ)‖ / ‖sΔ(θ)‖ of the change of the last residual stream.",
        )


def propagate(
    model: LanguageModel, prompts: Sequence[Prompt], layers: LayerFits, memory: int | None = None
) -> Propagation:
    """Judge fitted maps on held-out noise, held-out queries and test prompts.

    Args:
        model: The model.
        prompts: Test prompts, for the accuracies.
        layers: The maps.
        memory: Budget in bytes.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169. We differ: R² is centred and on
        held-out noise and queries; the exact Jacobian and a random vector's map stand beside W.
    """
    rows: list[Measured] = []
    added: list[dict[str, Branch]] = []
    for fit in layers.fits:
        tangent, change = _judge(fit, layers, rows)
        added.append(_branches(model, fit, tangent, change))
    branches = [(), *(branch for named in added for branch in named.values())]
    scores = score(model, prompts, branches, memory=memory)
    rows += _accuracies(layers, added, scores)
    return Propagation(rows=tuple(rows))


def _judge(fit: LayerFit, layers: LayerFits, rows: list[Measured]) -> tuple[Tensor, Tensor]:
    """Measure one layer's maps; J̄θ, and the mean change that training queries show."""
    layer = fit.fitted.layer
    known = {split: asked.at(layer) for split, asked in layers.queries.items()}
    for around, fitted in (("vector", fit.fitted), ("random", fit.control)):
        rows += _fit_quality(around, fitted, known["train"], known["test"])
        rows += _proportionality(around, fitted, known["test"])
    jacobian = known["train"].mean_jacobian(fit.fitted.vector)
    change = known["train"].changes(fit.fitted.vector.unsqueeze(0)).mean[0]
    rows += _beside_jacobian(fit.fitted, jacobian, change)
    return jacobian @ fit.fitted.vector, change


def _fit_quality(
    around: str, fitted: FittedMap, train: Responses, test: Responses
) -> list[Measured]:
    """R² on held-out noise, on training and on held-out queries, beside the constant predictor."""
    generator = torch.Generator().manual_seed(_SEED)
    held_out = noisy_copies(fitted.vector, fitted.span, fitted.noise_scale, N_TEST_NOISE, generator)
    predicted = held_out.double() @ fitted.matrix.T
    seen, unseen = train.changes(held_out), test.changes(held_out)
    constant = seen.mean.mean(dim=0).expand_as(unseen.mean)
    numbers = {
        "noise_scale": fitted.noise_scale,
        "ridge": fitted.ridge,
        "n_samples": fitted.n_samples,
        "rank": fitted.rank,
        "d_model": len(fitted.vector),
        "r2_training_queries": r_squared(predicted, seen.mean),
        "r2": r_squared(predicted, unseen.mean),
        "r2_constant": r_squared(constant, unseen.mean),
        "r2_slope": slope_r_squared(predicted, unseen.mean),
        "share_between_queries": unseen.share_between_queries,
    }
    return [
        Measured(layer=fitted.layer, around=around, measure=measure, value=float(value))
        for measure, value in numbers.items()
    ]


def _proportionality(around: str, fitted: FittedMap, test: Responses) -> list[Measured]:
    """How far Δ(sθ) is from sΔ(θ), and the strengths around 1 where it is near."""
    vectors = torch.tensor(STRENGTHS).unsqueeze(1) * fitted.vector
    changes = test.changes(vectors).mean
    at_one = changes[STRENGTHS.index(1.0)]
    errors = [
        relative_distance(change, strength * at_one)
        for strength, change in zip(STRENGTHS, changes, strict=True)
    ]
    rows = [
        Measured(
            layer=fitted.layer,
            around=around,
            measure="proportionality_error",
            value=error,
            at=strength,
        )
        for strength, error in zip(STRENGTHS, errors, strict=True)
    ]
    low, high = linear_range(STRENGTHS, errors)
    for end, value in (("from", low), ("to", high)):
        rows.append(
            Measured(layer=fitted.layer, around=around, measure=f"linear_{end}", value=value)
        )
    return rows


def linear_range(strengths: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The unbroken range of strengths around 1 at which the error is small.

    Example:
        >>> linear_range([0.1, 0.5, 1.0, 2.0, 3.0], [0.3, 0.05, 0.0, 0.09, 0.2])
        (0.5, 2.0)
    """
    low = high = strengths.index(1.0)
    while low > 0 and errors[low - 1] <= TOLERANCE:
        low -= 1
    while high + 1 < len(strengths) and errors[high + 1] <= TOLERANCE:
        high += 1
    return strengths[low], strengths[high]


def _beside_jacobian(
    fitted: FittedMap,
    jacobian: Float[Tensor, "d_model d_model"],
    change: Float[Tensor, " d_model"],
) -> list[Measured]:
    """W against the mean Jacobian off θ, and what the two make of θ, separately."""
    span, vector = fitted.span.double(), fitted.vector.double()
    known = jacobian.double() @ span.T @ span
    exact, ours = off_direction(known, vector), off_direction(fitted.matrix, vector)
    mapped, tangent = fitted.matrix @ vector, jacobian.double() @ vector
    numbers = {
        "map_jacobian_cosine_off_vector": matrix_cosine(ours, exact),
        "map_jacobian_distance_off_vector": relative_distance(ours, exact),
        "map_jacobian_cosine_at_vector": matrix_cosine(mapped, tangent),
        "map_change_distance_at_vector": relative_distance(mapped, change),
        "jacobian_change_distance_at_vector": relative_distance(tangent, change),
        "jacobian_length_at_vector": float(tangent.norm() / change.double().norm()),
    }
    return [
        Measured(layer=fitted.layer, around="vector", measure=measure, value=value)
        for measure, value in numbers.items()
    ]


def _branches(
    model: LanguageModel, fit: LayerFit, tangent: Tensor, change: Tensor
) -> dict[str, Branch]:
    """What is compared on test prompts: the vector where it is, and its images at the end."""
    last = model.n_layers - 1
    matrix = fit.fitted.matrix

    def at_the_end(value: Tensor) -> Branch:
        return [Edit(layer=last, value=value.float())]

    return {
        "vector": fit.vector.edits(),
        "reconstructed": at_the_end(matrix @ fit.fitted.vector.double()),
        "jacobian": at_the_end(tangent),
        "mean-change": at_the_end(change),
        "random": fit.random.edits(),
        "reconstructed-random": at_the_end(matrix @ fit.random.values[0].double()),
    }


def _accuracies(
    layers: LayerFits, added: Sequence[dict[str, Branch]], scores: Scores
) -> list[Measured]:
    """Accuracies of all that was added, and whether the reconstruction is an exception.

    The first of the scores is the plain run, which all layers share.
    """
    n = scores.first_is_correct.shape[1]
    first, whole = (x.sum(dim=1).tolist() for x in (scores.first_is_correct, scores.is_correct))
    rows: list[Measured] = []
    at = 1
    for fit, named in zip(layers.fits, added, strict=True):
        layer, found = fit.fitted.layer, {}
        places = {"zero-shot": 0} | {around: at + i for i, around in enumerate(named)}
        at += len(named)
        for around, place in places.items():
            found[around] = share(layer, around, "first_token_accuracy", int(first[place]), n)
            rows += [found[around], share(layer, around, "accuracy", int(whole[place]), n)]
        low, high = found["vector"].low, found["vector"].high
        assert low is not None
        assert high is not None
        leaves = not low <= found["reconstructed"].value <= high
        rows.append(
            Measured(layer=layer, around="vector", measure="is_exception", value=float(leaves))
        )
    return rows


_FIT = in_lines(
    measured_line("R²", "r2"), measured_line("R² of the constant", "r2_constant"), shares=False
)
_ANSWERS = in_lines(
    measured_line("first tokens right with the vector", "first_token_accuracy"),
    measured_line("with Wθ at the last block", "first_token_accuracy", "reconstructed"),
    measured_line("without", "first_token_accuracy", "zero-shot"),
)


def _works(sizes: Sizes) -> list[Work]:
    works = fits_works(sizes)
    for layer in sizes.layers:
        works += [
            responses_works(sizes, "noise", "train", layer, 2 * N_TEST_NOISE),
            responses_works(sizes, "noise", "test", layer, 2 * (N_TEST_NOISE + len(STRENGTHS))),
            responses_works(
                sizes, "Jacobian", "train", layer, sizes.context.model.d_model,
                is_jacobian=True,
            ),
        ]  # fmt: skip
    last = sizes.context.model.n_layers - 1
    joins = [join for layer in sizes.layers for join in (layer, layer, *[last] * 4)]
    test = sizes.prompts("test")
    return [*works, work_of("images", test, (-1,), [last, *joins], last + 1)]


ANALYSES.register(
    Analysis(
        name="propagation",
        title="Linear propagation",
        question="Is what a vector becomes at the last block a linear map of it?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=lambda case: propagate(
            case.model, case.prompts("test"), fits_of(case), case.context.memory
        ),
        columns=COLUMNS,
        works=_works,
        caption="W is the linear map from noisy copies of the vector to the change of the last "
        "residual stream, judged on held-out noise and queries. First tokens are scored, because "
        "what is added at the last block of the last prompt token cannot reach later ones. 95 % "
        "Wilson intervals.",
        summary=of_first_layer(_FIT, _ANSWERS),
        reads_shots=False,
    )
)
