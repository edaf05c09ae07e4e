"""`function-vector`: the summed mean results of the heads that carry a task, added.

Which heads carry it is found by intervention: those that, given their mean output behind true
demonstrations, most raise the probability of the right answer in prompts with shuffled labels. The
search is exact, over every head of the model, or averaged over other tasks (universal heads).
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.at_sites import AtSites
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.head_means import HeadMeans, head_means
from taskvectors.methods.shared.indirect_effect import HowFound, indirect_effects, shuffled_labels
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk.work import Work, as_much, work_of
from taskvectors.vectors import Site, TaskVector, sites_at

TODD = Paper(
    "Todd, Li, Sen Sharma, Mueller, Wallace, Bau",
    2024,
    "Function Vectors in Large Language Models",
    "https://arxiv.org/abs/2310.15213",
)


UNIVERSAL_TASKS = (
    *("antonym", "capital", "country-currency", "english-french", "present-past"),
    *("singular-plural",),
)
"""Tasks whose effects are averaged for universal heads; the task in hand is left out."""

HeadCount = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
Head = tuple[int, int]
"""Layer and head."""


class HeadChoice(AtSites):
    """What function vectors have in common, however their heads are found."""

    strengths: tuple[float, ...] = Field(default=(1.0, 0.5, 2.0), min_length=1)
    """Factors to try; the best on validation is shown beside strength 1."""
    n_heads: tuple[HeadCount, ...] = Field(default=(10,), min_length=1)
    """How many heads are summed, or below 1 a share of all; of several the best on validation is
    shown."""
    heads: Literal["task", "universal"] = "task"
    """Whether heads are found on the task itself or on average over other tasks."""
    n_prompts: int = Field(default=100, ge=1)
    """Most training prompts that the heads' means are over."""
    n_effect_prompts: int = Field(default=25, ge=1)
    """Label-shuffled prompts that effects are measured on, per task."""


class FunctionVector(HeadChoice):
    """Heads by their exact average indirect effect."""

    kind: Literal["function-vector"] = "function-vector"


def function_vector(context: RunContext, config: FunctionVector) -> list[Candidate]:
    """One candidate per layer, strength and number of heads.

    Raises:
        TaskVectorsError: More heads are asked for than the model has.

    Source: Todd et al. (2024), https://arxiv.org/abs/2310.15213, section 2. We differ: true head
        results, also where heads are not d_model / n_heads wide or a norm follows them; where W_O
        has a bias (GPT-2, GPT-NeoX) it is left out, and the released code adds it once for each
        head that is summed; labels are shuffled over the training split; other strengths than 1 are
        tried.
    """
    effects, cost = average_effects(context, config, "exact")
    return summed_heads(context, config, effects, cost)


def average_effects(
    context: RunContext, config: HeadChoice, how: HowFound
) -> tuple[Float[Tensor, "layer head"], Cost]:
    """Average indirect effects, on the task or over other tasks, and what they cost."""
    benches = [context] if config.heads == "task" else _other_benches(context)
    sizes = {"n_prompts": config.n_effect_prompts, "n_means": config.n_prompts}
    found = [indirect_effects(one, how, **sizes) for one in benches]
    read = dict.fromkeys((*benches, context))
    means = [head_means(one, config.n_prompts) for one in read]
    cost = Cost(
        examples=sum(len(one.task.train) for one in read),
        seconds=sum(one.seconds for one in found) + sum(one.seconds for one in means),
        forward_tokens=sum(one.forward_tokens for one in found)
        + sum(one.forward_tokens for one in means),
    )
    return torch.stack([one.average for one in found]).mean(dim=0), cost


def _other_benches(context: RunContext) -> list[RunContext]:
    """Benches of the tasks for universal heads, with the same model, template and sizes."""
    from taskvectors.tasks import load_task

    def make() -> list[RunContext]:
        names = (name for name in UNIVERSAL_TASKS if name != context.task.name)
        tasks = [
            load_task(
                name,
                seed=context.task.seed,
                n_train=len(context.task.train),
                n_validation=len(context.task.validation),
            )
            for name in names
        ]
        return [context.with_task(task) for task in tasks]

    return context.cached("benches for universal heads", make)


def top_heads(effects: Float[Tensor, "layer head"], n_heads: int) -> tuple[Head, ...]:
    """The heads with the largest effects, the largest first.

    Raises:
        TaskVectorsError: There are not so many.

    Example:
        >>> top_heads(torch.tensor([[0.1, 0.5], [0.3, -0.9]]), 2)
        ((0, 1), (1, 0))
    """
    if n_heads > effects.numel():
        raise TaskVectorsError(
            f"{n_heads} heads were asked for, and the model has {effects.numel()}; give fewer"
        )
    order = effects.flatten().argsort(descending=True, stable=True)[:n_heads].tolist()
    return tuple(divmod(index, effects.shape[1]) for index in order)


def summed_heads(
    context: RunContext,
    config: HeadChoice,
    effects: Float[Tensor, "layer head"],
    cost: Cost,
    *,
    note: str = "",
    **scores: float,
) -> list[Candidate]:
    """Candidates that add the summed mean results of the top heads.

    Args:
        context: Model and task.
        config: The method's config.
        effects: By which heads are ranked.
        cost: What the effects and the means cost.
        note: Shown with the candidates.
        scores: Kept in the vectors' origin.
    """
    kind: str = config.kind  # type: ignore[attr-defined]
    means = head_means(context, config.n_prompts)
    groups = config.groups(context.model)
    found = []
    for count in config.n_heads:
        n_heads = count if isinstance(count, int) else max(1, round(count * effects.numel()))
        heads = top_heads(effects, n_heads)
        value = sum_of_results(means, heads)
        origin = context.origin(
            kind,
            shots=context.shots,
            settings={
                "heads": [list(head) for head in heads],
                "effects": [float(effects[head]) for head in heads],
                "found_on": config.heads,
                "n_prompts": means.n_prompts,
                "n_effect_prompts": config.n_effect_prompts,
            },
            scores=scores,
        )
        for layers in groups:
            sites: tuple[Site, ...] = sites_at(layers, config.positions)
            vector = TaskVector(
                values=value.repeat(len(sites), 1), sites=sites, operation="add", origin=origin
            )
            found += [
                Candidate(
                    method=kind,
                    vector=vector,
                    strength=strength,
                    configuration=f"top {n_heads} heads",
                    cost=cost,
                    note=note,
                )
                for strength in config.strengths
            ]
    return found


def sum_of_results(means: HeadMeans, heads: tuple[Head, ...]) -> Float[Tensor, " d_model"]:
    """What some heads add to the residual stream on average, together."""
    return torch.stack([means.results[head] for head in heads]).sum(dim=0).cpu()


def shuffled_prompts(context: RunContext, config: HeadChoice) -> tuple[Prompt, ...]:
    """The label-shuffled prompts that effects are measured on, their answers cut to one token."""
    queries = [prompt.query for prompt in context.prompts("train")[: config.n_effect_prompts]]
    return with_first_tokens(shuffled_labels(context, queries))


def plan_of_heads(context: RunContext, config: HeadChoice, *further: Work) -> Plan:
    """What finding heads by their exact effects runs, and further work on the same prompts.

    Other tasks of universal heads are counted as large as the task itself.
    """
    n_layers, n_heads = context.model.n_layers, context.model.n_heads
    heads = [-1, *(block - 1 for block in range(n_layers) for _ in range(n_heads))]
    prompts = shuffled_prompts(context, config)
    effects = work_of("indirect effects", prompts, (-1,), heads, n_layers, keeps="results")
    own = (read_work(context, "train", context.shots, config.n_prompts), effects, *further)
    others: tuple[Work, ...] = ()
    if config.heads == "universal":
        others = tuple(
            as_much(work, f"{work.name}, {task}")
            for task in UNIVERSAL_TASKS
            if task != context.task.name
            for work in own
        )
        own = own[:1]
    return Plan(
        found=own + others,
        joins=config.joins(context.model) * len(config.n_heads),
        positions=config.positions,
        strengths=config.strengths,
    )


METHODS.register(
    Method(
        config=FunctionVector,
        find=function_vector,
        plan=plan_of_heads,
        title="Function vector",
        summary="summed mean results of the heads with the largest indirect effects, added",
        papers=(TODD,),
        fails="Where no single head brings the answer back, the ranking of heads is noise; and in "
        "some families the sum is small beside the residual stream.",
        quick={"n_prompts": 4, "n_effect_prompts": 2, "n_heads": (3,)},
    )
)
