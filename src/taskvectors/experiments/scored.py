"""The row of a candidate that was scored."""

from typing import Any

from taskvectors.evaluate import Scores, measure
from taskvectors.methods import Candidate, RunContext
from taskvectors.methods.shared.layers import layer_name
from taskvectors.results import ComparisonRow


def row_of(
    context: RunContext,
    candidate: Candidate,
    test: Scores,
    validation: Scores | None,
    **about: Any,
) -> ComparisonRow:
    """A candidate's row, without the difference to ICL, which needs ICL's row."""
    found = measure(test, context.label_starts)
    sites = candidate.sites
    has_probabilities = found.answer_logprob == found.answer_logprob
    validated = None if validation is None else float(validation.is_correct.double().mean())
    cost = candidate.cost
    return ComparisonRow(
        method=candidate.method,
        configuration=candidate.configuration,
        layers=[layer_name(layer) for layer in dict.fromkeys(site.layer for site in sites)],
        positions=list(dict.fromkeys(site.position for site in sites)),
        strength=candidate.strength if sites else None,
        shots=candidate.shots,
        seed=context.seed,
        n=found.n,
        accuracy=found.accuracy,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        first_token_accuracy=found.first_token_accuracy,
        label_accuracy=found.label_accuracy,
        in_label_set=found.in_label_set,
        answer_logprob=found.answer_logprob if has_probabilities else None,
        validation_accuracy=validated,
        parameters=cost.parameters or None,
        examples=cost.examples,
        steps=cost.steps or None,
        seconds=cost.seconds + test.seconds,
        seconds_per_step=cost.seconds_per_step,
        peak_bytes=cost.peak_bytes,
        forward_tokens=cost.forward_tokens + test.forward_tokens,
        converged=candidate.converged,
        note=candidate.note or None,
        d_ntp=candidate.d_ntp,
        correct="".join("1" if hit else "0" for hit in test.is_correct[0].tolist()),
        **about,
    )
