"""`states`: what the states on the way to the end hold, with a vector, without and few-shot.

At every layer from the vector's up, at the last token: which answer the unembedding reads there,
how far the right answer is above the wrong ones, and how the states lie along the directions
between the task's labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.explain.shared.analysis import VECTOR_LAYER, Analysis
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.labels import label_alignment, logit_differences
from taskvectors.explain.shared.measured import COLUMNS, Measured, frame_of, line, share
from taskvectors.explain.shared.state_geometry import effective_dimension, pair_geometry
from taskvectors.format import percent
from taskvectors.models import LanguageModel
from taskvectors.models.runs import Site
from taskvectors.models.unembedding import score_tokens
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results.figures import BLUE, GREEN, GREY, PURPLE, Figure, Heatmap
from taskvectors.trunk import Trunk
from taskvectors.trunk.edits import start_layer
from taskvectors.trunk.work import Work, run_of
from taskvectors.vectors import TaskVector

FEWEST = 4
"""Queries of a label without which nothing is said about its pairs: two to fit, two to score."""
_ROWS = 32
_SEED = 19_000_013
_SHOWN = (
    ("vector", "with the vector", BLUE),
    ("icl", "few-shot", GREEN),
    ("random", "with a random vector of its length", PURPLE),
    ("zero-shot", "without", GREY),
)
_ACCURACY = "lens_accuracy"


@dataclass(frozen=True, kw_only=True)
class States:
    """What states hold, layer by layer, of runs with and without a vector."""

    rows: tuple[Measured, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, run and measure."""
        return frame_of(self.rows)

    def figure(self) -> Figure:
        """Accuracy of the unembedding on the states of each layer."""
        return Figure(
            name="states",
            title="What the states on the way to the end read as",
            x_label="Layer of the states",
            y_label="First answer tokens that are the arg-max",
            series=tuple(line(self.rows, _ACCURACY, *one) for one in _SHOWN),
            shares=True,
        )


def states_on_the_way(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vector: TaskVector,
    plain: Mapping[str, Float[Tensor, "layer prompt d_model"]],
    labels: Sequence[int],
    *,
    seed: int = 0,
) -> States:
    """Read the states of every layer from a vector's up, at the last token.

    Args:
        model: The model.
        prompts: Zero-shot prompts with their answers, of which the first tokens count.
        vector: A vector, wherever it acts.
        plain: States of the same queries without it by name (`zero-shot`, `icl`), from `embed` up.
        labels: First tokens of the task's answers, each once.
        seed: Of the random vector and of the token sets that labels are compared with.

    Source: logit lens, nostalgebraist (2020); arXiv 2509.24164; arXiv 2505.18752. We differ: the
        final norm comes first, intervals and a random vector stand beside, and with many labels
        the mean state is placed among them.
    """
    generator = torch.Generator().manual_seed(seed + _SEED)
    first = max(0, start_layer(vector.edits(), model.n_layers))
    layers = range(first, model.n_layers)
    known = {name: state[1 + first :] for name, state in plain.items()}
    edited = {"vector": vector, "random": vector.random_like(generator)}
    known |= read_states(model, prompts, edited, layers)
    rows: list[Measured] = []
    for around, states in known.items():
        for layer, at_layer in zip(layers, states, strict=True):
            rows += _measured(model, prompts, at_layer.to(model.device), labels, (layer, around))
    means = torch.cat([states.mean(dim=1) for states in known.values()])
    places = [(layer, around) for around in known for layer in layers]
    aligned = label_alignment(model, means, labels, generator)
    for place, one in zip(places, aligned, strict=True):
        rows += one.rows(*place)
    return States(rows=tuple(rows))


def read_states(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vectors: Mapping[str, TaskVector],
    layers: range,
) -> dict[str, Float[Tensor, "layer prompt d_model"]]:
    """`resid_post` of some layers up to the last one at the last token, under each vector."""
    branches = [vector.edits() for vector in vectors.values()]
    positions = {-1: None} | {
        place: None for vector in vectors.values() for place in vector.positions
    }
    # what leaves a layer is read where the next one begins, after every edit
    sites: list[Site] = [(layer + 1, "resid_pre") for layer in layers[:-1]]
    asked, parts = with_first_tokens(prompts), []
    for start in range(0, len(asked), _ROWS):
        trunk = Trunk.build(model, asked[start : start + _ROWS], positions=tuple(positions))
        column = trunk.columns((-1,)).index[:, 0]
        row = torch.arange(len(column), device=column.device)
        with torch.no_grad():
            final, read = trunk.run_and_read(branches, sites)
        parts.append(torch.stack([*(read[site] for site in sites), final])[:, row, :, column])
    # each part is [prompt, layer, branch, d_model]
    by_branch = torch.cat(parts).float().permute(2, 1, 0, 3)
    return dict(zip(vectors, by_branch, strict=True))


def _measured(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    states: Float[Tensor, "prompt d_model"],
    labels: Sequence[int],
    place: tuple[int, str],
) -> list[Measured]:
    """All numbers of one run's states at one layer."""
    layer, around = place
    right: Int[Tensor, " prompt"] = torch.tensor([p.answer_ids[0] for p in prompts])
    with torch.no_grad():
        read = model.final_state(states.to(model.dtype))
    best = score_tokens(model.unembedding, read, right.to(read.device)).best.cpu()
    n = len(prompts)
    hits = {_ACCURACY: best == right, "in_label_set": torch.isin(best, torch.tensor(labels))}
    rows = [share(layer, around, name, int(hit.sum()), n) for name, hit in hits.items()]
    if len(labels) > 1:
        rows.append(_logit_difference(model, read, right, labels, place))
    numbers = _geometry(model, read.float(), right)
    if n > 1:
        numbers["effective_dimension"] = [effective_dimension(read)]
    for name, values in numbers.items():
        known = [value for value in values if isfinite(value)]
        if known:
            mean = sum(known) / len(known)
            rows.append(
                Measured(layer=layer, around=around, measure=name, value=mean, n=len(known))
            )
    return rows


def _logit_difference(
    model: LanguageModel,
    read: Tensor,
    right: Tensor,
    labels: Sequence[int],
    place: tuple[int, str],
) -> Measured:
    columns = torch.tensor(labels, device=read.device).expand(len(read), -1)
    logits = model.unembedding.columns(read, columns).cpu()
    at = torch.tensor([labels.index(token) for token in right.tolist()])
    found = logit_differences(logits, at).double()
    mean, n = float(found.mean()), len(found)
    reach = 1.96 * float(found.std()) / n**0.5 if n > 1 else float("inf")
    return Measured(
        layer=place[0], around=place[1], measure="logit_difference", value=mean,
        low=mean - reach, high=mean + reach, n=n,
    )  # fmt: skip


def _geometry(model: LanguageModel, read: Tensor, right: Tensor) -> dict[str, list[float]]:
    """Numbers of each pair of labels that have enough queries."""
    counts = Counter(right.tolist())
    weight, numbers = model.unembedding.weight, dict[str, list[float]]()
    for a, b in combinations(sorted(label for label, n in counts.items() if n >= FEWEST), 2):
        direction = weight[a].float() - weight[b].float()
        found = pair_geometry(read[right == a], read[right == b], direction)
        for name, value in found.numbers().items():
            numbers.setdefault(name, []).append(value)
    return numbers


def _find(case: Case) -> States:
    context = case.context
    return states_on_the_way(
        case.model,
        case.prompts("test"),
        case.vector,
        {
            "zero-shot": context.states(case.prompts("test")),
            "icl": context.states(case.prompts("test", context.shots)),
        },
        sorted(context.label_starts),
        seed=context.seed,
    )


def _summary(rows: pd.DataFrame) -> str:
    last = rows[rows["layer"].eq(rows["layer"].max()) & rows["measure"].eq(_ACCURACY)]
    values = last.set_index("around")["value"]
    said = (f"{label} {percent(float(values[around]))}" for around, label, _ in _SHOWN)
    return f"read at layer {last['layer'].iloc[0]:.0f}: {', '.join(said)}"


def _over_layers(rows: pd.DataFrame) -> Heatmap:
    """Accuracy by the vector's layer and that of the states."""
    read = rows[rows["measure"].eq(_ACCURACY) & rows["around"].eq("vector")]
    table = read.pivot_table(index=VECTOR_LAYER, columns="layer", values="value")
    return Heatmap(
        name="",
        title="What the states on the way to the end read as",
        x_label="Layer of the states",
        y_label="Layer of the vector",
        columns=tuple(f"{layer:.0f}" for layer in table.columns),
        rows=tuple(f"{layer:.0f}" for layer in table.index),
        values=tuple(
            tuple(None if pd.isna(value) else float(value) for value in row)
            for row in table.to_numpy()
        ),
        value_label="First answer tokens that are the arg-max",
        limits=(0.0, 1.0),
        shares=True,
    )


def _works(sizes: Sizes) -> list[Work]:
    """Two injected runs; the plain ones are kept. States of every layer are unembedded."""
    context, test = sizes.context, with_first_tokens(sizes.prompts("test"))
    injected = sizes.branches("injected", test, 2)
    per_layer = context.model.n_layers - sizes.layer
    shown = sizes.prompts("test", context.shots)
    return [
        replace(injected, rows=2 * injected.rows * per_layer),
        run_of("plain", sizes.prompts("test")),
        run_of("icl", shown),
    ]


ANALYSES.register(
    Analysis(
        name="states",
        title="States on the way",
        question="Where on the way to the end do the states hold the answer?",
        citation="Yang et al. 2026, arXiv 2509.24169; Yang et al. 2025, arXiv 2505.18752",
        find=_find,
        columns=COLUMNS,
        works=_works,
        caption="Share of test prompts whose first answer token is the arg-max when the final norm "
        "and the unembedding read the last token's state at a layer. 95 % Wilson intervals.",
        summary=_summary,
        over_layers=_over_layers,
    )
)
