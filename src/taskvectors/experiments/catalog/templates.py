"""Vectors under other templates than they were trained in: steerable, readable, both, neither."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.learned_vectors import (
    context_of,
    layers_at,
    meta_model,
    model_of,
    vector_costs,
    vectors_of,
)
from taskvectors.experiments.catalog.shared.measuring import difference, share
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.explain.shared.labels import label_alignment
from taskvectors.methods import RunContext
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.results import OVER_TASKS, Measurement
from taskvectors.results.figures import AnyFigure, Heatmap
from taskvectors.tasks import Example
from taskvectors.trunk.work import work_of
from taskvectors.vectors import TaskVector

OTHERS = ("qa", "arrow", "colon", "hendel")
"""Templates beside a task's own."""
MIXTURE, RANDOM = "mixture", "random vector"
_SEED = 31_000_003


@dataclass(kw_only=True, eq=False)
class MixedContext(RunContext):
    """A context whose prompts take turns among the templates of others."""

    contexts: tuple[RunContext, ...]

    def ask(
        self, queries: Sequence[Example], shots: int, *, shared_demonstrations: bool = False
    ) -> tuple[Prompt, ...]:
        """Query n in template n, from the first on again."""
        asked = [
            context.ask(queries, shots, shared_demonstrations=shared_demonstrations)
            for context in self.contexts
        ]
        return tuple(asked[n % len(asked)][n] for n in range(len(queries)))


def in_templates(context: RunContext) -> dict[str, RunContext]:
    """A context in its task's own template and in others, and in all of them in turn."""
    names = tuple(dict.fromkeys((context.template, *OTHERS)))
    found = {name: replace(context, template=name, _prompts={}, _memo={}) for name in names}
    mixed = MixedContext(
        model=context.model, task=context.task, template="+".join(names), shots=context.shots,
        seed=context.seed, memory=context.memory, contexts=tuple(found.values()),
    )  # fmt: skip
    return found | {MIXTURE: mixed}


def _templates(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    model = model_of(unit, work_dir)
    contexts = in_templates(context_of(model, unit.task, unit.seed, preset))
    layers = layers_at(model, preset.depths)
    vectors: dict[tuple[str, int], TaskVector] = {}
    for name, context in contexts.items():
        for layer, path in zip(layers, vectors_of(context, preset, work_dir, layers), strict=True):
            vectors[name, layer] = TaskVector.load(path)
    generator = torch.Generator().manual_seed(unit.seed + _SEED)
    own = next(iter(contexts))
    for layer in layers:
        vectors[RANDOM, layer] = vectors[own, layer].random_like(generator)
    measurements = [
        row
        for name, context in contexts.items()
        if name != MIXTURE
        for row in crossed(name, context, vectors)
    ]
    return GroupResult(measurements=measurements)


def crossed(
    asked_in: str, context: RunContext, vectors: Mapping[tuple[str, int], TaskVector]
) -> Iterator[Measurement]:
    """What every vector does in one template, and how it reads there.

    Args:
        asked_in: The template.
        context: The task in it.
        vectors: By the template they were trained in and the layer.
    """
    scores = context.score("test", 0, [(), *(vector.edits() for vector in vectors.values())])
    labels = sorted(context.label_starts)
    directions = torch.stack([vector.values[0] for vector in vectors.values()])
    generator = torch.Generator().manual_seed(context.seed + _SEED)
    aligned = label_alignment(context.model, directions, labels, generator)
    plain = scores.is_correct[0]
    without = Measurement(measure="", value=None, method="zero-shot", about={"asked_in": asked_in})
    yield share(without, "accuracy", plain)
    for (trained_in, layer), right, alignment in zip(
        vectors, scores.is_correct[1:], aligned, strict=True
    ):
        row = Measurement(
            measure="", value=None, method="random" if trained_in == RANDOM else "learned",
            layers=(layer,), positions=(-1,),
            about={"trained_in": trained_in, "asked_in": asked_in},
        )  # fmt: skip
        rank, gain = alignment.rank, difference(row, "gain", right, plain, context.seed)
        yield share(row, "accuracy", right)
        yield gain
        yield replace(row, measure="label_rank", value=rank.labels)
        yield replace(row, measure="matched_rank", value=rank.matched, low=rank.low, high=rank.high)
        yield replace(row, measure="steerable", value=float((gain.low or 0) > 0))
        yield replace(row, measure="readable", value=float(rank.labels > rank.high))


def _templates_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    model: LanguageModel = meta_model(unit, estimator)
    contexts = in_templates(context_of(model, unit.task, unit.seed, preset))
    layers = layers_at(model, preset.depths)
    costs = vector_costs(contexts.values(), preset, estimator, layers)
    joins = (model.n_layers - 1, *layers * (len(contexts) + 1))
    works = [
        work_of(f"scores in {name}", context.prompts("test"), (-1,), joins, model.n_layers)
        for name, context in contexts.items()
        if name != MIXTURE
    ]
    return costs + estimator.works(model, works, preset.memory)


def _drawn(rows: pd.DataFrame) -> list[AnyFigure]:
    """Accuracy and lens, vector by template, for each model, task and layer; means over seeds."""
    own = rows[rows["asked_in"].notna() & rows["trained_in"].notna() & rows["task"].ne(OVER_TASKS)]
    return [
        _matrix(part, measure, f"{task}, {model}, layer {str(layers).strip('[]')}")
        for (model, task, layers), part in own.groupby(["model", "task", "layers"], sort=False)
        for measure in ("accuracy", "label_rank")
    ]


def _matrix(rows: pd.DataFrame, measure: str, where: str) -> Heatmap:
    found = rows[rows["measure"].eq(measure)]
    trained, asked = (list(dict.fromkeys(found[name])) for name in ("trained_in", "asked_in"))
    means = found.groupby(["trained_in", "asked_in"])["value"].mean()
    is_lens = measure == "label_rank"
    title = "Labels in what a vector reads as" if is_lens else "Accuracy under another template"
    return Heatmap(
        name=f"templates-{measure}-{where}".replace(", ", "-").replace(" ", "-"),
        title=f"{title}: {where}",
        x_label="Template of the labels" if is_lens else "Template of the prompts",
        y_label="Template of the training",
        columns=tuple(asked),
        rows=tuple(trained),
        values=tuple(tuple(float(means[row, column]) for column in asked) for row in trained),
        value_label="Share of the vocabulary below" if is_lens else "Accuracy (test)",
        limits=(0.0, 1.0),
        shares=True,
        caption="Means over seeds.",
    )


TEMPLATES = Experiment(
    name="ltv-templates",
    title="Vectors under another template",
    question="Does a vector work in a template that it was not trained in, and does it read there?",
    paper="ours; asked by reviewers of Yang et al. 2026, arXiv 2509.24169",
    what_the_paper_did="One template for each task.",
    what_we_do_otherwise="Every vector in every template, beside one trained on all of them in "
    "turn and a random one. Steerable: the gain over no vector is above 0 with its interval. "
    "Readable: the labels stand above those of 97.5 % of matched token sets.",
    presets=presets(
        cpu={"tasks": ("capital", "antonym", "sentiment"), "depths": (0.3, 0.6, 0.9)},
        paper={"depths": (0.3, 0.6, 0.9)},
    ),
    run=_templates,
    estimate=_templates_cost,
    figures=_drawn,
    shown=("accuracy", "gain", "label_rank", "steerable", "readable"),
)
register(TEMPLATES)
