"""GINC's exact predictors: what can be known of the next token without any learner.

All are Σ_h p(h | what was seen) p(next | what was seen, h) over a set of models; they differ in
what was seen: a document, a prompt of the published form, or a segment with or without the document
before it.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.shared.ginc_world import DELIMITER, Prompts, World
from taskvectors.learners.tasks.shared.hmm import (
    HiddenMarkovModels,
    forward_states,
    log_evidence,
    log_likelihood_by_start,
    next_symbol,
)


def document_surprise(
    world: World, tokens: Int[Tensor, "batch pos"], *, begin: Literal["document", "segment"]
) -> Float[Tensor, "batch pos"]:
    """What the Bayes predictor pays for each token, in nats: no predictor pays less on average.

    Σ_h p(h | tokens before) p(token | tokens before, h), over the models that write documents.

    Args:
        world: The world.
        tokens: Whole documents, or segments from their delimiter on.
        begin: What the first state is drawn from: a model's own first states, or a uniform value
            in the delimiter's slot.
    """
    log_start = None
    if begin == "segment":
        log_start = log_start_of_segments(world, world.n_trained)[None]
    evidence = log_evidence(world.trained, tokens - 1, log_start).logsumexp(dim=1)
    total = evidence - torch.tensor(float(world.n_trained), dtype=evidence.dtype).log()
    return -torch.diff(total, dim=1, prepend=torch.zeros_like(total[:, :1]))


def prompt_predictor(world: World, prompts: Prompts) -> Float[Tensor, "batch token"]:
    """The Bayes predictor of a prompt's next token: Σ_h p(h | prompt) p(y | prompt, h).

    It knows how `id` prompts are made: a model, a start slot shared by all examples, and fresh
    values. Both the model and the slot are inferred from the examples and the query.

    Raises:
        TaskVectorsError: A prompt is impossible under every model that writes documents.
    """
    length, n_slots = prompts.example_length, world.sizes.n_slots
    n_prompts = prompts.tokens.shape[0]
    # back to whole examples: [prompt, example, token and delimiter]; the answer is filled, then cut
    padded = torch.nn.functional.pad(prompts.tokens, (0, 2), value=DELIMITER)
    examples = padded.reshape(n_prompts, -1, length + 1)[..., :length] - 1
    log_prior = _log_start_of_slots(world)[None]  # [1, hmm, state]
    shown = examples[:, :-1].reshape(-1, length)
    if len(shown):
        by_state = log_likelihood_by_start(world.trained, shown)
        by_slot = by_state.view(*by_state.shape[:2], -1, n_slots).logsumexp(
            dim=-2
        )  # mean over values, ...
        by_slot = by_slot.view(n_prompts, -1, *by_slot.shape[1:]).sum(dim=1)  # ... up to a constant
        log_prior = log_prior + by_slot.repeat(1, 1, world.sizes.n_values)
    *_, states = forward_states(
        world.trained, examples[:, -1, : length - 1], log_prior.expand(n_prompts, -1, -1)
    )
    joint = next_symbol(world.trained, states).logsumexp(dim=1)
    total = joint.logsumexp(dim=-1, keepdim=True)
    if total.isneginf().any():
        raise TaskVectorsError(
            f"{int(total.isneginf().sum())} of {n_prompts} prompts are impossible under every "
            "model of the documents, so there is no posterior; the predictor is for `id` prompts"
        )
    return torch.nn.functional.pad((joint - total).exp(), (1, 0))


def states_after(
    models: HiddenMarkovModels, histories: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch hmm state"]:
    """Log p(tokens, then this state at a delimiter | model), for the middle of a document."""
    uniform = torch.full_like(models.start, 1 / models.start.shape[1])
    delimiter = torch.full_like(histories[:, :1], DELIMITER)
    whole = torch.cat([histories, delimiter], dim=1)
    *_, states = forward_states(models, whole - 1, uniform.log()[None])
    return states


def segment_predictions(
    models: HiddenMarkovModels,
    segments: Int[Tensor, "batch pos"],
    log_start: Float[Tensor, "#batch hmm state"],
) -> Float[Tensor, "batch hmm pos symbol"]:
    """Log p(tokens up to here and each next symbol | model), at each position of some segments.

    Args:
        models: The models.
        segments: Their delimiter first.
        log_start: Log weight of each state at the delimiter.
    """
    steps = forward_states(models, segments - 1, log_start)
    return torch.stack([next_symbol(models, states) for states in steps], dim=2)


def log_start_of_segments(world: World, n_models: int) -> Float[Tensor, "hmm state"]:
    """The state at a delimiter that nothing is known of: any value, in the delimiter's slot."""
    weight = torch.zeros_like(world.start[:1])
    weight[:, :: world.sizes.n_slots] = 1 / world.sizes.n_values
    return weight.log().expand(n_models, -1)


def _log_start_of_slots(world: World) -> Float[Tensor, "hmm state"]:
    """The first state of an example: any value, any slot but the delimiter's."""
    slot = torch.arange(world.start.shape[1], device=world.start.device) % world.sizes.n_slots
    weight = (slot > 0).double() / ((world.sizes.n_slots - 1) * world.sizes.n_values)
    return weight.log().expand(world.n_trained, -1)
