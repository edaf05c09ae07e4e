"""The trunk of some prompts, and branches of it.

An edit at (layer l, position p) changes nothing before position p and nothing up to layer l. That
part, the trunk, is computed once: the keys and values of the earlier positions, and the residual
stream of the later ones below every block. A branch runs the blocks above its first edit for the
later positions only. Branches of one prompt run side by side and do not see each other; each joins
where it first differs.

How much of that a model can share is its engine (`LanguageModel.engine`): `trunk` all of it,
`cached` the prefix, `whole` nothing. The interface and the results are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from taskvectors.models.engines import prepare
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.runs import Prepared, RunRequest, Site
from taskvectors.models.sites import Component
from taskvectors.models.structure import Engine
from taskvectors.models.unembedding import SoftTargets
from taskvectors.prompts import Prompt
from taskvectors.trunk.answers import AnswerScores, answer_losses, answer_scores, answer_states
from taskvectors.trunk.applying import EditedBranches
from taskvectors.trunk.batch import Batch, make_batch
from taskvectors.trunk.edits import Branch, Position, check_edit, start_layer
from taskvectors.trunk.split import Columns, PromptSplit, cut_prompts


@dataclass(kw_only=True, eq=False)
class Trunk:
    """The shared part of the forward passes of some prompts."""

    model: LanguageModel
    cut: PromptSplit
    engine: Engine
    """What its branches share."""
    prepared: Prepared
    _columns: dict[tuple[Position, ...], Columns] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        *,
        positions: Sequence[Position] = (-1,),
        sites: Sequence[tuple[int, Component]] = (),
        rows_per_pass: int | None = None,
    ) -> "Trunk":
        """Run the prompts once, cut before the first of some positions.

        Args:
            model: The model.
            prompts: Prompts with their answers; any lengths.
            positions: Positions that branches will edit or read.
            sites: Further sites to read at the suffix, e.g. `(3, "z")`.
            rows_per_pass: Prompts per forward pass; all at once by default.
        """
        cut = cut_prompts(prompts, positions, device=model.device)
        lengths = cut.tokens.prefix_lengths + cut.tokens.suffix_lengths
        engine = model.engine_for(int(lengths.max()))
        prepared = prepare(model, cut.tokens, engine, sites=sites, rows_per_pass=rows_per_pass)
        return cls(model=model, cut=cut, engine=engine, prepared=prepared)

    @property
    def n_prompts(self) -> int:
        """How many prompts the trunk holds."""
        return len(self.cut.tokens)

    @property
    def can_capture(self) -> bool:
        """Whether every step has the same shapes and kernels, as a CUDA graph needs."""
        return self.engine == "trunk"  # the others group prompts by their lengths

    @property
    def suffix(self) -> int:
        """Tokens per branch."""
        return int(self.cut.tokens.suffix.shape[1])

    @property
    def bytes_held(self) -> int:
        """Memory of everything the trunk keeps."""
        held = {id(t): t for t in self.prepared.tensors()}
        return sum(t.numel() * t.element_size() for t in held.values())

    def columns(self, positions: tuple[Position, ...]) -> Columns:
        """Suffix columns of some positions, resolved once per trunk."""
        if positions not in self._columns:
            self._columns[positions] = self.cut.columns(positions)
        return self._columns[positions]

    def states(
        self, layer: int, positions: tuple[Position, ...] = (-1,)
    ) -> Float[Tensor, "prompt position d_model"]:
        """Plain `resid_post` of a layer at some positions that every prompt has."""
        return self._at(self.prepared.residual(layer), positions)

    def read(
        self, layer: int, component: Component, positions: tuple[Position, ...] = (-1,)
    ) -> Float[Tensor, "prompt position width"]:
        """What was recorded at a further site (named when the trunk was built)."""
        return self._at(self.prepared.sites[layer, component], positions)

    def _at(self, state: Tensor, positions: tuple[Position, ...]) -> Tensor:
        columns = self.columns(positions).index
        return state.gather(1, columns.unsqueeze(-1).expand(-1, -1, state.shape[-1]))

    def batch(self, rows: Sequence[int] | None = None, *, n_reads: int | None = None) -> Batch:
        """A mini-batch by index.

        Args:
            rows: Prompts of the trunk; all by default.
            n_reads: Give every step the same shapes, as a captured graph needs: keep the padding
                of the suffixes, and pad the answer tokens to this many.
        """
        return make_batch(self.cut, rows, n_reads)

    def run(
        self, branches: Sequence[Branch], batch: Batch | None = None
    ) -> Float[Tensor, "row branch suffix d_model"]:
        """`resid_post` of the last block for every branch; differentiable in the edits' values.

        Args:
            branches: What each branch changes.
            batch: Prompts to run; all by default.
        """
        return self.run_and_read(branches, (), batch)[0]

    def run_and_read(
        self, branches: Sequence[Branch], sites: Sequence[Site], batch: Batch | None = None
    ) -> tuple[
        Float[Tensor, "row branch suffix d_model"],
        dict[Site, Float[Tensor, "row branch suffix width"]],
    ]:
        """As `run`, and what the branches hold at some sites."""
        for branch in branches:
            for edit in branch:
                check_edit(self.model, edit)
        batch = self.batch() if batch is None else batch
        n_layers = self.model.n_layers
        lowest = min((layer for layer, _ in sites), default=n_layers) - 1
        starts = [min(start_layer(branch, n_layers), lowest) for branch in branches]
        order = sorted(range(len(branches)), key=starts.__getitem__)
        found = self.prepared.run(
            RunRequest(
                rows=batch.rows,
                packing=batch.packing,
                starts=[starts[index] for index in order],
                changes=EditedBranches(
                    model=self.model,
                    columns=self.columns,
                    edits=[(slot, edit) for slot, i in enumerate(order) for edit in branches[i]],
                ),
                sites=sites,
            )
        )
        if order == list(range(len(order))):
            return found.states, dict(found.read)
        back = sorted(range(len(order)), key=order.__getitem__)
        return found.states[:, back], {site: state[:, back] for site, state in found.read.items()}

    def answer_states(
        self, states: Float[Tensor, "row branch suffix d_model"], batch: Batch
    ) -> Float[Tensor, "read branch d_model"]:
        """The states that predict the answers' tokens."""
        return answer_states(states, batch)

    def answer_losses(
        self,
        states: Float[Tensor, "row branch suffix d_model"],
        batch: Batch,
        soft: SoftTargets | None = None,
    ) -> Float[Tensor, " branch"]:
        """Negative log-probability, averaged over an answer's tokens and over prompts."""
        return answer_losses(self.model, states, batch, soft)

    def answer_scores(
        self,
        states: Float[Tensor, "row branch suffix d_model"],
        batch: Batch,
        *,
        first_bias: Float[Tensor, " d_vocab"] | None = None,
        ends: Sequence[int] = (),
    ) -> AnswerScores:
        """Log-probabilities of the answers' tokens and the arg-max at each; see `answers.py`."""
        return answer_scores(self.model, states, batch, first_bias=first_bias, ends=ends)

    def tokens_run(self, branches: Sequence[Branch]) -> int:
        """Tokens that trunk and branches cost; through half of the blocks counts as half."""
        lengths = self.cut.tokens.prefix_lengths.sum() + self.cut.tokens.suffix_lengths.sum()
        reads = sum(len(a) + f for a, f in zip(self.cut.answers, self.cut.first_reads, strict=True))
        share = sum(
            1 - (start_layer(b, self.model.n_layers) + 1) / self.model.n_layers for b in branches
        )
        return int(lengths) + round(reads * share)
