"""Directions against a task's labels: what they read as, and how near they are to the labels.

A direction is taken as the unembedding reads it, after the final norm. With many labels any
direction lies partly in their span, and many directions read as frequent tokens, so label sets are
compared with token sets of the same size, kind and frequency.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.explain.shared.measured import Measured
from taskvectors.models import LanguageModel
from taskvectors.models.tensors import in_double

_WINDOW = 500
"""How far in the vocabulary a token's stand-in may be: merges are numbered by frequency."""
_N_SETS = 100
_WORD_MARKS = ("Ġ", "▁", " ")


@dataclass(frozen=True, kw_only=True)
class BesideMatched:
    """A number of the labels, beside the same of matched token sets."""

    labels: float
    matched: float
    """Mean over matched sets."""
    low: float
    high: float
    """Middle 95 % of the matched sets."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How near a direction is to some tokens."""

    share: BesideMatched
    """‖projection‖/‖direction‖ on the span of their unembeddings."""
    rank: BesideMatched
    """Share of the vocabulary with a smaller logit, mean over the tokens: 1 on top, 0.5 chance."""

    def rows(self, layer: int, around: str) -> list[Measured]:
        """As rows of an analysis: `label_share`, `matched_share`, `label_rank`, `matched_rank`."""
        found = []
        for name, one in (("share", self.share), ("rank", self.rank)):
            found += [
                Measured(
                    layer=layer, around=around, measure=f"label_{name}", value=one.labels
                ),
                Measured(
                    layer=layer, around=around, measure=f"matched_{name}", value=one.matched,
                    low=one.low, high=one.high,
                ),
            ]  # fmt: skip
        return found


def lens(
    model: LanguageModel, directions: Float[Tensor, "direction d_model"], n: int = 5
) -> list[list[tuple[str, float]]]:
    """The tokens with the largest logits of each direction, as if it were the last state.

    Source: the logit lens, nostalgebraist (2020); the final norm is applied.
    """
    with torch.no_grad():
        logits = model.logits(directions.to(model.device, model.dtype)).float()
        top = logits.topk(n, dim=1)
    return [
        [(_text(model, token), value) for token, value in zip(tokens, values, strict=True)]
        for tokens, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def label_alignment(
    model: LanguageModel,
    directions: Float[Tensor, "direction d_model"],
    labels: Sequence[int],
    generator: torch.Generator,
) -> list[Alignment]:
    """Alignment of directions with label tokens, beside matched token sets.

    Args:
        model: The model.
        directions: Not zero.
        labels: Tokens, each once.
        generator: Of the matched sets.

    Source: https://arxiv.org/abs/2509.24164, task-subspace projection. We differ: as a share of the
        direction's length, and beside matched sets. Ranks are ours.
    """
    directions = directions.to(model.device, model.dtype)
    with torch.no_grad():
        states = model.final_state(directions).float()
        order = model.logits(directions).float().argsort(dim=1).argsort(dim=1)
    ranks = in_double(order) / (model.d_vocab - 1)
    sets = [torch.tensor(labels), *matched_sets(_names(model), labels, _N_SETS, generator)]
    sets = [tokens.to(model.device) for tokens in sets]
    weight = model.unembedding.weight
    shares = [projected_share(states, weight[tokens].float()) for tokens in sets]
    placed = [ranks[:, tokens.cpu()].mean(dim=1) for tokens in sets]
    return [
        Alignment(share=share, rank=rank)
        for share, rank in zip(_beside(shares), _beside(placed), strict=True)
    ]


def _beside(found: Sequence[Float[Tensor, " direction"]]) -> list[BesideMatched]:
    """The labels' numbers, which are the first, beside those of the matched sets."""
    labels, *matched = in_double(torch.stack(list(found)))
    others = torch.stack(matched)
    low, high = others.quantile(torch.tensor([0.025, 0.975]).double(), dim=0)
    numbers = zip(
        labels.tolist(), others.mean(dim=0).tolist(), low.tolist(), high.tolist(), strict=True
    )
    return [
        BesideMatched(labels=ours, matched=mean, low=low, high=high)
        for ours, mean, low, high in numbers
    ]


def projected_share(
    directions: Float[Tensor, "direction d_state"], rows: Float[Tensor, "token d_state"]
) -> Float[Tensor, " direction"]:
    """‖Proj x‖/‖x‖ onto the span of some rows."""
    _, values, basis = torch.linalg.svd(in_double(rows), full_matrices=False)
    basis = basis[values > 1e-6 * values[0]]
    x = in_double(directions)
    share: Tensor = (x @ basis.T).norm(dim=1) / x.norm(dim=1)
    return share


def matched_sets(
    names: Sequence[str], labels: Sequence[int], n: int, generator: torch.Generator
) -> list[Int[Tensor, " token"]]:
    """Token sets like the labels: each label's stand-in is of its kind and near it in rank.

    Vocabularies made by merging number their tokens by frequency, so near in rank is alike in
    frequency. A kind is: begins a word, has only letters, begins with a capital.

    Args:
        names: Tokens as the tokenizer spells them.
        labels: Tokens, each once.
        n: How many sets.
        generator: Of the draws.
    """
    taken = set(labels)
    candidates = []
    for label in labels:
        near = range(max(0, label - _WINDOW), min(len(names), label + _WINDOW + 1))
        alike = [t for t in near if t not in taken and _kind(names[t]) == _kind(names[label])]
        candidates.append(alike or [t for t in range(len(names)) if t not in taken])
    sets = []
    for _ in range(n):
        drawn: list[int] = []
        for alike in candidates:
            known = set(drawn)
            left = [token for token in alike if token not in known] or alike
            drawn.append(left[int(torch.randint(len(left), (1,), generator=generator))])
        sets.append(torch.tensor(drawn))
    return sets


def logit_differences(
    logits: Float[Tensor, "prompt label"], right: Int[Tensor, " prompt"]
) -> Float[Tensor, " prompt"]:
    """The right label's logit minus the mean of the wrong ones'.

    Source: https://arxiv.org/abs/2509.24164.

    Example:
        >>> logit_differences(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]))
        tensor([2.5000])
    """
    own = logits.gather(1, right.unsqueeze(1)).squeeze(1)
    return own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1)


def _kind(name: str) -> tuple[bool, bool, bool]:
    word = name.lstrip("".join(_WORD_MARKS))
    return name.startswith(_WORD_MARKS), word.isalpha(), word[:1].isupper()


def _names(model: LanguageModel) -> list[str]:
    """All tokens as the vocabulary spells them; padding rows of the unembedding have no name."""
    known = 0 if model.tokenizer is None else min(len(model.tokenizer), model.d_vocab)
    names = model.tokenizer.convert_ids_to_tokens(list(range(known))) if known else []
    return [name or "" for name in names] + [""] * (model.d_vocab - known)


def _text(model: LanguageModel, token: int) -> str:
    if model.tokenizer is None:
        return str(token)
    return str(model.tokenizer.decode([token]))
