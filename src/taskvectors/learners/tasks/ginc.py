"""GINC as a family: which hidden Markov model a document is by is the task.

The vector is read at a delimiter of a document and put at a delimiter before what comes next in
that document, which nothing before it has seen. The value at the delimiter is not drawn anew, since
no document ever does that: a learner of documents rightly goes on with the value that it has seen.
A demonstration stands for as many tokens as there are slots: documents have a delimiter that often.
"""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.config import TrainingConfig, VariantsConfig
from taskvectors.learners.families import FAMILIES, YANG, Family
from taskvectors.learners.family import (
    HELD_OUT,
    Batch,
    CurriculumStage,
    EvalBatch,
    Split,
    cross_entropies,
    wrong_tokens,
)
from taskvectors.learners.segments import chosen_sites, segment_batch, segment_eval_batch
from taskvectors.learners.shape import SMALL, LearnerShape
from taskvectors.learners.tasks.shared.ginc_bayes import (
    log_start_of_segments,
    segment_predictions,
    states_after,
)
from taskvectors.learners.tasks.shared.ginc_world import (
    DELIMITER,
    Corpus,
    World,
    WorldSizes,
    draw_corpus,
    draw_documents,
    draw_histories,
    draw_segments,
    draw_trained,
    draw_world,
)
from taskvectors.methods import Paper
from taskvectors.results.learners import IN_DISTRIBUTION

PUBLISHED_DOCUMENTS = (1000, 10240)
"""Documents of the published corpus, and tokens of each."""


class Ginc(BaseModel):
    """Documents of a mixture of hidden Markov models; half of the models are held out.

    The sizes are small by default; the published ones are those of `WorldSizes`.

    Source: Xie et al. (2022), https://arxiv.org/abs/2111.02080; Yang et al. (2025),
        https://arxiv.org/abs/2501.09240, use it. Where the vector sits is our choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: str = "ginc"
    n_symbols: int = Field(default=8, ge=2)
    """Symbols, the delimiter included."""
    n_values: int = Field(default=2, ge=1)
    """Values of a hidden state."""
    n_slots: int = Field(default=4, ge=2)
    """Slots of a hidden state."""
    n_hmms: int = Field(default=20, ge=2, multiple_of=2)
    """Models; the second half is never trained on."""
    n_demonstrations: int = Field(default=10, ge=1)
    """Stretches of a document, each as long as there are slots, before a segment."""
    segment_length: int = Field(default=4, ge=2)
    """Tokens after the delimiter that are predicted from a vector."""
    n_sites: int = Field(default=8, ge=1)
    """Most delimiters of a document that vectors are read at, in training."""
    corpus: Literal["fresh", "published"] = "fresh"
    """`published` trains on windows of 1,000 documents that are drawn once."""
    task_seed: int = 0
    """Seed of the models."""
    near_optimal: float = 0.05
    """ICL error beyond the Bayes predictor's that counts as near it."""

    @property
    def d_vocab(self) -> int:
        """The symbols and the end of text."""
        return self.sizes.n_tokens

    @property
    def sizes(self) -> WorldSizes:
        """The sizes of the world."""
        return WorldSizes(
            n_symbols=self.n_symbols,
            n_values=self.n_values,
            n_slots=self.n_slots,
            n_hmms=self.n_hmms,
        )

    @property
    def shifts(self) -> tuple[str, ...]:
        """Models that were never trained on."""
        return (IN_DISTRIBUTION, HELD_OUT)

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of so much of a document, a delimiter and a segment."""
        return n_demonstrations * self.n_slots + 1 + self.segment_length

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Int[Tensor, " batch"]:
        """Models of a split, with equal chances."""
        world = self.world(generator.device)
        return draw_trained(world, n, generator) + (split == "test") * world.n_trained

    def batch(
        self, tasks: Int[Tensor, " batch"], generator: torch.Generator, stage: CurriculumStage
    ) -> Batch:
        """Documents; vectors at their delimiters, after a demonstration's length.

        A query is what comes next in the document: a delimiter has not seen it.
        """
        n = self.n_demonstrations if stage.n_demonstrations is None else stage.n_demonstrations
        tokens = self._documents(tasks, self.n_positions(n), generator)
        is_site = tokens == DELIMITER
        is_site[:, : self.n_slots] = False
        is_site[:, -self.segment_length :] = False  # where no whole segment is left
        sites = chosen_sites(is_site, self.n_sites, generator)
        columns = sites[0][..., None] + torch.arange(self.segment_length + 1, device=tokens.device)
        columns = columns.clamp(max=tokens.shape[1] - 1)  # of sites that are padding
        segments = tokens.gather(1, columns.flatten(1)).view(columns.shape)
        counted = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
        return segment_batch(tokens, counted, sites, segments)

    def eval_batch(
        self,
        tasks: Int[Tensor, " batch"],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,  # noqa: ARG002  (a delimiter carries no query: all would be one)
    ) -> EvalBatch:
        """The middle of a document, a delimiter, and what comes next in that document.

        A target is the token that is likeliest under the model itself after all that was before.
        Neighbours mostly have the same value at the delimiter, so that the vector of the row before
        is one of another task and not of another value.
        """
        world = self.world(generator.device)
        rows = torch.arange(len(tasks), device=tasks.device)
        value = rows * self.n_values // len(tasks)
        history = draw_histories(world, tasks, value, n_demonstrations * self.n_slots, generator)
        segment = draw_segments(world, tasks, value, self.segment_length, generator)[:, :-1]
        states = states_after(world.models, history)
        joint = segment_predictions(world.models, segment, states)
        targets = _likeliest(joint[rows, tasks])
        known = slice(None, world.n_trained) if shift != HELD_OUT else slice(world.n_trained, None)
        unseen = log_start_of_segments(world, world.n_trained)[None]
        guesses = {
            "without": segment_predictions(world.some(known), segment, unseen).logsumexp(dim=1),
            "optimal": joint[:, known].logsumexp(dim=1),
        }
        other = segment_predictions(world.models, segment, states.roll(1, 0))
        wrong = _likeliest(other[rows, tasks.roll(1, 0)])
        baselines = {
            name: (_likeliest(guess) != targets).float() for name, guess in guesses.items()
        }
        return segment_eval_batch(history, segment, targets, wrong, tasks, baselines)

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Cross-entropies of the next tokens."""
        return cross_entropies(logits, targets)

    def errors(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """1 where the arg-max is not the likeliest token."""
        return wrong_tokens(logits, targets)

    def probe_targets(self, tasks: Int[Tensor, " batch"]) -> Float[Tensor, "batch n_hmms"]:
        """The model as a one-hot."""
        return torch.nn.functional.one_hot(tasks, self.n_hmms).float()

    def world(self, device: torch.device | str) -> World:
        """The models of this seed; the same on every device."""
        return _world(self.sizes, self.task_seed, str(device))

    def _documents(
        self, tasks: Int[Tensor, " batch"], length: int, generator: torch.Generator
    ) -> Int[Tensor, "batch pos"]:
        world = self.world(generator.device)
        if self.corpus == "fresh":
            return draw_documents(world, tasks, length, generator)
        corpus = _corpus(self.sizes, self.task_seed, str(generator.device))
        by_task = (corpus.hmm == tasks[:, None]).double()
        document = torch.multinomial(by_task, 1, generator=generator)
        latest = corpus.documents.shape[1] - length
        begin = torch.randint(
            latest + 1, (len(tasks), 1), generator=generator, device=generator.device
        )
        return corpus.documents[document, begin + torch.arange(length, device=begin.device)]


def _likeliest(log_weight: Float[Tensor, "batch pos symbol"]) -> Int[Tensor, "batch pos"]:
    """The token of the likeliest symbol; -1, which nothing predicts, where none is possible."""
    is_possible = ~log_weight.isneginf().all(dim=-1)
    return torch.where(is_possible, log_weight.argmax(dim=-1) + 1, -1)


@lru_cache(maxsize=8)
def _world(sizes: WorldSizes, seed: int, device: str) -> World:
    return draw_world(sizes, torch.Generator().manual_seed(seed)).to(torch.device(device))


@lru_cache(maxsize=2)
def _corpus(sizes: WorldSizes, seed: int, device: str) -> Corpus:
    world = _world(sizes, seed, "cpu")
    generator = torch.Generator().manual_seed(seed)
    return draw_corpus(world, *PUBLISHED_DOCUMENTS, generator).to(torch.device(device))


FAMILIES.register(
    Family(
        config=Ginc,
        summary="the next token of one of some hidden Markov models",
        papers=(
            Paper(
                "Xie, Raghunathan, Liang, Ma",
                2022,
                "An Explanation of In-context Learning as Implicit Bayesian Inference",
                "https://arxiv.org/abs/2111.02080",
            ),
            YANG,
        ),
        presets={
            "cpu": VariantsConfig(
                task="ginc",
                training=TrainingConfig(
                    shape=SMALL,
                    steps=2_000,
                    tvp_from=1_000,
                    batch_size=32,
                    learning_rate=2e-3,
                    sites_per_sequence=4,
                    measure_every=250,
                ),
            ),
            # Xie et al. (2022): 4 layers, 12 heads, width 768, learning rate 8e-4, warm-up 1,000,
            # batch 8 of 1,024 tokens, about 6,250 steps; steps with both losses and l* are ours
            "paper": VariantsConfig(
                task="ginc",
                settings={
                    "n_symbols": 50,
                    "n_values": 10,
                    "n_slots": 10,
                    "n_hmms": 10,
                    "n_demonstrations": 102,
                    "corpus": "published",
                },
                training=TrainingConfig(
                    shape=LearnerShape(n_layers=4, d_model=768, n_heads=12),
                    steps=12_500,
                    tvp_from=6_250,
                    batch_size=8,
                    learning_rate=8e-4,
                    warmup_steps=1_000,
                    checkpoint_every=1_000,
                    measure_every=625,
                ),
                tvp_layers=(None, 0, 1, 2),
                seeds=(0, 1, 2),
                with_shifts=True,
            ),
        },
        quick={"n_hmms": 4},
    )
)
