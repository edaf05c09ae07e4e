"""One sentence for each analysis: what its figure shows on this model.

Each is worked out from the numbers of the run. Words that compare (more, less, falls, stays) depend
on the numbers, too.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from taskvectors.format import join_words, number_word, percent, percent_range
from taskvectors.report.layered_findings import SOURCES, over_layers
from taskvectors.report.vector_findings import VECTOR_FINDINGS

Row = dict[str, Any]


def finding(name: str, rows: pd.DataFrame) -> str:
    """The sentence of one analysis.

    Args:
        name: The analysis.
        rows: Its numbers; where they are of vectors at several layers, those of the explained
            vector come first.
    """
    if rows.get("vector_layer", pd.Series()).nunique() < 2:
        return FINDINGS[name](rows)
    explained = rows[rows["vector_layer"] == rows["vector_layer"].iloc[0]]
    return f"{FINDINGS[name](explained)} {over_layers(name, rows)}"


def _by(rows: pd.DataFrame, *columns: str) -> dict[Any, Row]:
    """Rows by what stands in a column, or in several."""
    found = {}
    for record in rows.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        key = tuple(row[column] for column in columns)
        found[key if len(columns) > 1 else key[0]] = row
    return found


def _share(row: Row) -> str:
    return f"{percent(row['accuracy'])} [{percent_range(row['ci_low'], row['ci_high'])}]"


def _reconstruction(rows: pd.DataFrame) -> str:
    by = _by(rows, "variant")
    accuracy = {name: row["accuracy"] for name, row in by.items()}
    on_validation = {name: row["validation_accuracy"] for name, row in by.items()}
    readings = ("paper", "paper-by-layer", "scaled", "scaled-by-layer", "path")
    best = max(readings, key=on_validation.__getitem__)
    mlps = max(("mlp", "mlp-by-layer", "mlp-path"), key=on_validation.__getitem__)
    by_chance = max(by[name]["random_accuracy"] for name in by if name not in ("none", "vector"))
    return (
        f"The vector takes accuracy from {percent(accuracy['none'])} to "
        f"{percent(accuracy['vector'])}; put back in its place, what heads make of it reaches "
        f"{_share(by['paper'])} by the paper's sum and {_share(by['path'])} by their values alone "
        f"(the one of five readings that does best on validation, {best!r}, "
        f"{percent(accuracy[best])}), what MLPs make of it {_share(by[mlps])} ({mlps!r}), and the "
        f"same of random vectors at most {percent(by_chance)}."
    )


def _paths(rows: pd.DataFrame) -> str:
    whole, error = rows["whole"].iloc[0], rows["residual"].iloc[0]
    sources = rows.groupby("source", sort=False)["effect"].sum().sort_values(ascending=False)
    parts = [f"{SOURCES[str(name)]} {value:+.2f}" for name, value in sources.items()]
    largest = max(_by(rows, "source", "hops").values(), key=lambda row: abs(row["effect"]))
    hops = largest["hops"]
    after: str = "" if pd.isna(hops) else f" after {_hops(int(hops))}"
    return (
        f"The vector changes the answer's logit over other answers by {whole:+.2f}, of which "
        f"{join_words(parts)}; the largest single term is {SOURCES[largest['source']]}{after} "
        f"({largest['effect']:+.2f}), and all terms add up to within {error:.0e}."
    )


def _hops(hops: int) -> str:
    if hops == 0:
        return "no OV hop"
    more = " or more" if hops >= 3 else ""
    return f"{number_word(hops)}{more} OV hop{'s' if hops > 1 or more else ''}"


def _frozen(rows: pd.DataFrame) -> str:
    by = _by(rows, "frozen")
    held = [row for name, row in by.items() if name not in ("none", "attention and mlps")]
    most, least = (find(held, key=lambda row: row["accuracy"]) for find in (min, max))
    start = (
        f"With the vector {percent(by['none']['accuracy'])} of answers are right and without it "
        f"{percent(by['none']['plain_accuracy'])}"
    )
    if most["accuracy"] == least["accuracy"]:
        return f"{start}; whichever path is held, it is {_share(most)}."
    return (
        f"{start}; holding {_the(most['frozen'])} costs most (to "
        f"{_share(most)}), holding {_the(least['frozen'])} least (to {_share(least)}), and the "
        f"direct path alone reaches {percent(by['attention and mlps']['accuracy'])}."
    )


def _the(path: str) -> str:
    words = {
        "patterns": "the attention patterns",
        "values": "the values at the last token",
        "attention": "attention",
        "mlps": "the MLPs",
        "direct path": "the direct path",
    }
    return words[path]


def _key_heads(rows: pd.DataFrame) -> str:
    key = rows[rows["is_key"].astype(bool)].sort_values("rank")
    names = [f"{int(layer)}.{int(head)}" for layer, head in zip(key["layer"], key["head"])]  # noqa: B905
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    total = rows["score"].sum()
    share = key["score"].sum() / total if total else 0.0
    layers = sorted(rows["layer"].unique())
    quarter = max(1, round(len(layers) / 4))
    early, late = layers[:quarter], layers[-quarter:]
    is_are = "is" if len(names) == 1 else "are"
    return (
        f"The {number_word(len(names))} key head{'s' if len(names) > 1 else ''} of {len(rows)} "
        f"above the vector (layer.head) {is_are} {join_words(shown)}; {percent(share)} of all "
        f"scores is theirs, {int(key['layer'].isin(early).sum())} of them in the lowest quarter of "
        f"the layers above the vector and {int(key['layer'].isin(late).sum())} in the highest; "
        f"{_estimated(rows)}."
    )


def _estimated(rows: pd.DataFrame) -> str:
    """How well scores rank what taking each head out does."""
    estimate, exact = rows["score"].rank(), rows["removed"].abs().rank()
    if estimate.nunique() < 2 or exact.nunique() < 2:
        return "no head changes the answer's probability more than another"
    agreement = estimate.corr(exact)
    return f"ranks by score and by taking each head out correlate by {agreement:.2f}"


def _ablation(rows: pd.DataFrame) -> str:
    last = rows[(rows["positions"] == "last") & (rows["mode"] == "zero")]
    own = last[last["condition"] == "vector"]
    if "curve_share" in own:  # a column of nothing is not kept
        own = own[own["curve_share"].isna()]
    by = _by(own, "heads")
    n_key = int(by["key"]["n_heads"])
    said = (
        f"With {number_word(n_key)} key head{'s' if n_key > 1 else ''} put to zero at the last "
        f"token, accuracy goes from {percent(by['none']['accuracy'])} to {_share(by['key'])}; with "
        f"as many random heads to {_share(by['random'])}, matched by layer to "
        f"{_share(by['random-by-layer'])}"
    )
    others = []
    for condition, words in (("icl", "in-context learning"), ("other-task", "the other task")):
        found = _by(last[last["condition"] == condition], "heads")
        if found:
            before, after = found["none"]["accuracy"], found["key"]["accuracy"]
            others.append(f"{words} goes from {percent(before)} to {percent(after)}")
    return f"{said}; without the same heads {join_words(others)}." if others else f"{said}."


def _overlap(rows: pd.DataFrame) -> str:
    said = [
        f"{int(row['shared'])} of {int(row['n_key'])} key heads are shared with "
        f"{row['reference']} (by chance {row['chance'] * row['n_key']:.1f}, p = "
        f"{row['p_value']:.2g})"
        for row in rows.to_dict("records")
    ]
    return f"{join_words(said)}."


def _attention(rows: pd.DataFrame) -> str:
    with_it = _by(rows[rows["condition"] == "injected"], "heads", "falls_on")

    def compared(place: str) -> str:
        key, random = with_it["key", place], with_it["random", place]
        outside = not random["ci_low"] <= key["mass"] <= random["ci_high"]
        word = "more" if key["mass"] > random["mass"] else "less"
        said = f"{word} than" if outside else "within the range of"
        return (
            f"{percent(key['mass'])}, {said} random heads ({percent(random['mass'])}, "
            f"{percent_range(random['ci_low'], random['ci_high'])})"
        )

    return (
        f"With the vector, key heads put on the last token {compared('last')}, and on the "
        f"attention sink {compared('sink')}."
    )


FINDINGS: dict[str, Callable[[pd.DataFrame], str]] = {
    "ov-reconstruction": _reconstruction,
    "path-expansion": _paths,
    "frozen-paths": _frozen,
    "key-heads": _key_heads,
    "head-ablation": _ablation,
    "head-overlap": _overlap,
    "attention": _attention,
    **VECTOR_FINDINGS,
}
"""By analysis; a test compares the names with those of the analyses."""
