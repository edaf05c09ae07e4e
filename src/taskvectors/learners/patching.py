"""Is a vector absent, or is the task spread out? States of several places patched at once.

One place may hold too little of a task for a vector to be seen there, although the states of
several layers, or of several columns, hold all of it. So states of a run on the task are put into a
run whose demonstrations are of another task: at one column after one block, as task-vector
prompting does, and at more and more of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from taskvectors.learners.family import EvalBatch, generator_for, moved
from taskvectors.learners.model import Learner
from taskvectors.models.causal import CausalBody
from taskvectors.results.learners import Row

_TRIALS = 4
"""What a generator is for."""
_ROWS_PER_PASS = 256
SITE, SEPARATORS, OUTPUTS = "site", "site and separators", "site and outputs"
DEMONSTRATIONS, EVERYTHING = "demonstrations", "site and demonstrations"
_Key = tuple[str, int | None]
_WEIGHT: _Key = ("weight", None)
_IN_CONTEXT: _Key = ("in context", None)
_OTHER: _Key = ("other", None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """A run on the task, and one on another task that it is patched into.

    Attributes:
        states: Of the demonstrations and then a dummy, below block 0 and after every block.
        inputs: The other task's demonstrations, and then the query.
    """

    states: Float[Tensor, "layer_and_embedding trial pos d_model"]
    inputs: Shaped[Tensor, "trial pos *width"]

    @classmethod
    def of(cls, body: CausalBody, trials: EvalBatch) -> "Recorded":
        """Both, for some trials; the other task is that of the trial before."""
        state, arguments = body.enter(
            body.embed(torch.cat([trials.history, trials.dummies[:, 0]], dim=1))
        )
        states = [state]
        for layer in range(body.n_layers):
            state = body.run(state, arguments, range(layer, layer + 1))
            states.append(state)
        inputs = torch.cat([trials.history.roll(1, 0), trials.queries], dim=1)
        return cls(states=torch.stack(states), inputs=inputs)

    def patched(
        self, body: CausalBody, columns: Sequence[int], layers: Sequence[int]
    ) -> Float[Tensor, "trial pos d_model"]:
        """Final states of the other run with some states of the recorded one.

        Args:
            body: The learner.
            columns: Where.
            layers: After which blocks; -1 is below block 0.
        """
        state, arguments = body.enter(body.embed(self.inputs))
        for layer in range(-1, body.n_layers):
            if layer >= 0:
                state = body.run(state, arguments, range(layer, layer + 1))
            if layer in layers and columns:
                state = state.clone()
                state[:, list(columns)] = self.states[layer + 1][:, list(columns)]
        return state


def columns_by_place(learner: Learner, trials: EvalBatch) -> dict[str, list[int]]:
    """Columns of each place, from the site alone to all that demonstrations and site have.

    Separators and outputs are there in formats of pairs alone.
    """
    assert trials.site_column is not None
    n = trials.history.shape[1]
    site = [n + trials.site_column]
    form = getattr(learner.family, "format", "")
    found = {SITE: site}
    if form:
        for name, piece in ((SEPARATORS, "z"), (OUTPUTS, "y")):
            found[name] = [at for at in range(n) if form[at % len(form)] == piece] + site
    return found | {DEMONSTRATIONS: list(range(n)), EVERYTHING: [*range(n), *site]}


def patched_rows(learner: Learner, *, n_trials: int, seed: int) -> list[Row]:
    """Errors, and recoveries, with each place patched after each block and after all of them.

    `recovery` is (E_other - E) / (E_other - E_ICL), where E_other is the error with another task's
    demonstrations and nothing patched, over trials where that task asks for another answer. `layer`
    is None where states are put after all blocks but the last, which is never patched. No rows for
    a format without a site.

    Args:
        learner: The learner.
        n_trials: How many trials.
        seed: Seed of the trials.

    Source: ours; activation patching after Meng et al. (2022), https://arxiv.org/abs/2202.05262.
    """
    totals: dict[_Key, float] = {}
    with torch.no_grad():
        for part in _parts(learner, n_trials, seed):
            for key, value in part.items():
                totals[key] = totals.get(key, 0.0) + value
    if not totals:
        return []
    weight = totals.pop(_WEIGHT)
    errors = {key: value / weight for key, value in totals.items()}
    own, other = errors.pop(_IN_CONTEXT), errors.pop(_OTHER)
    gain = other - own
    return [
        {
            "place": place,
            "layer": layer,
            "patched_error": error,
            "other_error": other,
            "icl_error": own,
            "recovery": (other - error) / gain if gain > 0 else None,
            "n": n_trials,
        }
        for (place, layer), error in errors.items()
    ]


def _parts(learner: Learner, n_trials: int, seed: int) -> Iterator[Mapping[_Key, float]]:
    """Weighted sums of errors, pass by pass."""
    family, body, device = learner.family, learner.body, learner.hf.device
    for start in range(0, n_trials, _ROWS_PER_PASS):
        generator = generator_for(device, seed, start, _TRIALS)
        tasks = family.draw_tasks(min(_ROWS_PER_PASS, n_trials - start), generator)
        trials = moved(family.eval_batch(tasks, generator, family.n_demonstrations), device)
        if trials.site_column is None:
            return
        yield _sums(learner, body, trials)


def _sums(learner: Learner, body: CausalBody, trials: EvalBatch) -> dict[_Key, float]:
    recorded, n = Recorded.of(body, trials), trials.history.shape[1]
    is_other = (trials.targets != trials.wrong_targets).flatten(1).any(dim=1).float()
    weights = trials.weights * is_other.unsqueeze(1)
    reads = torch.tensor(trials.query_reads, device=weights.device) + n

    def total(final: Any) -> float:
        errors = learner.family.errors(body.logits(final[:, reads]), trials.targets)
        return float((errors * weights).sum())

    state, arguments = body.enter(body.embed(torch.cat([trials.history, trials.queries], dim=1)))
    found: dict[_Key, float] = {
        _WEIGHT: float(weights.sum()),
        _IN_CONTEXT: total(body.run(state, arguments, range(body.n_layers))),
        _OTHER: total(recorded.patched(body, (), ())),
    }
    every = list(range(body.n_layers - 1))
    for place, columns in columns_by_place(learner, trials).items():
        for layer in every:
            found[place, layer] = total(recorded.patched(body, columns, [layer]))
        found[place, None] = total(recorded.patched(body, columns, every))
    return found
