"""Controls: what must do worse than a vector if its result means what it seems to.

Each is made for the vector that was chosen, at its sites, with the same data and steps.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.choosing import best_candidate
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.run_context import RunContext, Split, layer_name
from taskvectors.prompts import most_shots
from taskvectors.tasks import Task
from taskvectors.trunk import logits_that_fit, resolve_budget
from taskvectors.vectors import TaskVector

OTHER_TASKS = ("antonym", "capital")
"""Whose vector stands in for another task's: the first that is not the task itself."""

_RANDOM_SEED = 1_000_003
BIAS_STEPS, BIAS_CHECK = 100, 10
"""Most steps that a bias on the logits is fitted in, and steps between checks."""
_BIAS_RATE, _BIAS_PATIENCE = 0.3, 3


def majority(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """Always the most frequent answer of the training split."""
    del chosen, config
    answer, _ = Counter(pair.output for pair in context.task.train).most_common(1)[0]
    return Candidate(
        method="majority",
        constant_answer=answer,
        configuration=f"always {answer!r}",
        cost=Cost(examples=len(context.task.train)),
    )


def random_vector(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A random direction of the same norm at the same sites."""
    del config
    # not the seed itself: a vector's own start may have been drawn with that
    generator = torch.Generator().manual_seed(context.seed + _RANDOM_SEED)
    return Candidate(
        method="random",
        vector=_vector_of(chosen).random_like(generator),
        shots=chosen.shots,
        strength=chosen.strength,
        configuration="same norm, same sites",
    )


def other_task(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned for another task at the same sites."""
    from taskvectors.tasks import load_task

    name = next(name for name in OTHER_TASKS if name != context.task.name)
    task = load_task(
        name,
        seed=context.task.seed,
        n_train=len(context.task.train),
        n_validation=len(context.task.validation),
    )
    found = _learned_at_same_sites(replace_task(context, task), chosen, config)
    return replace(found, method="other-task", configuration=f"learned on {name}")


def shuffled_labels(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned on the same inputs with their answers permuted."""
    task = context.task.shuffled(context.seed)
    found = _learned_at_same_sites(replace_task(context, task), chosen, config)
    return replace(found, method="shuffled-labels", configuration="answers permuted")


def learned_from_shots(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned from as many pairs as a few-shot prompt shows."""
    few = config.model_copy(update={"n_examples": context.shots})
    found = _learned_at_same_sites(context, chosen, few)
    return replace(
        found, method="learned-from-shots", configuration=f"learned from {context.shots} pairs"
    )


def icl_most_shots(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """As many demonstrations as the context or the training split holds, alike for all queries."""
    del chosen, config
    split = (*context.task.validation, *context.task.test)
    shots = most_shots(
        context.model.tokenizer,
        context.template,
        split,
        context.task.train,
        context.model.context_length,
        seed=context.seed,
        chat=context.chat,
    )
    return Candidate(
        method="icl-most-shots",
        shots=shots,
        alike=True,
        configuration=f"{shots} shots",
        cost=Cost(examples=shots),
    )


def logit_bias(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A constant added to the logits where an answer begins, fitted on the same data.

    It cannot depend on the query: what a vector at a late layer does beyond it depends on the
    query.
    """
    del chosen, config
    started = time.perf_counter()
    n_held = len(context.task.train) + len(context.task.validation)
    budget = resolve_budget(context.memory, context.model.device)
    step = logits_that_fit(context.model, n_held, budget)
    logits, targets = _first_logits(context, "train", step)
    held_out, answers = _first_logits(context, "validation", step)
    bias = fit_logit_bias(logits, targets, held_out, answers, rows_at_once=step)
    return Candidate(
        method="logit-bias",
        logit_bias=bias,
        configuration="constant on the first answer token's logits",
        cost=Cost(
            examples=len(targets),
            seconds=time.perf_counter() - started,
            parameters=context.model.d_vocab,
        ),
    )


def fit_logit_bias(
    logits: Float[Tensor, "prompt d_vocab"],
    targets: Int[Tensor, " prompt"],
    held_out: Float[Tensor, "other_prompt d_vocab"],
    answers: Int[Tensor, " other_prompt"],
    *,
    rows_at_once: int | None = None,
) -> Float[Tensor, " d_vocab"]:
    """The bias that minimises cross-entropy, as it was at its best on the held-out prompts.

    Args:
        logits: Of the prompts to fit on.
        targets: Their tokens.
        held_out: Logits of the prompts to choose on.
        answers: Their tokens.
        rows_at_once: Prompts whose gradient is formed at once; all by default.
    """
    bias = torch.zeros(logits.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([bias], lr=_BIAS_RATE)
    best, kept, waited = (-1.0, -torch.inf), bias.detach().clone(), 0
    for step in range(1, BIAS_STEPS + 1):
        optimizer.zero_grad()
        for some, tokens in _pieces(logits, targets, rows_at_once):
            with torch.enable_grad():
                loss = torch.nn.functional.cross_entropy(some + bias, tokens, reduction="sum")
                (loss / len(targets)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % BIAS_CHECK == 0:
            merit = _bias_merit(bias.detach(), _pieces(held_out, answers, rows_at_once))
            waited += 1
            if merit > best:
                best, kept, waited = merit, bias.detach().clone(), 0
            if waited >= _BIAS_PATIENCE:
                break
    return kept


def _pieces(
    logits: Tensor, targets: Tensor, rows_at_once: int | None
) -> list[tuple[Tensor, Tensor]]:
    step = rows_at_once or len(targets)
    starts = range(0, len(targets), step)
    return [(logits[start : start + step], targets[start : start + step]) for start in starts]


def _bias_merit(bias: Tensor, pieces: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Accuracy, then mean log-probability."""
    hits, log_probabilities = [], []
    for some, tokens in pieces:
        shifted = some + bias
        hits.append((shifted.argmax(dim=1) == tokens).float())
        losses = torch.nn.functional.cross_entropy(shifted, tokens, reduction="none")
        log_probabilities.append(-losses)
    return float(torch.cat(hits).mean()), float(torch.cat(log_probabilities).mean())


def _first_logits(context: RunContext, split: Split, step: int) -> tuple[Tensor, Tensor]:
    """All logits where the answers begin, and the tokens they begin with."""
    model, prompts = context.model, context.prompts(split)
    states = context.last_states(split, 0)[-1].to(model.dtype)
    logits = torch.empty(len(prompts), model.d_vocab)
    for start in range(0, len(prompts), step):
        with torch.no_grad():
            logits[start : start + step] = model.logits(states[start : start + step]).float()
    return logits, torch.tensor([prompt.answer_ids[0] for prompt in prompts])


def _learned_at_same_sites(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    vector = _vector_of(chosen)
    layers = tuple(layer_name(layer) for layer in vector.layers)
    sites = {"layers": layers, "each_layer": False, "positions": vector.positions}
    return best_candidate(context, learned(context, config.model_copy(update=sites)))


def _vector_of(chosen: Candidate) -> TaskVector:
    if chosen.vector is None:
        raise TaskVectorsError(
            f"this control is made for a vector, and {chosen.method} has none; add vanilla or "
            "learned to the methods, or leave the control out"
        )
    return chosen.vector


def replace_task(context: RunContext, task: Task, *, shots: int | None = None) -> RunContext:
    """The same context for another task, in the same template, with as many shots or others."""
    return RunContext(
        model=context.model,
        task=task,
        template=context.template,
        shots=context.shots if shots is None else shots,
        seed=context.seed,
        memory=context.memory,
        chat=context.chat,
        test_model=context.test_model,
    )


CONTROLS: dict[str, Callable[[RunContext, Candidate, Learned], Candidate]] = {
    "majority": majority,
    "random": random_vector,
    "other-task": other_task,
    "shuffled-labels": shuffled_labels,
    "logit-bias": logit_bias,
    "icl-most-shots": icl_most_shots,
    "learned-from-shots": learned_from_shots,
}
"""Controls by the name their row carries."""
