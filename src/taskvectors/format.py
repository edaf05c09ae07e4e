"""Numbers, names and texts as a reader sees them, on a page, in a terminal and in `repr`.

Everything that is absent becomes an en dash. A number has the digits of its interval.
"""

import html
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

_LONGEST = 1000
"""Characters of a message: a few lines."""
_SHARES = (
    "accuracy", "ci_low", "ci_high", "in_label_set", "difference", "share", "cosine", "probability",
    "recover", "mass", "r2",
)  # fmt: skip
"""Parts of the names of columns, and of measures, that are shares, or differences of them."""
_SMALL_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_WORDS = {
    "icl": "ICL", "tvp": "TVP", "ov": "OV", "r2": "R²", "mlp": "MLP", "ntp": "NTP",
    "logprob": "log-probability", "n": "number of", "p": "p",
}  # fmt: skip
_NAMES = {"n": "n", "n_validation": "validation prompts", "n_random": "random vectors"}


# --- text


def printable(text: str) -> str:
    r"""Text in which control characters are seen and do nothing: `\n` for a line's end.

    Line ends, escape sequences of a terminal and marks that turn the direction of writing are shown
    as they are written in Python.

    Example:
        >>> print(printable("a\nb\x1b[31m"))
        a\nb\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else repr(character)[1:-1]
        for character in text
    )


def shortened(text: str) -> str:
    """A message with its middle left out if it is long, and control characters shown.

    Example:
        >>> len(shortened(9_000 * "x")) < 1_300
        True
    """
    if len(text) > _LONGEST:
        n_left_out = len(text) - _LONGEST
        half = _LONGEST // 2
        text = f"{text[:half]} [{n_left_out:,} characters left out] {text[-half:]}"
    return "\n".join(map(printable, text.split("\n")))


def in_words(name: str) -> str:
    """The name of a column, a measure or an analysis as words.

    Example:
        >>> in_words("difference_to_icl"), in_words("ov-reconstruction"), in_words("n_heads")
        ('difference to ICL', 'OV reconstruction', 'number of heads')
    """
    if name in _NAMES:
        return _NAMES[name]
    return " ".join(_WORDS.get(word, word) for word in name.replace("-", "_").split("_"))


def join_words(items: Sequence[object]) -> str:
    """Items as in a sentence.

    Example:
        >>> join_words([4]), join_words([4, 9]), join_words([1, 4, 9])
        ('4', '4 and 9', '1, 4 and 9')
    """
    texts = [
        str(item).replace("-", MINUS) if isinstance(item, int) else str(item) for item in items
    ]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


# --- shares


def percent(share: float | None, decimals: int = 0) -> str:
    """A share as a percentage; a share that only rounds to nothing or to all says so.

    Example:
        >>> percent(0.753).replace(SPACE, " "), percent(0.002).replace(SPACE, " "), percent(0.0)[0]
        ('75 %', 'under 1 %', '0')
    """
    if share is None:
        return ABSENT
    if decimals == 0 and 0 < share < 0.005:
        return f"under 1{SPACE}%"
    if decimals == 0 and 0.995 <= share < 1:
        return f"over 99{SPACE}%"
    return f"{100 * share:.{decimals}f}{SPACE}%"


def percent_range(low: float | None, high: float | None, decimals: int = 0) -> str:
    """An interval of shares, without brackets; nothing when a bound is absent."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.{decimals}f}{ABSENT}{100 * high:.{decimals}f}{SPACE}%"


def points(difference: float | None, decimals: int = 0) -> str:
    """A difference of shares in percentage points, always with its sign.

    Example:
        >>> points(0.05), points(-0.05) == MINUS + "5", points(0.001)
        ('+5', True, '0')
    """
    if difference is None:
        return ABSENT
    text = f"{100 * difference:+.{decimals}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", MINUS)


def points_range(low: float | None, high: float | None, decimals: int = 0) -> str:
    """An interval of differences in points, without brackets; nothing when a bound is absent."""
    if low is None or high is None:
        return ""
    return f"{points(low, decimals)} to {points(high, decimals)}"


# --- numbers


def number(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """A number, by the name of its column and the width of its interval.

    Example:
        >>> number("accuracy", 1 / 3), number("loss", 2 / 3, 0.6, 0.7), number("n_heads", 2000.0)
        ('0.333', '0.67', '2,000')
        >>> number("loss", 812.345678, 790.1, 840.2)
        '812'
    """
    if any(part in name for part in _SHARES):
        text = _fixed(value, 3)
    elif name.endswith("_bytes"):
        return memory(value)
    elif low is not None and high is not None and high > low:
        # two digits of the interval's width are known
        text = _fixed(value, max(0, min(9, 1 - math.floor(math.log10(high - low)))))
    elif isinstance(value, int) or value.is_integer():
        # a seed is a name, not an amount
        text = f"{value:.0f}" if name == "seed" else f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", MINUS) if text.startswith("-") else text


def interval(name: str, low: float, high: float) -> str:
    """The ends of an interval in brackets, with the digits of its number."""
    return f"[{number(name, low, low, high)}, {number(name, high, low, high)}]"


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text


def whole(count: int | None) -> str:
    """A whole number with thousands set apart."""
    return ABSENT if count is None else f"{count:,}"


def number_word(count: int) -> str:
    """Counts up to twelve as words, as in a sentence.

    Example:
        >>> number_word(8), number_word(30)
        ('eight', '30')
    """
    return _SMALL_NUMBERS[count] if 0 <= count < len(_SMALL_NUMBERS) else f"{count:,}"


def plural(count: int, noun: str) -> str:
    """A count in words with its noun.

    Example:
        >>> plural(1, "seed"), plural(8, "demonstration")
        ('one seed', 'eight demonstrations')
    """
    return f"{number_word(count)} {noun}{'' if count == 1 else 's'}"


def memory(size: float | None) -> str:
    """A number of bytes in binary units."""
    if size is None:
        return ABSENT
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f}{SPACE}{unit}"
        size /= 1024
    return f"{size:.1f}{SPACE}GiB"


# --- places


def after_layers(layers: Sequence[int | str]) -> str:
    """Where along the depth a vector is added, as part of a sentence.

    Example:
        >>> after_layers([9]), after_layers([4, 9]), after_layers(["embed"])
        ('after layer 9', 'after layers 4 and 9', 'at the embeddings')
    """
    blocks = [layer for layer in layers if layer != "embed"]
    parts = ["at the embeddings"] if len(blocks) < len(layers) else []
    if blocks:
        parts.append(f"after layer{'s' if len(blocks) > 1 else ''} {join_words(blocks)}")
    return " and ".join(parts)


def at_positions(positions: Sequence[int | str]) -> str:
    """Which tokens of the prompt a vector is added to, as part of a sentence."""
    if not positions:
        return ""
    if list(positions) in ([-1], ["last"]):
        return "last token"
    return f"position{'s' if len(positions) > 1 else ''} {join_words(positions)}"


# --- values


_INTERVALS = {"accuracy": ("ci_low", "ci_high"), "mean": ("low", "high")}


class Rounded:
    """A dataclass of numbers whose `repr` has the digits that are known, not sixteen.

    The interval of a field stands with it: `ci_low` and `ci_high` with `accuracy`, `low` and `high`
    with `mean`.
    """

    def __repr__(self) -> str:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        ends = {
            name: pair for name, pair in _INTERVALS.items() if name in names and {*pair} <= {*names}
        }
        inside = {name for pair in ends.values() for name in pair}
        parts = []
        for name in names:
            value: Any = getattr(self, name)
            if name in inside:
                continue
            bounds: list[float] = [getattr(self, end) for end in ends.get(name, ())]
            is_number = isinstance(value, float) and math.isfinite(value)
            text = number(name, value, *bounds) if is_number else repr(value)
            parts.append(f"{name}={text} {interval(name, *bounds)}" if bounds else f"{name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})".replace(MINUS, "-")


# --- tables in a notebook

_MOST_ROWS, _MOST_LETTERS = 20, 200


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    r"""A table for a notebook, of bounded size: what is left out is counted.

    Args:
        title: What is shown.
        headings: Names of the columns; none for a table of names and values.
        rows: The cells.

    Example:
        >>> html_table("a < b", (), [("layers", 4)])
        '<table><caption>a &lt; b</caption><tr><td>layers</td><td>4</td></tr></table>'
        >>> html_table("Q: Peru\nA:", (), [])
        '<table><caption>Q: Peru<br>A:</caption></table>'
    """
    lines: list[tuple[str, Sequence[object]]] = [("th", headings)] if headings else []
    lines += [("td", row) for row in rows[:_MOST_ROWS]]
    if len(rows) > _MOST_ROWS:
        lines.append(("td", (f"{len(rows) - _MOST_ROWS} more rows",)))
    drawn = "".join(
        f"<tr>{''.join(f'<{kind}>{_cell(value)}</{kind}>' for value in row)}</tr>"
        for kind, row in lines
    )
    return f"<table><caption>{_cell(title)}</caption>{drawn}</table>"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    cut = text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
    return html.escape(cut).replace("\n", "<br>")
