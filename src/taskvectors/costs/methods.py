"""What methods run, as work: to find their candidates, to choose among these, and to test them.

`PLANS` is the one registry, by the method's name, and a test walks it beside the methods' own. A
plan is a function of a run context and the method's config; a run context of a model without
weights is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskvectors.errors import TaskVectorsError
from taskvectors.methods import METHODS, Adaptive, LearnedHeads, MultiHead, Recipe
from taskvectors.methods.adapters import AdapterConfig
from taskvectors.methods.function_vector import UNIVERSAL_TASKS, HeadChoice
from taskvectors.methods.indirect_effect import shuffled_labels
from taskvectors.methods.library import library_folders
from taskvectors.methods.placed import Placed
from taskvectors.methods.run_context import RunContext, Split, layer_groups
from taskvectors.methods.state_vector import default_depths
from taskvectors.prompts import Prompt, separators, with_first_tokens
from taskvectors.trunk import Position, shape_of
from taskvectors.trunk.memory import Kept
from taskvectors.trunk.work import Work, as_much, run_of, whole_passes, work_of
from taskvectors.vectors import TaskVector


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

    def chosen(self, context: RunContext) -> list[Work]:
        """What scoring all candidates on validation takes."""
        return self._scored(context, "validation", self.joins * len(self.strengths))

    def tested(self, context: RunContext) -> list[Work]:
        """What scoring on the test split takes."""
        at_one = self.joins if 1.0 in self.strengths else ()
        further = self.joins[:1] if set(self.strengths) != {1.0} else ()
        return self._scored(context, "test", at_one + further)

    def _scored(self, context: RunContext, split: Split, joins: Sequence[int]) -> list[Work]:
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


def plan_of(context: RunContext, config: Any) -> Plan:
    """What a method runs, its work named after it.

    Raises:
        TaskVectorsError: The method has no estimate, or cannot be run as it is asked for.
    """
    if config.kind not in PLANS:
        raise TaskVectorsError(
            f"there is no estimate of {config.kind}; there is one of {', '.join(PLANS)}. Leave it "
            "out, or give it a plan in costs/methods.py"
        )
    plan = PLANS[config.kind](context, config)
    found = tuple(replace(work, name=f"{config.kind}, {work.name}") for work in plan.found)
    return replace(plan, name=config.kind, found=found)


# --- what plans are made of

_Stepped = Recipe | LearnedHeads | MultiHead | Adaptive | AdapterConfig
"""What has steps, a batch, and checks every so often."""


def _read(context: RunContext, split: Split, shots: int, most: int | None = None) -> Work:
    """States that are read once, whichever method asks for them."""
    return run_of(f"reading {split} at {shots} shots", context.prompts(split, shots)[:most])


def _joins(context: RunContext, config: Any) -> tuple[int, ...]:
    """The block after which each candidate's branch joins."""
    groups = layer_groups(context.model, config.layers, each_layer=config.each_layer)
    joins = [min(group) for group in groups]
    if isinstance(config, Placed) and config.layers is None and config.positions != (-1,):
        joins.pop()  # nothing above the last layer carries what is added elsewhere
    return tuple(joins)


def _stepped(
    context: RunContext,
    config: _Stepped,
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    positions: tuple[Position, ...],
    joins: tuple[int, ...],
    *,
    is_training: bool = True,
) -> tuple[Work, Work]:
    """Steps on training prompts and checks on validation prompts, both trunks held all the while.

    Args:
        context: The run context.
        config: How many steps and checks there are.
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
            "steps", train, positions, joins, n_layers, n_passes=config.steps,
            batch=config.batch_size, is_training=is_training, kept=kept, keeps="trunk",
        ),
        work_of(
            "checks", validation, positions, joins, n_layers, n_passes=_n_checks(config),
            kept=kept, keeps="trunk",
        ),
    )  # fmt: skip


def _n_checks(config: _Stepped) -> int:
    """Looks at validation, the last step's included."""
    return -(-config.steps // config.check_every)


# --- one plan for each method


def _plain(context: RunContext, config: Any) -> Plan:
    last = context.model.n_layers - 1
    shots = 0 if config.kind == "zero-shot" else config.shots or context.shots
    return Plan(joins=(last,), shots=shots)


def _vanilla(context: RunContext, config: Any) -> Plan:
    reads = tuple(_read(context, "train", shots, config.n_prompts) for shots in (context.shots, 0))
    return Plan(
        found=reads,
        joins=_joins(context, config),
        positions=config.positions,
        strengths=config.strengths,
    )


def _hendel(context: RunContext, config: Any) -> Plan:
    reads = (_read(context, "train", context.shots, config.n_prompts),)
    return Plan(found=reads, joins=_joins(context, config), positions=config.positions)


def _function_vector(context: RunContext, config: HeadChoice) -> Plan:
    """Other tasks of universal heads are counted as large as the task itself."""
    n_layers, n_heads = context.model.n_layers, context.model.n_heads
    queries = [prompt.query for prompt in context.prompts("train")[: config.n_effect_prompts]]
    shuffled = with_first_tokens(shuffled_labels(context, queries))
    heads = [-1, *(block - 1 for block in range(n_layers) for _ in range(n_heads))]
    effects = [work_of("indirect effects", shuffled, (-1,), heads, n_layers, keeps="results")]
    if isinstance(config, METHODS["function-vector-attribution"].config):
        first_order = work_of(
            "attribution", shuffled, (-1,), [-1], n_layers, is_training=True, keeps="results"
        )
        effects.append(first_order)
    own = (_read(context, "train", context.shots, config.n_prompts), *effects)
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
        joins=_joins(context, config) * len(config.n_heads),
        positions=config.positions,
        strengths=config.strengths,
    )


def _learned_heads(context: RunContext, config: LearnedHeads) -> Plan:
    train = context.prompts("train")[: config.n_examples]
    if config.trained_on == "shuffled-labels":
        train = shuffled_labels(context, [prompt.query for prompt in train])
    prompts = (train, context.prompts("validation"))
    read = _read(context, "train", context.shots, config.n_prompts)
    steps = _stepped(context, config, prompts, config.positions, (0,))
    return Plan(found=(read, *steps), joins=(0,), positions=config.positions)


def _multi_head(context: RunContext, config: MultiHead) -> Plan:
    """Sets of heads begin in the first block, as nearly all that are drawn do."""
    prompts = (context.prompts("train")[: config.n_examples], context.prompts("validation"))
    read = _read(context, "train", context.shots, config.n_prompts)
    steps, checks = _stepped(
        context, config, prompts, (-1,), (-1,) * config.n_samples, is_training=False
    )
    share = 2 / config.n_samples  # the probable heads, and the best set that was drawn
    tried = replace(checks, blocks=round(share * checks.blocks), rows=share * checks.rows)
    return Plan(found=(read, steps, tried), joins=(-1,))


def _placed(context: RunContext, config: Placed) -> Plan:
    recipe, joins, shots = config.training, _joins(context, config), config.shots
    train = context.prompts("train", shots)[: config.n_examples]
    if recipe.answer == "first-token":
        train = with_first_tokens(train)
    prompts = (train, context.prompts("validation", shots))
    steps = _stepped(context, recipe, prompts, config.positions, joins)
    shown = _read(context, "train", context.shots, config.n_examples)
    teacher = (shown,) if recipe.distillation else ()
    return Plan(found=(*teacher, *steps), joins=joins, positions=config.positions, shots=shots)


def _adapter(context: RunContext, config: AdapterConfig) -> Plan:
    """Steps go backward through all blocks, as they do where the adapter is in all of them."""
    found: list[Work] = []
    train, validation = context.prompts("train")[: config.n_examples], context.prompts("validation")
    n_layers, n_checks = context.model.n_layers, _n_checks(config)
    for size in config.sizes:
        config.build(context.model, size, context.seed)  # says where it has no meaning
        n_rates, n_before = len(config.learning_rates), config.n_tokens(size)
        found += [
            whole_passes(
                f"steps, {size}", train, n_layers, n_passes=n_rates * config.steps,
                batch=config.batch_size, is_training=True, n_before=n_before,
            ),
            whole_passes(
                f"checks, {size}", validation, n_layers, n_passes=n_rates * n_checks,
                n_before=n_before,
            ),
        ]  # fmt: skip
    return Plan(found=tuple(found), joins=(-1,) * len(config.sizes), is_whole=True)


def _icv(context: RunContext, config: Any) -> Plan:
    """The outputs, read in the place of inputs, are counted as long as these."""
    blocks = config.layers or (0,)
    first = -1 if "embed" in blocks else min(blocks)
    read = _read(context, "train", 0, config.n_pairs)
    swapped = as_much(read, "reading outputs as inputs")
    return Plan(
        found=(read, swapped),
        joins=(first - 1,),
        positions=("all",),
        strengths=config.strengths,
    )


def _state_vector(context: RunContext, config: Any) -> Plan:
    depths = config.depths or default_depths(context.model.n_layers)
    prompts = context.prompts("train", context.shots)[: config.n_prompts]
    read = run_of("reading separators", prompts)
    return Plan(found=(read,), joins=(-1,) * (len(config.variants) * len(depths)))


def _multi_injection(context: RunContext, config: Any) -> Plan:
    return Plan(
        found=(_read(context, "train", context.shots, config.shots + 1),),
        joins=_joins(context, config),
        positions=separators(config.shots),
        shots=config.shots,
    )


def _linear(context: RunContext, config: Any) -> Plan:
    n_layers = context.model.n_layers
    groups = layer_groups(context.model, config.layers or (n_layers - 1,), each_layer=True)
    joins = tuple(layer for (layer,) in groups for _ in config.penalties)
    reads = (
        *(_read(context, "train", shots, config.n_queries) for shots in (0, context.shots)),
        *(_read(context, "validation", shots) for shots in (0, context.shots)),
        _read(context, "test", 0),
    )
    asked = context.prompts("validation")
    divergence = replace(work_of("divergence", asked, (-1,), joins, n_layers), rows=0.0)
    return Plan(found=(*reads, divergence), joins=joins)


def _library(context: RunContext, config: Any) -> Plan:
    vectors = [TaskVector.load(folder) for folder in library_folders(config.folder)]
    return retrieving(context, config, [min(vector.layers) for vector in vectors])


def retrieving(context: RunContext, config: Any, layers: Sequence[int]) -> Plan:
    """What a library of vectors runs; its other tasks are counted as large as the task itself.

    Args:
        context: The run context.
        config: The method's config, of which the folder is not looked into.
        layers: The lowest layer of each vector.
    """
    reads = (
        as_much(_read(context, split, 0, config.n_queries), f"reading {split}, task {number}")
        for number in range(len(layers))
        for split in ("train", "validation")
    )
    asked = tuple(_read(context, split, 0) for split in ("validation", "test"))
    return Plan(found=(*reads, *asked), joins=(min(layers),) * len(config.thresholds))


def _adaptive(context: RunContext, config: Adaptive) -> Plan:
    if config.embedder is not None:
        raise TaskVectorsError(
            f"there is no estimate of adaptive with the embedder {config.embedder}; leave it out, "
            "so that the model itself embeds the queries"
        )
    layers = (0,) if config.layers is None else config.layers
    (blocks,) = layer_groups(context.model, layers, each_layer=False)
    prompts = (context.prompts("train")[: config.n_examples], context.prompts("validation"))
    splits: tuple[Split, ...] = ("train", "validation", "test")
    reads = tuple(_read(context, split, 0) for split in splits)
    steps = _stepped(context, config, prompts, (-1,), (min(blocks),))
    return Plan(found=(*reads, *steps), joins=(min(blocks),))


PLANS: dict[str, Callable[[RunContext, Any], Plan]] = {
    "zero-shot": _plain,
    "icl": _plain,
    "vanilla": _vanilla,
    "hendel": _hendel,
    "function-vector": _function_vector,
    "function-vector-attribution": _function_vector,
    "learned-heads": _learned_heads,
    "multi-head": _multi_head,
    "learned": _placed,
    "loreft": _placed,
    "lobireft": _placed,
    "prompt-tuning": _adapter,
    "prefix-tuning": _adapter,
    "lora": _adapter,
    "ia3": _adapter,
    "bitfit": _adapter,
    "icv": _icv,
    "state-vector": _state_vector,
    "multi-injection": _multi_injection,
    "linear": _linear,
    "library": _library,
    "adaptive": _adaptive,
}
"""By the method's name, as in `METHODS`."""
