r"""How one pair is written: `Q: {input}\nA: {output}` and others, by name or the user's own."""

from dataclasses import dataclass

from taskvectors.errors import TaskVectorsError
from taskvectors.tasks import Example


@dataclass(frozen=True, kw_only=True)
class Template:
    """How one pair is written, and how pairs are strung together.

    Attributes:
        name: Short name.
        example: One pair: `{input}`, then some text, then `{output}`, possibly a short suffix.
        separator: What stands between pairs.
        prefix: What stands once before the first pair, such as an instruction.
    """

    name: str
    example: str
    separator: str
    prefix: str = ""

    def __post_init__(self) -> None:
        once = all(self.example.count(field) == 1 for field in ("{input}", "{output}"))
        _, between, _ = self.parts
        if not once or not between or "{output}" not in self.example.partition("{input}")[2]:
            raise TaskVectorsError(
                f"template {self.example!r} must hold {{input}} once, then some text, then "
                "{output} once; write it like 'Q: {input} A: {output}'"
            )

    @property
    def parts(self) -> tuple[str, str, str]:
        """The text before the input, between input and output, and after the output."""
        before, _, rest = self.example.partition("{input}")
        between, _, suffix = rest.partition("{output}")
        return before, between, suffix

    def fill(self, pair: Example) -> str:
        """A pair with its answer, as a demonstration shows it."""
        before, between, suffix = self.parts
        return f"{before}{pair.input}{between}{pair.output}{suffix}"


_ALL = (
    # of the function-vector repository, https://arxiv.org/abs/2310.15213
    Template(name="qa", example="Q: {input}\nA: {output}", separator="\n\n"),
    Template(name="arrow", example="{input} -> {output}", separator="\n"),
    Template(name="colon", example="{input}: {output}", separator="\n"),
    # of https://arxiv.org/abs/2310.15916: no blank on either side of the arrow
    Template(name="hendel", example="{input}->{output}", separator="\n"),
    # the next four of https://arxiv.org/abs/2505.18752, table 2
    Template(name="sentiment", example="{input} Sentiment: {output}", separator="\n"),
    Template(name="type", example="{input} Type: {output}", separator="\n"),
    Template(name="question-type", example="Question: {input} Type: {output}", separator="\n"),
    # its input is "{premise} ? The answer {hypothesis}": there is no cue after it
    Template(name="nli", example="The question is: {input} {output}", separator="\n"),
    Template(name="entailment", example="{input} Answer: {output}", separator="\n"),
)

TEMPLATES: dict[str, Template] = {template.name: template for template in _ALL}


def load_template(text_or_name: str) -> Template:
    r"""A template by its name, or the user's own.

    Args:
        text_or_name: One of `TEMPLATES`, or a text with `{input}` and `{output}`. In a text, `\n`
            and `\t` typed as two characters stand for a new line and a tab, as shells pass them on
            like that; its pairs are separated by a new line.

    Returns:
        The template.

    Raises:
        TaskVectorsError: Neither a known name nor a usable text.

    Example:
        >>> load_template("{input} => {output}").fill(Example(input="hot", output="cold"))
        'hot => cold'
    """
    if text_or_name in TEMPLATES:
        return TEMPLATES[text_or_name]
    if "{" not in text_or_name:
        raise TaskVectorsError(
            f"no template is called {text_or_name!r}; there are: {', '.join(TEMPLATES)}; one of "
            "your own is a text with {input} and {output}"
        )
    text = text_or_name.replace("\\n", "\n").replace("\\t", "\t")
    return Template(name="custom", example=text, separator="\n")
