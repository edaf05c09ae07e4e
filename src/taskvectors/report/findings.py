"""One sentence for each analysis: what its figure shows on this model.

Each is worked out from the numbers of the run. Words that compare (more, less, falls, stays) depend
on the numbers, too.
"""

from collections.abc import Callable

import pandas as pd

from taskvectors.report.vector_findings import VECTOR_FINDINGS
from taskvectors.report.wording import join_words, number_word, percent, percent_range

Row = dict[str, object]


def finding(name: str, rows: pd.DataFrame) -> str:
    """The sentence of one analysis.

    Args:
        name: The analysis.
        rows: Its numbers.
    """
    return FINDINGS[name](rows)


def _reconstruction(rows: pd.DataFrame) -> str:
    by = rows.set_index("variant")
    accuracy = by["accuracy"]
    best_random = by["random_accuracy"].max()
    heads = by.loc[["paper", "paper-by-layer", "scaled", "scaled-by-layer", "path"]]
    best = heads["accuracy"].idxmax()
    mlps = by.loc[["mlp", "mlp-by-layer", "mlp-path"]]
    return (
        f"The vector takes accuracy from {percent(accuracy['none'])} to "
        f"{percent(accuracy['vector'])}; put back in its place, what heads make of it reaches "
        f"{_share(by, 'paper')} by the paper's sum and {_share(by, 'path')} by their values alone "
        f"(the best of five readings, {best!r}, {percent(heads['accuracy'].max())}), what MLPs "
        f"make of it {percent(mlps['accuracy'].max())}, and the same of random vectors at most "
        f"{percent(best_random)}."
    )


def _share(by: pd.DataFrame, name: str) -> str:
    row = by.loc[name]
    return f"{percent(row['accuracy'])} [{percent_range(row['ci_low'], row['ci_high'])}]"


def _paths(rows: pd.DataFrame) -> str:
    whole, error = rows["whole"].iloc[0], rows["error"].iloc[0]
    words = {
        "vector": "the vector itself",
        "patterns": "changed attention patterns",
        "norms": "changed norm scales",
        "mlps": "changed MLP outputs",
        "final norm": "the final norm's changed scale",
    }
    sources = rows.groupby("source", sort=False)["effect"].sum().sort_values(ascending=False)
    if not whole:
        return "The vector changes the answer's logit over other answers by nothing."
    parts = [f"{words[name]} {100 * value / whole:.0f} %" for name, value in sources.items()]  # type: ignore[index]
    largest = rows.loc[rows["effect"].abs().idxmax()]
    hops = largest["hops"]
    after = "" if pd.isna(hops) else f" after {_hops(int(hops))}"
    return (
        f"The vector changes the answer's logit over other answers by {whole:+.2f}, of which "
        f"{join_words(parts)}; the largest single term is {words[largest['source']]}{after} "
        f"({largest['effect']:+.2f}), and all terms add up to within {error:.0e}."
    )


def _hops(hops: int) -> str:
    if hops == 0:
        return "no OV hop"
    more = " or more" if hops >= 3 else ""
    return f"{number_word(hops)}{more} OV hop{'s' if hops > 1 or more else ''}"


def _frozen(rows: pd.DataFrame) -> str:
    by = rows.set_index("frozen")
    held = by.drop(index="none")
    most, least = held["accuracy"].idxmin(), held["accuracy"].idxmax()
    return (
        f"With the vector {percent(by['accuracy']['none'])} of answers are right and without it "
        f"{percent(rows['plain_accuracy'].iloc[0])}; holding {_the(str(most))} costs most (to "
        f"{_share(by, str(most))}), holding {_the(str(least))} least (to "
        f"{_share(by, str(least))}), and the direct path alone reaches "
        f"{percent(by['accuracy']['attention and mlps'])}."
    )


def _the(path: str) -> str:
    words = {
        "patterns": "the attention patterns",
        "values": "the values at the last token",
        "attention": "attention",
        "mlps": "the MLPs",
        "attention and mlps": "attention and MLPs",
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
        f"above the vector (layer.head) {is_are} {join_words(shown)}; together they hold "
        f"{percent(share)} of all scores, {int(key['layer'].isin(early).sum())} lie in the lowest "
        f"quarter of the layers above the vector and {int(key['layer'].isin(late).sum())} in the "
        "highest."
    )


def _ablation(rows: pd.DataFrame) -> str:
    last = rows[(rows["positions"] == "last") & (rows["mode"] == "zero")]
    own = last[last["condition"] == "vector"]
    n_key = int(own[own["heads"] == "random-by-layer"]["n_heads"].iloc[0])
    at_key = own[own["n_heads"].isin([0, n_key])].set_index("heads")
    said = (
        f"With {number_word(n_key)} key head{'s' if n_key > 1 else ''} put to zero at the last "
        f"token, accuracy goes from {percent(at_key['accuracy']['none'])} to "
        f"{_share(at_key, 'key')}; with as many random heads to {_share(at_key, 'random')}, "
        f"matched by layer to {_share(at_key, 'random-by-layer')}"
    )
    others = []
    for condition, words in (("icl", "in-context learning"), ("other-task", "the other task")):
        found = last[last["condition"] == condition]
        if len(found):
            by = found.set_index("heads")["accuracy"]
            others.append(f"{words} goes from {percent(by['none'])} to {percent(by['key'])}")
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
    with_it = rows[rows["condition"] == "injected"].set_index(["heads", "falls_on"])

    def compared(place: str) -> str:
        key, random = with_it.loc[("key", place)], with_it.loc[("random", place)]
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
