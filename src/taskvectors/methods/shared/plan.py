"""What a method will run, stated before it runs: the sizes that estimates are made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.methods.training.recipe import TrainingSteps
from taskvectors.prompts import Prompt
from taskvectors.trunk import Position, shape_of
from taskvectors.trunk.memory import Kept
from taskvectors.trunk.work import Work, run_of, whole_passes, work_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a method runs.

    Attributes:
        name: The method's.
        found: What finding its candidates takes.
        joins: For each candidate, the block after which its branch joins the trunk; -1 below all.
        strengths: Factors that each is tried with; tested are strength 1 and what was chosen.
        positions: Where candidates act.
        shots: Demonstrations in the prompts that they are used on.
        is_whole: Whether each candidate runs whole prompts by itself, as adapters do.
    """

    name: str = ""
    found: tuple[Work, ...] = ()
    joins: tuple[int, ...]
    strengths: tuple[float, ...] = (1.0,)
    positions: tuple[Position, ...] = (-1,)
    shots: int = 0
    is_whole: bool = False

    def named(self, name: str) -> "Plan":
        """The same, its work named after a method."""
        found = tuple(replace(work, name=f"{name}, {work.name}") for work in self.found)
        return replace(self, name=name, found=found)

    def made(self, context: RunContext) -> list[Work]:
        """What making one vector takes: finding candidates, and choosing among several."""
        is_choice = len(self.joins) * len(self.strengths) > 1
        return [*self.found, *(self.chosen(context) if is_choice else ())]

    def chosen(self, context: RunContext) -> list[Work]:
        """What scoring all candidates on validation takes."""
        return self.scored(context, "validation", self.joins * len(self.strengths))

    def tested(self, context: RunContext) -> list[Work]:
        """What scoring on the test split takes."""
        at_one = self.joins if 1.0 in self.strengths else ()
        further = self.joins[:1] if set(self.strengths) != {1.0} else ()
        return self.scored(context, "test", at_one + further)

    def scored(self, context: RunContext, split: Split, joins: Sequence[int]) -> list[Work]:
        """What scoring some candidates on a split takes."""
        name = ", ".join(filter(None, (self.name, f"scoring {split}")))
        n_layers = context.model.n_layers
        asked = context.prompts(split, self.shots)
        runs = (asked, *_as_labels(context, asked))
        if self.is_whole:
            return [whole_passes(name, prompts, n_layers, n_passes=len(joins)) for prompts in runs]
        return [
            work_of(name, prompts, self.positions, joins, n_layers, keeps="trunk")
            for prompts in runs
        ]


def _as_labels(context: RunContext, prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """The prompts with each other label as their answer, where labels have several tokens."""
    answers = list((context.labels or {}).values())
    if any(len(answer) > 1 for answer in answers):
        for answer in answers:
            others = [prompt for prompt in prompts if prompt.answer_ids != answer]
            if others:
                yield [replace(prompt, answer_ids=answer) for prompt in others]


def read_work(context: RunContext, split: Split, shots: int, limit: int | None = None) -> Work:
    """Last tokens of the first prompts of a split, read once for all methods."""
    return run_of(f"reading {split} at {shots} shots", context.prompts(split, shots)[:limit])


def training_work(
    context: RunContext,
    settings: TrainingSteps,
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    positions: tuple[Position, ...],
    joins: tuple[int, ...],
    *,
    is_training: bool = True,
) -> tuple[Work, Work]:
    """Steps on training prompts and checks on validation prompts, both trunks held all the while.

    Args:
        context: The run context.
        settings: How many steps and checks there are.
        prompts: Of the steps, and of the checks.
        positions: Where branches act.
        joins: Branches of a step, and of a check.
        is_training: Whether steps go backward.
    """
    n_layers, (train, validation) = context.model.n_layers, prompts
    kept = tuple(
        Kept(
            shape=shape_of(some, positions, n_branches=len(joins), is_training=backward),
            n_prompts=len(some),
        )
        for some, backward in ((train, is_training), (validation, False))
    )
    return (
        work_of(
            "steps", train, positions, joins, n_layers, n_passes=settings.steps,
            batch=settings.batch_size, is_training=is_training, kept=kept, keeps="trunk",
        ),
        work_of(
            "checks", validation, positions, joins, n_layers, n_passes=settings.n_checks,
            kept=kept, keeps="trunk",
        ),
    )  # fmt: skip
