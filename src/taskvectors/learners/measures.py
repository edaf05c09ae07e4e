"""What a learner does with demonstrations, and with a task vector in their place.

Everything is measured on trials that are the same for every variant of a seed. Errors are kept per
trial, so that intervals come from the trials themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.learners.family import (
    HELD_OUT,
    EvalBatch,
    Split,
    TaskFamily,
    generator_for,
    moved,
)
from taskvectors.learners.model import Learner
from taskvectors.learners.passes import prompted_states
from taskvectors.models.causal import CausalBody
from taskvectors.results.learners import IN_DISTRIBUTION

_TRIALS = 3
"""What a generator is for."""
_ROWS_PER_PASS = 256
LEAST_GAIN = 0.1
"""Recovery has no meaning where demonstrations lower the error by less than this share of it."""

Errors = Float[Tensor, "trial read"]
ErrorsByLayer = Float[Tensor, "layer trial read"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompted:
    """Errors of task-vector prompting, by the layer after which the vector is read and put."""

    reset: ErrorsByLayer
    """The query is a zero-shot prompt, its positions from 0; the vector is read from one dummy."""
    kept: ErrorsByLayer
    """The query has the positions that it would have after the demonstrations."""
    averaged: ErrorsByLayer
    """As `reset`, the vector averaged over all dummies."""
    wrong: ErrorsByLayer
    """As `reset`, with the vector of another task, against the query's own task."""
    wrong_to_injected: ErrorsByLayer
    """The same outputs, against the task whose vector was put in."""
    is_other: Float[Tensor, " trial"]
    """0 where that other task asks for the same answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Errors of one learner on some trials."""

    n_demonstrations: int
    shift: str
    weights: Errors
    icl: Errors
    zero_shot: Errors
    """Of the query alone."""
    baselines: Mapping[str, Errors]
    prompted: Prompted | None
    """None in a format without a site for the vector."""
    states: Float[Tensor, "layer trial dummy d_model"] | None
    """The vectors, at every layer."""
    probe_targets: Float[Tensor, "trial label"]

    def mean(self, errors: Errors) -> float:
        """Mean error over the reads that count."""
        return float((errors * self.weights).sum() / self.weights.sum())

    @property
    def base_error(self) -> float:
        """E_base: the lower of zero-shot and of the best predictor without demonstrations."""
        return min(self.mean(self.zero_shot), self.mean(self.baselines["without"]))

    def recovery(self, errors: ErrorsByLayer) -> list[float | None]:
        """R_l = (E_base - E_l) / (E_base - E_ICL), layer by layer; None where it has no meaning.

        Source: ours; that strength is the error of task-vector prompting against that of in-context
            learning is from Yang et al. (2025), https://arxiv.org/abs/2501.09240.
        """
        base = self.base_error
        gain = base - self.mean(self.icl)
        if gain < LEAST_GAIN * base or gain <= 0:
            return [None] * len(errors)
        return [(base - self.mean(layer)) / gain for layer in errors]

    def recovery_interval(
        self, errors: Errors, *, n_draws: int = 1000, seed: int = 0
    ) -> tuple[float, float]:
        """The 95 % bootstrap interval over trials of one layer's recovery."""
        n = len(errors)
        generator = torch.Generator().manual_seed(seed)
        picked = torch.randint(n, (n_draws, n), generator=generator)
        counts = torch.zeros(n_draws, n).scatter_add_(1, picked, torch.ones(n_draws, n))
        kinds = (self.icl, self.zero_shot, self.baselines["without"], errors)
        totals = torch.stack([(one * self.weights).sum(dim=1).cpu() for one in kinds], dim=1)
        means = counts @ totals / (counts @ self.weights.sum(dim=1).cpu()).unsqueeze(1)
        base = torch.minimum(means[:, 1], means[:, 2])
        drawn = (base - means[:, 3]) / (base - means[:, 0])
        low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
        return low, high


def locality(recovery: list[float | None]) -> float | None:
    """How peaked recovery is: the best layer's share of all positive recovery.

    1 is a vector at one layer only; 1 over the number of layers is spread evenly. None where no
    layer recovers a tenth.

    Example:
        >>> locality([0.0, 0.9, 0.1])
        0.9
    """
    positive = [max(0.0, value or 0.0) for value in recovery]
    return max(positive) / sum(positive) if max(positive, default=0.0) >= 0.1 else None


def measure(
    learner: Learner,
    *,
    n_trials: int,
    seed: int,
    n_demonstrations: int | None = None,
    shift: str = IN_DISTRIBUTION,
    n_dummies: int = 1,
) -> Measured:
    """Run a learner on trials.

    Args:
        learner: The learner.
        n_trials: How many.
        seed: Seed of the trials.
        n_demonstrations: Demonstrations in each; the trained number by default.
        shift: Distribution that they are drawn from.
        n_dummies: Queries that vectors are read from; the first alone is used unless averaged.
    """
    family = learner.family
    n = family.n_demonstrations if n_demonstrations is None else n_demonstrations
    device = learner.hf.device
    parts = []
    with torch.no_grad():
        for start in range(0, n_trials, _ROWS_PER_PASS):
            generator = generator_for(device, seed, start, _TRIALS)
            split: Split = "test" if shift == HELD_OUT else "train"
            tasks = family.draw_tasks(min(_ROWS_PER_PASS, n_trials - start), generator, split)
            eval_batch = family.eval_batch(tasks, generator, n, shift=shift, n_dummies=n_dummies)
            trials = moved(eval_batch, device)
            parts.append(_measure_batch(learner.body, family, trials, n, shift))
    return _joined(parts)


def _measure_batch(
    body: CausalBody, family: TaskFamily, eval_batch: EvalBatch, n: int, shift: str
) -> Measured:
    history = eval_batch.history.shape[1]

    def errors(final: Tensor, targets: Tensor, first: int = 0) -> Tensor:
        read = torch.tensor(eval_batch.query_reads, device=final.device) + first
        return family.errors(body.logits(final[:, read]), targets)

    in_context = _final(body, torch.cat([eval_batch.history, eval_batch.queries], dim=1))
    alone = _final(body, eval_batch.queries)
    prompted = states = None
    if eval_batch.site_column is not None:
        states = vectors_of(body, eval_batch)
        prompted = _prompted(body, eval_batch, states, errors)
    return Measured(
        n_demonstrations=n,
        shift=shift,
        weights=eval_batch.weights,
        icl=errors(in_context, eval_batch.targets, history),
        zero_shot=errors(alone, eval_batch.targets),
        baselines=eval_batch.baselines,
        prompted=prompted,
        states=states,
        probe_targets=family.probe_targets(eval_batch.tasks),
    )


def vectors_of(
    body: CausalBody, eval_batch: EvalBatch
) -> Float[Tensor, "layer trial dummy d_model"]:
    """The state at the site after every block, for each dummy."""
    batch, n_dummies = eval_batch.dummies.shape[:2]
    assert eval_batch.site_column is not None
    repeated = eval_batch.history.repeat_interleave(n_dummies, dim=0)
    prompts = torch.cat([repeated, eval_batch.dummies.flatten(0, 1)], dim=1)
    column = eval_batch.history.shape[1] + eval_batch.site_column
    state, arguments = body.enter(body.embed(prompts))
    found = []
    for layer in range(body.n_layers):
        state = body.run(state, arguments, range(layer, layer + 1))
        found.append(state[:, column].view(batch, n_dummies, -1))
    return torch.stack(found)


def _prompted(
    body: CausalBody,
    eval_batch: EvalBatch,
    states: Tensor,
    errors: Callable[[Tensor, Tensor], Tensor],
) -> Prompted:
    """Errors at every layer, with one plain pass of the demonstrations for all of them."""
    assert eval_batch.site_column is not None
    kinds: dict[str, list[Tensor]] = {
        name: [] for name in ("reset", "kept", "averaged", "wrong", "wrong_to_injected")
    }
    for layer in range(body.n_layers):
        at = {"site_column": eval_batch.site_column, "layer": layer}
        one, mean = states[layer, :, 0], states[layer].mean(dim=1)
        reset = prompted_states(body, eval_batch.queries, one, **at)
        kept = prompted_states(
            body, eval_batch.queries, one, **at, start=eval_batch.history.shape[1]
        )
        averaged = prompted_states(body, eval_batch.queries, mean, **at)
        wrong = prompted_states(body, eval_batch.queries, one.roll(1, 0), **at)
        kinds["reset"].append(errors(reset, eval_batch.targets))
        kinds["kept"].append(errors(kept, eval_batch.targets))
        kinds["averaged"].append(errors(averaged, eval_batch.targets))
        kinds["wrong"].append(errors(wrong, eval_batch.targets))
        kinds["wrong_to_injected"].append(errors(wrong, eval_batch.wrong_targets))
    other = (eval_batch.targets != eval_batch.wrong_targets).flatten(1).any(dim=1).float()
    return Prompted(**{name: torch.stack(found) for name, found in kinds.items()}, is_other=other)


def _final(body: CausalBody, inputs: Tensor) -> Float[Tensor, "batch pos d_model"]:
    state, arguments = body.enter(body.embed(inputs))
    return body.run(state, arguments, range(body.n_layers))


def _joined(parts: list[Measured]) -> Measured:
    """Parts of the same trials as one."""

    def prompted() -> Prompted | None:
        found = [part.prompted for part in parts if part.prompted is not None]
        if not found:
            return None
        names = ("reset", "kept", "averaged", "wrong", "wrong_to_injected")
        return Prompted(
            **{name: torch.cat([getattr(one, name) for one in found], dim=1) for name in names},
            is_other=torch.cat([one.is_other for one in found]),
        )

    states = [part.states for part in parts if part.states is not None]
    return Measured(
        n_demonstrations=parts[0].n_demonstrations,
        shift=parts[0].shift,
        weights=torch.cat([part.weights for part in parts]),
        icl=torch.cat([part.icl for part in parts]),
        zero_shot=torch.cat([part.zero_shot for part in parts]),
        baselines={
            name: torch.cat([part.baselines[name] for part in parts]) for name in parts[0].baselines
        },
        prompted=prompted(),
        states=torch.cat(states, dim=1) if states else None,
        probe_targets=torch.cat([part.probe_targets for part in parts]),
    )
