"""`library`: many saved vectors, of which each query gets the one of its task, or none.

The library is a folder of saved vectors. For each task in it a classifier on the frozen model's own
states says how likely a query is of that task; the likeliest vector is added where it is likely
enough, else nothing is.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.shared.method import METHODS, Method, Paper, never
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.models import EMBED
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example, Task, load_task
from taskvectors.trunk import Branch
from taskvectors.trunk.work import as_much
from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)

_STEPS, _RATE = 200, 0.1
_PENALTIES = (0.1, 1.0, 10.0)
"""On squared weights, in units in which 1 says that a weight is about 1 / sqrt(d_model)."""
_LEAST_SPREAD = 1e-6
"""Where all queries have one state there is nothing to divide by."""


class Library(BaseModel):
    """Vectors of a folder, one retrieved per query, with a threshold below which none is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["library"] = "library"
    folder: str = ""
    """Folder of saved vectors, one of each task; it has to be given."""
    thresholds: tuple[float, ...] = Field(default=(0.5, 0.8, 0.95, 0.0), min_length=1)
    """Probabilities below which a query gets no vector; the best on validation is kept."""
    n_queries: int = Field(default=64, ge=1)
    """Most training queries of each task that the classifiers are fitted on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Retriever:
    """One logistic classifier per task, on the last token's state at one layer."""

    layer: int
    mean: Float[Tensor, " d_model"]
    weights: Float[Tensor, "d_model task"]
    bias: Float[Tensor, " task"]
    held_out_accuracy: float
    """Share of held-out queries whose own task is the likeliest."""

    def probabilities(
        self, states: Float[Tensor, "prompt d_model"]
    ) -> Float[Tensor, "prompt task"]:
        """How likely each query is of each task, judged by itself."""
        unit = torch.nn.functional.normalize(states, dim=1) - self.mean
        return (unit @ self.weights + self.bias).sigmoid()

    def choose(
        self, states: Float[Tensor, "prompt d_model"], threshold: float
    ) -> Int[Tensor, " prompt"]:
        """The likeliest task of each query; -1 where none is likely enough."""
        best, task = self.probabilities(states).max(dim=1)
        return torch.where(best >= threshold, task, -1)


def library(context: RunContext, config: Library) -> list[Candidate]:
    """One candidate per threshold.

    Raises:
        DataError: The folder holds fewer than two vectors, or two of one task, or one whose task
            cannot be loaded.
        VectorMismatchError: A vector was made for another model.
        TaskVectorsError: A vector replaces what is there: a query without one cannot keep it.

    Source: ELICIT (2025), https://arxiv.org/abs/2410.09343, of which an account was read, not the
        code: a library of task vectors, each with its own layer, and a binary classifier with a
        threshold that retrieves one per query. We differ: the classifiers are logistic regressions
        on the frozen model's states, one against the others, at the layer that retrieves best on
        held-out queries; vectors act as they were saved; the threshold is chosen on validation.
    """
    started = time.perf_counter()
    vectors = read_library(context, config.folder)
    tasks = [_task_of(context, vector) for vector in vectors]
    fitted = [task.train[: config.n_queries] for task in tasks]
    held_out = [task.validation[: config.n_queries] for task in tasks]
    retriever = fit_retriever(*(_read(context, pairs) for pairs in (fitted, held_out)))
    prompts = context.prompts("validation")
    read = [pair for group in (*fitted, *held_out) for pair in group]
    cost = Cost(
        examples=len({pair for group in fitted for pair in group}),
        steps=_STEPS,
        seconds=time.perf_counter() - started,
        forward_tokens=sum(len(prompt.token_ids) for prompt in context.ask(read, 0)),
        parameters=retriever.weights.numel() + retriever.bias.numel(),
    )
    candidates = []
    for threshold in config.thresholds:
        edits = _Retrieved(
            context=context, vectors=vectors, retriever=retriever, threshold=threshold
        )
        abstains = float((edits.chosen(prompts) < 0).float().mean())
        candidates.append(
            Candidate(
                method=config.kind,
                edits=edits,
                edited=tuple(dict.fromkeys(site for vector in vectors for site in vector.sites)),
                configuration=(
                    f"{len(vectors)} vectors, retrieved at layer {layer_name(retriever.layer)}, "
                    f"threshold {threshold:g}; {abstains:.0%} of validation get none"
                ),
                cost=cost,
            )
        )
    return candidates


def library_folders(folder: str) -> list[Path]:
    """The folders of a library's vectors, in the order of their names.

    Raises:
        DataError: The library is no folder.
    """
    path = Path(folder).expanduser()
    if not folder or not path.is_dir():
        raise DataError(
            f"the library {folder!r} is no folder; give one that holds saved vectors of two or "
            "more tasks, each in a folder of its own"
        )
    return sorted(one.parent for one in path.glob("[!.]*/vector.safetensors"))


def read_library(context: RunContext, folder: str) -> list[TaskVector]:
    """The vectors of a folder, in the order of their names, checked against the model."""
    places = library_folders(folder)
    vectors = [TaskVector.load(place) for place in places]
    tasks = [vector.origin.task for vector in vectors]
    if len(vectors) < 2 or len(set(tasks)) < len(tasks):
        raise DataError(
            f"{folder} holds {len(vectors)} vectors, of {', '.join(tasks) or 'no task'}; a library "
            "has two or more, each of another task"
        )
    for place, vector in zip(places, vectors, strict=True):
        vector.check_model(context.model)
        if vector.operation == "replace":
            raise TaskVectorsError(
                f"{place} replaces what is there, so a query that gets no vector could not keep "
                "its own; take vectors that are added"
            )
        if vector.origin.task == context.task.name and vector.origin.seed != context.seed:
            logger.warning(
                "%s was made with seed %s: under seed %d it may have seen pairs that are scored",
                place,
                vector.origin.seed,
                context.seed,
            )
    return vectors


def fit_retriever(
    fitted: Sequence[Float[Tensor, "layer _ d_model"]],
    held_out: Sequence[Float[Tensor, "layer _ d_model"]],
) -> Retriever:
    """Classifiers of each task against the others, at the layer where they do best.

    Args:
        fitted: For each task, states of its queries at all layers, from `embed` up.
        held_out: The same of other queries; layer and penalty are those of the least
            cross-entropy on these.
    """
    unit, labels = _units(fitted)
    mean = unit.mean(dim=1, keepdim=True)
    spread = (unit - mean).square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=_LEAST_SPREAD)
    other, own = _units(held_out)
    fits = [_fit((unit - mean) / spread, labels, penalty) for penalty in _PENALTIES]
    losses, hits = [], []
    for weights, bias in fits:
        logits = _logits((other - mean) / spread, weights, bias)
        losses.append(_cross_entropy(logits, own))
        hits.append((logits.argmax(dim=2) == own).float().mean(dim=1))
    place = int(torch.stack(losses).argmin())
    number, layer = divmod(place, len(mean))
    weights, bias = fits[number]
    return Retriever(
        layer=layer + EMBED,
        mean=mean[layer, 0],
        weights=weights[layer] / spread[layer],
        bias=bias[layer, 0],
        held_out_accuracy=float(hits[number][layer]),
    )


def _fit(
    states: Float[Tensor, "layer prompt d_model"], labels: Int[Tensor, " prompt"], penalty: float
) -> tuple[Float[Tensor, "layer d_model task"], Float[Tensor, "layer 1 task"]]:
    """Weights and biases of logistic regressions, each layer and task by itself."""
    n_layers, n_prompts, width = states.shape
    n_tasks = int(labels.max()) + 1
    weights = torch.zeros(n_layers, width, n_tasks, device=states.device, requires_grad=True)
    bias = torch.zeros(n_layers, 1, n_tasks, device=states.device, requires_grad=True)
    optimizer = torch.optim.Adam(
        [{"params": [weights], "lr": _RATE / width**0.5}, {"params": [bias], "lr": _RATE}]
    )
    with torch.enable_grad():
        for _ in range(_STEPS):
            optimizer.zero_grad()
            # summed over layers: each has its own parameters
            loss = _cross_entropy(_logits(states, weights, bias), labels).sum()
            loss = loss + penalty * width / n_prompts * weights.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return weights.detach(), bias.detach()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Retrieved:
    """From prompts to the edits of the vectors that they get."""

    context: RunContext
    vectors: Sequence[TaskVector]
    retriever: Retriever
    threshold: float

    def chosen(self, prompts: Sequence[Prompt]) -> Int[Tensor, " prompt"]:
        """Number of each prompt's vector, -1 for none."""
        states = self.context.states(prompts)[self.retriever.layer - EMBED]
        return self.retriever.choose(states, self.threshold)

    def __call__(self, prompts: Sequence[Prompt]) -> Branch:
        chosen = self.chosen(prompts)
        return tuple(
            replace(edit, value=einsum(has, edit.held.to(has.device), "n, pos d -> n pos d"))
            for number, vector in enumerate(self.vectors)
            for has in [(chosen == number).float()]
            for edit in vector.edits()
        )


def _task_of(context: RunContext, vector: TaskVector) -> Task:
    """The task of a vector, whose inputs tell its queries from others."""
    name = vector.origin.task
    if name == context.task.name:
        return context.task
    try:
        return load_task(name, seed=vector.origin.seed or 0)
    except DataError as error:
        raise DataError(
            f"the task {name!r} of a vector in the library cannot be loaded, so its queries cannot "
            f"be told from others: {error}"
        ) from error


def _read(context: RunContext, groups: Sequence[Sequence[Example]]) -> list[Tensor]:
    """States of some pairs' queries in the comparison's template, group by group."""
    return [context.states(context.ask(pairs, 0)) for pairs in groups]


def _units(
    groups: Sequence[Float[Tensor, "layer _ d_model"]],
) -> tuple[Float[Tensor, "layer prompt d_model"], Int[Tensor, " prompt"]]:
    states = torch.cat(list(groups), dim=1)
    labels = torch.cat([torch.full((g.shape[1],), n) for n, g in enumerate(groups)])
    return torch.nn.functional.normalize(states, dim=2), labels.to(states.device)


def _logits(
    states: Float[Tensor, "layer prompt d_model"],
    weights: Float[Tensor, "layer d_model task"],
    bias: Float[Tensor, "layer 1 task"],
) -> Float[Tensor, "layer prompt task"]:
    return einsum(states, weights, "layer n d, layer d task -> layer n task") + bias


def _cross_entropy(
    logits: Float[Tensor, "layer prompt task"], labels: Int[Tensor, " prompt"]
) -> Float[Tensor, " layer"]:
    """Of each task against the others, summed over tasks, averaged over prompts."""
    targets = torch.nn.functional.one_hot(labels, logits.shape[2]).to(logits).expand_as(logits)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses.sum(dim=2).mean(dim=1)


def _plan(context: RunContext, config: Library) -> Plan:
    vectors = [TaskVector.load(folder) for folder in library_folders(config.folder)]
    return plan_of_retrieving(context, config, [min(vector.layers) for vector in vectors])


def plan_of_retrieving(context: RunContext, config: Library, layers: Sequence[int]) -> Plan:
    """What a library of vectors runs; its other tasks are counted as large as the task itself.

    Args:
        context: The run context.
        config: The method's config, of which the folder is not looked into.
        layers: The lowest layer of each vector.
    """
    splits: tuple[Split, ...] = ("train", "validation")
    reads = (
        as_much(read_work(context, split, 0, config.n_queries), f"reading {split}, task {number}")
        for number in range(len(layers))
        for split in splits
    )
    asked = (read_work(context, "validation", 0), read_work(context, "test", 0))
    return Plan(found=(*reads, *asked), joins=(min(layers),) * len(config.thresholds))


METHODS.register(
    Method(
        config=Library,
        find=library,
        plan=_plan,
        title="Library of vectors",
        summary="a folder of saved vectors, one retrieved per query, or none below a threshold",
        papers=(
            Paper(
                "Wang, Yan, Zhang, Lin",
                2025,
                "ELICIT: LLM Augmentation via External In-Context Capability",
                "https://arxiv.org/abs/2410.09343",
            ),
        ),
        fails="Tasks that share their inputs cannot be told apart, and a query of no task in it "
        "may still get a vector at a low threshold.",
        gives_vector=False,
        quick={"thresholds": (0.0,), "n_queries": 2},
        reads_shots=never,
    )
)
