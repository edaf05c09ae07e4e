"""The sentence that an analysis gets for its curve over the layers of vectors, from its numbers."""

from collections.abc import Callable, Mapping

import pandas as pd

from taskvectors.format import join_words, percent

ByLayer = Mapping[int, pd.DataFrame]
"""An analysis' rows by the layer of the vector, from the lowest."""

SOURCES = {
    "vector": "the vector itself",
    "patterns": "changed attention patterns",
    "norms": "changed norm scales",
    "mlps": "changed MLP outputs",
    "final norm": "the final norm's changed scale",
}
"""Where paths of a vector's effect begin, in words."""


def over_layers(name: str, rows: pd.DataFrame) -> str:
    """What changes with the layer of the vector.

    Args:
        name: The analysis.
        rows: Its numbers, with `vector_layer`.
    """
    layers = sorted(int(layer) for layer in rows["vector_layer"].unique())
    by_layer = {layer: rows[rows["vector_layer"] == layer] for layer in layers}
    return f"Over vectors at layers {_all(by_layer)}, {_CHANGES[name](by_layer)}."


def _all(by_layer: ByLayer) -> str:
    return join_words([str(layer) for layer in by_layer])


def _from_to(what: str, values: Mapping[int, float]) -> str:
    """How a share goes, with its best layer where that is inside."""
    first, last = min(values), max(values)
    best = max(values, key=values.__getitem__)
    peak = "" if best in (first, last) else f", highest at layer {best} ({percent(values[best])})"
    return f"{what} goes from {percent(values[first])} to {percent(values[last])}{peak}"


def _one(rows: pd.DataFrame, value: str, **where: object) -> float:
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    return float(rows[value].iloc[0])


def _accuracies(by_layer: ByLayer, column: str, names: Mapping[str, str]) -> str:
    """How accuracies go, of rows that one column tells apart."""
    return join_words(
        [
            _from_to(
                words,
                {at: _one(rows, "accuracy", **{column: name}) for at, rows in by_layer.items()},
            )
            for name, words in names.items()
        ]
    )


def _reconstruction(by_layer: ByLayer) -> str:
    names = {
        "vector": "accuracy with the vector",
        "paper": "what heads make of it, by the paper's sum,",
        "path": "what their values alone do",
        "mlp-path": "what MLPs make of it",
    }
    return _accuracies(by_layer, "variant", names)


def _paths(by_layer: ByLayer) -> str:
    largest: dict[str, list[int]] = {}
    for layer, rows in by_layer.items():
        effects = rows.groupby("source")["effect"].sum()
        largest.setdefault(str(effects.abs().idxmax()), []).append(layer)
    said = [f"{SOURCES[source]} at {join_words(list(map(str, layers)))}"
            for source, layers in largest.items()]  # fmt: skip
    return f"the largest part begins with {join_words(said)}"


def _frozen(by_layer: ByLayer) -> str:
    names = {
        "none": "accuracy",
        "attention": "with attention held",
        "mlps": "with the MLPs held it",
        "direct path": "without the direct path it",
    }
    return _accuracies(by_layer, "frozen", names)


def _key_heads(by_layer: ByLayer) -> str:
    above = {}
    for layer, rows in by_layer.items():
        key = rows[rows["is_key"].astype(bool)]
        above[layer] = float((key["layer"] - layer).mean())
    said = [f"{blocks:.1f} above the one at {layer}" for layer, blocks in above.items()]
    return f"key heads lie, on average, this many blocks above the vector: {join_words(said)}"


def _ablation(by_layer: ByLayer) -> str:
    falls = []
    for layer, rows in by_layer.items():
        where = {"condition": "vector", "positions": "last", "mode": "zero"}
        own = rows[rows["curve_share"].isna()] if "curve_share" in rows else rows
        before, key, random = (
            percent(_one(own, "accuracy", heads=heads, **where))
            for heads in ("none", "key", "random-by-layer")
        )
        falls.append(f"{before} to {key} (random heads of the same layers: {random}) at {layer}")
    return f"accuracy without key heads falls from {join_words(falls)}"


def _attention(by_layer: ByLayer) -> str:
    def of(heads: str, falls_on: str) -> dict[int, float]:
        return {
            at: _one(rows, "mass", condition="injected", heads=heads, falls_on=falls_on)
            for at, rows in by_layer.items()
        }

    def outside(falls_on: str) -> str:
        more = [
            str(at)
            for at, rows in by_layer.items()
            if of("key", falls_on)[at]
            > _one(rows, "ci_high", condition="injected", heads="random", falls_on=falls_on)
        ]
        return f"at {join_words(more)}" if more else "at none of them"

    return (
        f"{_from_to('what key heads put on the last token', of('key', 'last'))} (more than the "
        f"range of random heads {outside('last')}), and "
        f"{_from_to('what they put on the sink', of('key', 'sink'))} (more {outside('sink')})"
    )


_CHANGES: dict[str, Callable[[ByLayer], str]] = {
    "ov-reconstruction": _reconstruction,
    "path-expansion": _paths,
    "frozen-paths": _frozen,
    "key-heads": _key_heads,
    "head-ablation": _ablation,
    "attention": _attention,
}
