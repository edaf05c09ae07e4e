"""What the controls of a comparison run, as work."""

from dataclasses import replace
from typing import Any

from taskvectors.costs.methods import Plan, plan_of
from taskvectors.errors import TaskVectorsError
from taskvectors.evaluate.scoring import shared_length
from taskvectors.methods import Candidate, Learned
from taskvectors.methods.controls import BIAS_CHECK, BIAS_STEPS, CONTROLS, icl_most_shots
from taskvectors.methods.run_context import RunContext, Split
from taskvectors.prompts import with_first_tokens
from taskvectors.trunk.work import Work, run_of, whole_passes, work_of


def control_works(context: RunContext, name: str, config: Learned) -> list[Work]:
    """What a control of a learned vector runs; the vector is taken to sit at the middle layer.

    Args:
        context: The run context.
        name: The control.
        config: How vectors are learned.

    Raises:
        TaskVectorsError: There is no such control.
    """
    middle = context.model.n_layers // 2
    tested = Plan(name=name, joins=(middle,)).tested(context)
    if name == "majority":  # a constant answer, without a run
        return []
    if name == "random":
        return tested
    if name == "logit-bias":
        return [*_bias_works(context), *tested]
    if name == "icl-most-shots":
        return _alike_works(context, config)
    if name in ("other-task", "shuffled-labels", "learned-from-shots"):
        about: dict[str, Any] = {"layers": (middle,)}
        if name == "learned-from-shots":
            about["n_examples"] = context.shots
        return [*plan_of(context, config.model_copy(update=about)).found, *tested]
    raise TaskVectorsError(f"there is no control {name!r}; there are {', '.join(sorted(CONTROLS))}")


def _alike_works(context: RunContext, config: Learned) -> list[Work]:
    """What all prompts begin with, once, and the rest of each behind it."""
    shots = icl_most_shots(context, Candidate(method="learned"), config).shots
    asked = context.prompts("test", shots, alike=True)
    n = shared_length([prompt.token_ids for prompt in asked])
    first = replace(asked[0], token_ids=asked[0].token_ids[:n])
    rest = [replace(prompt, token_ids=prompt.token_ids[n:]) for prompt in asked]
    behind = whole_passes("queries", rest, context.model.n_layers, n_passes=1)
    return [
        run_of("demonstrations", [first]),
        replace(behind, shape=replace(behind.shape, prefix=n)),
    ]


def _bias_works(context: RunContext) -> list[Work]:
    """Logits that are kept, and passes over them."""
    works = []
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
    return works
