"""The page of model types: every type of the installed transformers, measured.

    python tools/model_types.py [--write docs/model-types.md]

Takes minutes the first time; `taskvectors families` keeps and prints the same rows.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from taskvectors.cli.families import summary
from taskvectors.models.survey import SurveyRow, survey

_INTRO = """\
# Model types

<!-- made by tools/model_types.py -->

Measured with transformers {transformers} and torch {torch} on tiny random models in float32.
`taskvectors families` measures the versions that are installed. The *error* is the largest
difference of logits between branches (one and two layers, the last and several positions, prompts
of different lengths) and full passes with the same edit.

The [engine](ideas.md) decides what branches of a prompt share, and so how fast they are: `trunk`
the prefix and every block below the first edit, `cached` the prefix, `whole` nothing. Results are
the same. The residual stream (`resid_pre`, `resid_post`) can be read and edited in all of them;
*sites* lists what else is there in every block, in brackets what only some blocks have. An analysis
that needs a site that a model lacks says so.

{summary}

A type that is not in the tables is not refused: a model is judged by what it computes, with
`--trust-remote-code` also one whose code comes with it. Types with a reason are those that failed
here; see [a type that is not served](adding-a-family.md)."""
_RESIDUAL = ("resid_pre", "resid_post")


def page(rows: Sequence[SurveyRow]) -> str:
    """The whole page."""
    intro = _INTRO.format(
        transformers=transformers.__version__,
        torch=torch.__version__.partition("+")[0],
        summary="\n".join(f"- {line}" for line in summary(list(rows)).splitlines()),
    )
    parts = [intro]
    for title, kind in (("Text models", "text"), ("Multimodal models, text only", "multimodal")):
        of_kind = [row for row in rows if row.kind == kind]
        served = [row for row in of_kind if row.engine is not None]
        refused = [row for row in of_kind if row.engine is None]
        parts.append(f"## {title}\n\n" + _table(served))
        parts.append(f"### Not served ({kind})\n\n" + _reasons(refused))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[SurveyRow]) -> str:
    lines = ["| model type | engine | error | sites |", "|---|---|--:|---|"]
    for row in rows:
        sites = [name for name in row.sites if name not in _RESIDUAL]
        some = f" ({', '.join(row.some_sites)})" if row.some_sites else ""
        cells = (
            row.model_type,
            row.engine,
            f"{row.largest_error:.0e}",
            f"{', '.join(sites)}{some}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _reasons(rows: Sequence[SurveyRow]) -> str:
    lines = ["| model type | reason |", "|---|---|"]
    lines += [f"| {row.model_type} | {_cell(row.reason)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("*", "\\*")


def main() -> None:
    """Write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", type=Path, help="the page")
    args = parser.parse_args()
    text = page(list(survey()))
    if args.write:
        args.write.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
