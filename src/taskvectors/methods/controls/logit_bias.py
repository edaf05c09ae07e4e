"""`logit-bias`: a constant added to the logits where an answer begins, fitted on the same data."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.methods.controls.shared.control import CONTROLS, Control, tested_works
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.prompts import with_first_tokens
from taskvectors.trunk import logits_that_fit, resolve_budget
from taskvectors.trunk.work import Work, work_of

BIAS_STEPS, BIAS_CHECK = 100, 10
"""Most steps that a bias on the logits is fitted in, and steps between checks."""
_BIAS_RATE, _BIAS_PATIENCE = 0.3, 3


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


def _works(context: RunContext, config: Learned) -> list[Work]:
    """Logits that are kept, passes over them, and the test."""
    del config
    works: list[Work] = []
    passes: dict[Split, int] = {"train": BIAS_STEPS, "validation": BIAS_STEPS // BIAS_CHECK}
    for split, n_passes in passes.items():
        asked = with_first_tokens(context.prompts(split))
        last = [context.model.n_layers - 1]
        logits = work_of(f"logits, {split}", asked, (-1,), last, context.model.n_layers)
        fitted = replace(
            logits,
            name=f"logit-bias, {split}",
            shape=replace(logits.shape, is_training=split == "train"),
            n_passes=n_passes,
            rows=0.0,
            logits=float(len(asked) * context.model.d_vocab),
            has_trunk=True,
        )
        works += [logits, fitted]
    return [*works, *tested_works(context, "logit-bias")]


CONTROLS.register(
    Control(
        name="logit-bias",
        make=logit_bias,
        works=_works,
        title="Constant logit bias",
        summary="a constant added to the logits where an answer begins, fitted on the same data",
    )
)
