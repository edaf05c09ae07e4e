"""Vectors that experiments explain: learned once for each model, task and seed, and kept."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from taskvectors.costs import Cost
from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import Preset, RunUnit, WorkDir
from taskvectors.methods import Recipe, RunContext, load_recipe, plan_of
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.curves import tried
from taskvectors.methods.training.recipe import RECIPES
from taskvectors.models import LanguageModel
from taskvectors.results.provenance import inputs_of_model, inputs_of_task
from taskvectors.tasks import load_task
from taskvectors.trunk import resolve_budget

logger = logging.getLogger(__name__)


def recipe(preset: Preset) -> Recipe:
    """How vectors are learned: from zero in the steps that the preset has, or as published."""
    if preset.recipe != "from-zero":
        return RECIPES[preset.recipe]
    return load_recipe("from-zero", steps=preset.steps, check_every=min(10, preset.steps))


def exact(model: ModelConfig) -> ModelConfig:
    """The model in float32, where effects are to add up."""
    return model.model_copy(update={"dtype": "float32"}) if model.dtype == "auto" else model


def model_of(unit: RunUnit, work_dir: WorkDir) -> LanguageModel:
    """A group's model, in float32 unless another type was asked for."""
    assert unit.model is not None
    return work_dir.load(exact(unit.model))


def layers_at(model: LanguageModel, depths: Sequence[float]) -> tuple[int, ...]:
    """Layers at shares of the depth; a half is the paper's layer 16 of 32, which is our 15.

    The last block is left out: above it there is nothing to explain.
    """
    last = model.n_layers - 2
    found = {min(max(round(depth * model.n_layers) - 1, 0), last) for depth in depths}
    return tuple(sorted(found))


def context_of(model: LanguageModel, task: str, seed: int, preset: Preset) -> RunContext:
    """A model and a task at some preset."""
    return RunContext(
        model=model,
        task=load_task(
            task,
            seed=seed,
            n_train=preset.n_train,
            n_validation=preset.n_validation,
            n_test=preset.n_test,
        ),
        shots=preset.shots,
        seed=seed,
        memory=None if preset.memory is None else resolve_budget(preset.memory, model.device),
    )


def vectors_of(
    context: RunContext, preset: Preset, work_dir: WorkDir, layers: Sequence[int]
) -> list[Path]:
    """Folders of one vector for each layer, learned together in one pass.

    Args:
        context: Model and task.
        preset: How long to learn.
        work_dir: Where they are kept, for every experiment that asks for the same ones.
        layers: The layers.
    """
    model, task = context.model, context.task
    asked = [
        model.source, model.revision, str(model.dtype), task.source, task.name, task.seed,
        inputs_of_task(task), inputs_of_model(model), context.template,
        recipe(preset).model_dump(), list(layers),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    with work_dir.locked(f"vectors/{task.name}-seed{task.seed}-{digest}") as folder:
        paths = [folder / f"layer-{layer}" for layer in layers]
        if not all(path.is_dir() for path in paths):
            logger.info(
                "Learning vectors of %s, seed %d, at layers %s, in at most %d steps",
                task.name,
                task.seed,
                ", ".join(map(str, layers)),
                recipe(preset).steps,
            )
            for path, candidate in zip(paths, tried(context, _config(preset, layers)), strict=True):
                assert candidate.vector is not None
                candidate.vector.save(path)
    return paths


def vector_costs(
    contexts: Iterable[RunContext], preset: Preset, estimator: Estimator, layers: Sequence[int]
) -> list[Cost]:
    """What `vectors_of` takes for each context, where it was not asked for before."""
    costs: list[Cost] = []
    for context in contexts:
        model, task = context.model, context.task
        name = (
            "vectors", model.source, model.dtype, task.name, task.seed, context.template,
            recipe(preset), *layers,
        )  # fmt: skip
        if estimator.is_new(*name):
            plan = plan_of(context, _config(preset, layers))
            costs += estimator.works(model, plan.found, preset.memory)
    return costs


def meta_model(unit: RunUnit, estimator: Estimator) -> LanguageModel:
    """A group's model as `model_of` gives it, without weights."""
    assert unit.model is not None
    return estimator.model(exact(unit.model))


def _config(preset: Preset, layers: Sequence[int]) -> Learned:
    return Learned(layers=tuple(layers), each_layer=True, recipe=recipe(preset))
