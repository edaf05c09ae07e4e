"""Names of registered entries as choices, looked up when words are parsed."""

from typing import Any, ClassVar

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from taskvectors.registry import ANALYSES, CONTROLS, FAMILIES, METHODS, Registry


class Name(str):
    """The name of a registered entry; subclasses say of which registry."""

    registry: ClassVar["Registry[Any]"]
    or_else: ClassVar[str] = ""
    """What is taken, too, and checked when it is used."""


class AnalysisName(Name):
    """The name of an analysis."""

    registry = ANALYSES


class MethodName(Name):
    """The name of a method."""

    registry = METHODS


class ControlName(Name):
    """The name of a control."""

    registry = CONTROLS


class FamilyName(Name):
    """The name of a family of tasks, or a file that has one."""

    registry = FAMILIES
    or_else = "FILE.py"


CHOICES = ConstructorRegistry()
"""Inside `with CHOICES`, a flag of one of the types above takes the names there are."""


@CHOICES.primitive_rule
def _choices(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Name] | None:
    kind = info.type
    if not (isinstance(kind, type) and issubclass(kind, Name)):
        return None
    names = tuple(kind.registry)
    shown = (*names, kind.or_else) if kind.or_else else names
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(shown) + "}",
        instance_from_str=lambda words: kind(words[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [str(value)],
        choices=None if kind.or_else else names,
    )
