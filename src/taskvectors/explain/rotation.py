"""`rotation`: does the way to the end turn a vector into the task's labels, or only stretch it?

W = QΣ on the directions it was fitted on. Everything is shown beside random vectors in the vector's
place, in the same map, and beside the map around a random vector: that Q is near the identity is in
part the residual stream itself, which carries everything upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.explain.shared.analysis import Analysis, in_lines
from taskvectors.explain.shared.change_point import ChangePoint, change_point
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.fitted_map import FittedMap
from taskvectors.explain.shared.labels import label_alignment, lens, logit_differences
from taskvectors.explain.shared.layer_fits import LayerFit, LayerFits, fits_of, fits_works
from taskvectors.explain.shared.linear_map import MAIN, Polar, polar
from taskvectors.explain.shared.measured import (
    COLUMNS,
    Measured,
    find,
    frame_of,
    line,
    measured_line,
    of_first_layer,
)
from taskvectors.explain.shared.rows import points
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results.figures import BLUE, GREY, PURPLE, VERMILION, Figure
from taskvectors.trunk import Edit, Trunk
from taskvectors.trunk.work import Work, work_of

IMAGES = ("theta", "Q theta", "W theta")
_N_RANDOM = 200
_SEED = 11_000_027


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """How maps turn and stretch vectors, by layer."""

    rows: tuple[Measured, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, measure and what it was measured on."""
        return frame_of(self.rows)

    def figure(self) -> Figure:
        """cos(θ, Qθ) by layer; for one layer, where the labels stand in θ, Qθ and Wθ."""
        layers = sorted(find(self.rows, "turn_cosine"))
        return self._by_layer() if len(layers) > 1 else self._labels(layers[0])

    def _by_layer(self) -> Figure:
        shown = (
            ("vector", "the vector", BLUE),
            ("random-in-place", "random vectors in its place (middle 95 %)", GREY),
            ("random", "a random vector in the map around it", PURPLE),
        )
        return Figure(
            name="rotation",
            title="How far the map to the last block turns a vector",
            x_label="Layer of the vector",
            y_label="cos(θ, Qθ)",
            series=tuple(line(self.rows, "turn_cosine", *one) for one in shown),
        )

    def _labels(self, layer: int) -> Figure:
        ours = [find(self.rows, "label_rank", image)[layer] for image in IMAGES]
        matched = [find(self.rows, "matched_rank", image)[layer] for image in IMAGES]
        places = (0.0, 1.0, 2.0)
        return Figure(
            name="rotation",
            title=f"Where the labels stand among all tokens on the way to the end (layer {layer})",
            x_label="Direction",
            y_label="Share of the vocabulary below",
            series=(
                points("the task's labels", places, ours, VERMILION, value="value", ends=None),
                points(
                    "token sets of their size and frequency (middle 95 %)",
                    places,
                    matched,
                    GREY,
                    value="value",
                    ends=("low", "high"),
                ),
            ),
            x_ticks=((0.0, "θ"), (1.0, "Qθ"), (2.0, "Wθ")),
        )


def rotate(
    model: LanguageModel, prompts: Sequence[Prompt], layers: LayerFits, labels: frozenset[int]
) -> Rotation:
    """Take fitted maps apart, and follow the vectors through them.

    Args:
        model: The model.
        prompts: Test prompts, for logit differences.
        layers: The maps.
        labels: First tokens of the task's labels.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169, W = QΣ. We differ: Q is a partial
        isometry without completion, and random vectors stand beside.
    """
    rows: list[Measured] = []
    tokens = sorted(labels)
    trunk = Trunk.build(model, with_first_tokens(prompts))
    images = [torch.stack(_images(fit.fitted)).float() for fit in layers.fits]
    for fit, three in zip(layers.fits, images, strict=True):
        rows += turned(fit.fitted, "vector") + turned(fit.control, "random")
        rows += _in_place(fit)
        rows += _tokens(model, fit.fitted.layer, three)
        if len(tokens) > 1:
            rows += _logit_differences(trunk, fit, three, tokens)
    rows += _alignment(model, layers, torch.cat(images), tokens)
    for around in ("vector", "random-in-place"):
        found = find(rows, "turn_cosine", around)
        at = sorted(found)
        rows += _change(change_point(at, [found[layer].value for layer in at]), around)
    return Rotation(rows=tuple(rows))


def _change(change: ChangePoint | None, around: str) -> list[Measured]:
    """Where cos(θ, Qθ) changes, at the last layer before: how, and how likely that is by chance."""
    if change is None:
        return []
    numbers = {
        "change_before": change.before,
        "change_after": change.after,
        "change_explained": change.explained,
        "change_p": change.p.value,
        "smallest_change_p": change.p.smallest,
    }
    return [
        Measured(
            layer=change.last_before,
            around=around,
            measure=measure,
            value=value,
            at=float(change.first_after),
        )
        for measure, value in numbers.items()
    ]


def turned(fitted: FittedMap, around: str) -> list[Measured]:
    """What a map does to the vector that it was fitted around, and its spectrum."""
    rows = []
    for prefix, energy in (("", MAIN), ("whole_", 1.0)):
        parts = polar(fitted.matrix, energy=energy)
        numbers: dict[str, float | None] = {
            "rank": parts.rank,
            "kept_share": float(parts.kept_share(fitted.vector)),
            "turn_cosine": float(parts.turn_cosine(fitted.vector)),
            "stretch": float(parts.stretch(fitted.vector)),
            "distance_from_identity": parts.distance_from_identity,
            "determinant_sign": parts.determinant_sign,
        }
        rows += [
            Measured(
                layer=fitted.layer, around=around, measure=prefix + measure, value=float(value)
            )
            for measure, value in numbers.items()
            if value is not None
        ]
    shares = torch.linspace(0, 1, 11, dtype=torch.float64)
    values = torch.linalg.svdvals(fitted.matrix)[: fitted.rank].quantile(shares)
    rows += [
        Measured(layer=fitted.layer, around=around, measure="singular_value", at=at, value=value)
        for at, value in zip(shares.tolist(), values.tolist(), strict=True)
    ]
    return rows


def _in_place(fit: LayerFit) -> list[Measured]:
    """Random vectors in θ's place, in the same map: means and their middle 95 %."""
    fitted = fit.fitted
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randn(_N_RANDOM, fitted.rank, generator=generator) @ fitted.span
    parts: Polar = polar(fitted.matrix, energy=MAIN)
    found = {
        "kept_share": parts.kept_share(drawn),
        "turn_cosine": parts.turn_cosine(drawn),
        "stretch": parts.stretch(drawn),
    }
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    rows = []
    for measure, values in found.items():
        low, high = values.quantile(ends).tolist()
        rows.append(
            Measured(
                layer=fitted.layer,
                around="random-in-place",
                measure=measure,
                value=float(values.mean()),
                low=low,
                high=high,
                n=_N_RANDOM,
            )
        )
    return rows


def _images(fitted: FittedMap) -> list[Float[Tensor, " d_model"]]:
    vector = fitted.vector.double()
    return [vector, polar(fitted.matrix, energy=MAIN).rotation @ vector, fitted.matrix @ vector]


def _tokens(model: LanguageModel, layer: int, images: Tensor) -> list[Measured]:
    return [
        Measured(
            layer=layer, around=image, measure="lens", at=float(place), value=logit, text=token
        )
        for image, tokens in zip(IMAGES, lens(model, images), strict=True)
        for place, (token, logit) in enumerate(tokens)
    ]


def _alignment(
    model: LanguageModel, layers: LayerFits, images: Tensor, labels: Sequence[int]
) -> list[Measured]:
    """How near all images of all layers are to the labels, beside the same matched sets."""
    generator = torch.Generator().manual_seed(_SEED)
    found = iter(label_alignment(model, images, labels, generator))
    rows = []
    for fit in layers.fits:
        layer = fit.fitted.layer
        for image in IMAGES:
            rows += next(found).rows(layer, image)
    return rows


def _logit_differences(
    trunk: Trunk, fit: LayerFit, images: Tensor, labels: Sequence[int]
) -> list[Measured]:
    """Right label against wrong ones: plain, with θ below, and with Qθ or Wθ at the last block.

    Qθ has the length of θ, which says nothing at the last block, so it is given Wθ's.
    """
    model, prompts = trunk.model, trunk.cut.prompts
    last = model.n_layers - 1
    turned_, mapped = images[1] / images[1].norm() * images[2].norm(), images[2]
    branches = {
        "zero-shot": (),
        "theta": fit.vector.edits(),
        "Q theta": [Edit(layer=last, value=turned_)],
        "W theta": [Edit(layer=last, value=mapped)],
    }
    right = torch.tensor([labels.index(prompt.answer_ids[0]) for prompt in prompts])
    tokens = torch.tensor(labels, device=model.device)
    with torch.no_grad():
        states = model.read_state(trunk.run(list(branches.values()))[:, :, -1])
        flat = states.flatten(0, 1)
        logits = model.unembedding.columns(flat, tokens.expand(len(flat), -1))
    by_branch = logits.view(*states.shape[:2], -1).cpu()
    rows = []
    for number, around in enumerate(branches):
        differences = logit_differences(by_branch[:, number].float(), right)
        mean = float(differences.mean())
        reach = 1.96 * float(differences.std()) / len(prompts) ** 0.5
        rows.append(
            Measured(
                layer=fit.fitted.layer,
                around=around,
                measure="logit_difference",
                value=mean,
                low=mean - reach,
                high=mean + reach,
                n=len(prompts),
            )
        )
    return rows


_NUMBERS = in_lines(
    measured_line("cos(θ, Qθ)", "turn_cosine"),
    measured_line("random vectors in its place", "turn_cosine", "random-in-place"),
    measured_line("θᵀΣθ/θᵀθ", "stretch"),
    shares=False,
)


def _works(sizes: Sizes) -> list[Work]:
    last = sizes.context.model.n_layers - 1
    asked = with_first_tokens(sizes.prompts("test"))
    images = [
        replace(work_of("images", asked, (-1,), [last, layer, last, last], last + 1), rows=0.0)
        for layer in sizes.layers
    ]
    return [*fits_works(sizes), *images]


ANALYSES.register(
    Analysis(
        name="rotation",
        title="Rotation and scaling",
        question="Does the way to the last block turn a vector into the labels, or stretch it?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=lambda case: rotate(
            case.model, case.prompts("test"), fits_of(case), case.context.label_starts
        ),
        columns=COLUMNS,
        works=_works,
        caption="W = QΣ splits the map to the last block into a rotation Q, on the singular "
        f"directions that hold {MAIN:.0%} of W, and a stretch Σ. cos(θ, Qθ) = 1: W only stretches; "
        "0: it turns by a right angle. Directions are read by the unembedding after the final "
        "norm.",
        summary=of_first_layer(_NUMBERS),
        reads_shots=False,
    )
)
