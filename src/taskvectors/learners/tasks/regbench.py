"""RegBench as a family: which automaton the strings are of is the task.

The vector is read at a separator and put at the separator before a fresh string of the same
automaton. A demonstration is a string.
"""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.config import TrainingConfig, VariantsConfig
from taskvectors.learners.families import FAMILIES, YANG, Family
from taskvectors.learners.family import (
    HELD_OUT,
    Batch,
    CurriculumStage,
    EvalBatch,
    Split,
    cross_entropies,
)
from taskvectors.learners.segments import chosen_sites, segment_batch, segment_eval_batch
from taskvectors.learners.shape import SMALL, LearnerShape
from taskvectors.learners.tasks.shared.automata import Automata, AutomatonSizes, mixture_predictor
from taskvectors.learners.tasks.shared.ngram import backoff_predictor
from taskvectors.learners.tasks.shared.regbench_instances import (
    InstanceSizes,
    SplitAutomata,
    draw_corpus,
    draw_instances,
    draw_segments,
    draw_splits,
    draw_string_sets,
    join_strings,
    legal_letters,
    trained_targets,
)
from taskvectors.methods import Paper
from taskvectors.results.learners import IN_DISTRIBUTION


class RegBench(BaseModel):
    """Strings of random automata; the automata of the test are never trained on.

    The sizes are small by default; the published ones are those of `InstanceSizes`.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973; Yang et al. (2025),
        https://arxiv.org/abs/2501.09240, use it. Where the vector sits is our choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: str = "regbench"
    states: tuple[int, int] = (4, 6)
    """Fewest and most states of an automaton, before it is minimised."""
    alphabet: tuple[int, int] = (4, 6)
    """Fewest and most letters of an automaton."""
    n_letters: int = Field(default=6, ge=2)
    """All letters."""
    most_outgoing: int = Field(default=3, ge=1)
    """Most letters that may come next: 3 in the released code, 4 in the paper's text."""
    n_train: int = Field(default=1000, ge=1)
    """Automata to train on."""
    n_test: int = Field(default=250, ge=1)
    """Automata to test on, and as many to choose by."""
    strings: tuple[int, int] = (7, 7)
    """Fewest and most strings of an instance."""
    length: tuple[int, int] = (3, 6)
    """Fewest and most letters of a string."""
    segment_length: int = Field(default=4, ge=2)
    """Letters of a fresh string that are predicted from a vector."""
    n_sites: int = Field(default=8, ge=1)
    """Most separators of an instance that vectors are read at, in training."""
    corpus: Literal["fresh", "published"] = "fresh"
    """`published` trains on one instance per automaton that is drawn once."""
    task_seed: int = 0
    """Seed of the automata."""
    near_optimal: float = 0.05
    """ICL error beyond the Bayes predictor's that counts as near it."""

    @model_validator(mode="after")
    def _fits(self) -> "RegBench":
        if self.strings[0] < 2:
            raise ValueError(f"instances of {self.strings[0]} string have no separator; give 2")
        if self.segment_length > self.length[1]:
            raise ValueError(
                f"a segment of {self.segment_length} letters is longer than any string that is "
                f"trained on; give at most {self.length[1]}"
            )
        return self

    @property
    def sizes(self) -> InstanceSizes:
        """The sizes of automata and instances."""
        return InstanceSizes(
            automata=AutomatonSizes(
                states=self.states,
                alphabet=self.alphabet,
                n_letters=self.n_letters,
                most_outgoing=self.most_outgoing,
            ),
            n_train=self.n_train,
            n_validation=self.n_test,
            n_test=self.n_test,
            strings=self.strings,
            length=self.length,
        )

    @property
    def n_demonstrations(self) -> int:
        """Strings before the last one of the longest instance."""
        return self.strings[1] - 1

    @property
    def d_vocab(self) -> int:
        """Letters, separator and padding."""
        return self.sizes.n_tokens

    @property
    def shifts(self) -> tuple[str, ...]:
        """Automata that were never trained on."""
        return (IN_DISTRIBUTION, HELD_OUT)

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of so many strings and one more, all of them as long as they can be."""
        return (n_demonstrations + 1) * (self.length[1] + 1) - 1

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Int[Tensor, " batch"]:
        """Numbers of automata: those of the test come after those that are trained on."""
        first, count = (0, self.n_train) if split == "train" else (self.n_train, self.n_test)
        return first + torch.randint(count, (n,), generator=generator, device=generator.device)

    def batch(
        self, tasks: Int[Tensor, " batch"], generator: torch.Generator, stage: CurriculumStage
    ) -> Batch:
        """Instances; vectors at their separators.

        Raises:
            TaskVectorsError: A curriculum asks for shorter instances of a fixed corpus.
        """
        sizes, automata = self._shown(stage), self.automata(generator.device)
        if self.corpus == "fresh":
            tokens = draw_instances(sizes, automata, tasks, generator)
        elif sizes == self.sizes:
            tokens = _corpus(sizes, self.task_seed, str(generator.device))[tasks]
        else:
            raise TaskVectorsError(
                "the published corpus is fixed, so its instances cannot grow while training; give "
                "no curriculum of demonstrations, or corpus=fresh"
            )
        sites = chosen_sites(tokens == sizes.separator, self.n_sites, generator)
        each = tasks.repeat_interleave(sites[0].shape[1])
        segments = draw_segments(sizes, automata, each, self.segment_length, generator)
        counted = trained_targets(sizes, tokens)
        return segment_batch(tokens, counted, sites, segments.view(*sites[0].shape, -1))

    def eval_batch(
        self,
        tasks: Int[Tensor, " batch"],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,  # noqa: ARG002  (a separator carries no query: all would be one)
    ) -> EvalBatch:
        """Strings of an automaton, a separator, and a fresh string.

        All trials have strings of the same lengths, which are spread evenly over those that are
        trained on, in random order. A target is the set of letters that may come; under the wrong
        automaton none may once a letter of the string is illegal for it.
        """
        sizes, automata = self.sizes, self.automata(generator.device)
        history = self._history(tasks, n_demonstrations, generator)
        segment = draw_segments(sizes, automata, tasks, self.segment_length, generator)[:, :-1]
        targets = legal_letters(sizes, automata, tasks, segment)
        first, count = (0, self.n_train) if shift != HELD_OUT else (self.n_train, self.n_test)
        known = automata[first : first + count]
        whole, n = torch.cat([history, segment], dim=1), history.shape[1]
        bar = sizes.separator
        guesses = {
            "without": mixture_predictor(known, segment, bar, of="legality"),
            "optimal": mixture_predictor(known, whole, bar, of="legality", first=n),
            "3-gram": backoff_predictor(whole, self.n_letters, bar)[:, n:],
        }
        wrong = legal_letters(sizes, automata, tasks.roll(1, 0), segment)
        baselines = {name: self.errors(guess, targets) for name, guess in guesses.items()}
        return segment_eval_batch(history, segment, targets, wrong, tasks, baselines)

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Cross-entropies of the next tokens."""
        return cross_entropies(logits, targets)

    def errors(
        self,
        logits: Float[Tensor, "*reads token"],
        targets: Bool[Tensor, "*reads letter"],
    ) -> Float[Tensor, "*reads"]:
        """1 where the arg-max is no letter that may come: one minus the benchmark's accuracy."""
        guess = logits.argmax(dim=-1)
        is_letter = guess < self.n_letters
        letter = torch.where(is_letter, guess, 0)
        is_legal = targets.gather(-1, letter.unsqueeze(-1)).squeeze(-1) & is_letter
        return 1 - is_legal.float()

    def probe_targets(self, tasks: Int[Tensor, " batch"]) -> Float[Tensor, "batch letter"]:
        """The letters that a string may begin with."""
        return self.automata(tasks.device).legal[tasks, 0].float()

    def automata(self, device: torch.device | str) -> Automata:
        """The automata that are trained on, and after them those of the test."""
        return _automata(self.sizes, self.task_seed, str(device))

    def _shown(self, stage: CurriculumStage) -> InstanceSizes:
        if stage.n_demonstrations is None:
            return self.sizes
        n = stage.n_demonstrations + 1
        return self.sizes.model_copy(update={"strings": (n, n)})

    def _history(
        self, tasks: Int[Tensor, " batch"], n: int, generator: torch.Generator
    ) -> Shaped[Tensor, "batch pos"]:
        """Whole strings with separators between them, without padding."""
        low, high = self.length
        device = generator.device
        lengths = low + ((torch.arange(n, device=device) + 0.5) * (high - low + 1) / n).long()
        lengths = lengths[torch.randperm(n, generator=generator, device=device)]
        each = lengths.expand(len(tasks), -1)
        letters = draw_string_sets(self.automata(device), tasks, each, high, generator)
        return join_strings(self.sizes, letters, each)[:, : int(lengths.sum()) + n - 1]


@lru_cache(maxsize=8)
def _automata(sizes: InstanceSizes, seed: int, device: str) -> Automata:
    splits: SplitAutomata = draw_splits(sizes, torch.Generator().manual_seed(seed))
    used = torch.cat([splits.train.targets, splits.test.targets])
    return Automata(targets=used.to(torch.device(device)))


@lru_cache(maxsize=2)
def _corpus(sizes: InstanceSizes, seed: int, device: str) -> Int[Tensor, "automaton pos"]:
    automata = _automata(sizes, seed, "cpu")[: sizes.n_train]
    corpus = draw_corpus(sizes, automata, torch.Generator().manual_seed(seed))
    return corpus.to(torch.device(device))


FAMILIES.register(
    Family(
        config=RegBench,
        summary="a letter that an automaton allows next",
        papers=(
            Paper(
                "Akyürek, Wang, Kim, Andreas",
                2024,
                "In-Context Language Learning: Architectures and Algorithms",
                "https://arxiv.org/abs/2401.12973",
            ),
            YANG,
        ),
        presets={
            # strings of one length, so that in a learner with absolute positions each place in a
            # string is always at the same ones: with 3 to 6 letters, what it does in context stays
            # far from the optimum where a vector, whose query begins at position 0, is near it
            "cpu": VariantsConfig(
                task="regbench",
                settings={"n_train": 20, "strings": (6, 6), "length": (5, 5)},
                training=TrainingConfig(
                    shape=SMALL,
                    steps=1_100,
                    tvp_from=500,
                    batch_size=32,
                    learning_rate=2e-3,
                    sites_per_sequence=4,
                    measure_every=100,
                ),
            ),
            # Akyürek et al. (2024): 8 layers, 2 heads, width 128, learning rate 5e-4, decay 0.1,
            # batch 32, 200 epochs of 5,000 instances, 20 of them warm-up; steps with both losses
            # and l* are ours
            "paper": VariantsConfig(
                task="regbench",
                settings={
                    "states": (4, 12),
                    "alphabet": (4, 18),
                    "n_letters": 18,
                    "n_train": 5000,
                    "strings": (10, 19),
                    "length": (1, 49),
                    "segment_length": 10,
                    "corpus": "published",
                },
                training=TrainingConfig(
                    shape=LearnerShape(n_layers=8, d_model=128, n_heads=2),
                    steps=62_500,
                    tvp_from=31_250,
                    batch_size=32,
                    learning_rate=5e-4,
                    weight_decay=0.1,
                    warmup_steps=3_125,
                    checkpoint_every=5_000,
                    measure_every=3_125,
                ),
                tvp_layers=(None, 1, 3, 5),
                seeds=(0, 1, 2),
                with_shifts=True,
            ),
        },
        quick={"n_train": 20, "n_test": 8},
    )
)
