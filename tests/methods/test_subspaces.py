"""Vectors of few numbers: where they lie, that k = d is the whole space, and rounding.

Run with `pytest tests/methods/test_subspaces.py`.
"""

from typing import Any

import pytest
import torch
from recipes import from_zero

from taskvectors.methods import RunContext
from taskvectors.methods.training.subspaces import Subspaces, rounded
from taskvectors.methods.training.vectors import train_vectors
from taskvectors.tasks import load_task
from taskvectors.vectors import sites_at

SIZES = (1, 4, 32, 32)


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    task = load_task("sentiment", n_train=12, n_validation=4, n_test=4)
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def trained(context: RunContext, steps: int, **about: Any) -> list[Any]:
    recipe = from_zero(steps=steps, batch_size=4, check_every=1, weight_decay=0.0)
    return train_vectors(context, [sites_at((1,), (-1,))] * len(SIZES), recipe, **about)


def test_vectors_lie_in_their_subspaces_and_the_whole_space_is_learned(
    context: RunContext,
) -> None:
    subspaces = Subspaces.random(32, SIZES, seed=3)
    found = trained(context, 4, subspaces=subspaces)
    plain = trained(context, 4)
    for number, size in enumerate(SIZES):
        vector = found[number].values[0]
        inside = vector @ subspaces.basis[:size].T @ subspaces.basis[:size]
        torch.testing.assert_close(inside, vector, atol=1e-6, rtol=1e-5)
        assert found[number].cost.parameters == size
        numbers = subspaces.numbers_of(vector, number)
        assert len(numbers) == size
        padded = torch.zeros(4, 32)
        padded[number, :size] = numbers
        torch.testing.assert_close(subspaces.spanned(padded)[number], vector, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[2].values, plain[2].values)
    assert torch.equal(found[3].values, found[2].values)
    assert not torch.allclose(found[1].values, found[2].values)


def test_a_step_is_as_long_in_every_subspace(context: RunContext) -> None:
    found = trained(context, 1, subspaces=Subspaces.random(32, SIZES, seed=3))
    lengths = [float(one.values.norm()) for one in found]
    # AdamW's first step is one learning rate in every number that has a gradient
    assert lengths == pytest.approx([lengths[2]] * len(SIZES), rel=1e-2)


def test_smaller_subspaces_lie_in_larger_ones_and_differ_by_seed() -> None:
    one = Subspaces.random(8, (2, 4), seed=0)
    torch.testing.assert_close(one.basis @ one.basis.T, torch.eye(8), atol=1e-6, rtol=0)
    numbers = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0]] * 2)
    small, large = one.spanned(numbers)
    torch.testing.assert_close(small / 8**0.5 * 2**0.5, large / 8**0.5 * 4**0.5)
    assert not torch.allclose(one.basis, Subspaces.random(8, (2,), seed=1).basis)
    with pytest.raises(ValueError, match="1 to 8 dimensions, not 9"):
        Subspaces.random(8, (9,), seed=0)


def test_rounding_leaves_as_many_values_as_bits_say_and_errs_less_with_more() -> None:
    numbers = torch.randn(300, generator=torch.Generator().manual_seed(0))
    errors = []
    for bits in range(1, 9):
        found = rounded(numbers, bits)
        assert len(found.unique()) <= 2**bits
        errors.append(float((found - numbers).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3
    # one bit: the sign, times the mean size
    mean = float(numbers.abs().mean())
    torch.testing.assert_close(rounded(numbers, 1), mean * numbers.sign(), atol=0.02, rtol=0)
    # the known best uniform quantisers of normal numbers (Max 1960): 0.1188 at 2 bits, 0.0374 at 3
    assert errors[1] == pytest.approx(0.1188, rel=0.2)
    assert errors[2] == pytest.approx(0.0374, rel=0.2)


def test_one_number_is_kept_at_one_bit_and_zeros_stay() -> None:
    torch.testing.assert_close(rounded(torch.tensor([-2.5]), 1), torch.tensor([-2.5]))
    assert not rounded(torch.zeros(3), 1).any()


def test_a_rounded_vector_is_that_of_its_rounded_numbers() -> None:
    subspaces = Subspaces.random(8, (2, 8), seed=0)
    for number, size in enumerate((2, 8)):
        numbers = torch.zeros(2, 8)
        numbers[number, :size] = torch.tensor([1.0, -3, 2, 5, -1, 4, 0.5, -2])[:size]
        vector = subspaces.spanned(numbers)[number]
        found = subspaces.rounded(vector, number, 1)
        wanted = torch.zeros(2, 8)
        wanted[number, :size] = rounded(numbers[number, :size], 1)
        torch.testing.assert_close(found, subspaces.spanned(wanted)[number], atol=1e-2, rtol=1e-2)
