"""The fitted maps of a case: one for each layer that it has a vector at, beside a random one's.

They are what `propagation` and `rotation` speak of, so they are fitted once for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from taskvectors.explain.shared.case import Case, one_layer
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.fitted_map import (
    SPLITS,
    FitSettings,
    FittedMap,
    fit_map,
    queries_of,
)
from taskvectors.explain.shared.responses import TOKENS_PER_PASS, Responses
from taskvectors.methods.shared.run_context import Split
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk.work import Work, work_of
from taskvectors.vectors import TaskVector

_RANDOM_SEED = 7_000_003


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFit:
    """The map around a vector, and the control around a random vector of its length."""

    vector: TaskVector
    random: TaskVector
    fitted: FittedMap
    control: FittedMap


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFits:
    """Maps by layer, and the queries that they were fitted and are judged on."""

    queries: Mapping[Split, Responses]
    fits: tuple[LayerFit, ...]


def fit_layers(
    model: LanguageModel,
    prompts: Mapping[Split, Sequence[Prompt]],
    vectors: Sequence[TaskVector],
    settings: FitSettings,
    memory: int | None = None,
) -> LayerFits:
    """Fit the map of each vector, and of a random one in its place on the same kind of noise.

    Raises:
        TaskVectorsError: A vector is not one that is added at one layer at the last token.
    """
    by_layer = {one_layer(vector, "a linear map to the last block"): vector for vector in vectors}
    queries = queries_of(model, prompts, settings.n_queries, memory)
    generator = torch.Generator().manual_seed(settings.seed + _RANDOM_SEED)
    fits = []
    for layer, vector in sorted(by_layer.items()):
        vector.check_model(model)
        random = vector.random_like(generator)
        fitted = fit_map(queries, vector.values[0], layer, settings)
        control = fit_map(queries, random.values[0], layer, settings, scales=(fitted.noise_scale,))
        fits.append(LayerFit(vector=vector, random=random, fitted=fitted, control=control))
    return LayerFits(queries=queries, fits=tuple(fits))


def layered_vectors(case: Case) -> tuple[TaskVector, ...]:
    """The explained vector, and those of its task and method at one other layer each."""
    origin = case.vector.origin
    alike = [
        vector
        for vector in case.vectors
        if len(vector.sites) == 1
        and vector.origin.task == origin.task
        and vector.origin.method == origin.method
    ]
    by_layer = {vector.layers[0]: vector for vector in reversed(alike)}
    return tuple((by_layer | {case.vector.layers[0]: case.vector}).values())


def fits_of(case: Case) -> LayerFits:
    """The maps of a case, fitted when they are first asked for."""
    vectors = layered_vectors(case)

    def fit() -> LayerFits:
        prompts = {split: case.prompts(split) for split in SPLITS}
        return fit_layers(case.model, prompts, vectors, FitSettings(), case.context.memory)

    # a case made from another with other vectors shares what it remembers
    return case.cached(f"layer fits of {sorted(map(id, vectors))}", fit)


def fits_works(sizes: Sizes) -> list[Work]:
    """Noisy copies of each vector and of a random one, as branches of a few queries."""
    settings, width = FitSettings(), sizes.context.model.d_model
    rank = min(settings.most_directions or width, width)
    n_samples, n_scales = settings.samples_per_direction * rank, len(settings.scales)
    works = []
    for layer in sizes.layers:
        # the random vector's map is fitted at the one scale that was chosen
        works += [
            responses_works(sizes, "fits", "train", layer, (n_scales + 1) * n_samples),
            responses_works(
                sizes, "choices", "validation", layer, 2 * n_scales * settings.n_held_out
            ),
        ]
    return works


def responses_works(
    sizes: Sizes, name: str, split: Split, layer: int, n: int, *, is_jacobian: bool = False
) -> Work:
    """Last states of a few queries under so many values at a layer, or as many gradients."""
    queries = with_first_tokens(sizes.prompts(split)[: FitSettings().n_queries])
    size = max(1, TOKENS_PER_PASS // len(queries))
    work = work_of(
        f"{name}, layer {layer}", queries, (-1,), [layer] * min(size, n),
        sizes.context.model.n_layers, n_passes=-(-n // size), is_training=is_jacobian,
        keeps="results",
    )  # fmt: skip
    return replace(work, rows=0.0)
