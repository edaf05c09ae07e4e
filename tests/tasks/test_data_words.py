"""The data files of the word, number and country tasks say what they claim to say."""

import json
from pathlib import Path

import pytest

DATA_FOLDER = Path(__file__).parents[2] / "src" / "taskvectors" / "tasks" / "data"

FEWEST_PAIRS = {
    "capital": 200,
    "capitalize": 300,
    "country-currency": 200,
    "country-language": 200,
    "element-symbol": 118,
    "lowercase-uppercase": 300,
    "next-item": 200,
    "number-word": 200,
    "present-past": 300,
    "singular-plural": 300,
}
WORD_TASKS = ("capitalize", "lowercase-uppercase", "present-past", "singular-plural")

FACTS = {
    "capital": {
        "France": "Paris",
        "Australia": "Canberra",
        "Brazil": "Brasilia",
        "Burundi": "Gitega",
        "Eswatini": "Mbabane",
        "Ivory Coast": "Yamoussoukro",
        "Kazakhstan": "Astana",
        "Kosovo": "Pristina",
        "Myanmar": "Naypyidaw",
        "Serbia": "Belgrade",
        "Turkey": "Ankara",
        "Ukraine": "Kyiv",
        "United States": "Washington, D.C.",
    },
    "country-currency": {
        "Japan": "yen",
        "Croatia": "euro",
        "India": "rupee",
        "Mexico": "peso",
        "Poland": "zloty",
        "Sweden": "krona",
        "Switzerland": "franc",
        "United Kingdom": "pound",
    },
    "country-language": {
        "Brazil": "Portuguese",
        "Austria": "German",
        "Egypt": "Arabic",
        "Ethiopia": "Amharic",
        "Iran": "Persian",
        "Mexico": "Spanish",
        "Pakistan": "Urdu",
    },
    "element-symbol": {
        "hydrogen": "H",
        "gold": "Au",
        "iron": "Fe",
        "lead": "Pb",
        "potassium": "K",
        "tungsten": "W",
        "oganesson": "Og",
    },
    "next-item": {
        "December": "January",
        "Sunday": "Monday",
        "Pisces": "Aries",
        "alpha": "beta",
        "May": "June",
        "V": "W",
        "IX": "X",
        "nineteen": "twenty",
        "21st": "22nd",
        "eighth": "ninth",
        "1990s": "2000s",
        "Earth": "Mars",
    },
    "number-word": {
        "0": "zero",
        "14": "fourteen",
        "40": "forty",
        "42": "forty-two",
        "101": "one hundred one",
        "1000000": "one million",
    },
    "present-past": {
        "bring": "brought",
        "catch": "caught",
        "lead": "led",
        "occur": "occurred",
        "put": "put",
        "study": "studied",
        "teach": "taught",
        "walk": "walked",
    },
    "singular-plural": {
        "aircraft": "aircraft",
        "child": "children",
        "city": "cities",
        "crisis": "crises",
        "knife": "knives",
        "mouse": "mice",
        "person": "people",
        "roof": "roofs",
        "valley": "valleys",
        "watch": "watches",
    },
}

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def read(name):
    return json.loads((DATA_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def pairs_of(name):
    return {pair["input"]: pair["output"] for pair in read(name)["pairs"]}


def number_from_words(words):
    """The number that English words spell, read from left to right."""
    value = {word: number for number, word in enumerate(UNITS.split())}
    value |= {word: 10 * tens for tens, word in enumerate(TENS.split(), start=2)}
    total = part = 0
    for word in words.replace("-", " ").split():
        if word == "hundred":
            part *= 100
        elif word in ("thousand", "million"):
            total += part * (1000 if word == "thousand" else 1_000_000)
            part = 0
        else:
            part += value[word]
    return total + part


@pytest.mark.parametrize("name", FEWEST_PAIRS)
def test_a_file_says_what_it_is_and_where_it_comes_from(name):
    data = read(name)
    assert list(data) == ["name", "description", "template", "source", "license", "pairs"]
    assert data["name"] == name
    assert data["template"] == "qa"
    assert data["description"].endswith(".")
    assert data["description"].count(".") == 1
    assert data["source"]
    assert data["license"]


@pytest.mark.parametrize(("name", "fewest"), FEWEST_PAIRS.items())
def test_a_file_holds_enough_pairs_and_each_stands_on_its_own_line(name, fewest):
    pairs = read(name)["pairs"]
    assert len(pairs) >= fewest
    lines = (DATA_FOLDER / f"{name}.json").read_text(encoding="utf-8").splitlines()
    written = [line.strip().rstrip(",") for line in lines if line.strip().startswith('{"input"')]
    assert [json.loads(line) for line in written] == pairs


@pytest.mark.parametrize("name", FEWEST_PAIRS)
def test_no_input_occurs_twice_even_when_letter_case_is_ignored(name):
    inputs = [pair["input"].casefold() for pair in read(name)["pairs"]]
    assert len(set(inputs)) == len(inputs)


@pytest.mark.parametrize("name", FEWEST_PAIRS)
def test_no_text_is_empty_or_has_a_blank_too_many(name):
    for pair in read(name)["pairs"]:
        assert set(pair) == {"input", "output"}
        for text in pair.values():
            assert text
            assert text == " ".join(text.split())


@pytest.mark.parametrize("name", WORD_TASKS)
def test_words_are_plain_lowercase_letters_of_moderate_length(name):
    for word, answer in pairs_of(name).items():
        assert word.isascii()
        assert word.isalpha()
        assert word.islower()
        assert 3 <= len(word) <= 10
        assert answer.isascii()
        assert answer.isalpha()


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        (name, question, answer)
        for name, facts in FACTS.items()
        for question, answer in facts.items()
    ],
)
def test_known_facts_are_in_the_file(name, question, answer):
    assert pairs_of(name).get(question) == answer


def test_capitalize_is_str_capitalize():
    pairs = pairs_of("capitalize")
    assert pairs == {word: word.capitalize() for word in pairs}


def test_lowercase_uppercase_is_str_upper():
    pairs = pairs_of("lowercase-uppercase")
    assert pairs == {word: word.upper() for word in pairs}


def test_the_two_letter_case_tasks_share_no_word_and_both_span_the_alphabet():
    first, second = set(pairs_of("capitalize")), set(pairs_of("lowercase-uppercase"))
    assert not first & second
    assert len({word[0] for word in first}) >= 20
    assert len({word[0] for word in second}) >= 20


def test_number_words_read_back_as_their_numbers():
    pairs = pairs_of("number-word")
    assert {number: str(number_from_words(words)) for number, words in pairs.items()} == {
        number: number for number in pairs
    }


def test_every_element_has_a_symbol_of_its_own():
    pairs = pairs_of("element-symbol")
    assert len(pairs) == len(set(pairs.values())) == 118
    assert all(name.islower() and name.isalpha() for name in pairs)
    assert all(symbol == symbol.capitalize() and len(symbol) <= 2 for symbol in pairs.values())


@pytest.mark.parametrize(
    ("start", "length"), [("January", 12), ("Monday", 7), ("Aries", 12), ("rat", 12), ("do", 7)]
)
def test_a_sequence_that_goes_round_comes_back_to_its_start(start, length):
    following = pairs_of("next-item")
    item, seen = start, []
    for _ in range(length):
        seen.append(item)
        item = following[item]
    assert item == start
    assert len(set(seen)) == length


def test_counting_sequences_count_by_one():
    pairs = pairs_of("next-item")
    digits = {text: answer for text, answer in pairs.items() if text.isdecimal()}
    spelt = set((UNITS + " " + TENS).split())
    words = {text: answer for text, answer in pairs.items() if text.split("-")[0] in spelt}
    words = {text: answer for text, answer in words.items() if set(text.split("-")) <= spelt}
    assert len(digits) >= 40
    assert len(words) >= 40
    assert all(int(answer) == int(text) + 1 for text, answer in digits.items())
    assert all(
        number_from_words(answer) == number_from_words(text) + 1 for text, answer in words.items()
    )


def test_country_tasks_name_the_same_countries_with_their_own_answers():
    capitals, languages = pairs_of("capital"), pairs_of("country-language")
    currencies = pairs_of("country-currency")
    assert len(set(capitals) & set(languages) & set(currencies)) >= 195
    assert all(name[0].isupper() and name.isascii() for name in capitals | languages | currencies)
    assert all(answer[0].isupper() for answer in capitals.values())
    assert all(answer[0].isupper() and answer.isascii() for answer in languages.values())
    assert all(answer.islower() and " " not in answer for answer in currencies.values())


def test_many_verbs_and_nouns_are_irregular():
    pasts, plurals = pairs_of("present-past"), pairs_of("singular-plural")
    assert sum(not past.endswith("ed") for past in pasts.values()) >= 100
    regular = ("s", "es")
    assert (
        sum(plural not in {noun + end for end in regular} for noun, plural in plurals.items()) >= 80
    )
    assert sum(not plural.endswith("s") for plural in plurals.values()) >= 25
