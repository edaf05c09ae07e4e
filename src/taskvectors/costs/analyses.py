"""What analyses of vectors run, as work.

`ANALYSIS_WORKS` is the one registry, by the analysis' name, and a test walks it beside that of
`explain`. Passes through the model are counted; decompositions of matrices and bootstraps are not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.bijections import Configuration, around
from taskvectors.explain.composition import FORMS
from taskvectors.explain.composition import STRENGTHS as SUMS
from taskvectors.explain.frozen_paths import FROZEN
from taskvectors.explain.head_ablation import CURVE, N_CURVE_DRAWS, N_DRAWS
from taskvectors.explain.interpolation import STEPS
from taskvectors.explain.ov_reconstruction import N_RANDOM, STRENGTHS, VARIANTS
from taskvectors.explain.propagation import N_TEST_NOISE
from taskvectors.explain.propagation import STRENGTHS as SCALES
from taskvectors.explain.shared.fitted_map import FitSettings
from taskvectors.explain.shared.head_outputs import MODES
from taskvectors.explain.shared.responses import TOKENS_PER_PASS
from taskvectors.methods import Recipe, plan_of
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk.work import Work, as_much, work_of


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Vectors that are explained, each added at one layer at the last token.

    Attributes:
        context: Model, task, demonstrations.
        layers: Their layers; the first is the vector's that most analyses are of.
        n_tasks: Tasks that they are of, counted as large as the context's own.
        limit: Most prompts of a split that analyses use.
        has_other: Whether another task's vector stands beside.
    """

    context: RunContext
    layers: tuple[int, ...]
    n_tasks: int = 2
    limit: int = 100
    has_other: bool = True

    @property
    def layer(self) -> int:
        """The explained vector's."""
        return self.layers[0]

    def prompts(self, split: Split, shots: int = 0) -> tuple[Prompt, ...]:
        """Those that analyses use."""
        return self.context.prompts(split, shots)[: self.limit]

    def branches(self, name: str, prompts: Sequence[Prompt], n: int) -> Work:
        """Some branches that join at the vector's layer."""
        return work_of(name, prompts, (-1,), [self.layer] * n, self.context.model.n_layers)


def analysis_works(explained: Explained, name: str) -> list[Work]:
    """What an analysis runs, named after it.

    Raises:
        TaskVectorsError: It has no estimate.
    """
    if name not in ANALYSIS_WORKS:
        raise TaskVectorsError(
            f"there is no estimate of the analysis {name!r}; there is one of "
            f"{', '.join(ANALYSIS_WORKS)}"
        )
    works = ANALYSIS_WORKS[name](explained)
    return [replace(work, name=f"{name}, {work.name}") for work in works]


def _plain(context: RunContext, shots: int) -> Work:
    """The test split as it is."""
    n_layers = context.model.n_layers
    return work_of("plain", context.prompts("test", shots), (-1,), [n_layers - 1], n_layers)


def _two_runs(explained: Explained, name: str, prompts: Sequence[Prompt]) -> Work:
    """The plain and the injected run, of which states are read and no logits made."""
    return replace(explained.branches(name, with_first_tokens(prompts), 2), rows=0.0)


def _nothing(explained: Explained) -> list[Work]:
    """Vectors are read and compared as they are: nothing is run."""
    del explained
    return []


def _reconstruction(explained: Explained) -> list[Work]:
    """Terms of the vector and of random ones, then every variant of them."""
    train = explained.prompts("train")
    subjects = 1 + N_RANDOM
    works = []
    for number in range(subjects):
        works += [
            _two_runs(explained, f"heads of vector {number}", train),
            _two_runs(explained, f"MLPs of vector {number}", train),
        ]
    for variant in VARIANTS:
        works += [
            explained.branches(
                f"{variant}, strengths", explained.prompts("validation"), subjects * len(STRENGTHS)
            ),
            explained.branches(f"{variant}, test", explained.prompts("test"), subjects),
        ]
    return [*works, explained.branches("whole vector", explained.prompts("test"), 2)]


def _path_expansion(explained: Explained) -> list[Work]:
    """Terms go through the heads' OV circuits alone, which is little beside the two runs."""
    return [_two_runs(explained, "runs", explained.prompts("test"))]


def _frozen_paths(explained: Explained) -> list[Work]:
    return [explained.branches("paths", explained.prompts("test"), 1 + len(FROZEN))]


def _key_heads(explained: Explained) -> list[Work]:
    model, train = explained.context.model, explained.prompts("train")
    n_layers, layer = model.n_layers, explained.layer
    removed = [block - 1 for block in range(layer + 1, n_layers) for _ in range(model.n_heads)]
    return [
        work_of(
            "gradients", train, (-1,), [layer], n_layers, is_training=True, keeps="results"
        ),
        work_of(
            "one by one", with_first_tokens(train), (-1,), [layer] * (1 + len(removed)), n_layers,
            keeps="results",
        ),
    ]  # fmt: skip


def _ablation(explained: Explained) -> list[Work]:
    context, shots = explained.context, explained.context.shots
    sets = 1 + len(MODES) * (1 + N_DRAWS) + N_DRAWS
    curve = sum(1 + (1 if share == 1 else N_CURVE_DRAWS) for share in CURVE)
    works = _key_heads(explained)
    conditions = [("vector", 0, sets + curve), ("icl", shots, sets)]
    if explained.has_other:
        conditions.append(("other task", 0, sets))
    for name, shown, n in conditions:
        read = explained.branches(f"outputs, {name}", explained.prompts("train", shown), 1)
        scored = explained.branches(f"sets, {name}", explained.prompts("test", shown), n)
        works += [replace(read, rows=0.0), scored]
    read, scored = (
        work_of(f"all positions, {split}", explained.prompts(split), (0,), [explained.layer] * n,
                context.model.n_layers)
        for split, n in _EVERYWHERE.items()
    )  # fmt: skip
    return [*works, _plain(context, 0), replace(read, rows=0.0), scored]


_EVERYWHERE: dict[Split, int] = {"train": 1, "test": 3}
"""Branches by split of heads that are taken out at every token."""


def _overlap(explained: Explained) -> list[Work]:
    own = _key_heads(explained)
    other = [as_much(work, f"{work.name}, other task") for work in own]
    return own + (other if explained.has_other else [])


def _attention(explained: Explained) -> list[Work]:
    shown = explained.prompts("test", explained.context.shots)
    runs = [
        _two_runs(explained, "test", explained.prompts("test")),
        _two_runs(explained, "test, with demonstrations", shown),
    ]
    return [*_key_heads(explained), *runs]


def _fits(explained: Explained) -> list[Work]:
    """Noisy copies of each vector and of a random one, as branches of a few queries."""
    settings, width = FitSettings(), explained.context.model.d_model
    rank = min(settings.most_directions or width, width)
    n_samples, n_scales = settings.samples_per_direction * rank, len(settings.scales)
    works = []
    for layer in explained.layers:
        # the random vector's map is fitted at the one scale that was chosen
        works += [
            _responses(explained, "fits", "train", layer, (n_scales + 1) * n_samples),
            _responses(
                explained, "choices", "validation", layer, 2 * n_scales * settings.n_held_out
            ),
        ]
    return works


def _responses(
    explained: Explained, name: str, split: Split, layer: int, n: int, *, is_jacobian: bool = False
) -> Work:
    """Last states of a few queries under so many values at a layer, or as many gradients."""
    queries = with_first_tokens(explained.prompts(split)[: FitSettings().n_queries])
    size = max(1, TOKENS_PER_PASS // len(queries))
    work = work_of(
        f"{name}, layer {layer}", queries, (-1,), [layer] * min(size, n),
        explained.context.model.n_layers, n_passes=-(-n // size), is_training=is_jacobian,
        keeps="results",
    )  # fmt: skip
    return replace(work, rows=0.0)


def _propagation(explained: Explained) -> list[Work]:
    works = _fits(explained)
    for layer in explained.layers:
        works += [
            _responses(explained, "noise", "train", layer, 2 * N_TEST_NOISE),
            _responses(explained, "noise", "test", layer, 2 * (N_TEST_NOISE + len(SCALES))),
            _responses(
                explained, "Jacobian", "train", layer, explained.context.model.d_model,
                is_jacobian=True,
            ),
        ]  # fmt: skip
    last = explained.context.model.n_layers - 1
    joins = [join for layer in explained.layers for join in (layer, layer, *[last] * 4)]
    test = explained.prompts("test")
    return [*works, work_of("images", test, (-1,), [last, *joins], last + 1)]


def _rotation(explained: Explained) -> list[Work]:
    last = explained.context.model.n_layers - 1
    asked = with_first_tokens(explained.prompts("test"))
    images = [
        replace(work_of("images", asked, (-1,), [last, layer, last, last], last + 1), rows=0.0)
        for layer in explained.layers
    ]
    return [*_fits(explained), *images]


def _transfer(explained: Explained) -> list[Work]:
    test = explained.context.prompts("test")
    own = explained.branches("test", test, 1 + explained.n_tasks)
    return [as_much(own, f"test, task {number}") for number in range(explained.n_tasks)]


def _composition(explained: Explained) -> list[Work]:
    """Each of the forms that a word has is scored as an answer."""
    context, n = explained.context, 6 + len(SUMS)
    works = []
    for form in FORMS:
        works += [
            as_much(explained.branches("sums", context.prompts("test"), n), f"sums, {form}"),
            as_much(_plain(context, context.shots), f"shown, {form}"),
        ]
    return works


def _interpolation(explained: Explained) -> list[Work]:
    own = explained.branches("test", explained.context.prompts("test"), 2 * len(STEPS))
    return [own, as_much(own, "test, other task")]


def _bijections(explained: Explained) -> list[Work]:
    context = explained.context
    return both_ways(context, around(explained.layer, context.model.n_layers), Recipe())


def both_ways(
    context: RunContext,
    configurations: Sequence[Configuration],
    recipe: Recipe,
) -> list[Work]:
    """What learning a mapping both ways runs.

    The other direction is counted as large as the task itself, and both together as twice it.

    Args:
        context: The task.
        configurations: Where the vectors go.
        recipe: How vectors are learned.
    """
    works = [
        as_much(_plain(context, shots), f"{way}, {shots} shots")
        for shots in (0, context.shots)
        for way in ("forward", "backward")
    ]
    for one in configurations:
        config = Learned(layers=one.layers, positions=one.positions, settings=recipe)
        plan = plan_of(context, config)
        tested = replace(plan, joins=plan.joins * 3).tested(context)
        for way in ("forward", "backward"):
            works += [as_much(work, f"{way}, {work.name}") for work in (*plan.found, *tested)]
        works += [_twice(work) for work in plan.found]
    return works


def _twice(work: Work) -> Work:
    """The same steps on twice as many prompts, and checks of twice as many."""
    is_check = work.n_prompts == work.prompts_per_pass
    factor = 2 if is_check else 1
    return replace(
        as_much(work, f"both, {work.name}"),
        n_prompts=2 * work.n_prompts,
        tokens=2 * work.tokens,
        prompts_per_pass=factor * work.prompts_per_pass,
        branch_tokens=factor * work.branch_tokens,
        rows=factor * work.rows,
        kept=tuple(replace(one, n_prompts=2 * one.n_prompts) for one in work.kept),
    )


ANALYSIS_WORKS: dict[str, Callable[[Explained], list[Work]]] = {
    "ov-reconstruction": _reconstruction,
    "path-expansion": _path_expansion,
    "frozen-paths": _frozen_paths,
    "key-heads": _key_heads,
    "head-ablation": _ablation,
    "head-overlap": _overlap,
    "attention": _attention,
    "lens": _nothing,
    "propagation": _propagation,
    "rotation": _rotation,
    "geometry": _nothing,
    "transfer": _transfer,
    "composition": _composition,
    "interpolation": _interpolation,
    "bijections": _bijections,
}
"""By the analysis' name, as in `ANALYSES`."""
