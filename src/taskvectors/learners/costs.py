"""What training takes where weights have gradients and an optimizer: learners, a language model.

Every column of a sequence goes through every block, forward, backward to its input, and backward to
the weights. What is measured along the way and at the end is counted; baselines are not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskvectors.costs.devices import Device
from taskvectors.costs.roofline import Cost, block_weights, total, weight_bytes
from taskvectors.learners.config import VariantsConfig
from taskvectors.learners.families import load_family
from taskvectors.learners.family import CurriculumStage, TaskFamily, generator_for
from taskvectors.learners.rows import N_DUMMIES
from taskvectors.learners.shape import LearnerShape
from taskvectors.learners.variants import flops_ratio, variants_of
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt

_KEPT_PER_BLOCK = 34
"""Values of one width that a GPT-2 block keeps per token for its backward pass."""
_OPTIMIZER_CALLS = 3
"""What the optimizer takes for a block's 12 tensors, in calls of the block."""
_PROMPTED = 4
"""Passes of queries with a vector, for each layer that is measured."""
_OPTIMIZER_BYTES = 7 * 4
"""Weight, gradient and two moments of AdamW in float32: four are read, three written."""
_HELD_BYTES = 4 * 4
"""The same four, as they are held."""


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Sizes of a family's sequences in a learner."""

    shape: LearnerShape
    columns: int
    """Of a sequence."""
    queries: int
    """Of those, the query's."""

    @classmethod
    def of(cls, family: TaskFamily, shape: LearnerShape) -> "_Sizes":
        generator = generator_for("cpu", 0)
        batch = family.batch(family.draw_tasks(1, generator), generator, CurriculumStage())
        columns, queries = int(batch.inputs.shape[1]), int(batch.queries.shape[2])
        return cls(shape=shape, columns=columns, queries=queries)

    @property
    def weights(self) -> int:
        """Of a block."""
        return 12 * self.shape.d_model**2

    def values(self, tokens: float) -> float:
        """Bytes that all blocks make of some tokens."""
        each = _KEPT_PER_BLOCK * self.shape.d_model + 5 * self.shape.n_heads * self.columns
        return 4 * tokens * self.shape.n_layers * each

    def forward(self, tokens: float) -> float:
        """Operations of a forward pass."""
        attended = 4 * self.shape.d_model * self.columns / 2
        return tokens * self.shape.n_layers * (2 * self.weights + attended)


def train_cost(config: VariantsConfig, device: Device) -> Cost:
    """All variants and seeds of a run of `train`, one after the other; float32.

    Args:
        config: What is trained.
        device: Where.

    Raises:
        TaskVectorsError: There is no such family.
    """
    family = load_family(config.task, config.settings)
    training = config.training
    sizes = _Sizes.of(family, training.shape)
    costs = []
    shared = training.tvp_from
    for number, variant in enumerate(variants_of(config, family, seed=0)):
        own = variant.config
        ratio = flops_ratio(family, own)
        # the steps before the TVP-loss are shared by the variants of a seed
        before = min(shared, own.steps) if number == 0 else 0
        steps = before + ratio * max(own.steps - shared, 0)
        n_points = (before + max(own.steps - shared, 0)) // own.measure_every
        n_shifts = len(family.shifts) + 1 if config.with_shifts else 0
        costs += [
            _stepped(sizes, steps, own.batch_size, device),
            _measured(sizes, n_points * own.n_curve_trials, 1, device),
            _measured(sizes, config.n_trials, N_DUMMIES, device),
            _measured(sizes, n_shifts * config.n_trials, 1, device),
        ]
    return total(costs * len(config.seeds), f"train {config.task}")


def measured_cost(config: VariantsConfig, device: Device, *, n_times: int) -> Cost:
    """Measuring all variants and seeds once more, on trials of the trained length.

    Args:
        config: What was trained.
        device: Where.
        n_times: How often each is measured.
    """
    family = load_family(config.task, config.settings)
    sizes = _Sizes.of(family, config.training.shape)
    n_variants = len(variants_of(config, family, seed=0)) * len(config.seeds)
    return _measured(sizes, n_variants * n_times * config.n_trials, 1, device)


def _stepped(sizes: _Sizes, steps: float, batch: int, device: Device) -> Cost:
    """Steps of training."""
    n_layers, tokens = sizes.shape.n_layers, sizes.columns * batch
    flops, moved = 3 * sizes.forward(tokens), 3 * sizes.values(tokens)
    calls = n_layers * (device.step_seconds + _OPTIMIZER_CALLS * device.block_seconds)
    return Cost(
        name="steps",
        forward_tokens=round(steps * tokens),
        flops=steps * flops,
        trunk_bytes=0,
        peak_bytes=round(_HELD_BYTES * sizes.weights * n_layers + sizes.values(tokens)),
        seconds=steps * (flops / device.flops + moved / device.bandwidth + calls),
    )


def _measured(sizes: _Sizes, n_trials: int, n_dummies: int, device: Device) -> Cost:
    """Trials in context, alone, and with a vector of every layer in some ways."""
    prompted = 1 + _PROMPTED * sizes.shape.n_layers
    tokens = n_trials * ((1 + n_dummies) * sizes.columns + prompted * sizes.queries)
    flops, moved = sizes.forward(tokens), sizes.values(tokens)
    return Cost(
        name="measuring",
        forward_tokens=tokens,
        flops=flops,
        trunk_bytes=0,
        peak_bytes=0,
        seconds=flops / device.flops + moved / device.bandwidth,
    )


def continued_cost(
    model: LanguageModel,
    shown: Sequence[Prompt],
    asked: Sequence[Prompt],
    *,
    steps: int,
    batch: int,
    device: Device,
) -> Cost:
    """Steps of continued training of a pretrained model, its embeddings frozen.

    Args:
        model: The model; its weights are not needed.
        shown: Few-shot prompts, of which a batch is in every step.
        asked: Prompts without demonstrations that are in every step, too; none for vanilla.
        steps: How many.
        batch: Prompts of either kind in a step.
        device: Where, in the type that products are computed in.
    """
    block, vocabulary = block_weights(model)
    groups = [prompts for prompts in (shown, asked) if prompts]
    tokens = batch * sum(_mean(len(one.token_ids) for one in some) for some in groups)
    rows = batch * sum(_mean(len(one.answer_ids) for one in some) for some in groups)
    trained = block * model.n_layers
    # the unembedding is frozen: backward, it gives the states' gradient alone
    flops = 3 * 2 * tokens * trained + 2 * 2 * rows * vocabulary
    seconds = (
        flops / device.flops
        + _OPTIMIZER_BYTES * trained / device.bandwidth
        + model.n_layers * len(groups) * device.step_seconds
        + rows * model.d_vocab * device.loss_seconds
    )
    kept = 4 * _KEPT_PER_BLOCK * model.d_model * model.n_layers * tokens
    return Cost(
        name="continued training",
        forward_tokens=round(steps * tokens),
        flops=steps * flops,
        trunk_bytes=0,
        peak_bytes=round(weight_bytes(model) + (_HELD_BYTES - 4) * trained + kept),
        seconds=steps * seconds,
    )


def _mean(values: Iterable[int]) -> float:
    found = list(values)
    return sum(found) / len(found)
