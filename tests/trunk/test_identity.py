"""The identity everything rests on: a branch is the full forward pass with the same edits.

The reference (`full_pass.py`) runs every prompt alone, whole, without padding or cache, and edits
it with plain hooks.
Run with `pytest tests/trunk/test_identity.py`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from full_pass import Spec, branches_of, full_logits, places_in, positions_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from taskvectors.models import EMBED, LanguageModel, capture
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit, Trunk

TOLERANCE = 1e-4
"""On float32 logits, which are of order 1."""

LAST_FIVE = (-5, -4, -3, -2, -1)
ALL_LAYERS = (EMBED, 0, 2, 3)
CASES: dict[str, list[list[Spec]]] = {
    "one layer, the last token": [[{"layer": 2}]],
    "three branches that join at three layers": [
        [{"layer": 2}],
        [{"layer": 0}],
        [{"layer": EMBED}],
    ],
    "three branches at one layer": [[{"layer": 1}], [{"layer": 1}], [{"layer": 1}]],
    "the embedding": [[{"layer": EMBED}]],
    "position 4, beside a plain branch": [[{"layer": 1, "positions": (4,)}], []],
    "position 0": [[{"layer": 1, "positions": (0,)}]],
    "position 4 and the last": [[{"layer": 1, "positions": (4, -1), "each": "position"}]],
    "the last five positions, each its own": [
        [{"layer": 1, "positions": LAST_FIVE, "each": "position"}],
        [{"layer": 2, "positions": (-5,)}],
        [{"layer": 0}],
    ],
    "four layers": [[{"layer": layer} for layer in ALL_LAYERS]],
    "four layers, two positions": [
        [{"layer": layer, "positions": (-1, -3), "each": "position"} for layer in ALL_LAYERS]
    ],
    "four layers beside single ones": [
        [{"layer": 3}],
        [{"layer": layer} for layer in ALL_LAYERS],
        [{"layer": 1}],
    ],
    "replacing": [
        [{"layer": 1, "operation": "replace"}],
        [{"layer": 2, "operation": "replace", "positions": (-2,)}, {"layer": 0}],
    ],
    "turning": [
        [{"layer": 1, "component": "mlp_out", "operation": "rotate"}],
        [{"layer": 2, "operation": "rotate", "positions": (-2, -1), "each": "position"}],
        [
            {"layer": 0, "component": "mlp_out", "operation": "rotate", "positions": ("query",)},
            {"layer": 3, "component": "mlp_out", "operation": "rotate"},
        ],
    ],
    # of some answers there is no token that is read
    "what comes after the prompt": [
        [{"layer": 1, "positions": ("answer",)}],
        [{"layer": 0, "positions": ("all", "generated"), "each": "position"}, {"layer": 2}],
        [{"layer": 1, "positions": ("generated",), "component": "mlp_out", "operation": "rotate"}],
    ],
    "turned twice at one place": [
        [{"layer": 1, "operation": "rotate"}, {"layer": 1, "operation": "rotate"}, {"layer": 1}],
        [{"layer": 1, "operation": "rotate", "each": "prompt"}],
    ],
    "two edits at one place add up": [
        [{"layer": 1}, {"layer": 1}, {"layer": 1, "positions": (-2,)}]
    ],
    "resid_pre is the layer below": [
        [{"layer": 2, "component": "resid_pre"}],
        [{"layer": 0, "component": "resid_pre"}],
    ],
    "z of all heads": [[{"layer": 1, "component": "z", "operation": "replace"}]],
    "z of one head a branch": [
        [{"layer": 1, "component": "z", "head": head, "operation": operation}]
        for head, operation in ((0, "add"), (2, "replace"), (3, "replace"))
    ],
    "z of two heads, then the MLP": [
        [
            {"layer": 1, "component": "z", "head": 3, "operation": "replace"},
            {"layer": 1, "component": "z", "head": 0},
            {"layer": 2, "component": "mlp_out"},
        ],
        [{"layer": 0, "component": "z", "positions": (4, -1), "each": "position", "head": 1}],
    ],
    "attn_out and mlp_out": [
        [{"layer": 1, "component": "mlp_out"}],
        [{"layer": 0, "component": "attn_out", "positions": (4,)}],
        [
            {"layer": 3, "component": "attn_out"},
            {"layer": 3, "component": "mlp_out", "operation": "replace"},
        ],
    ],
    "resid_mid": [
        [{"layer": 1, "component": "resid_mid", "operation": "replace"}],
        [{"layer": 0, "component": "resid_mid", "positions": (4, -1)}, {"layer": 2}],
    ],
    "every prompt its own value": [
        [{"layer": 1, "positions": (4, -1), "each": "prompt"}],
        [{"layer": 2, "component": "z", "operation": "replace", "each": "prompt"}],
    ],
    "a name that means several positions": [
        [{"layer": 1, "positions": ("query",)}],
        [{"layer": 0, "positions": ("query", "last"), "operation": "replace"}],
    ],
    "a name, each position its own": [[{"layer": 1, "positions": ("query",), "each": "position"}]],
    "a name, each position replaced by its own": [
        [{"layer": 1, "positions": ("query",), "each": "position", "operation": "replace"}],
    ],
}


def branch_logits(
    trunk: Trunk, branches: Sequence[Branch], rows: Sequence[int] | None = None
) -> list[list[Tensor]]:
    """Per row and branch, the logits `[answer, d_vocab]` that the trunk gives."""
    batch = trunk.batch(rows)
    with torch.no_grad():
        logits = trunk.model.logits(trunk.answer_states(trunk.run(branches, batch), batch))
    return [
        [logits[batch.read_rows == row, branch] for branch in range(len(branches))]
        for row in range(batch.n_rows)
    ]


def largest_difference(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    branches: Sequence[Branch],
    found: Sequence[Sequence[Tensor]],
) -> float:
    """Between what a trunk gave for some branches and full passes with these edits."""
    differences = [
        (found[i][b] - full_logits(model, prompt, branch, i)).abs().max()
        for i, prompt in enumerate(prompts)
        for b, branch in enumerate(branches)
    ]
    return float(torch.stack(differences).max())


@pytest.fixture(autouse=True)
def _no_gradient() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("case", CASES)
def test_a_branch_is_the_full_pass_with_the_same_edits(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str, case: str
) -> None:
    model = tiny_model(tiny_name)
    if case == "resid_mid" and model.is_parallel:
        return  # the site does not exist there, which has a test of its own
    prompts = ragged_prompts(model, 3, seed=len(case))
    branches = branches_of(model, CASES[case], prompts)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    found = branch_logits(trunk, branches)
    assert largest_difference(model, prompts, branches, found) < TOLERANCE
    # and every edit matters: without it the logits are others
    plain = branch_logits(trunk, [[]])
    for b in range(len(branches)):
        moved = [float((found[i][b] - plain[i][0]).abs().max()) for i in range(len(prompts))]
        assert (max(moved) > 0.01) == bool(branches[b])


def test_every_kind_of_prompt_is_cut_right(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    at_five = [[{"layer": 1, "positions": (-5, -1), "each": "position"}], [{"layer": 0}]]
    at_last: list[list[Spec]] = [[{"layer": 1}], [{"layer": 2}]]
    kinds: dict[str, tuple[Any, list[list[Spec]]]] = {
        "all of one length": (ragged_prompts(model, 3, lengths=(9, 9), answers=(2, 2)), at_five),
        "some without a prefix": (ragged_prompts(model, 6, lengths=(5, 8)), at_five),
        "one token each": (ragged_prompts(model, 2, lengths=(1, 1), answers=(1, 3)), at_last),
        "one and many tokens": (
            ragged_prompts(model, 2, lengths=(1, 1)) + ragged_prompts(model, 2),
            at_last,
        ),
        "a single prompt": (ragged_prompts(model, 1, answers=(3, 3)), at_five),
        "as many prompts as suffix tokens": (
            ragged_prompts(model, 5, lengths=(9, 9), answers=(1, 1)),
            at_five,
        ),
        "answers from 1 to 9 tokens": (ragged_prompts(model, 6, answers=(1, 9)), at_last),
    }
    for kind, (prompts, case) in kinds.items():
        branches = branches_of(model, case, prompts)
        trunk = Trunk.build(model, prompts, positions=positions_of(branches))
        found = branch_logits(trunk, branches)
        difference = largest_difference(model, prompts, branches, found)
        assert difference < TOLERANCE, f"{kind}: {difference}"


def test_an_edit_at_another_position_is_another_answer(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    # the control: were positions ignored, or the tolerance too wide, this would pass as equal
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    (branch,), (elsewhere,) = (
        branches_of(model, [[{"layer": 1, "positions": (place,)}]], prompts) for place in (-2, -3)
    )
    trunk = Trunk.build(model, prompts, positions=(-2,))
    found = branch_logits(trunk, [branch])
    assert largest_difference(model, prompts, [branch], found) < TOLERANCE
    assert largest_difference(model, prompts, [elsewhere], found) > 100 * TOLERANCE


def test_a_mini_batch_is_those_rows_of_the_whole(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 6, answers=(1, 6))
    case: list[list[Spec]] = [
        [{"layer": 1, "positions": (4, -1), "each": "prompt"}],
        [{"layer": 2, "positions": ("query",)}],
        [{"layer": 0, "component": "z", "head": 1}],
    ]
    branches = branches_of(model, case, prompts)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    whole = branch_logits(trunk, branches)
    for rows in ([3, 1], [5], [0, 0, 4, 2, 4], [5, 4, 3, 2, 1, 0]):
        found = branch_logits(trunk, branches, rows)
        for row, prompt in enumerate(rows):
            torch.testing.assert_close(found[row], whole[prompt], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("rows_per_pass", [1, 2])
def test_a_trunk_built_in_chunks_is_the_one_built_at_once(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str, rows_per_pass: int
) -> None:
    model = tiny_model(tiny_name)
    # the first chunk needs no mask, the others do
    prompts = ragged_prompts(model, 2, lengths=(13, 13)) + ragged_prompts(model, 3)
    branches = branches_of(model, [[{"layer": 1}], [{"layer": 0, "positions": (-3,)}]], prompts)
    options: dict[str, Any] = {"positions": positions_of(branches), "sites": [(1, "z")]}
    whole = Trunk.build(model, prompts, **options)
    chunked = Trunk.build(model, prompts, **options, rows_per_pass=rows_per_pass)
    for found, expected in zip(
        branch_logits(chunked, branches), branch_logits(whole, branches), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    for read in (lambda t: t.states(2, (-1, -3)), lambda t: t.read(1, "z", (-1, -3))):
        torch.testing.assert_close(read(chunked), read(whole), atol=TOLERANCE, rtol=0)
    assert chunked.n_prompts == whole.n_prompts == 5


def test_the_order_and_company_of_branches_do_not_matter(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    # branches do not see each other: one alone is the same as beside others, however loud
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    case: list[list[Spec]] = [
        [{"layer": 1, "positions": (-3, -1), "each": "position"}],
        [{"layer": 0, "positions": (-2,)}],
        [{"layer": 3}],
        [],
    ]
    branches = branches_of(model, case, prompts)
    loud = [Edit(layer=0, positions=(-3,), value=torch.full((model.d_model,), 1e3))]
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    together = branch_logits(trunk, branches)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        shuffled = branch_logits(trunk, [branches[i] for i in order])
        for found, expected in zip(shuffled, together, strict=True):
            torch.testing.assert_close(found, [expected[i] for i in order], atol=TOLERANCE, rtol=0)
    for i, branch in enumerate(branches):
        for company in ([branch], [loud, branch]):
            alone = branch_logits(trunk, company)
            for found, expected in zip(alone, together, strict=True):
                torch.testing.assert_close(found[-1], expected[i], atol=TOLERANCE, rtol=0)


def test_plain_states_and_sites_are_those_of_the_full_pass(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 4)
    places = (4, -1, -2)
    trunk = Trunk.build(model, prompts, positions=places, sites=[(1, "z"), (2, "mlp_out")])
    for i, prompt in enumerate(prompts):
        seen: list[Tensor] = []
        with ExitStack() as stack:
            for layer in range(EMBED, model.n_layers):
                stack.enter_context(capture(model, layer, "resid_post", seen.append))
            stack.enter_context(capture(model, 1, "z", seen.append))
            stack.enter_context(capture(model, 2, "mlp_out", seen.append))
            model.hf(input_ids=torch.tensor([prompt.token_ids]))
        # hooks fire in the order of the computation: embed, 0, z of 1, 1, mlp_out of 2, 2, 3
        sites = [trunk.states(EMBED, places), trunk.states(0, places), trunk.read(1, "z", places)]
        sites += [trunk.states(1, places), trunk.read(2, "mlp_out", places)]
        sites += [trunk.states(2, places), trunk.states(3, places)]
        for found, expected in zip(sites, seen, strict=True):
            at = expected[0, places_in(prompt, places)]
            torch.testing.assert_close(found[i], at, atol=TOLERANCE, rtol=0)


# --- gradients


GRADIENT_CASES: dict[str, list[list[Spec]]] = {
    "last token, two layers": [[{"layer": 2}], [{"layer": EMBED}]],
    "one vector at several positions": [[{"layer": 1, "positions": (4, -3, -1)}]],
    "all layers in one branch": [[{"layer": layer, "each": "position"} for layer in ALL_LAYERS]],
    "inside a block": [
        [{"layer": 1, "component": "z", "head": 2, "operation": "replace"}],
        [{"layer": 1, "component": "mlp_out", "positions": (-2, -1), "each": "position"}],
    ],
    "a name that means several positions": [
        [{"layer": 1, "positions": ("query",)}],
        [{"layer": 1, "positions": ("query",), "operation": "replace"}],
        [{"layer": 1, "positions": ("query",), "operation": "rotate"}],
    ],
    "turning": [
        [{"layer": 1, "component": "mlp_out", "operation": "rotate"}],
        # the second turns what the first has made
        [
            {"layer": 1, "positions": ("query", -1), "operation": "rotate"},
            {"layer": 1, "positions": ("query",), "operation": "rotate"},
        ],
    ],
}


@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_the_gradient_of_a_branch_is_that_of_the_full_pass(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str, case: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    branches = branches_of(model, GRADIENT_CASES[case], prompts)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    rows = [2, 0]
    leaves = [edit.value.requires_grad_() for branch in branches for edit in branch]
    with torch.enable_grad():
        batch = trunk.batch(rows)
        losses = trunk.answer_losses(trunk.run(branches, batch), batch)
        found = torch.autograd.grad(losses.sum(), leaves)
        expected_losses = []
        for branch in branches:
            per_prompt = [
                torch.nn.functional.cross_entropy(
                    full_logits(model, prompts[row], branch, row),
                    torch.tensor(prompts[row].answer_ids),
                )
                for row in rows
            ]
            expected_losses.append(torch.stack(per_prompt).mean())
        expected = torch.autograd.grad(torch.stack(expected_losses).sum(), leaves)
    torch.testing.assert_close(losses, torch.stack(expected_losses), atol=1e-5, rtol=1e-5)
    for ours, reference in zip(found, expected, strict=True):
        assert float(reference.abs().max()) > 1e-5
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-3)


def test_a_branch_has_no_gradient_to_the_value_of_another(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 3)
    branches = branches_of(model, [[{"layer": 1}], [{"layer": 0}], [{"layer": 1}]], prompts)
    trunk = Trunk.build(model, prompts, positions=(-1,))
    leaves = [branch[0].value.requires_grad_() for branch in branches]
    with torch.enable_grad():
        states = trunk.run(branches)
        for own in range(3):
            gradients = torch.autograd.grad(
                states[:, own].square().sum(), leaves, retain_graph=True
            )
            assert [bool(g.any()) for g in gradients] == [i == own for i in range(3)]


# --- random edits


@st.composite
def random_spec(draw: st.DrawFn) -> Spec:
    positions = draw(st.lists(st.sampled_from([0, 2, 4, -1, -2, -5]), min_size=1, max_size=3))
    spec: Spec = {
        "layer": draw(st.integers(0, 3)),
        "component": draw(st.sampled_from(["resid_post", "resid_pre", "attn_out", "mlp_out", "z"])),
        # lengths are 7 and up: these are all different places
        "positions": tuple(dict.fromkeys(positions)),
        "operation": draw(st.sampled_from(["add", "replace", "rotate"])),
        "each": draw(st.sampled_from([None, "position", "prompt"])),
    }
    if spec["component"] == "z" and draw(st.booleans()):
        spec["head"] = draw(st.integers(0, 3))
    return spec


def one_edit_a_site(specs: list[Spec]) -> list[Spec]:
    """At most one edit per site, so that their order says nothing."""
    sites = {}
    for spec in specs:
        below = spec["component"] == "resid_pre"
        sites[spec["layer"] - below, "resid_post" if below else spec["component"]] = spec
    return list(sites.values())


@settings(max_examples=12)
@given(
    case=st.lists(st.lists(random_spec(), max_size=3).map(one_edit_a_site), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_edits_equal_the_full_pass(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str, case: list[list[Spec]], seed: int
) -> None:
    model = tiny_model(tiny_kind)
    # five different places in each prompt, the shortest included: 0, 2, 4, and the last two
    prompts = ragged_prompts(model, 3, seed=seed, lengths=(10, 14))
    branches = branches_of(model, case, prompts, seed)
    trunk = Trunk.build(model, prompts, positions=positions_of(branches))
    found = branch_logits(trunk, branches)
    assert largest_difference(model, prompts, branches, found) < TOLERANCE
