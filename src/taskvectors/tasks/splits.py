"""Splits by seed in which no pair, nor its reverse, is on two sides.

Pairs are first made unique, then linked into groups, and whole groups are dealt out in a seeded
order: to test first, then validation, then train. So the test pairs of a seed do not depend on how
many training pairs are asked for, as long as there are enough. The order is that of
`random.Random` seeded with a string, which is the same on every platform.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskvectors.errors import DataError
from taskvectors.tasks.task import Example

FEWEST_PAIRS = 8
SHARES = {"test": 0.40, "validation": 0.15, "train": 0.45}  # where data is short
_LISTED = 20  # dropped pairs that are named one by one; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a task, and what has to be reported about them."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...]


def make_splits(
    own: Mapping[str, Sequence[Example]], sizes: Mapping[str, int], seed: int
) -> Splits:
    """Train, validation and test pairs out of what a source holds.

    A source's own `validation` and `test` are kept; with `validation` alone it is the test split.
    What is missing is cut from `train`: in full where there are enough pairs, else 15 % of them for
    validation, 40 % for test and the rest for train, and never more than was asked for.

    Args:
        own: The source's pairs by split: `train`, and possibly `validation` and `test`.
        sizes: How many pairs each of the three splits should have.
        seed: Seed of the order.

    Returns:
        The splits; what was dropped, left over or short is in their notes.

    Raises:
        DataError: Fewer than eight usable pairs, a negative size, or a split that ends up empty.
    """
    for name, size in sizes.items():
        if size < 0:
            raise DataError(f"the size of the {name} split is {size}; give 0 or more")
    parts = dict(own)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    clean, notes = _clean(parts)
    total = sum(map(len, clean.values()))
    if total < FEWEST_PAIRS:
        raise DataError(
            f"{total} usable pairs are too few; give at least {FEWEST_PAIRS} with different inputs"
        )
    dealt: dict[str, tuple[Example, ...]] = {}
    for name, pairs in clean.items():
        missing = [split for split in SHARES if split not in clean]
        wanted = {split: sizes[split] for split in [*missing, "train"]} if name == "train" else {}
        dealt |= _deal(pairs, wanted or {name: sizes[name]}, f"{seed} {name}")
    for name, size in sizes.items():
        if size and not dealt[name]:
            raise DataError(
                f"no pair is left for the {name} split: {total} usable pairs are too few, or too "
                "many of them are linked; give more pairs"
            )
    notes += _shortfall(dealt, sizes, total)
    return Splits(
        train=dealt["train"],
        validation=dealt["validation"],
        test=dealt["test"],
        notes=tuple(notes),
    )


def unique_pairs(pairs: Iterable[Example]) -> tuple[list[Example], list[str]]:
    """Pairs with different inputs, and what was dropped to get there.

    The same pair twice is a duplicate. The same input with another output is a conflict: only one
    answer can be scored as right, so the first is kept. Case counts: `May` and `may` differ.

    Args:
        pairs: Any pairs.

    Returns:
        The pairs that are kept, in order, and the notes that name what was dropped.
    """
    kept: dict[str, Example] = {}
    duplicates: list[str] = []
    conflicts: list[str] = []
    for pair in pairs:
        if pair.input not in kept:
            kept[pair.input] = pair
            continue
        first = kept[pair.input]
        if first.answers == pair.answers:
            duplicates.append(f"{pair.input!r} -> {pair.output!r}")
        else:
            conflicts.append(
                f"{pair.input!r} -> {first.output!r} was kept, {pair.output!r} dropped"
            )
    notes = [*_listed("duplicate pair", duplicates), *_listed("conflicting outputs", conflicts)]
    return list(kept.values()), notes


def linked_groups(pairs: Sequence[Example]) -> list[list[Example]]:
    """Groups of pairs that must stay in one split.

    Two pairs are linked when they have the same input, or when one is the reverse of the other
    (hot -> cold, cold -> hot). Sharing an output does not link: in a classification task that would
    tie all pairs of a label together and leave nothing to split.

    Args:
        pairs: The pairs.

    Returns:
        The groups, in the order of their first pairs.
    """
    parent = list(range(len(pairs)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[object, int] = {}
    for index, pair in enumerate(pairs):
        for key in _links(pair):
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[Example]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(root(index), []).append(pair)
    return list(groups.values())


def _links(pair: Example) -> tuple[object, ...]:
    return pair.input, *(frozenset((pair.input, answer)) for answer in pair.answers)


def _clean(
    parts: Mapping[str, Sequence[Example]],
) -> tuple[dict[str, list[Example]], list[str]]:
    """Unique pairs of each part; a pair linked to an earlier part (test first) is dropped."""
    clean: dict[str, list[Example]] = {}
    notes: list[str] = []
    taken: set[object] = set()
    for name in (split for split in SHARES if split in parts):
        pairs, reported = unique_pairs(parts[name])
        clean[name] = [pair for pair in pairs if taken.isdisjoint(_links(pair))]
        shared = [repr(pair.input) for pair in pairs if not taken.isdisjoint(_links(pair))]
        reported += _listed("pair that is also in another split", shared)
        notes += [f"{name} split: {note}" for note in reported] if len(parts) > 1 else reported
        taken.update(key for pair in pairs for key in _links(pair))
    return clean, notes


def _deal(
    pairs: Sequence[Example], sizes: Mapping[str, int], seed: str
) -> dict[str, tuple[Example, ...]]:
    """Whole groups in a seeded order, each to the first split that still has room for it."""
    room = dict(sizes)
    if len(pairs) < sum(sizes.values()):
        whole = sum(SHARES[name] for name in sizes)
        *others, last = sizes  # what the others leave goes to the last, which is train in a cut
        for name in others:
            room[name] = min(sizes[name], round(len(pairs) * SHARES[name] / whole))
        room[last] = min(sizes[last], len(pairs) - sum(room[name] for name in others))
    groups = linked_groups(pairs)
    random.Random(seed).shuffle(groups)
    dealt: dict[str, list[Example]] = {name: [] for name in sizes}
    for group in groups:
        fitting = (name for name in sizes if len(dealt[name]) + len(group) <= room[name])
        split = next(fitting, None)
        if split is not None:
            dealt[split] += group
    return {name: tuple(part) for name, part in dealt.items()}


def _shortfall(
    dealt: Mapping[str, Sequence[Example]], sizes: Mapping[str, int], total: int
) -> list[str]:
    order = ("train", "validation", "test")
    got = {name: len(dealt[name]) for name in order}
    used = sum(got.values())
    notes = []
    if any(got[name] < sizes[name] for name in order):
        asked = "/".join(str(sizes[name]) for name in order)
        given = "/".join(str(got[name]) for name in order)
        notes.append(f"{asked} pairs (train/validation/test) were asked for, {given} are there")
    if used < total:
        notes.append(f"{used} of {total} usable pairs are used")
    return notes


def _listed(what: str, items: Sequence[str]) -> list[str]:
    notes = [f"{what} dropped: {item}" for item in items[:_LISTED]]
    more = len(items) - len(notes)
    return [*notes, f"{what} dropped: {more} more"] if more else notes
