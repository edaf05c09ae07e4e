"""Whole forward passes, for what acts at every layer and position and so leaves nothing to share.

Prompts, mini-batches and answers are those of a trunk; only where the states come from differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.models.language_model import LanguageModel
from taskvectors.models.rope import Forward
from taskvectors.prompts import Prompt
from taskvectors.trunk.answers import AnswerScores, answer_losses, answer_scores
from taskvectors.trunk.batch import Batch, make_batch
from taskvectors.trunk.split import PromptSplit, cut_prompts

FIRST = (0,)
"""A cut here leaves the whole prompt."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FullForward:
    """Some prompts, and the forward pass that they go through from their first token on."""

    model: LanguageModel
    cut: PromptSplit
    forward: Forward
    can_capture = False
    """Whether every step has the same shapes and kernels, as a CUDA graph needs."""

    @classmethod
    def of(cls, model: LanguageModel, prompts: Sequence[Prompt], forward: Forward) -> "FullForward":
        """Prepare some prompts; nothing runs yet."""
        return cls(
            model=model, cut=cut_prompts(prompts, FIRST, device=model.device), forward=forward
        )

    def batch(self, rows: Sequence[int] | None = None) -> Batch:
        """A mini-batch by index; all prompts by default."""
        return make_batch(self.cut, rows, None)

    def run(self, batch: Batch) -> Float[Tensor, "row 1 suffix d_model"]:
        """`resid_post` of the last block; differentiable in what the forward pass depends on."""
        suffix = batch.packing.suffix
        ids, lengths = self.cut.tokens.suffix[:, :suffix], self.cut.tokens.suffix_lengths
        if batch.rows is not None:
            ids, lengths = ids.index_select(0, batch.rows), lengths.index_select(0, batch.rows)
        mask = torch.arange(suffix, device=ids.device) < lengths.unsqueeze(1)
        return self.forward(ids, mask.long()).unsqueeze(1)

    def losses(self, batch: Batch) -> Float[Tensor, " 1"]:
        """Negative log-probability, averaged over an answer's tokens and over prompts."""
        return answer_losses(self.model, self.run(batch), batch)

    def scores(self, batch: Batch, *, ends: Sequence[int] = ()) -> AnswerScores:
        """What the answers' tokens get, without gradient; see `answers.py`."""
        with torch.no_grad():
            return answer_scores(self.model, self.run(batch), batch, ends=ends)

    @property
    def n_tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return int(self.cut.tokens.suffix_lengths.sum())
