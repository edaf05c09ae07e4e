"""Suffixes without their padding, and back.

Run with `pytest tests/models/test_packing.py`.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvectors.models.packing import Packing

CPU = torch.device("cpu")


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8), more=st.integers(0, 2))
def test_packed_tokens_are_the_present_ones_row_by_row(lengths: list[int], more: int) -> None:
    suffix = max(lengths) + more
    packing = Packing.of(lengths, suffix, CPU)
    padded = torch.arange(len(lengths) * suffix, dtype=torch.float32).view(-1, suffix, 1)
    expected = [padded[row, column] for row, n in enumerate(lengths) for column in range(n)]
    packed = packing.pack(padded)
    assert torch.equal(packed, torch.stack(expected))
    assert packing.n_tokens == len(expected)
    for row, n in enumerate(lengths):
        assert packed[packing.offsets[row]] == padded[row, 0]
        # and back: padding repeats the last token, so that it is finite and is read by nobody
        again = packing.pad(packed.unsqueeze(0), dim=1)[0, row]
        assert torch.equal(again[:n], padded[row, :n])
        assert (again[n:] == padded[row, n - 1]).all()


@pytest.mark.parametrize("is_padded", [True, False])
def test_full_rows_are_only_reshaped(is_padded: bool) -> None:
    packing = Packing.of([3, 1] if is_padded else [3, 3], 3, CPU, is_padded=is_padded)
    padded = torch.randn(2, 3, 4)
    packed = packing.pack(padded)
    assert packed.data_ptr() == padded.data_ptr()
    assert packing.pad(packed, dim=0).data_ptr() == padded.data_ptr()
    assert torch.equal(packing.pad(packed, dim=0), padded)
