import pytest

from taskvectors.errors import TaskVectorsError
from taskvectors.prompts import TEMPLATES, Template, load_template
from taskvectors.tasks import Example

PAIR = Example(input="hot", output="cold")

FILLED = {
    "qa": ("Q: hot\nA: cold", "\n\n"),
    "arrow": ("hot -> cold", "\n"),
    "colon": ("hot: cold", "\n"),
    "hendel": ("hot->cold", "\n"),
    "sentiment": ("hot Sentiment: cold", "\n"),
    "type": ("hot Type: cold", "\n"),
    "question-type": ("Question: hot Type: cold", "\n"),
    "nli": ("The question is: hot cold", "\n"),
    "entailment": ("hot Answer: cold", "\n"),
}


def test_every_named_template_writes_a_pair_as_listed_here() -> None:
    assert {name: (t.fill(PAIR), t.separator) for name, t in TEMPLATES.items()} == FILLED
    assert all(load_template(name) is TEMPLATES[name] for name in FILLED)


def test_a_template_of_ones_own_is_a_text() -> None:
    own = load_template("<{input}> means {output}.")
    assert own.fill(PAIR) == "<hot> means cold."
    assert own.parts == ("<", "> means ", ".")
    assert own.separator == "\n"


def test_escapes_typed_in_a_shell_are_new_lines_and_tabs() -> None:
    assert load_template(r"{input}\n\t{output}").fill(PAIR) == "hot\n\tcold"


def test_braces_in_pairs_and_around_fields_are_text() -> None:
    own = load_template('{"q": {input}, {x} {output}}')
    assert own.fill(Example(input="{output}", output="{0}")) == '{"q": {output}, {x} {0}}'


@pytest.mark.parametrize(
    "text",
    [
        "{input}",
        "{output}{input}",
        "{output} {input}",
        "{input}{output}",
        "{input} {input} {output}",
        "{input} {output} {output}",
        "{question} {answer}",
    ],
)
def test_a_text_without_input_then_output_is_an_error(text: str) -> None:
    with pytest.raises(TaskVectorsError, match=r"must hold \{input\} once"):
        load_template(text)


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(TaskVectorsError, match="no template is called 'qaa'; there are: qa, arrow"):
        load_template("qaa")


def test_a_template_built_by_hand_is_checked_too() -> None:
    with pytest.raises(TaskVectorsError, match="must hold"):
        Template(name="x", example="{input}", separator="")
