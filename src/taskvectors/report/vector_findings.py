"""One sentence for each analysis that follows a vector or compares several, from its numbers.

Rows may have been read from a table of all analyses, in which whole numbers are floats.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from taskvectors.format import join_words, percent, percent_range

Row = dict[str, Any]


def _records(rows: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _measure(rows: pd.DataFrame, measure: str, around: str = "vector") -> "pd.Series[float]":
    """The values of one measure by layer."""
    found = rows[(rows["measure"] == measure) & (rows["around"] == around)]
    return found.set_index("layer")["value"].sort_index()


def _layers(values: "pd.Series[float]") -> list[int]:
    return [int(layer) for layer in values.index]


def _propagation(rows: pd.DataFrame) -> str:
    explained = _measure(rows, "r2")
    layers = _layers(explained)
    accuracy, rebuilt = (
        _measure(rows, "first_token_accuracy", around) for around in ("vector", "reconstructed")
    )
    slope = _measure(rows, "r2_slope")
    low, high = _measure(rows, "linear_from"), _measure(rows, "linear_to")
    parts = [
        f"at layer {layer} R² over held-out noise and queries is {explained[layer]:.2f} "
        f"({slope[layer]:.2f} when a constant is granted), Wθ at the last block answers "
        f"{percent(rebuilt[layer])} of first tokens where the vector answers "
        f"{percent(accuracy[layer])}, and the response is in proportion "
        f"{_strengths(low[layer], high[layer])}"
        for layer in layers
    ]
    rank, width = (int(_measure(rows, name).iloc[0]) for name in ("rank", "d_model"))
    known = "" if rank == width else f" of rank {rank} (of {width})"
    exceptions = _measure(rows, "is_exception")
    named = [str(layer) for layer in layers if exceptions[layer]]
    leaving = (
        f"it leaves the vector's interval at {_at_layers(named)}"
        if named
        else "it stays in the vector's interval everywhere"
    )
    return f"What a linear map W{known} tells of the change: {join_words(parts)}; {leaving}."


def _strengths(low: float, high: float) -> str:
    if low == high:
        return "at no other strength that was tried"
    return f"for strengths {low:g} to {high:g}"


def _at_layers(names: list[str]) -> str:
    return f"layer{'s' if len(names) > 1 else ''} {join_words(names)}"


def _rotation(rows: pd.DataFrame) -> str:
    cosine, random = (
        _measure(rows, "turn_cosine", around) for around in ("vector", "random-in-place")
    )
    layers = _layers(cosine)
    parts = [
        f"{cosine[layer]:.2f} at layer {layer} (random vectors {random[layer]:.2f})"
        for layer in layers
    ]
    text = f"cos(θ, Qθ) is {join_words(parts)}"
    steps = rows[rows["measure"] == "change_p"]
    for words, around in (("its", "vector"), ("that of random vectors", "random-in-place")):
        for step in steps[steps["around"] == around].to_dict("records"):
            text += (
                f"; {words} largest step lies between layers {int(step['layer'])} and "
                f"{int(step['at'])} (permutation p = {step['value']:.2g})"
            )
    ours, matched = (
        [_measure(rows, measure, image) for image in ("theta", "Q theta", "W theta")]
        for measure in ("label_rank", "matched_rank")
    )
    for layer in layers:
        own, alike = (
            join_words([percent(found[layer]) for found in some]) for some in (ours, matched)
        )
        text += (
            f"; at layer {layer} the labels stand above {own} of the vocabulary in θ, Qθ and Wθ "
            f"(tokens like the labels above {alike})"
        )
    return f"{text}."


def _lens(rows: pd.DataFrame) -> str:
    tokens = rows[(rows["measure"] == "lens") & (rows["around"] == "vector")].sort_values("at")
    ranks, random = (_measure(rows, "label_rank", around) for around in ("vector", "random"))
    matched = _measure(rows, "matched_rank")
    words = tokens["text"].str.strip().groupby(tokens["layer"]).agg(list)
    parts = [
        f"at layer {layer} as {join_words(words[layer])}; "
        f"the labels stand above {percent(ranks[layer])} of the vocabulary (tokens like the "
        f"labels {percent(matched[layer])}, with a random vector {percent(random[layer])})"
        for layer in _layers(ranks)
    ]
    return f"The vector reads {'; '.join(parts)}."


def _geometry(rows: pd.DataFrame) -> str:
    parts = [
        f"at layer {int(row['layer'])} the cosine is {row['intra']:.2f} within tasks and "
        f"{row['inter']:.2f} across (permutation p = {row['p_value']:.2g}, "
        f"{int(row['n_vectors'])} vectors)"
        for row in rows[rows["task"] == "all"].to_dict("records")
    ]
    text = f"Of two vectors, {join_words(parts)}"
    pairs = _records(rows[rows["nearest_cosine"].notna()])
    if pairs:
        row = max(pairs, key=lambda row: row["nearest_cosine"])
        text += (
            f"; nearest to each other are {row['task']} and {row['nearest']} "
            f"({row['nearest_cosine']:.2f} at layer {int(row['layer'])})"
        )
    return f"{text}."


def _transfer(rows: pd.DataFrame) -> str:
    all_rows = _records(rows)
    plain = {row["task"]: row for row in all_rows if row["vector"] == "zero-shot"}
    with_one = [row for row in all_rows if row["vector"] != "zero-shot"]
    own = [row for row in with_one if row["vector"] == row["task"]]
    others = [row for row in with_one if row["vector"] != row["task"]]
    text = f"On their own tasks vectors reach {percent(_mean(own))} on average"
    if others:
        clear = sum(row["ci_low"] > plain[row["task"]]["ci_high"] for row in others)
        best = max(others, key=lambda row: row["accuracy"] - plain[row["task"]]["accuracy"])
        before = plain[best["task"]]["accuracy"]
        text += (
            f", on others {percent(_mean(others))}, where zero-shot gives "
            f"{percent(_mean([plain[row['task']] for row in others]))}; {clear} of {len(others)} "
            f"pairs are clear of zero-shot, and the largest gain is that of {best['vector']} on "
            f"{best['task']} ({percent(before)} to {percent(best['accuracy'])})"
        )
    return f"{text}."


def _mean(rows: Sequence[Row]) -> float:
    return sum(row["accuracy"] for row in rows) / len(rows) if rows else 0.0


def _composition(rows: pd.DataFrame) -> str:
    all_rows = _records(rows)
    sums = {row["strength"]: row for row in all_rows if row["vector"] == "sum"}
    whole = sums.pop(1.0)  # nothing is chosen here: these words are test words
    parts = [
        f"at strength {strength:g} for {percent(row['french_feminine'])}"
        for strength, row in sums.items()
    ]
    parts += [
        f"{row['vector']} alone gives it for {percent(row['french_feminine'])}"
        for row in all_rows
        if row["vector"] in ("english-french", "masculine-feminine")
    ]
    for row in all_rows:
        if row["vector"] == "none":
            shown = f"{int(row['shots'])}-shot" if row["shots"] else "zero-shot"
            parts.append(f"{shown} for {percent(row['french_feminine'])}")
    return (
        f"The sum of the two vectors gives the French feminine for "
        f"{percent(whole['french_feminine'])} "
        f"[{percent_range(whole['ci_low'], whole['ci_high'])}] of {int(whole['n'])} words, "
        f"{join_words(parts)}."
    )


def _interpolation(rows: pd.DataFrame) -> str:
    found = {(row["task"], row["t"], bool(row["mixed"])): row["accuracy"] for row in _records(rows)}
    parts = []
    for number, task in enumerate(dict.fromkeys(task for task, _, _ in found)):
        start = float(number)
        parts.append(
            f"{task} goes from {percent(found[task, start, True])} with its own vector to "
            f"{percent(found[task, 0.5, True])} half-way (its vector alone at half strength: "
            f"{percent(found[task, 0.5, False])}) and {percent(found[task, 1 - start, True])} with "
            "the other's"
        )
    return f"Between the two vectors, {join_words(parts)}."


def _bijections(rows: pd.DataFrame) -> str:
    all_rows = _records(rows)
    plain = [row for row in all_rows if row["vector"] == "none"]
    learned = {
        (row["configuration"], row["vector"], row["direction"]): row
        for row in all_rows
        if row["vector"] != "none"
    }
    parts = []
    for name, vector, direction in learned:
        if vector != "both":
            continue
        row, own = learned[name, "both", direction], learned[name, direction, direction]
        parts.append(
            f"{name} {direction} {percent(row['accuracy'])} (the direction's own vector "
            f"{percent(own['accuracy'])}; difference {row['difference']:+.2f} "
            f"[{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]; words of the wrong "
            f"side {percent(row['wrong_direction'])})"
        )
    most = max(row["shots"] for row in plain)
    shown = {row["direction"]: row["accuracy"] for row in plain if row["shots"] == most}
    return (
        f"One vector for both ways of {all_rows[0]['task']}: {join_words(parts)}; with "
        f"{int(most)} demonstrations of both, forward {percent(shown['forward'])} and backward "
        f"{percent(shown['backward'])}."
    )


VECTOR_FINDINGS: dict[str, Callable[[pd.DataFrame], str]] = {
    "lens": _lens,
    "propagation": _propagation,
    "rotation": _rotation,
    "geometry": _geometry,
    "transfer": _transfer,
    "composition": _composition,
    "interpolation": _interpolation,
    "bijections": _bijections,
}
"""By analysis."""
