"""Preparing prompts for branches with one of the three engines."""

from collections.abc import Sequence

from taskvectors.models.joining import join_recordings
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.passes import prepare_passes
from taskvectors.models.recording import CutTokens, record
from taskvectors.models.runs import Prepared, Site
from taskvectors.models.structure import Engine


def prepare(
    model: LanguageModel,
    tokens: CutTokens,
    engine: Engine,
    *,
    sites: Sequence[Site] = (),
    rows_per_pass: int | None = None,
) -> Prepared:
    """Run some prompts once, plain.

    Args:
        model: The model.
        tokens: The prompts, cut before the first change.
        engine: What branches share.
        sites: Further sites to read at the suffix.
        rows_per_pass: Prompts per forward pass of `trunk`; all at once by default.
    """
    model.forget_longer_calls()
    if engine != "trunk":
        return prepare_passes(model, tokens, shares_prefix=engine == "cached", sites=sites)
    step = rows_per_pass or len(tokens)
    return join_recordings(
        [
            record(model, tokens.rows(start, start + step), sites=sites)
            for start in range(0, len(tokens), step)
        ]
    )
