"""The vocabulary that a training run's losses go over: a shortlist where the model's is large.

Once the blocks are cheap, the unembedding is nine tenths of a step. Nearly all tokens of a large
vocabulary have no probability worth mentioning wherever an answer is predicted, so losses go over
those that have: a shortlist, renewed as training moves on. What the others would add to the loss is
measured at each renewal, over the full vocabulary, and carried as a constant until the next one.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.unembedding import (
    VOCABULARY_SLICE,
    Shortlist,
    SoftTargets,
    Unembedding,
)

logger = logging.getLogger(__name__)

FIRST_BOUND, BOUND_FACTOR = 2.0**-14, 2.0**-3
"""A token is listed if some read gives it a higher probability; how the bound is tightened."""
LARGEST_GAP = 0.05
"""Nats that a full loss may be above that of the list before the list is tightened."""
LARGEST_SHARE = 0.5
"""Of the vocabulary, beyond which all of it is taken."""
_LOGITS_HELD = 2**25
"""Logits that a renewal holds at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reads:
    """Where some answer tokens are predicted, for all branches of a run."""

    state: Float[Tensor, "read branch d_state"]
    """After the final norm."""
    targets: Int[Tensor, " read"]
    weights: Float[Tensor, " read"]
    """Of each read in the loss."""
    soft: SoftTargets | None = None


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

    def renew(self, reads: Iterable[Reads]) -> tuple[bool, Float[Tensor, " branch"] | None]:
        """List the tokens that now have a probability somewhere, besides those listed before.

        Args:
            reads: What training reads now; of all branches that are still in training.

        Returns:
            Whether the list until now was close enough, and how far each branch's loss over the
            full vocabulary was above that over the list; None where there was no list.
        """
        if not self.is_short:
            return True, None
        with torch.no_grad():
            gap = torch.stack([self._look(part) for part in reads]).sum(dim=0)
        if self.shortlist is None:
            self._list()
            return True, None
        largest = float(gap.abs().max())
        is_close = largest <= LARGEST_GAP
        if not is_close:
            self.bound *= BOUND_FACTOR
        logger.debug("unlisted tokens added at most %.4f to a loss", largest)
        self._list()
        return is_close, gap

    def _look(self, reads: Reads) -> Float[Tensor, " branch"]:
        """Note probabilities of some reads; the part of the gap that they make."""
        n_reads, n_branches, _ = reads.state.shape
        gap = reads.state.new_zeros(n_branches, dtype=torch.float32)
        step = max(1, _LOGITS_HELD // (self._highest.shape[0] * n_branches))
        for start in range(0, n_reads, step):
            part = slice(start, start + step)
            log_q = self._log_probabilities(reads.state[part].flatten(0, 1))
            log_q = log_q.view(-1, n_branches, log_q.shape[1])
            log_p, share = None, 0.0
            if reads.soft is not None:
                share = reads.soft.share
                log_p = self._log_probabilities(reads.soft.state[part])
            if self.shortlist is not None:
                targets, tokens = reads.targets[part], self.shortlist.tokens
                listed = whole_losses(
                    log_q[..., tokens].log_softmax(dim=-1),
                    self.shortlist.index(targets),
                    None if log_p is None else log_p[:, tokens].log_softmax(dim=-1),
                    share,
                )
                over = whole_losses(log_q, targets, log_p, share) - listed
                gap += (over * reads.weights[part].unsqueeze(1)).sum(dim=0)
        return gap

    def _log_probabilities(
        self, state: Float[Tensor, "row d_state"]
    ) -> Float[Tensor, "row d_vocab"]:
        """Over the full vocabulary; the highest of each token are noted."""
        log_p = self.full.logits(state).float().log_softmax(dim=1)
        torch.maximum(self._highest, log_p.amax(dim=0).exp(), out=self._highest)
        return log_p

    def _list(self) -> None:
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
            return
        tokens = self._highest.topk(size).indices.sort().values
        if self.shortlist is None:
            self.shortlist = Shortlist.of(self.full, tokens)
        else:
            self.shortlist = self.shortlist.replace(self.full, tokens)


def whole_losses(
    log_q: Float[Tensor, "read branch token"],
    targets: Int[Tensor, " read"],
    log_p: Float[Tensor, "read token"] | None,
    share: float,
) -> Float[Tensor, "read branch"]:
    """The loss of each read, from the log-probabilities of all tokens.

    Args:
        log_q: Of the branches.
        targets: The tokens that should follow.
        log_p: Of the teacher, if there is one.
        share: Of the divergence from the teacher in the loss.
    """
    at = targets.view(-1, 1, 1).expand(-1, log_q.shape[1], 1)
    label = -log_q.gather(2, at).squeeze(2)
    if log_p is None:
        return label
    p = log_p.exp().unsqueeze(1)
    return (1 - share) * label + share * (p * (log_p.unsqueeze(1) - log_q)).sum(dim=-1)
