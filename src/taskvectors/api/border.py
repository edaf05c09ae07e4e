"""What users give, as what the library works on."""

from typing import Any


def as_tuple(values: Any) -> tuple[Any, ...]:
    """One value, or several, as a tuple."""
    return tuple(values) if isinstance(values, list | tuple | range | set) else (values,)
