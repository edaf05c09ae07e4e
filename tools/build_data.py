"""Build the data files of the built-in word, number and country tasks.

Facts come from packages, words and sequences from `data_words.py`, choices and corrections about
countries from `data_countries.py`. One function makes one file, and the same package versions give
the same bytes. Run `python tools/build_data.py` to write the files, or with `--check` to compare
them (exit code 1 if one differs). The packages are the dependency group `data-build`; the library
itself needs none of them.
"""

import argparse
import datetime
import json
import string
import sys
import unicodedata
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import inflect
import lemminflect
from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies
from countryinfo import CountryInfo
from data_countries import (
    BESIDE_MEMBERS,
    CAPITALS,
    COUNTRY_NAMES,
    CURRENCIES,
    LANGUAGES,
    MEMBERS,
    WITHOUT_CAPITAL,
    WITHOUT_CURRENCY,
    WITHOUT_LANGUAGE,
)
from data_words import (
    CYCLES,
    LINES,
    NOUNS_IRREGULAR,
    NOUNS_REGULAR,
    PLAIN_WORDS,
    VERBS_IRREGULAR,
    VERBS_REGULAR,
)
from mendeleev.fetch import fetch_table
from wordfreq import zipf_frequency

DATA_FOLDER = Path(__file__).parents[1] / "src" / "taskvectors" / "tasks" / "data"
LICENSES = {
    "babel": "BSD-3-Clause, CLDR data Unicode-3.0",
    "countryinfo": "MIT",
    "inflect": "MIT",
    "lemminflect": "MIT",
    "mendeleev": "MIT",
}
OWN_LICENSE = "CC0-1.0"
ENGLISH = Locale("en")
# Currencies are those of this day, whatever the day of the build.
TODAY = datetime.date(2026, 1, 2)
# Zipf frequency (log10 per billion words) below which a word is too rare to be in a list.
RAREST_VERB_OR_NOUN = 3.0
RAREST_PLAIN_WORD = 3.5

# The everyday plural where lemminflect lists another first.
PLURALS = {"aircraft": "aircraft", "person": "people", "spacecraft": "spacecraft"}

Pair = tuple[str, str]


def plain_letters(text: str) -> str:
    """The text without accents, which English newspapers and word counts leave out too."""
    text = unicodedata.normalize("NFKD", text.replace("\N{MODIFIER LETTER TURNED COMMA}", "'"))
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def most_frequent_first(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs ordered by how often their input occurs in English."""
    return sorted(pairs, key=lambda pair: (-zipf_frequency(pair[0], "en"), pair[0]))


def named(*packages: str) -> str:
    """Names, versions and licences of packages, as one phrase for a file's `source`."""
    return ", ".join(f"{name} {version(name)} ({LICENSES[name]})" for name in packages)


def check_words(words: list[str], rarest: float) -> None:
    """Refuse a word list that holds a word twice, an odd word or one that is too rare."""
    wrong = [word for word in words if not (word.isascii() and word.isalpha() and word.islower())]
    wrong += [word for word in words if not 3 <= len(word) <= 10]
    wrong += [word for word in words if zipf_frequency(word, "en") < rarest]
    wrong += [word for word in set(words) if words.count(word) > 1]
    if wrong:
        raise SystemExit(f"data_words.py: repeated, rare, short, long or not plain: {wrong}")


def data_file(
    name: str, description: str, pairs: list[Pair], *, source: str, packages: tuple[str, ...] = ()
) -> str:
    """The text of one data file: a header, then one pair per line.

    Args:
        name: The task's name.
        description: One sentence that says what the task asks for.
        pairs: Inputs and outputs, in the order of the file.
        source: Where the pairs come from.
        packages: Packages whose facts the file holds; none if it is written by hand.
    """
    inputs = [text for text, _ in pairs]
    repeated = sorted({text for text in inputs if inputs.count(text) > 1})
    if repeated:
        raise SystemExit(f"{name}: inputs occur more than once: {repeated}")
    terms = "; ".join(f"{LICENSES[package]} ({package})" for package in packages) or OWN_LICENSE
    header = {
        "name": name,
        "description": description,
        "template": "qa",
        "source": source,
        "license": terms,
    }
    lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}," for k, v in header.items()]
    rows = [json.dumps({"input": i, "output": o}, ensure_ascii=False) for i, o in pairs]
    return "{\n" + "\n".join(lines) + '\n "pairs": [\n  ' + ",\n  ".join(rows) + "\n ]}\n"


def country_codes(left_out: str) -> list[str]:
    """Codes of all countries and territories except those left out."""
    return [code for code in (MEMBERS + BESIDE_MEMBERS).split() if code not in left_out.split()]


def country_name(code: str) -> str:
    """The country's common English name."""
    name = COUNTRY_NAMES.get(code, ENGLISH.territories[code])
    return plain_letters(name.replace("&", "and").replace("St.", "Saint"))


def currency_noun(code: str) -> str:
    """What people call the country's money: the last word of the currency's English name."""
    if code in CURRENCIES:
        return CURRENCIES[code]
    current = get_territory_currencies(code, start_date=TODAY, end_date=TODAY)
    if len(current) != 1:
        raise SystemExit(f"country-currency: {code} has {current}; name one in CURRENCIES")
    return plain_letters(ENGLISH.currencies[current[0]].split()[-1].lower())


def official_language(code: str) -> str:
    """The English name of a main or official language of the country."""
    if code in LANGUAGES:
        return LANGUAGES[code]
    return ENGLISH.languages[get_official_languages(code, de_facto=True)[0]]


def capital() -> str:
    """`capital`: France -> Paris."""
    pairs = [
        (country_name(code), plain_letters(CAPITALS.get(code) or CountryInfo(code).capital()))
        for code in country_codes(WITHOUT_CAPITAL)
    ]
    return data_file(
        "capital",
        "Name the capital of a country or territory.",
        most_frequent_first(pairs),
        source=f"{named('countryinfo', 'babel')}; corrected and checked by hand",
        packages=("countryinfo", "babel"),
    )


def country_language() -> str:
    """`country-language`: Brazil -> Portuguese."""
    pairs = [
        (country_name(code), official_language(code)) for code in country_codes(WITHOUT_LANGUAGE)
    ]
    return data_file(
        "country-language",
        "Name a main or official language of a country or territory.",
        most_frequent_first(pairs),
        source=f"{named('babel')}; chosen among several languages and checked by hand",
        packages=("babel",),
    )


def country_currency() -> str:
    """`country-currency`: Japan -> yen."""
    pairs = [(country_name(code), currency_noun(code)) for code in country_codes(WITHOUT_CURRENCY)]
    return data_file(
        "country-currency",
        "Name the currency of a country or territory by its common noun.",
        most_frequent_first(pairs),
        source=f"{named('babel')}; corrected and checked by hand",
        packages=("babel",),
    )


def element_symbol() -> str:
    """`element-symbol`: gold -> Au, in the order of the atomic number."""
    table = fetch_table("elements").sort_values("atomic_number")
    pairs = [(name.lower(), symbol) for name, symbol in zip(table.name, table.symbol, strict=True)]
    return data_file(
        "element-symbol",
        "Give the symbol of a chemical element.",
        pairs,
        source=f"{named('mendeleev')}; checked by hand",
        packages=("mendeleev",),
    )


def number_word() -> str:
    """`number-word`: 42 -> forty-two, with all small numbers and ever rounder large ones."""
    numbers = [
        *range(121),
        *range(130, 1000, 10),
        *range(1000, 10000, 1000),
        *range(10_000, 100_001, 10_000),
        1_000_000,
    ]
    spell = inflect.engine().number_to_words
    return data_file(
        "number-word",
        "Spell a number in English words.",
        [(str(number), spell(number, andword="")) for number in numbers],
        source=named("inflect"),
        packages=("inflect",),
    )


def next_item() -> str:
    """`next-item`: Monday -> Tuesday, over sequences that share no input."""
    engine = inflect.engine()
    words = [engine.number_to_words(number) for number in range(42)]
    numerals = [roman_numeral(number) for number in range(1, 41)]
    cycles = [line.split() for line in CYCLES.strip().splitlines()]
    months, days = cycles[:2]
    lines = [line.split() for line in LINES.strip().splitlines()]
    lines += [
        list(string.ascii_uppercase),
        [str(number) for number in range(42)],
        words,
        [engine.ordinal(number) for number in range(1, 42)],
        [engine.ordinal(word) for word in words[1:]],
        [f"{year}s" for year in range(1900, 2031, 10)],
    ]
    pairs = [pair for cycle in cycles for pair in rotated(cycle)]
    pairs += rotated([day[:3] for day in days])
    # Each input once: "May" is short already, "V" is also a letter and "XI" the Greek "xi".
    pairs += [pair for pair in rotated([month[:3] for month in months]) if pair[0] != "May"]
    pairs += [pair for line in lines for pair in pairwise(line)]
    pairs += [pair for pair in pairwise(numerals) if len(pair[0]) > 1 and pair[0] != "XI"]
    return data_file(
        "next-item",
        "Give the item that follows in a well-known sequence.",
        pairs,
        source=f"written for this project; number words and ordinals by {named('inflect')}",
    )


def rotated(cycle: list[str]) -> list[Pair]:
    """Each item with the one after it; after the last comes the first."""
    return list(zip(cycle, cycle[1:] + cycle[:1], strict=True))


def roman_numeral(number: int) -> str:
    """The Roman numeral of a number from 1 to 49."""
    tens, units = divmod(number, 10)
    ones = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    return ["", "X", "XX", "XXX", "XL"][tens] + ones[units]


def plain_words(remainder: int) -> list[str]:
    """Every other word of the plain words, beginning with the first (0) or the second (1)."""
    words = sorted(PLAIN_WORDS.split())
    check_words(words, RAREST_PLAIN_WORD)
    return words[remainder::2]


def capitalize() -> str:
    """`capitalize`: word -> Word."""
    return data_file(
        "capitalize",
        "Write a word with a capital first letter.",
        most_frequent_first((word, word.capitalize()) for word in plain_words(0)),
        source=f"written for this project; frequencies checked with wordfreq {version('wordfreq')}",
    )


def lowercase_uppercase() -> str:
    """`lowercase-uppercase`: word -> WORD."""
    return data_file(
        "lowercase-uppercase",
        "Write a word in capital letters.",
        most_frequent_first((word, word.upper()) for word in plain_words(1)),
        source=f"written for this project; frequencies checked with wordfreq {version('wordfreq')}",
    )


def inflected(word: str, tag: str) -> str:
    """The first form that lemminflect's dictionary lists for a tag of the Penn Treebank."""
    forms = lemminflect.getInflection(word, tag, inflect_oov=False)
    if not forms:
        raise SystemExit(f"lemminflect does not know {word!r} as {tag}; choose another word")
    return str(forms[0])


def present_past() -> str:
    """`present-past`: give -> gave."""
    verbs = (VERBS_IRREGULAR + VERBS_REGULAR).split()
    check_words(verbs, RAREST_VERB_OR_NOUN)
    pairs = [(verb, inflected(verb, "VBD")) for verb in verbs]
    regular = VERBS_REGULAR.split()
    misplaced = [verb for verb, past in pairs if verb in regular and not past.endswith("ed")]
    if misplaced:
        raise SystemExit(f"data_words.py: irregular verbs among the regular ones: {misplaced}")
    return data_file(
        "present-past",
        "Give the past tense of a verb.",
        most_frequent_first(pairs),
        source=(
            f"{named('lemminflect')}; words written for this project, frequencies checked with "
            f"wordfreq {version('wordfreq')}, pairs checked by hand"
        ),
        packages=("lemminflect",),
    )


def singular_plural() -> str:
    """`singular-plural`: child -> children, where two packages agree or the noun is irregular."""
    nouns = (NOUNS_IRREGULAR + NOUNS_REGULAR).split()
    check_words(nouns, RAREST_VERB_OR_NOUN)
    pairs = [(noun, PLURALS.get(noun) or inflected(noun, "NNS")) for noun in nouns]
    plural, regular = inflect.engine().plural_noun, NOUNS_REGULAR.split()
    doubtful = [pair for pair in pairs if pair[0] in regular and plural(pair[0]) != pair[1]]
    if doubtful:
        raise SystemExit(f"inflect and lemminflect disagree on {doubtful}")
    return data_file(
        "singular-plural",
        "Give the plural of a noun.",
        most_frequent_first(pairs),
        source=(
            f"{named('lemminflect', 'inflect')}; words written for this project, frequencies "
            f"checked with wordfreq {version('wordfreq')}, pairs checked by hand"
        ),
        packages=("lemminflect", "inflect"),
    )


BUILDERS: dict[str, Callable[[], str]] = {
    "capital": capital,
    "capitalize": capitalize,
    "country-currency": country_currency,
    "country-language": country_language,
    "element-symbol": element_symbol,
    "lowercase-uppercase": lowercase_uppercase,
    "next-item": next_item,
    "number-word": number_word,
    "present-past": present_past,
    "singular-plural": singular_plural,
}


def main() -> int:
    """Write all files, or compare them with those that are there."""
    parser = argparse.ArgumentParser(description="Build the data files of the built-in tasks.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    stale = 0
    for name, build in BUILDERS.items():
        path, text = DATA_FOLDER / f"{name}.json", build()
        count = text.count('{"input"')
        if not check:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}: {count} pairs written\n")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale = 1
            sys.stdout.write(f"{name}: the file differs from what this script makes\n")
    return stale


if __name__ == "__main__":
    sys.exit(main())
