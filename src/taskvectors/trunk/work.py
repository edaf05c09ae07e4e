"""A piece of work, by its sizes: what a cost is worked out from.

A verb, or an experiment, says what it will run as a list of these; nothing else is asked of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from taskvectors.prompts import Prompt
from taskvectors.trunk.edits import Position
from taskvectors.trunk.full_forward import FIRST
from taskvectors.trunk.memory import Kept, Shape, shape_of
from taskvectors.trunk.split import suffix_start

Keeps = Literal["nothing", "trunk", "results"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Prompts that are run once, and passes of branches over their trunk.

    Attributes:
        name: What it is for; the same work has several names.
        n_prompts: Prompts that are run.
        tokens: Tokens of all of them, answers included; each goes through every block.
        shape: Padded sizes of the longest, with the branches that run side by side.
        n_passes: Passes of the branches.
        prompts_per_pass: Prompts of a pass.
        branch_tokens: Tokens of one branch in a pass.
        padded_tokens: The same as it is run, where prompts are filled up to the longest.
        blocks: Blocks that a pass goes through, added up over its branches.
        rows: States that a pass unembeds, over its branches.
        kept: Trunks that are held all the while, as learning holds its own and that of the prompts
            it is checked on; without any, as many prompts are run at once as fit.
        has_trunk: Whether the passes alone are counted: the trunk is there already, or there is
            none.
        logits: Logits that a pass works on and that are there already, over all its rows.
        prompts: What tells its prompts, and where they are cut, from those of other work.
        keeps: What is left of it for work on the same prompts: its `trunk`, or `results`, so that
            the same work is not done again.
    """

    name: str = field(compare=False)
    n_prompts: int
    tokens: int
    shape: Shape
    n_passes: int = 1
    prompts_per_pass: int = 0
    branch_tokens: float = 0.0
    padded_tokens: float = 0.0
    blocks: int = 0
    rows: float = 0.0
    kept: tuple[Kept, ...] = ()
    has_trunk: bool = False
    logits: float = 0.0
    prompts: int = 0
    keeps: Keeps = "nothing"

    @property
    def is_training(self) -> bool:
        """Whether a pass also goes backward, as far as the edits."""
        return self.shape.is_training

    @property
    def is_step(self) -> bool:
        """Whether a pass is a step of training, whose losses go over a shortlist."""
        return self.is_training and (bool(self.kept) or self.has_trunk)

    def forward_tokens(self, n_layers: int) -> float:
        """Tokens through the model; one through half of the blocks counts as half."""
        tokens = 0 if self.has_trunk else self.tokens
        return tokens + self.n_passes * self.branch_tokens * self.blocks / n_layers


def work_of(  # noqa: PLR0913  (what the cost of a pass depends on)
    name: str,
    prompts: Sequence[Prompt],
    positions: Sequence[Position],
    joins: Sequence[int],
    n_layers: int,
    *,
    n_passes: int = 1,
    batch: int | None = None,
    is_training: bool = False,
    kept: tuple[Kept, ...] = (),
    keeps: Keeps = "nothing",
) -> Work:
    """The work of some branches over some prompts.

    Args:
        name: What it is for.
        prompts: The prompts.
        positions: Where branches edit or read; the prompts are cut before the earliest.
        joins: For each branch, the block after which it joins, -1 for the embeddings.
        n_layers: Blocks of the model.
        n_passes: How often the branches run.
        batch: Prompts of a pass; all by default.
        is_training: Whether a pass also goes backward.
        kept: Trunks that are held all the while.
        keeps: What is left of it for other work.
    """
    n = len(prompts)
    whole = [len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts]
    starts = tuple(suffix_start(prompt, positions) for prompt in prompts)
    suffixes = [w - start for start, w in zip(starts, whole, strict=True)]
    answers = sum(len(prompt.answer_ids) for prompt in prompts)
    batch = n if batch is None else min(batch, n)
    n_branches = len(joins)
    return Work(
        name=name,
        n_prompts=n,
        tokens=sum(whole),
        shape=shape_of(prompts, positions, n_branches=n_branches, is_training=is_training),
        n_passes=n_passes,
        prompts_per_pass=batch,
        branch_tokens=sum(suffixes) / n * batch,
        blocks=sum(n_layers - 1 - join for join in joins),
        rows=answers / n * batch * n_branches,
        kept=kept,
        prompts=hash((tuple(prompts), starts)),
        keeps=keeps,
    )


def whole_passes(  # noqa: PLR0913  (what the cost of a pass depends on)
    name: str,
    prompts: Sequence[Prompt],
    n_layers: int,
    *,
    n_passes: int = 1,
    batch: int | None = None,
    is_training: bool = False,
    n_before: int = 0,
) -> Work:
    """The work of forward passes from the first token on, of what acts everywhere.

    Args:
        name: What it is for.
        prompts: The prompts.
        n_layers: Blocks of the model.
        n_passes: How many passes.
        batch: Prompts of a pass; all by default.
        is_training: Whether a pass also goes backward, as far as the first block.
        n_before: Tokens that are run before each prompt, of which none is the prompt's.
    """
    work = work_of(
        name, prompts, FIRST, [-1], n_layers, n_passes=n_passes, batch=batch,
        is_training=is_training,
    )  # fmt: skip
    longest = max(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)
    return replace(
        work, has_trunk=True, padded_tokens=float((longest + n_before) * work.prompts_per_pass)
    )


def generated(name: str, prompts: Sequence[Prompt], n_layers: int, n_new: int) -> Work:
    """The work of writing so many tokens after each prompt, one at a time."""
    asked = [replace(prompt, answer_ids=prompt.answer_ids[:1]) for prompt in prompts]
    return work_of(name, asked, (-1,), [-1], n_layers, n_passes=n_new)


def as_much(work: Work, name: str) -> Work:
    """As much work again, on other prompts that are not looked at."""
    return replace(work, name=name, prompts=hash((work.prompts, name)))


def run_of(name: str, prompts: Sequence[Prompt]) -> Work:
    """The work of reading one token of some prompts, which is kept."""
    return Work(
        name=name,
        n_prompts=len(prompts),
        tokens=sum(len(prompt.token_ids) for prompt in prompts),
        shape=shape_of(prompts, (-1,), n_branches=0),
        n_passes=0,
        prompts=hash(tuple(prompts)),
        keeps="results",
    )
