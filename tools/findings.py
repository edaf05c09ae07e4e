"""Tables of what `explain` found on several vectors, side by side, for docs/findings.md.

    for task in capital antonym present-past english-french sentiment; do
      taskvectors learn --task $task --layers 9 --out $task
      taskvectors explain --vector $task --out $task-explained
    done
    python tools/findings.py *-explained > tables.md

Every row is one run, in the order given; every number is one of the run's table.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from taskvectors.report import read_explanation
from taskvectors.report.explanation import ExplanationRun

Cells = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of one analysis of one run, to be asked for single numbers."""

    frame: pd.DataFrame

    def where(self, **columns: object) -> "Rows":
        """Those with these values."""
        frame = self.frame
        for column, value in columns.items():
            frame = frame[frame[column] == value]
        return Rows(frame=frame)

    def one(self, column: str) -> float:
        """A number of the only row, or of the first."""
        return float(self.frame[column].iloc[0])

    def share(self, column: str = "accuracy", low: str = "ci_low", high: str = "ci_high") -> str:
        """A share in per cent, with its interval."""
        if pd.isna(self.frame[column].iloc[0]):
            return "-"
        ends = f"{100 * self.one(low):.0f}, {100 * self.one(high):.0f}"
        return f"{100 * self.one(column):.0f} [{ends}]"

    def measure(self, name: str, around: str = "vector") -> "Rows":
        """Rows of one measure."""
        return self.where(measure=name, around=around)


def reconstruction(rows: Rows) -> Cells:
    """Shares of the vector's gain that come back."""
    cells = {"no vector": rows.where(variant="none").share()}
    cells["vector"] = rows.where(variant="vector").share()
    for variant in ("paper", "scaled-by-layer", "path", "mlp-path"):
        recovered = ("recovered", "recovered_low", "recovered_high")
        cells[f"`{variant}` recovers"] = rows.where(variant=variant).share(*recovered)
    cells["random, at most"] = f"{100 * rows.frame['random_accuracy'].max():.0f}"
    return cells


def paths(rows: Rows) -> Cells:
    """Logits by where paths begin."""

    def total(**columns: object) -> str:
        return f"{rows.where(**columns).frame['effect'].sum():+.2f}"

    heads = rows.where(source="vector").frame
    return {
        "whole": f"{rows.one('whole'):+.2f}",
        "vector, direct": total(source="vector", hops=0),
        "vector, through heads": f"{heads[heads['hops'] > 0]['effect'].sum():+.2f}",
        "patterns": total(source="patterns"),
        "norm scales": total(source="norms"),
        "MLPs": total(source="mlps"),
        "final norm": total(source="final norm"),
        "error": f"{rows.one('error'):.0e}",
    }


def frozen(rows: Rows) -> Cells:
    """Accuracy with something held."""
    return {name: rows.where(frozen=name).share() for name in rows.frame["frozen"]}


def ablation(rows: Rows) -> Cells:
    """Accuracy with key heads and with random ones put to zero."""
    last = rows.where(positions="last", mode="zero")
    own = last.where(condition="vector")
    n_key = own.where(heads="random-by-layer").one("n_heads")
    cells = {"key heads": f"{n_key:.0f}", "none out": own.where(heads="none").share()}
    for heads in ("key", "random", "random-by-layer"):
        cells[f"{heads} out"] = own.where(heads=heads, n_heads=n_key).share()
    half = own.where(heads="key").frame
    cells["key, of half"] = Rows(frame=half[half["share"].between(0.4, 0.6)]).share()
    half = own.where(heads="random").frame
    cells["random, of half"] = Rows(frame=half[half["share"].between(0.4, 0.6)]).share()
    for condition in ("icl", "other-task"):
        there = last.where(condition=condition)
        before, after = (there.where(heads=heads).one("accuracy") for heads in ("none", "key"))
        cells[f"key out, {condition}"] = f"{100 * before:.0f} → {100 * after:.0f}"
    return cells


def heads(rows: Rows) -> Cells:
    """Which they are."""
    key = rows.where(is_key=True).frame.sort_values("rank")
    names = [
        f"{layer:.0f}.{head:.0f}" for layer, head in zip(key["layer"], key["head"], strict=True)
    ]
    agreement = rows.frame["score"].rank().corr(rows.frame["removed"].abs().rank())
    return {
        "heads above": str(len(rows.frame)),
        "key heads (layer.head)": " ".join(names),
        "share of all scores": f"{100 * key['score'].sum() / rows.frame['score'].sum():.0f}",
        "ranks of score and of removal": f"{agreement:.2f}",
    }


def overlap(rows: Rows) -> Cells:
    """With another task's."""
    first = rows.frame.iloc[0]
    shared = f"{first['shared']:.0f} of {first['n_key']:.0f}"
    return {
        "with": str(first["reference"]),
        "shared": shared,
        "by chance": f"{first['chance'] * first['n_key']:.1f}",
        "p": f"{first['p_value']:.2g}",
    }


def attention(rows: Rows) -> Cells:
    """What key heads look at, against random ones."""
    cells = {}
    for place in ("last", "sink", "query"):
        for who in ("key", "random"):
            there = rows.where(condition="injected", heads=who, falls_on=place)
            cells[f"{who}, {place}"] = there.share("mass")
    return cells


def propagation(rows: Rows) -> Cells:
    """How linear it is."""
    first_token = {
        words: rows.measure("first_token_accuracy", around).share("value", "low", "high")
        for words, around in (
            ("θ", "vector"),
            ("Wθ at the end", "reconstructed"),
            ("Δ(θ) at the end", "mean-change"),
            ("Jθ at the end", "jacobian"),
            ("W random", "reconstructed-random"),
        )
    }
    ends = [rows.measure(f"linear_{end}").one("value") for end in ("from", "to")]
    return {
        "R²": f"{rows.measure('r2').one('value'):.2f}",
        "R², a constant granted": f"{rows.measure('r2_slope').one('value'):.2f}",
        "of a random vector": f"{rows.measure('r2_slope', 'random').one('value'):.2f}",
        "between queries": f"{rows.measure('share_between_queries').one('value'):.2f}",
        **first_token,
        "in proportion": f"{ends[0]:g} to {ends[1]:g}",
        "W, Jacobian: cosine": f"{rows.measure('map_jacobian_cosine_off_vector').one('value'):.2f}",
    }


def rotation(rows: Rows) -> Cells:
    """Turned or stretched."""

    def beside(measure: str) -> str:
        random = rows.measure(measure, "random-in-place")
        ends = f"{random.one('low'):.2f}, {random.one('high'):.2f}"
        return f"{rows.measure(measure).one('value'):.2f} ({ends})"

    labels = {
        f"{words}, labels": f"{rows.measure('label_share', around).one('value'):.2f} "
        f"({rows.measure('matched_share', around).one('value'):.2f})"
        for words, around in (("θ", "theta"), ("Wθ", "W theta"))
    }
    return {
        "rank": f"{rows.measure('rank').one('value'):.0f}",
        "cos(θ, Qθ)": beside("turn_cosine"),
        "stretch": beside("stretch"),
        "distance of Q from I": f"{rows.measure('distance_from_identity').one('value'):.2f}",
        **labels,
        "logit difference, θ": f"{rows.measure('logit_difference', 'theta').one('value'):.1f}",
        "Wθ": f"{rows.measure('logit_difference', 'W theta').one('value'):.1f}",
        "no vector": f"{rows.measure('logit_difference', 'zero-shot').one('value'):.1f}",
    }


def shared_heads(runs: Sequence[ExplanationRun]) -> list[Cells]:
    """Key heads that vectors of two tasks have in common, over those of the first."""
    key = {}
    for run in runs:
        found = next((one for one in run.analyses if one.name == "key-heads"), None)
        if found is not None and not found.error and "vector_layer" not in found.rows:
            own = Rows(frame=found.rows).where(is_key=True).frame
            key[run.config["task"]] = set(zip(own["layer"], own["head"], strict=True))
    return [
        {"task": task}
        | {other: f"{len(own & theirs)} of {len(own)}" for other, theirs in key.items()}
        for task, own in key.items()
    ]


TABLES: Mapping[str, tuple[str, Callable[[Rows], Cells]]] = {
    "ov-reconstruction": ("OV reconstruction: accuracy and share of the gain, %", reconstruction),
    "path-expansion": ("Path expansion: logit of the answer over other answers", paths),
    "frozen-paths": ("Accuracy with something held as without the vector, %", frozen),
    "key-heads": ("Key heads", heads),
    "head-ablation": ("Accuracy with heads put to zero at the last token, %", ablation),
    "head-overlap": ("Key heads shared with another task's vector", overlap),
    "attention": ("Attention of the last token with the vector, %", attention),
    "propagation": ("Linear propagation; first-token accuracy, %", propagation),
    "rotation": ("Rotation and scaling; in brackets random vectors or token sets", rotation),
}


def by_layer(rows: pd.DataFrame, own: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows by the layer of the vector that they are about, where a run had several."""
    columns = ("vector_layer", "layer") if "measure" in rows else ("vector_layer",)
    column = next((name for name in columns if name in rows), None)
    if column is None:
        yield own, rows
        return
    for layer, of_layer in rows.groupby(column):
        yield f"{layer:.0f}", of_layer


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of explain's runs")
    runs = [read_explanation(folder) for folder in parser.parse_args(arguments).runs]
    for name, (title, cells_of) in TABLES.items():
        table: list[Cells] = []
        for run in runs:
            found = next((one for one in run.analyses if one.name == name), None)
            if found is None:
                continue
            about = {"task": str(run.config["task"])}
            if found.error:
                table.append(about | {"refused": str(found.error)})
                continue
            for layer, rows in by_layer(found.rows, ", ".join(map(str, run.config["layers"]))):
                table.append(about | {"layer": layer} | cells_of(Rows(frame=rows)))
        _write(title, table)
    _write("Key heads that two tasks have in common", shared_heads(runs))


def _write(title: str, table: Sequence[Cells]) -> None:
    if not table:
        return
    columns = list(dict.fromkeys(column for cells in table for column in cells))
    lines = ["", f"### {title}", "", _line(columns), "|" + "---|" * len(columns)]
    lines += [_line([cells.get(column, "") for column in columns]) for cells in table]
    sys.stdout.write("\n".join(lines) + "\n")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
