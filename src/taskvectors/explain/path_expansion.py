"""Path expansion: which ways a vector takes to the logits.

The injected run's difference from the plain run at the last token grows block by block by what the
heads carry of it (OV circuits under the injected run's patterns and norm scales), by what changed
patterns and norms make of the plain run's states, and by the change of the MLPs' outputs. Unrolled,
that is a sum of terms, each one source followed through a number of further OV hops. Each is
computed forwards and none as a remainder, so that their sum can be checked against the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.explain.shared.analysis import CI, Analysis, Curve, Line, in_lines
from taskvectors.explain.shared.case import Case, blocks_above
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.frozen_attention import FrozenAttention
from taskvectors.explain.shared.rows import points, table
from taskvectors.explain.shared.two_runs import INJECTED, PLAIN, Block, TwoRuns, two_runs
from taskvectors.models import LanguageModel
from taskvectors.models.norms import final_linear_part, linear_part
from taskvectors.models.tensors import in_double
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import BLUE, GREEN, GREY, PURPLE, VERMILION, Figure, Series
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

VECTOR, PATTERNS, NORMS, MLPS, FINAL_NORM = "vector", "patterns", "norms", "mlps", "final norm"
SOURCES = (VECTOR, PATTERNS, NORMS, MLPS)
"""Where a term begins: the vector itself, changed attention patterns, changed norm scales within
blocks, changed outputs of MLPs."""
MOST_HOPS = 3
"""Terms of this many OV hops and more are one."""
_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term, as its mean effect on the answer's logit over that of other answers."""

    source: str
    hops: int | None
    """OV hops after the source; `MOST_HOPS` stands for that many and more; None for the final
    norm."""
    effect: float
    """In logits before soft-capping."""
    ci_low: float
    ci_high: float
    """95 % interval of the mean over prompts."""
    share: float
    """Of the whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PathExpansion:
    """All terms, and how well they add up."""

    terms: tuple[Term, ...]
    whole: float
    """Mean effect of the vector on the answer's logit over that of other answers."""
    residual: float
    """Largest difference between the sum of the terms and the whole, over prompts and over the
    logits of answers."""
    n: int
    """Prompts."""

    def to_frame(self) -> pd.DataFrame:
        """One row per term."""
        return table(self.terms, whole=self.whole, residual=self.residual, n=self.n)

    def figure(self) -> Figure:
        """Effect by number of hops, a series per source."""
        styles = dict(zip(SOURCES, (BLUE, PURPLE, GREEN, VERMILION), strict=True))
        shift = dict(zip(SOURCES, (-0.18, -0.06, 0.06, 0.18), strict=True))
        labels = {
            VECTOR: "the vector itself",
            PATTERNS: "changed attention patterns",
            NORMS: "changed norm scales",
            MLPS: "changed MLP outputs",
        }

        def series(source: str) -> Series:
            found = [term for term in self.terms if term.source == source]
            hops = (MOST_HOPS + 1 if term.hops is None else term.hops for term in found)
            return points(
                labels.get(source, "final norm's changed scale"),
                (place + shift.get(source, 0.0) for place in hops),
                found,
                styles.get(source, GREY),
                value="effect",
            )

        hops = ["no hop", *(f"{k}" for k in range(1, MOST_HOPS)), f"{MOST_HOPS} and more"]
        ticks = [*enumerate(hops), (MOST_HOPS + 1, "final norm")]
        return Figure(
            name="path-expansion",
            title="Effect of the vector, path by path",
            x_label="OV hops after the source",
            y_label="Logit of the answer over other answers",
            series=tuple(series(source) for source in (*SOURCES, FINAL_NORM)),
            x_ticks=tuple((float(place), text) for place, text in ticks),
            caption=(
                f"{self.n} test prompts. The terms add up to {self.whole:.3g}, with a residual of "
                f"at most {self.residual:.1e} on any prompt."
            ),
        )


def path_expansion(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector
) -> PathExpansion:
    """Split a vector's effect on the logits into paths.

    Args:
        model: The model; in float32 the terms add up to 1e-4.
        prompts: Prompts with their answers, whose first tokens are read.
        vector: Added to the residual stream at the last token, at any layers.

    Raises:
        TaskVectorsError: It acts elsewhere, replaces, or lies at the last layer.

    Source:
        The decomposition of Elhage et al. (2021), https://transformer-circuits.pub/2021/framework,
        applied to the effect of a task vector, which Yang et al. (2026),
        https://arxiv.org/abs/2509.24169 follow for one hop. We differ: all orders, with changed
        patterns, norms and MLPs as sources of their own, under the injected run's patterns.
    """
    layers = blocks_above(model, vector, "path expansion")
    asked = with_first_tokens(prompts)
    weights = answer_weights(model, asked)
    effects, wholes, residual = [], [], 0.0
    for start in range(0, len(asked), _ROWS):
        rows = asked[start : start + _ROWS]
        runs = two_runs(model, rows, vector, layers)
        terms = torch.stack(list(path_terms(model, runs, vector).values()))
        change = _change_of_final_state(model, runs)
        mine = weights[start : start + _ROWS]
        effects.append(torch.einsum("trd,rd->tr", terms, mine))
        wholes.append((change * mine).sum(dim=-1))
        # not only their contrast: every answer's own logit has to come out
        read = _unembedding_rows(model, sorted({p.answer_ids[0] for p in asked}))
        residual = max(residual, float(((terms.sum(dim=0) - change) @ read.T).abs().max()))
    names = list(path_terms_names())
    return _result(names, torch.cat(effects, dim=1), torch.cat(wholes), residual)


def path_terms_names() -> list[tuple[str, int | None]]:
    """Source and hops of each term, in the order of `path_terms`."""
    within: list[tuple[str, int | None]] = [
        (source, hops) for source in SOURCES for hops in range(MOST_HOPS + 1)
    ]
    return [*within, (FINAL_NORM, None)]


def path_terms(
    model: LanguageModel, runs: TwoRuns, vector: TaskVector
) -> dict[tuple[str, int | None], Float[Tensor, "prompt d_state"]]:
    """What each term changes in what the unembedding reads.

    Args:
        model: The model.
        runs: Both runs of some prompts, from the block above the vector's lowest layer.
        vector: The vector.
    """
    n_prompts = runs.final.shape[1]
    added = {site.place[0]: value for site, value in zip(vector.sites, vector.values, strict=True)}
    # [source, hops, prompt, d_model]: a source's part of the difference after so many hops
    parts = runs.final.new_zeros(len(SOURCES), MOST_HOPS + 1, n_prompts, model.d_model)
    parts[SOURCES.index(VECTOR), 0] += added[runs.blocks[0].layer - 1].to(parts)
    for block in runs.blocks:
        step = _Step(model, block)
        carried = step.injected.carried(parts)
        parts[:, 1:] += carried[:, :-1]
        parts[:, -1] += carried[:, -1]
        parts[SOURCES.index(PATTERNS), 0] += step.from_patterns()
        parts[SOURCES.index(NORMS), 0] += step.from_norms()
        parts[SOURCES.index(MLPS), 0] += block.mlp_out[INJECTED] - block.mlp_out[PLAIN]
        if block.layer in added:
            parts[SOURCES.index(VECTOR), 0] += added[block.layer].to(parts)
    through = partial(final_linear_part, model)
    injected, plain = runs.final[INJECTED], runs.final[PLAIN]
    ends = [*through(injected, parts).flatten(0, 1)]
    ends.append(through(injected, plain) - through(plain, plain))
    return dict(zip(path_terms_names(), ends, strict=True))


class _Step:
    """One block's attention: three ways in which it adds to the difference of the runs."""

    def __init__(self, model: LanguageModel, block: Block) -> None:
        self.block = block
        self.plain, self.injected = (
            FrozenAttention.of(model, block.layer, block.entered[run], block.z[run], pattern)
            for run, pattern in enumerate(block.pattern)
        )

    def from_patterns(self) -> Tensor:
        """What the change of the patterns makes of the plain run's values."""
        change = self.block.pattern[INJECTED] - self.block.pattern[PLAIN]
        return self.injected.written(torch.einsum("phk,phkd->phd", change, self.block.plain_values))

    def from_norms(self) -> Tensor:
        """What the change of the norms' scales makes of the plain run's states."""
        plain, injected = self.plain, self.injected
        change = linear_part(injected.norm, injected.entered, plain.entered) - linear_part(
            plain.norm, plain.entered, plain.entered
        )
        return injected.own(change) + (injected.scale - plain.scale) * plain.before


def _change_of_final_state(model: LanguageModel, runs: TwoRuns) -> Float[Tensor, "prompt d_state"]:
    with torch.no_grad():
        states: Tensor = model.final_state(runs.final.to(model.dtype)).float()
    return states[INJECTED] - states[PLAIN]


def answer_weights(
    model: LanguageModel, prompts: Sequence[Prompt]
) -> Float[Tensor, "prompt d_state"]:
    """What a final state is multiplied with to give the answer's logit over that of other answers.

    Other answers are the different first tokens of the other prompts' answers; where there are
    none, the whole vocabulary's mean stands for them. Logits are those before soft-capping.
    """
    tokens = [prompt.answer_ids[0] for prompt in prompts]
    different = sorted(set(tokens))
    rows = _unembedding_rows(model, different)
    if len(different) == 1:
        mean = model.unembedding.weight.mean(dim=0, dtype=torch.float32)  # no copy of it
        return (rows - mean).expand(len(tokens), -1)
    others = (rows.sum(dim=0) - rows) / (len(different) - 1)
    at: Int[Tensor, " prompt"] = torch.tensor([different.index(token) for token in tokens])
    return (rows - others)[at]


def _unembedding_rows(model: LanguageModel, tokens: Sequence[int]) -> Tensor:
    weight = model.unembedding.weight
    return weight[torch.tensor(list(tokens), device=weight.device)].float()


def _result(
    names: Sequence[tuple[str, int | None]], effects: Tensor, whole: Tensor, residual: float
) -> PathExpansion:
    n, each = effects.shape[1], in_double(effects)
    means = each.mean(dim=1)
    spread = each.std(dim=1, unbiased=True) if n > 1 else torch.zeros(len(means))
    half = 1.96 * spread / n**0.5
    total = float(in_double(whole).mean())
    terms = tuple(
        Term(
            source=source,
            hops=hops,
            effect=float(mean),
            ci_low=float(mean - reach),
            ci_high=float(mean + reach),
            share=float(mean) / total if total else float("nan"),
        )
        for (source, hops), mean, reach in zip(names, means, half, strict=True)
    )
    return PathExpansion(terms=terms, whole=total, residual=residual, n=n)


def _find(case: Case) -> PathExpansion:
    return path_expansion(case.model, case.prompts("test"), case.vector)


_ANY_HOPS = tuple(range(MOST_HOPS + 1))
_CURVE = Curve(
    title="Effect of the vector, by where its paths begin",
    y_label="Logit of the answer over other answers",
    shares=False,
    lines=(
        Line(
            label="the vector itself, no hop",
            of={"source": VECTOR, "hops": 0},
            value="effect",
            low="ci_low",
            high="ci_high",
            style=GREY,
        ),
        *(
            Line(label=label, of={"source": source, "hops": hops}, value="effect", style=style)
            for label, source, hops, style in (
                ("the vector through heads", VECTOR, _ANY_HOPS[1:], BLUE),
                ("changed attention patterns", PATTERNS, _ANY_HOPS, PURPLE),
                ("changed norm scales", NORMS, _ANY_HOPS, GREEN),
                ("changed MLP outputs", MLPS, _ANY_HOPS, VERMILION),
            )
        ),
    ),
)


def _works(sizes: Sizes) -> list[Work]:
    """Terms go through the heads' OV circuits alone, which is little beside the two runs."""
    return [sizes.two_runs("runs", sizes.prompts("test"))]


ANALYSES.register(
    Analysis(
        name="path-expansion",
        title="Path expansion",
        question="Along which paths does the vector reach the answer's logit?",
        citation=(
            "Elhage et al. 2021, transformer-circuits.pub; after Yang et al. 2026, arXiv 2509.24169"
        ),
        find=_find,
        columns=Columns(
            keys=("source", "hops"),
            measures={"effect": CI, "share": None},
            constants=("whole", "residual"),
        ),
        works=_works,
        caption="Mean change of the answer's logit over that of other answers, split by where a "
        "path begins and how many OV circuits it passes after that. 95 % intervals.",
        summary=in_lines(*_CURVE.lines, shares=False),
        over_layers=_CURVE,
        reads_shots=False,
    )
)
