"""A method as a row of the registry."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.registry import METHODS as _METHODS
from taskvectors.registry import Registry


@dataclass(frozen=True)
class Paper:
    """A work to cite."""

    authors: str
    """Family names, joined by commas; "et al." where there are many."""
    year: int
    title: str
    address: str

    @property
    def short(self) -> str:
        """Authors and year, with the arXiv number where there is one.

        Example:
            >>> Paper("Hendel, Geva, Globerson", 2023, "...", "https://arxiv.org/abs/2310.15916").short
            'Hendel et al. 2023, arXiv 2310.15916'
        """
        first, *others = self.authors.removesuffix(" et al.").split(", ")
        are_many = len(others) > 1 or self.authors.endswith(" et al.")
        who = f"{first} et al." if are_many else " and ".join([first, *others])
        number = re.search(r"arxiv\.org/abs/(\S+)", self.address)
        return f"{who} {self.year}" + (f", arXiv {number[1]}" if number else "")

    @property
    def text(self) -> str:
        """As a list of references has it, without the address."""
        return f"{self.authors} ({self.year}). {self.title}."


def always(config: Any) -> bool:
    """Yes, whatever the config."""
    del config
    return True


def never(config: Any) -> bool:
    """No, whatever the config."""
    del config
    return False


@dataclass(frozen=True, kw_only=True)
class Method:
    """Everything the program knows of a method.

    Attributes:
        config: What it takes: a frozen pydantic model whose `kind` is the method's name.
        find: From a run context and a config to candidates.
        plan: From the same to what `find` will run.
        title: Its name on pages, such as "Vanilla vector".
        summary: What it does, in half a line.
        papers: What to cite for it.
        fails: Where not to expect anything of it, in one or two sentences.
        gives_vector: Whether what it finds is a task vector, which can be saved and injected.
        is_baseline: Whether it only runs prompts, without any edit.
        reads_shots: Whether, with a config, it runs few-shot prompts of the run context.
        quick: Settings with which it takes a moment, to try it out.
    """

    config: type[BaseModel]
    find: Callable[[RunContext, Any], list[Candidate]]
    plan: Callable[[RunContext, Any], Plan]
    title: str
    summary: str
    papers: tuple[Paper, ...]
    fails: str
    gives_vector: bool = True
    is_baseline: bool = False
    reads_shots: Callable[[Any], bool] = always
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return str(self.config.model_fields["kind"].default)

    @property
    def citation(self) -> str:
        """Its papers as references; empty where there is none."""
        return "; ".join(f"{paper.text} {paper.address}" for paper in self.papers)

    @property
    def source(self) -> str:
        """Its papers in one line."""
        return "; ".join(paper.short for paper in self.papers) or "baseline"


METHODS: Registry[Method] = _METHODS
"""Methods by the name the command line uses."""


def plan_of(context: RunContext, config: Any) -> Plan:
    """What a method will run, its work named after it.

    Raises:
        TaskVectorsError: The method cannot be run as it is asked for.
    """
    return METHODS.find(config.kind).plan(context, config).named(config.kind)


def checked(make: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """A config made of what a caller gave.

    Args:
        make: The config's class, or what makes one.
        fields: Its fields.

    Raises:
        TaskVectorsError: A value is not one that it takes; the message names the field.
    """
    try:
        return make(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = next((f"{part}: " for part in first["loc"] if isinstance(part, str)), "")
        is_ours = first["type"] == "value_error"  # a config's own message names the value
        text = first["ctx"]["error"] if is_ours else f"{first['msg']}, not {first['input']!r}"
        raise TaskVectorsError(f"{name}{text}") from error


def _as_config(value: Any) -> BaseModel:
    """A config, from itself or from its fields and `kind`."""
    if isinstance(value, BaseModel):
        kind = str(getattr(value, "kind", type(value).__name__))
        fields: Any = value.model_dump()
    else:
        kind, fields = str(value.get("kind")), value
    try:
        expected = METHODS.find(kind).config
    except TaskVectorsError as error:
        raise ValueError(str(error)) from error
    return value if isinstance(value, expected) else expected.model_validate(fields)


MethodConfig = Annotated[
    Any,
    PlainValidator(_as_config),
    PlainSerializer(lambda config: config.model_dump()),
    WithJsonSchema({"type": "object", "properties": {"kind": {"type": "string"}}}),
]
"""Any method's config, found by its `kind` among the methods that are registered."""
