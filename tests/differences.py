"""A pytest plugin that tells how far apart compared tensors were: `pytest -p differences PATH`."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch

_LARGEST: dict[str, float] = defaultdict(float)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note the largest difference that `torch.testing.assert_close` sees in a test."""
    compare = torch.testing.assert_close
    name = item.nodeid.partition("[")[0]

    def noted(actual: Any, expected: Any, **options: Any) -> None:
        compare(actual, expected, **options)
        found, sought = (torch.as_tensor(one).detach().double() for one in (actual, expected))
        apart = (found - sought).abs()
        _LARGEST[name] = max(_LARGEST[name], float(apart.max()) if apart.numel() else 0.0)

    torch.testing.assert_close = noted
    try:
        return (yield)
    finally:
        torch.testing.assert_close = compare


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List them, by test."""
    terminalreporter.section("largest differences")
    for name, value in _LARGEST.items():
        terminalreporter.write_line(f"{value:.1e}  {name}")
