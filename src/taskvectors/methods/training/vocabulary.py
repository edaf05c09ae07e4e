"""The vocabulary that a training run's losses go over: a shortlist where the model's is large.

Once the blocks are cheap, the unembedding is nine tenths of a step. Nearly all tokens of a large
vocabulary have no probability worth mentioning wherever an answer is predicted, so losses go over
those that have: a shortlist, renewed as training moves on. What the others would add to the loss is
measured at each renewal, over the full vocabulary, and carried as a constant until the next one.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.shortlist import Shortlist, highest_probabilities
from taskvectors.models.unembedding import (
    VOCABULARY_SLICE,
    LossesSeen,
    SoftTargets,
    Unembedding,
    losses_seen,
)

logger = logging.getLogger(__name__)

FIRST_BOUND, BOUND_FACTOR = 2.0**-14, 2.0**-3
"""A token is listed if some read gives it a higher probability; how the bound is tightened."""
LARGEST_GAP = 0.05
"""Nats that a full loss may be above that over the list; beyond, the list is tightened."""
LARGEST_SHARE = 0.5
"""Of the vocabulary, beyond which all of it is taken."""
_SAMPLED = 8
"""One in so many reads says which tokens the normalizers of a first renewal go over."""
_FAR = 1.0
"""Nats that a normalizer over a list may lack: beyond, probabilities are taken by the full one, for
which the vocabulary is walked over again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reads:
    """Where some answer tokens are predicted, for all branches of a run."""

    state: Float[Tensor, "read branch d_state"]
    """After the final norm."""
    targets: Int[Tensor, " read"]
    weights: Float[Tensor, " read"]
    """Of each read in the loss."""
    soft: SoftTargets | None = None

    @property
    def rows(self) -> Float[Tensor, "row d_state"]:
        """The states of all branches, one after another."""
        return self.state.flatten(0, 1)

    @property
    def row_targets(self) -> Int[Tensor, " row"]:
        """The target of each row."""
        return self.targets.repeat_interleave(self.state.shape[1])


class Renewal(NamedTuple):
    """How far the full loss of each branch is above that over the list; None without a list."""

    before: Float[Tensor, " branch"] | None
    """Over the list as it was, which training went over until now."""
    after: Float[Tensor, " branch"] | None
    """Over the new list."""

    @property
    def was_close(self) -> bool:
        """Whether the list as it was has served until now."""
        return self.before is None or _is_close(self.before)


class TrainingVocabulary:
    """The tokens that losses go over.

    Args:
        full: The model's last linear map.
        answers: All answer tokens that are trained on; they are always listed.
    """

    def __init__(self, full: Unembedding, answers: Iterable[int]) -> None:
        self.full = full
        self.bound = FIRST_BOUND
        n_tokens, device = full.weight.shape[0], full.weight.device
        self.is_short = n_tokens * LARGEST_SHARE >= 2 * VOCABULARY_SLICE
        """Whether there is a list, or will be."""
        self.shortlist: Shortlist | None = None
        self._highest = torch.zeros(n_tokens if self.is_short else 0, device=device)
        """The highest probability that a read gave to each token, at any renewal."""
        if self.is_short:
            self._highest[list(set(answers))] = 1.0

    def renew(self, reads: Iterable[Reads]) -> Renewal:
        """List the tokens that now have a probability somewhere, besides those listed before.

        The list is tightened until no branch's full loss is more than `LARGEST_GAP` above that over
        the list, or all tokens are taken.

        Args:
            reads: What training reads now; of all branches that are still in training.
        """
        if not self.is_short:
            return Renewal(None, None)
        with torch.no_grad():
            parts, was_there = list(reads), self.shortlist is not None
            known = self.shortlist or self._sample(parts)
            if known is None:
                return Renewal(None, None)
            looked, gaps = [], []
            for part in parts:
                listed = _over_list(part, known)
                looked.append((part, self._over_all(part, listed.normalizer)))
                gaps.append(_gap(*looked[-1], listed))
            before = torch.stack(gaps).sum(dim=0) if was_there else None
            while (shortlist := self._list()) is not None:
                gaps = [_gap(part, full, _over_list(part, shortlist)) for part, full in looked]
                after = torch.stack(gaps).sum(dim=0)
                if _is_close(after):
                    return Renewal(before, after)
                self.bound *= BOUND_FACTOR
        return Renewal(before, None)

    def _sample(self, parts: Sequence[Reads]) -> Shortlist | None:
        """A list by some reads, from which the others' normalizers are known from below."""
        for part in parts:
            state = part.rows[::_SAMPLED]
            first = torch.zeros(len(state), dtype=torch.long, device=state.device)
            normalizer = losses_seen(self.full, state, first).normalizer
            self._note(highest_probabilities(self.full, state, normalizer))
        return self._list()

    def _over_all(self, reads: Reads, lower: Float[Tensor, " row"]) -> LossesSeen:
        """Over the full vocabulary; the highest probability of each token is noted."""
        soft = None if reads.soft is None else reads.soft.over(self.full)
        seen = losses_seen(self.full, reads.rows, reads.row_targets, soft, lower=lower)
        highest = seen.highest
        if highest is None or float((seen.normalizer - lower).max()) > _FAR:
            highest = highest_probabilities(self.full, reads.rows, seen.normalizer)
        self._note(highest)
        if soft is not None:
            self._note(highest_probabilities(self.full, soft.state, soft.normalizer))
        return seen

    def _note(self, highest: Float[Tensor, " d_vocab"]) -> None:
        torch.maximum(self._highest, highest, out=self._highest)

    def _list(self) -> Shortlist | None:
        """List whole slices of the vocabulary's most probable tokens, so that sizes stay."""
        n_above = int((self._highest > self.bound).sum())
        size = -(-n_above // VOCABULARY_SLICE) * VOCABULARY_SLICE
        if size > LARGEST_SHARE * self._highest.shape[0]:
            self.is_short, self.shortlist = False, None
            logger.info(
                "losses go over the full vocabulary: %d of %d tokens have a probability above %.2g",
                n_above,
                self._highest.shape[0],
                self.bound,
            )
            return None
        tokens = self._highest.topk(size).indices.sort().values
        if self.shortlist is None:
            self.shortlist = Shortlist.of(self.full, tokens)
        else:
            self.shortlist = self.shortlist.replace(self.full, tokens)
        return self.shortlist


def _over_list(reads: Reads, shortlist: Shortlist) -> LossesSeen:
    soft = None if reads.soft is None else reads.soft.over(shortlist.unembedding)
    return losses_seen(shortlist.unembedding, reads.rows, shortlist.index(reads.row_targets), soft)


def _gap(reads: Reads, full: LossesSeen, listed: LossesSeen) -> Float[Tensor, " branch"]:
    """What some reads add to how far each branch's full loss is above that over a list."""
    each = (full.losses - listed.losses).view(reads.state.shape[:2])
    return (each * reads.weights.unsqueeze(1)).sum(dim=0)


def _is_close(gap: Float[Tensor, " branch"]) -> bool:
    return float(gap.abs().max()) <= LARGEST_GAP
