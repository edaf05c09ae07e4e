"""The presets of `taskvectors train` run to the end: tables of what learners show.

    python tools/learners.py [--parts presets sweep search] [--families ...] [--seeds 1 2 3]
        [--runs RUNS] [--write docs/results/learners.md]

`presets` trains vanilla and TVP-loss of each family with its `cpu` preset; `sweep` every l* as
well, and vanilla with as many floating-point operations as the TVP-loss costs, with the
out-of-distribution battery; `search` looks for a setting in which a vector emerges without the
TVP-loss. Presets were tuned on seed 0. Figures are means over seeds,
with the lowest and the highest in brackets where there are several. A run that was cut off goes on
where it stopped, and what is there already is not trained again.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from taskvectors.learners.config import TrainingConfig
from taskvectors.learners.devices import Devices
from taskvectors.learners.model import LearnerShape
from taskvectors.learners.presets import PRESETS
from taskvectors.learners.variants import VariantsConfig, train_variants

FAMILIES = ("offset", "linear", "sinusoidal", "ginc", "regbench")
PARTS = ("presets", "sweep", "search")
SEEDS = (1, 2, 3)
"""Not 0: presets were tuned on that."""
SEARCH: Mapping[str, Mapping[str, Any]] = {
    "as the preset": {},
    "z before x": {"settings": {"format": "zxy"}},
    "a delimiter after each pair": {"settings": {"format": "xzyd"}},
    "7 symbols, 2 demonstrations": {"settings": {"n_symbols": 7, "n_demonstrations": 2}},
    "2 demonstrations": {"settings": {"n_demonstrations": 2}},
    "rotary positions": {"shape": {"body": "llama"}},
    "z before x, rotary": {"settings": {"format": "zxy"}, "shape": {"body": "llama"}},
    "2 layers": {"shape": {"n_layers": 2}},
    "6 layers": {"shape": {"n_layers": 6}},
}
"""Changes of the `cpu` preset of `offset`, trained on L_ICL alone."""

Row = dict[str, Any]


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean, and the ends."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-" if not known else f"null in {len(values) - len(known)} of {len(values)}"
    text = f"{mean(known):.{digits}f}"
    if len(known) > 1:
        text += f" ({min(known):.{digits}f} to {max(known):.{digits}f})"
    return text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each variant, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["variant"], []).append(row)
    return found


def of_layer(rows: Sequence[Row], layer: int, name: str) -> list[float | None]:
    """One measure at a layer, a value per seed."""
    return [row[name] for row in rows if row["layer"] == layer]


def measures(rows: Sequence[Row]) -> list[str]:
    """In-context learning of each variant, and its vectors by layer."""
    once: list[list[str]] = []
    layered: list[list[str]] = []
    for variant, own in by_variant(rows).items():
        first = [row for row in own if row["layer"] in (0, None)]
        near = sum(row["near_optimal"] for row in first)
        values: list[Callable[[Row], float]] = [
            lambda row: row["icl_error"],
            lambda row: row["optimal_error"],
            lambda row: row["base_error"],
        ]
        shown = [spread([value(row) for row in first]) for value in values]
        once.append([variant, *shown, f"{near} of {len(first)}"])
        for layer in sorted({row["layer"] for row in own} - {None}):
            cells = [
                spread(of_layer(own, layer, name))
                for name in (
                    "tvp_error",
                    "recovery",
                    "recovery_kept",
                    "recovery_averaged",
                    "wrong_task_error",
                    "wrong_task_error_to_injected",
                )
            ]
            is_formed = own[0]["tvp_layer"] == layer
            mark = "**" if is_formed else ""
            layered.append([variant, f"{mark}{layer}{mark}", *cells])
    lines = table(["variant", "ICL error", "optimum", "E_base", "near the optimum"], once)
    head = ["variant", "layer", "TVP error", "R", "R, kept", "R, averaged"]
    return lines + table([*head, "wrong task", "wrong task, against its own"], layered)


def shifts(rows: Sequence[Row], trends: Sequence[Row]) -> list[str]:
    """In-context errors out of distribution, and their trend on l*."""
    if not rows:
        return []
    variants = by_variant(rows)
    by_shift = {row["shift"]: row for row in trends}
    lines = []
    for shift in dict.fromkeys(row["shift"] for row in rows):
        cells = [
            spread([row["icl_error"] for row in own if row["shift"] == shift])
            for own in variants.values()
        ]
        trend = by_shift.get(shift)
        about = "-" if trend is None else f"{trend['correlation']:.2f} (p {trend['p_value']:.2f})"
        lines.append([shift, *cells, about])
    return table(["shift", *variants, "trend on l\\*"], lines)


def emerged(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The search: per setting, the layer at which most is recovered."""
    lines = []
    for name, held in found.items():
        for row in best_of_each_seed(held["rows"]):
            low, high = row["recovery_low"], row["recovery_high"]
            interval = "-" if low is None else f"{low:.2f} to {high:.2f}"
            lines.append(
                [
                    name,
                    f"{row['seed']}",
                    f"{row['icl_error']:.3f}",
                    f"{row['layer']}",
                    spread([row["recovery"]], 2),
                    interval,
                    spread([row["recovery_kept"]], 2),
                    spread([row["recovery_averaged"]], 2),
                    f"{row['wrong_task_error_to_injected']:.3f}",
                ]
            )
    head = ["setting", "seed", "ICL error", "best layer", "R there", "95 %", "kept", "averaged"]
    return table([*head, "wrong task, against its own"], lines)


def best_of_each_seed(rows: Sequence[Row]) -> list[Row]:
    """The row with the largest recovery; the first where recovery has no meaning."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    own = [[row for row in rows if row["seed"] == seed] for seed in seeds]
    return [max(some, key=lambda row: row["recovery"] or float("-inf")) for some in own]


def config_of(
    family: str, change: Mapping[str, Any], seeds: Sequence[int], **about: Any
) -> VariantsConfig:
    """The `cpu` preset of a family with changes."""
    start = PRESETS["cpu", family]
    training = start.training
    shape = LearnerShape(**training.shape.model_dump() | change.get("shape", {}))
    changed = TrainingConfig(**training.model_dump() | {"shape": shape})
    settings = start.settings | change.get("settings", {})
    about |= {"training": changed, "settings": settings, "seeds": tuple(seeds)}
    return VariantsConfig(**start.model_dump() | about)


def done(config: VariantsConfig, folder: Path) -> Mapping[str, Any]:
    """What a run finds, trained first where it was not."""
    train_variants(config, folder, devices=Devices("cpu"), say=logging.info)
    held: Mapping[str, Any] = json.loads((folder / "results.json").read_text())
    return held


def about_run(held: Mapping[str, Any]) -> str:
    """Its settings in a sentence."""
    asked, training = held["asked"], held["asked"]["training"]
    shape = training["shape"]
    settings = ", ".join(f"{name} {value}" for name, value in asked["settings"].items())
    return (
        f"{settings or 'default settings'}; {shape['body']}, {shape['n_layers']} layers, width "
        f"{shape['d_model']}; batch {training['batch_size']}, {training['tvp_from']} steps on "
        f"L_ICL and {training['steps'] - training['tvp_from']} more; seeds "
        f"{', '.join(map(str, asked['seeds']))}; {asked['n_trials']} trials each."
    )


def section(title: str, held: Mapping[str, Any]) -> list[str]:
    """One run."""
    lines = [f"## {title}", "", about_run(held), "", *measures(held["rows"])]
    return lines + shifts(held["shifts"], held["trends"])


def page(asked: argparse.Namespace) -> list[str]:
    """Train what is asked for, and say what it shows."""
    lines: list[str] = []
    for family in asked.families:
        is_swept = "sweep" in asked.parts
        if not (is_swept or "presets" in asked.parts):
            continue
        about: dict[str, Any] = {"with_shifts": is_swept, "equal_flops": is_swept}
        if is_swept:
            about["tvp_layers"] = (None, 0, 1, 2)
        held = done(config_of(family, {}, asked.seeds, **about), asked.runs / family)
        lines += section(f"`{family}`", held)
    if "search" in asked.parts:
        found = {}
        for number, (name, change) in enumerate(SEARCH.items()):
            config = config_of("offset", change, asked.seeds, tvp_layers=(None,))
            found[name] = done(config, asked.runs / f"search-{number}")
        lines += ["## Search for a vector without the TVP-loss", "", *emerged(found)]
    return lines


def main() -> None:
    """Train, and print or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--runs", type=Path, default=Path("runs/learners"))
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    words = f"--families {' '.join(asked.families)} --seeds {' '.join(map(str, asked.seeds))}"
    head = [
        "# Learners: the `cpu` presets run to the end",
        "",
        f"Command: `python tools/learners.py --parts {' '.join(asked.parts)} {words}`. Errors, "
        "recovery R and controls are defined in [learners.md](../learners.md).",
        "",
    ]
    text = "\n".join([*head, *page(asked)])
    if asked.write is None:
        sys.stdout.write(text)
    else:
        asked.write.write_text(text)


if __name__ == "__main__":
    main()
