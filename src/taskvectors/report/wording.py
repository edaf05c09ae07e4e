"""Numbers and names as a reader sees them.

Everything that is absent becomes an en dash. Nothing here looks at a run as a whole.
"""

import re
from collections.abc import Sequence

from taskvectors.progress import format_duration

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

_SMALL_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_METHODS = {
    "zero-shot": "Zero-shot",
    "icl": "In-context learning",
    "vanilla": "Vanilla vector",
    "learned": "Learned vector",
    "icv": "In-context vector",
    "state-vector": "State vector",
    "multi-injection": "Vectors at every separator",
    "linear": "Linear map",
    "library": "Library of vectors",
    "adaptive": "Adaptive vectors",
    "majority": "Majority answer",
    "random": "Random vector",
    "other-task": "Another task's vector",
    "shuffled-labels": "Learned on shuffled answers",
    "logit-bias": "Constant logit bias",
    "icl-most-shots": "In-context learning, as many shots as fit",
    "learned-from-shots": "Learned from the demonstrations alone",
}


_WORDS = {
    "icl": "ICL", "tvp": "TVP", "ov": "OV", "r2": "R²", "mlp": "MLP", "ntp": "NTP",
    "logprob": "log-probability", "n": "number of",
}  # fmt: skip


_NAMES = {"n": "n", "n_validation": "validation prompts", "n_random": "random vectors"}


def in_words(name: str) -> str:
    """The name of a column, a measure or an analysis as words.

    Example:
        >>> in_words("difference_to_icl"), in_words("ov-reconstruction"), in_words("n_heads")
        ('difference to ICL', 'OV reconstruction', 'number of heads')
    """
    if name in _NAMES:
        return _NAMES[name]
    return " ".join(_WORDS.get(word, word) for word in name.replace("-", "_").split("_"))


def method_name(method: str) -> str:
    """A method's name for people; an unknown one keeps its own."""
    return _METHODS.get(method, method)


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


def whole(count: int | None) -> str:
    """A whole number with thousands set apart."""
    return ABSENT if count is None else f"{count:,}"


def duration(seconds: float | None) -> str:
    """A time span whose numbers stay beside their units."""
    if seconds is None:
        return ABSENT
    return re.sub(r"(\d) ", rf"\1{SPACE}", format_duration(seconds))


def memory(size: float | None) -> str:
    """A number of bytes in binary units."""
    if size is None:
        return ABSENT
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f}{SPACE}{unit}"
        size /= 1024
    return f"{size:.1f}{SPACE}GiB"


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
