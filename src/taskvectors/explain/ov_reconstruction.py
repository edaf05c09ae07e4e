"""OV reconstruction: how much of a vector's work do the heads, or the MLPs, do that read it.

The vector is taken away, and what is put in its place is only what heads make of it through their
OV circuits; once more with MLPs. The paper does not say how; three readings are built:

- `paper`: the sum over heads above of W_O W_V diag(norm weight) θ, in place of θ;
- `scaled`: each term times the mean of c_NN/rms at its layer, in the injected run;
- `path`: θ enters only the value inputs at the last position of the blocks above. Queries, keys,
  MLPs and the direct path never see it; what heads write enters the stream as usual.

`paper` and `scaled` are added once at the vector's site, or each block's term after its block. For
MLPs a term is the mean change of a block's MLP output when θ enters that MLP alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taskvectors.evaluate import Scores, paired_difference, score
from taskvectors.explain.shared.analysis import CI, Analysis, Curve, Line, accuracies, in_lines
from taskvectors.explain.shared.case import Case, blocks_above, one_layer
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.ov_terms import mlp_terms, no_edit, paper_terms, scaled_terms
from taskvectors.explain.shared.rows import columns, points, table
from taskvectors.explain.shared.shares import gained, share_of, share_over
from taskvectors.methods.shared.choosing import choose
from taskvectors.models import LanguageModel
from taskvectors.models.path_patching import entering_mlp, entering_values
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREEN, GREY, PURPLE, VERMILION, Figure, ReferenceLine
from taskvectors.trunk import Branch, Edit
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Factors tried on validation. `paper` has no natural size: its 1 is the vector's own norm."""
N_RANDOM = 3

Variant = Literal[
    "paper", "paper-by-layer", "scaled", "scaled-by-layer", "path",
    "mlp", "mlp-by-layer", "mlp-path",
]  # fmt: skip
VARIANTS: tuple[Variant, ...] = get_args(Variant)
Terms = Mapping[Literal["paper", "scaled", "mlp"], Float[Tensor, "layer d_model"]]


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """What one variant reaches on the test prompts."""

    variant: str
    """`none`, `vector`, or one of `VARIANTS`, for which the fields below are known."""
    accuracy: float
    ci_low: float
    ci_high: float
    strength: float | None = None
    """Chosen on validation."""
    validation_accuracy: float | None = None
    """At that strength; by it the best of several variants is named."""
    recovered: float | None = None
    """Share of what the vector gains over no vector; None where it gains nothing."""
    recovered_low: float | None = None
    recovered_high: float | None = None
    difference_to_vector: float | None = None
    difference_to_vector_low: float | None = None
    difference_to_vector_high: float | None = None
    random_accuracy: float | None = None
    """The same made of random vectors of the same norm, each tuned alike."""
    random_low: float | None = None
    random_high: float | None = None
    difference_to_random: float | None = None
    difference_to_random_low: float | None = None
    difference_to_random_high: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """All variants beside the vector and no vector."""

    rows: tuple[Reconstructed, ...]
    layer: int
    n: int
    """Test prompts."""
    n_validation: int

    def to_frame(self) -> pd.DataFrame:
        """One row per variant."""
        numbers = {"n": self.n, "n_validation": self.n_validation, "n_random": N_RANDOM}
        return table(self.rows, layer=self.layer, **numbers)

    def figure(self) -> Figure:
        """Accuracy of each variant beside its random control."""
        by_name = {row.variant: row for row in self.rows}
        shown = [by_name[name] for name in VARIANTS]
        names = {
            "paper": "paper,\nonce", "paper-by-layer": "paper,\nby layer",
            "scaled": "scaled,\nonce", "scaled-by-layer": "scaled,\nby layer",
            "path": "path", "mlp": "mean,\nonce", "mlp-by-layer": "mean,\nby layer",
            "mlp-path": "path",
        }  # fmt: skip

        is_mlp = [name.startswith("mlp") for name in VARIANTS]
        places = range(len(VARIANTS))
        heads, mlps = ([place for place in places if is_mlp[place] is one] for one in (False, True))
        return Figure(
            name="ov-reconstruction",
            title="What heads and MLPs make of the vector, in its place",
            x_label="How it is put back (left: heads' OV circuits, right: MLPs)",
            y_label="Accuracy on test prompts",
            series=(
                points("through the heads", heads, [shown[place] for place in heads], BLUE),
                points("through the MLPs", mlps, [shown[place] for place in mlps], VERMILION),
                points(
                    "the same of random vectors",
                    (place + 0.25 for place in places),
                    shown,
                    GREY,
                    value="random_accuracy",
                    ends=("random_low", "random_high"),
                ),
            ),
            references=(
                ReferenceLine(label="the vector itself", y=by_name["vector"].accuracy, style=GREEN),
                ReferenceLine(label="no vector", y=by_name["none"].accuracy),
            ),
            x_ticks=tuple((float(i), names[name]) for i, name in enumerate(VARIANTS)),
            shares=True,
            caption=(
                f"{self.n} test prompts, {self.n_validation} validation prompts, {N_RANDOM} random "
                "vectors."
            ),
        )


def reconstruct(  # noqa: PLR0913  (three splits, each with its use)
    model: LanguageModel,
    vector: TaskVector,
    *,
    training: Sequence[Prompt],
    validation: Sequence[Prompt],
    test: Sequence[Prompt],
    seed: int = 0,
    memory: int | None = None,
) -> Reconstruction:
    """Put back only what heads, or MLPs, make of a vector.

    Args:
        model: The model.
        vector: Added to the residual stream at the last token of one layer.
        training: Prompts that means are taken over.
        validation: Prompts that strengths are chosen on.
        test: Prompts that are reported.
        seed: Of the random vectors and the bootstrap.
        memory: Budget in bytes.

    Raises:
        TaskVectorsError: The formula has no meaning for the vector.

    Source:
        Yang et al. (2026), https://arxiv.org/abs/2509.24169, section on OV circuits: `paper`, as
        far as its formula is known. We differ: `scaled` and `path` beside it, strengths chosen on
        validation, random vectors treated alike. Where a family normalises attention's output,
        `paper` takes that norm's weight, `scaled` its scale too.
    """
    layers = blocks_above(model, vector, "OV reconstruction")
    layer = one_layer(vector, "OV reconstruction")
    generator = torch.Generator().manual_seed(seed + 7)
    subjects = [vector, *(vector.random_like(generator) for _ in range(N_RANDOM))]
    asked = with_first_tokens(training)
    terms = [
        {
            "paper": paper_terms(model, subject, layers),
            "scaled": scaled_terms(model, subject, layers, asked),
            "mlp": mlp_terms(model, subject, layers, asked),
        }
        for subject in subjects
    ]
    tried = _Trial(model=model, subjects=subjects, terms=terms, layers=layers, memory=memory)  # type: ignore[arg-type]
    chosen = tried.strengths(validation)
    found = tried.at(test, {variant: best.strengths for variant, best in chosen.items()})
    whole = score(model, test, [(), vector.edits()], memory=memory)
    return _summary(found, chosen, whole, layer=layer, n_validation=len(validation), seed=seed)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What validation chose for a variant."""

    strengths: Sequence[float]
    """Subject by subject."""
    accuracy: float
    """Of the vector's own, on validation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """Variants of several subjects (the vector first, then random ones), ready to be scored."""

    model: LanguageModel
    subjects: Sequence[TaskVector]
    terms: Sequence[Terms]
    layers: range
    memory: int | None

    def strengths(self, prompts: Sequence[Prompt]) -> dict[Variant, "_Chosen"]:
        """For each variant and subject, the strength that does best."""
        chosen: dict[Variant, _Chosen] = {}
        for variant in VARIANTS:
            wanted = [(s, strength) for s in range(len(self.subjects)) for strength in STRENGTHS]
            scores = self._score(variant, wanted, prompts)
            step = len(STRENGTHS)
            best = [
                s * step + choose([scores.branch(s * step + i) for i in range(step)])
                for s in range(len(self.subjects))
            ]
            chosen[variant] = _Chosen(
                strengths=[STRENGTHS[row % step] for row in best],
                accuracy=float(scores.is_correct[best[0]].double().mean()),
            )
        return chosen

    def at(
        self, prompts: Sequence[Prompt], chosen: Mapping[Variant, Sequence[float]]
    ) -> dict[Variant, Bool[Tensor, "subject prompt"]]:
        """For each variant, which prompts each subject answers at its strength."""
        return {
            variant: self._score(variant, list(enumerate(chosen[variant])), prompts).is_correct
            for variant in VARIANTS
        }

    def _score(
        self, variant: Variant, wanted: Sequence[tuple[int, float]], prompts: Sequence[Prompt]
    ) -> Scores:
        if variant not in ("path", "mlp-path"):
            branches = [self._branch(variant, subject, strength) for subject, strength in wanted]
            return score(self.model, prompts, branches, memory=self.memory)
        enter = entering_values if variant == "path" else entering_mlp
        added = torch.stack([self.subjects[s].values[0] * strength for s, strength in wanted])
        with enter(self.model, self.layers, added):
            plain = [[no_edit(self.model, self.layers)]] * len(wanted)
            return score(self.model, prompts, plain, memory=self.memory)

    def _branch(self, variant: Variant, subject: int, strength: float) -> Branch:
        kind, _, where = variant.partition("-")
        terms = self.terms[subject][kind] * strength  # type: ignore[index]
        if where == "by-layer":
            return [
                Edit(layer=layer, value=term)
                for layer, term in zip(self.layers, terms, strict=True)
            ]
        return [Edit(layer=self.layers[0] - 1, value=terms.sum(dim=0))]


def _summary(
    found: Mapping[Variant, Bool[Tensor, "subject prompt"]],
    chosen: Mapping[Variant, _Chosen],
    whole: Scores,
    *,
    layer: int,
    n_validation: int,
    seed: int,
) -> Reconstruction:
    plain, vector = whole.is_correct
    rows = [
        Reconstructed(variant="none", **columns("accuracy", share_of(plain))),
        Reconstructed(variant="vector", **columns("accuracy", share_of(vector))),
    ]
    for variant in VARIANTS:
        ours, *draws = found[variant]
        random = share_over(draws, seed)
        to_random = paired_difference([ours] * len(draws), draws, seed=seed)
        rows.append(
            Reconstructed(
                variant=variant,
                strength=chosen[variant].strengths[0],
                validation_accuracy=chosen[variant].accuracy,
                random_accuracy=random.value,
                random_low=random.low,
                random_high=random.high,
                **columns("accuracy", share_of(ours)),
                **columns("recovered", gained(ours, vector, plain, seed)),
                **columns("difference_to_vector", paired_difference([ours], [vector], seed=seed)),
                **columns("difference_to_random", to_random),
            )
        )
    return Reconstruction(rows=tuple(rows), layer=layer, n=len(plain), n_validation=n_validation)


def _find(case: Case) -> Reconstruction:
    return reconstruct(
        case.model,
        case.vector,
        training=case.prompts("train"),
        validation=case.prompts("validation"),
        test=case.prompts("test"),
        seed=case.context.seed,
        memory=case.context.memory,
    )


_CURVE = Curve(
    title="What heads and MLPs make of the vector, in its place",
    y_label="Accuracy on test prompts",
    lines=(
        *accuracies(
            "variant",
            {
                "the vector": ("vector", GREEN),
                "OV circuits by the paper": ("paper", BLUE),
                "OV circuits by values alone": ("path", PURPLE),
                "MLPs alone": ("mlp-path", VERMILION),
            },
        ),
        Line(
            label="random vectors by the paper",
            of={"variant": "paper"},
            value="random_accuracy",
            low="random_low",
            high="random_high",
            style=GREY,
        ),
    ),
)


def _works(sizes: Sizes) -> list[Work]:
    """Terms of the vector and of random ones, then every variant of them."""
    train = sizes.prompts("train")
    subjects = 1 + N_RANDOM
    works = []
    for number in range(subjects):
        works += [
            sizes.two_runs(f"heads of vector {number}", train),
            sizes.two_runs(f"MLPs of vector {number}", train),
        ]
    for variant in VARIANTS:
        works += [
            sizes.branches(
                f"{variant}, strengths", sizes.prompts("validation"), subjects * len(STRENGTHS)
            ),
            sizes.branches(f"{variant}, test", sizes.prompts("test"), subjects),
        ]
    return [*works, sizes.branches("whole vector", sizes.prompts("test"), 2)]


ANALYSES.register(
    Analysis(
        name="ov-reconstruction",
        title="OV reconstruction",
        question="How much of the vector's work do the heads do that read it, and how much the "
        "MLPs?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=_find,
        columns=Columns(
            keys=("variant", "layer", "strength"),
            measures={
                "accuracy": CI,
                "recovered": ("recovered_low", "recovered_high"),
                "difference_to_vector": (
                    "difference_to_vector_low",
                    "difference_to_vector_high",
                ),
                "random_accuracy": ("random_low", "random_high"),
                "difference_to_random": (
                    "difference_to_random_low",
                    "difference_to_random_high",
                ),
            },
            constants=("n_validation", "n_random"),
        ),
        works=_works,
        caption="Accuracy with what heads' OV circuits, or MLPs, make of the vector in place of "
        "the vector itself. 95 % intervals; strengths are chosen on validation prompts, alike for "
        "random vectors.",
        summary=in_lines(*_CURVE.lines),
        over_layers=_CURVE,
        reads_shots=False,
    )
)
