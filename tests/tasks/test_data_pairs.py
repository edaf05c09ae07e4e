"""The hand-written word pairs: enough of them, no input twice, accents in one form.

Run with `pytest tests/tasks/test_data_pairs.py`.
"""

import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "src" / "taskvectors" / "tasks" / "data"
FRENCH_FEMININE = "english-masculine-french-feminine"
# Least number of pairs of each file.
LEAST = {
    "antonym": 350,
    "english-french": 350,
    "english-spanish": 350,
    "masculine-feminine": 110,
    FRENCH_FEMININE: 100,
}
# Files in which input and output are one word each: no space, hyphen or apostrophe.
ONE_WORD = ("antonym", "english-french", "english-spanish")
PLAIN_LETTERS = r"[a-z]+"
# Every letter that the language of the outputs can contain.
OUTPUT_LETTERS = {
    "antonym": PLAIN_LETTERS,
    "english-french": r"[a-zàâæçéèêëîïôœùûü]+",
    "english-spanish": r"[a-záéíñóúü]+",
}
# Words whose accent or ligature is easily lost when the file is edited.
SPELLED = [
    ("english-french", "egg", "œuf"),
    ("english-french", "sister", "sœur"),
    ("english-french", "hospital", "hôpital"),
    ("english-french", "island", "île"),
    ("english-spanish", "mouse", "ratón"),
    ("english-spanish", "year", "año"),
    ("english-spanish", "orphan", "huérfano"),
    ("english-spanish", "pineapple", "piña"),
    ("masculine-feminine", "fiancé", "fiancée"),
    (FRENCH_FEMININE, "king", "reine"),
    (FRENCH_FEMININE, "emperor", "impératrice"),
]


def read(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def pairs_of(name: str) -> list[tuple[str, str]]:
    return [(pair["input"], pair["output"]) for pair in read(name)["pairs"]]


def forms() -> list[dict[str, str]]:
    return read(FRENCH_FEMININE)["forms"]


@pytest.mark.parametrize("name", LEAST)
def test_a_file_says_what_it_is_and_has_enough_pairs(name: str) -> None:
    data = read(name)
    assert data["name"] == name
    assert data["template"] == "qa"
    assert data["license"] == "CC0-1.0"
    assert data["source"] == "written for this project"
    assert data["description"].endswith(".")
    assert len(data["pairs"]) >= LEAST[name]
    assert all(set(pair) == {"input", "output"} for pair in data["pairs"])


@pytest.mark.parametrize("name", LEAST)
def test_no_input_occurs_twice(name: str) -> None:
    inputs = [word for word, _ in pairs_of(name)]
    assert sorted({word for word in inputs if inputs.count(word) > 1}) == []


@pytest.mark.parametrize("name", LEAST)
def test_no_output_repeats_its_input(name: str) -> None:
    assert [pair for pair in pairs_of(name) if pair[0] == pair[1]] == []


@pytest.mark.parametrize("name", LEAST)
def test_words_are_lower_case_trimmed_and_in_composed_form(name: str) -> None:
    for word in (word for pair in pairs_of(name) for word in pair):
        assert word
        assert word == word.strip().lower()
        assert unicodedata.is_normalized("NFC", word), word


@pytest.mark.parametrize("name", LEAST)
def test_each_pair_stands_on_a_line_of_its_own(name: str) -> None:
    lines = (DATA / f"{name}.json").read_text(encoding="utf-8").splitlines()
    assert sum('"input"' in line for line in lines) == len(pairs_of(name))


@pytest.mark.parametrize("name", ONE_WORD)
def test_words_are_single_words_in_the_letters_of_their_language(name: str) -> None:
    for given, wanted in pairs_of(name):
        assert re.fullmatch(PLAIN_LETTERS, given), given
        assert re.fullmatch(OUTPUT_LETTERS[name], wanted), wanted


@pytest.mark.parametrize(("name", "given", "wanted"), SPELLED)
def test_accents_and_ligatures_are_kept(name: str, given: str, wanted: str) -> None:
    assert dict(pairs_of(name))[given] == wanted


def test_at_most_half_of_the_antonyms_occur_in_both_directions() -> None:
    pairs = set(pairs_of("antonym"))
    both_ways = [pair for pair in pairs if pair[::-1] in pairs]
    assert 0 < len(both_ways) <= len(pairs) / 2


@pytest.mark.parametrize("name", ["english-french", "english-spanish"])
def test_no_translation_serves_two_english_words(name: str) -> None:
    outputs = [wanted for _, wanted in pairs_of(name)]
    assert sorted({word for word in outputs if outputs.count(word) > 1}) == []


def test_at_least_half_of_the_spanish_inputs_are_not_french_inputs() -> None:
    french = {given for given, _ in pairs_of("english-french")}
    spanish = {given for given, _ in pairs_of("english-spanish")}
    assert len(spanish - french) >= len(spanish) / 2


def test_forms_follow_the_pairs_in_the_same_order() -> None:
    of_forms = [(form["english_masculine"], form["french_feminine"]) for form in forms()]
    assert of_forms == pairs_of(FRENCH_FEMININE)


def test_the_four_forms_of_an_item_all_differ() -> None:
    keys = {"english_masculine", "english_feminine", "french_masculine", "french_feminine"}
    for form in forms():
        assert set(form) == keys
        assert len(set(form.values())) == 4, form
        for word in form.values():
            assert word == unicodedata.normalize("NFC", word.strip().lower())


def test_english_forms_agree_with_the_masculine_feminine_task() -> None:
    feminine = dict(pairs_of("masculine-feminine"))
    for form in forms():
        assert feminine[form["english_masculine"]] == form["english_feminine"]


def test_an_english_feminine_is_always_translated_alike() -> None:
    # countess comes from count and from earl
    by_english = sorted((form["english_feminine"], form["french_feminine"]) for form in forms())
    for (english, french), (next_english, next_french) in pairwise(by_english):
        assert english != next_english or french == next_french
