"""Discrete token offset: y = (x + w) mod V."""

from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
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
from taskvectors.learners.pairs import (
    Format,
    Question,
    columns_of,
    pair_batch,
    pair_eval_batch,
    shown_demonstrations,
)
from taskvectors.learners.shape import SMALL, LearnerShape
from taskvectors.results.learners import IN_DISTRIBUTION


class TokenOffset(BaseModel):
    """y = (x + w) mod V over V symbols, inputs without repeats; one demonstration tells w.

    Source: Yang et al. (2025), https://arxiv.org/abs/2501.09240, name the task; vocabulary, range
        and wrap-around are our choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: str = "offset"
    n_symbols: int = Field(default=11, ge=4)
    """V. A prime leaves no plateau where only w modulo a divisor is known."""
    n_demonstrations: int = Field(default=6, ge=1)
    """Pairs before the last prediction of a sequence."""
    format: Format = "xzy"
    """How pairs are written."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of offsets that are never trained on."""
    task_seed: int = 0
    """Which offsets those are."""
    n_train_tasks: int | None = Field(default=None, ge=1)
    """Offsets that are trained on, drawn from those not held out; all of them by default."""
    near_optimal: float = 0.02
    """ICL error, one minus accuracy, that counts as near the optimum, which is 0."""

    @property
    def d_vocab(self) -> int:
        """The symbols, the separator and the delimiter."""
        return self.n_symbols + 2

    @property
    def shifts(self) -> tuple[str, ...]:
        """Offsets that were never trained on; a query that is one of the demonstrations."""
        held_out = (HELD_OUT,) if self._split[1] else ()
        return (IN_DISTRIBUTION, *held_out, "query-shown")

    @cached_property
    def _split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Offsets that are trained on, and those that are not."""
        generator = torch.Generator().manual_seed(self.task_seed)
        order = torch.randperm(self.n_symbols, generator=generator).tolist()
        n_held_out = round(self.held_out * self.n_symbols)
        trained = order[n_held_out:][: self.n_train_tasks]
        return tuple(sorted(trained)), tuple(sorted(order[:n_held_out]))

    @model_validator(mode="after")
    def _has_as_many(self) -> "TokenOffset":
        kept = self.n_symbols - round(self.held_out * self.n_symbols)
        if (self.n_train_tasks or 1) > kept:
            raise ValueError(
                f"n_train_tasks is {self.n_train_tasks}, and of {self.n_symbols} offsets {kept} "
                "are not held out; give as many at most, or more symbols"
            )
        return self

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of a sequence."""
        return columns_of(self.format, n_demonstrations)

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Int[Tensor, " batch"]:
        """Offsets of a split, with equal chances."""
        offsets = torch.tensor(self._split[split == "test"], device=generator.device)
        picked = torch.randint(len(offsets), (n,), generator=generator, device=generator.device)
        return offsets[picked]

    def batch(
        self, tasks: Int[Tensor, " batch"], generator: torch.Generator, stage: CurriculumStage
    ) -> Batch:
        """Training sequences."""
        n = shown_demonstrations(stage, self.n_demonstrations)
        x = self._inputs(len(tasks), n + 2, generator)
        return pair_batch(self, self.format, x, self._outputs(x, tasks))

    def eval_batch(
        self,
        tasks: Int[Tensor, " batch"],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,
    ) -> EvalBatch:
        """A question for each task; dummies and query are none of the demonstrations."""
        n = n_demonstrations
        x = self._inputs(len(tasks), n + 1, generator)
        rest = self._inputs(len(tasks), n_dummies, generator, but=x)
        query = x[:, -1]
        if shift == "query-shown":
            picked = torch.randint(n, (len(tasks), 1), generator=generator, device=x.device)
            query = x.gather(1, picked)[:, 0]
        y = self._outputs(x, tasks)
        trained = self.n_symbols if shift == HELD_OUT else len(self._split[0])
        unknown = torch.full((len(tasks),), 1 - 1 / trained, device=x.device)
        question = Question(
            x=x[:, :n],
            y=y[:, :n],
            dummies=rest,
            query=query,
            answer=(query + tasks) % self.n_symbols,
            wrong_answer=(query + tasks.roll(1, 0)) % self.n_symbols,
            tasks=tasks,
            baselines={"without": unknown, "optimal": torch.zeros_like(unknown)},
        )
        return pair_eval_batch(self, self.format, question)

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Cross-entropies."""
        return cross_entropies(logits, targets)

    def errors(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """1 where the arg-max over all tokens is wrong."""
        return wrong_tokens(logits, targets)

    def probe_targets(self, tasks: Int[Tensor, " batch"]) -> Float[Tensor, "batch n_symbols"]:
        """The offset as a one-hot."""
        return torch.nn.functional.one_hot(tasks, self.n_symbols).float()

    def input_rows(self, x: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
        """Symbols are tokens."""
        return x

    def output_rows(self, y: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
        """Outputs are tokens of the same vocabulary."""
        return y

    def marker_row(self, marker: Literal["z", "d"], like: Tensor) -> Int[Tensor, ""]:
        """The two tokens after the symbols."""
        return torch.tensor(self.n_symbols + (marker == "d"), device=like.device)

    def _outputs(
        self, x: Int[Tensor, "batch n"], tasks: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch n"]:
        return (x + tasks.unsqueeze(1)) % self.n_symbols

    def _inputs(
        self, batch: int, n: int, generator: torch.Generator, but: Tensor | None = None
    ) -> Int[Tensor, "batch n"]:
        """Symbols, each at most once a row while there are enough, and none of `but` then."""
        keys = torch.rand(batch, self.n_symbols, generator=generator, device=generator.device)
        if but is not None:
            keys = keys.scatter(1, but, keys.gather(1, but) + 1)  # used ones come last
        order = keys.argsort(dim=1)
        return order.repeat(1, -(-n // self.n_symbols))[:, :n]


FAMILIES.register(
    Family(
        config=TokenOffset,
        summary="y = (x + w) mod V, inputs without repeats",
        papers=(YANG,),
        presets={
            "cpu": VariantsConfig(
                task="offset",
                settings={"n_symbols": 11, "n_demonstrations": 6},
                training=TrainingConfig(
                    shape=SMALL,
                    steps=2_100,
                    tvp_from=1_500,
                    batch_size=32,
                    learning_rate=2e-3,
                    measure_every=200,
                ),
            ),
            "paper": VariantsConfig(
                task="offset",
                settings={"n_symbols": 101, "n_demonstrations": 20},
                training=TrainingConfig(
                    shape=LearnerShape(n_layers=6, d_model=128, n_heads=4),
                    steps=50_000,
                    tvp_from=20_000,
                    batch_size=256,
                    learning_rate=5e-4,
                    warmup_steps=1_000,
                    checkpoint_every=5_000,
                    measure_every=1_000,
                ),
                tvp_layers=(None, 0, 1, 2, 3, 4),
                seeds=(0, 1, 2),
                with_shifts=True,
            ),
        },
    )
)
