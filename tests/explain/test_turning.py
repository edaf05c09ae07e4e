"""Who turns a vector: parts that add up to the Jacobian, and models in which one part alone turns.

Run with `pytest tests/explain/test_turning.py`.
"""

from typing import Any

import pandas as pd
import pytest
import torch
from explain import planted

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES
from taskvectors.explain.shared.responses import Responses
from taskvectors.explain.shared.tangents import PARTS, tangents_above
from taskvectors.explain.turning import PATHS, turning
from taskvectors.models import patch
from taskvectors.vectors import Site, TaskVector


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def vector_at(model: Any, layer: int) -> TaskVector:
    return TaskVector(values=2 * drawn(1, model.d_model), sites=(Site(layer, -1),))


def numbers(frame: pd.DataFrame, measure: str, around: str = "vector") -> dict[str, float]:
    rows = frame[frame["measure"].eq(measure) & frame["around"].eq(around)]
    assert list(rows["text"]) == list(PATHS)
    return dict(zip(rows["text"], rows["value"], strict=True))


def test_the_parts_add_up_to_the_whole_jacobian(
    tiny_kind: str, tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    prompts, at = ragged_prompts(model, 3), 2 * drawn(model.d_model)
    followed = tangents_above(model, prompts, 1, at, torch.eye(model.d_model))
    whole = Responses.of(model, prompts, 1).mean_jacobian(at)  # differentiated backwards
    summed = torch.eye(model.d_model) + followed.parts.sum(dim=(1, 2)).mean(dim=1)
    scale = float(whole.abs().max())
    torch.testing.assert_close(summed.T / scale, whole / scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        followed.final.mean(dim=1).T / scale, whole / scale, atol=1e-5, rtol=0
    )


def test_the_ov_part_is_that_of_a_loop_over_heads(tiny_model: Any, ragged_prompts: Any) -> None:
    model, layer = tiny_model("llama"), 1
    (prompt,) = ragged_prompts(model, 1)
    at, tangent = 2 * drawn(32), drawn(32, seed=1)
    followed = tangents_above(model, [prompt], layer, at, tangent.unsqueeze(0))
    block = model.hf.model.layers[layer + 1]
    kept: dict[str, torch.Tensor] = {}

    def add(state: torch.Tensor) -> torch.Tensor:
        state = state.clone()
        state[:, -1] += at
        kept["state"] = state[0, -1]
        return state

    implementation = model.hf.config._attn_implementation
    model.hf.set_attn_implementation("eager")
    try:
        with torch.no_grad(), patch(model, layer, "resid_post", add):
            tokens = torch.tensor([prompt.token_ids])
            seen = model.hf(input_ids=tokens, output_attentions=True).attentions[layer + 1]
    finally:
        model.hf.set_attn_implementation(implementation)
    norm = block.input_layernorm
    rms = (kept["state"].square().mean() + norm.variance_epsilon).sqrt()
    read = norm.weight * tangent / rms
    wanted = torch.zeros(32)
    for head in range(4):
        value = block.self_attn.v_proj.weight[12 * (head // 2) : 12 * (head // 2 + 1)] @ read
        out = block.self_attn.o_proj.weight[:, 12 * head : 12 * (head + 1)]
        wanted += float(seen[0, head, -1, -1]) * (out @ value).detach()
    torch.testing.assert_close(followed.parts[0, 0, 0, 0], wanted, atol=1e-5, rtol=1e-4)


def test_shares_add_up_to_one_and_blocks_to_their_sum(
    tiny_kind: str, tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    found = turning(model, ragged_prompts(model, 4), vector_at(model, 0), [9, 20]).to_frame()
    for around in ("vector", "random"):
        for measure in ("image_share", "turn_share", "rank_gain_share"):
            assert sum(numbers(found, measure, around).values()) == pytest.approx(1, abs=1e-4)
        for measure in ("image_share", "turn_share"):
            blocks = found[found["measure"].eq(f"{measure}_of_block") & found["around"].eq(around)]
            assert set(blocks["layer"]) == {1, 2, 3}
            by_path = blocks.groupby("text")["value"].sum()
            for path in PARTS:
                wanted = numbers(found, measure, around)[path]
                assert by_path[path] == pytest.approx(wanted, abs=1e-6)
    (residual,) = found[found["measure"].eq("residual")]["value"]
    assert residual < 1e-5
    ranks = found[found["around"].eq("vector")].set_index("measure")["value"]
    gain = ranks["label_rank_of_image"] - ranks["label_rank"]
    assert sum(numbers(found, "rank_gain").values()) == pytest.approx(gain)


def turned(angle: float) -> torch.Tensor:
    turn, at = torch.eye(4), torch.tensor(angle)
    turn[0, 0] = turn[1, 1] = at.cos()
    turn[1, 0], turn[0, 1] = at.sin(), -at.sin()
    return turn


QUARTER = torch.pi / 2
LABEL = 9
"""The token that reads dimension 1, to which a quarter turn brings dimension 0."""


@pytest.mark.parametrize(
    ("model", "who"),
    [
        (planted.turned_by_head(turned(QUARTER)), "ov"),
        (planted.turned_then_scaled(turned(QUARTER), torch.eye(4)), "mlp"),
    ],
    ids=["ov", "mlp"],
)
def test_the_part_that_alone_turns_has_all_of_it(model: Any, who: str) -> None:
    vector = planted.along(0, size=1.0)
    found = turning(model, planted.prompts(3), vector, [LABEL]).to_frame()
    for measure in ("turn_share", "rank_gain_share"):
        wanted = {path: float(path == who) for path in PATHS}
        assert numbers(found, measure) == pytest.approx(wanted, abs=2e-3)
    # the image is the turned vector: of it, identity has nothing, and that part all
    assert numbers(found, "image_share")[who] == pytest.approx(1, abs=2e-3)
    of_block = found[found["measure"].eq("turn_share_of_block") & found["text"].eq(who)]
    own = of_block[of_block["around"].eq("vector")].set_index("layer")["value"]
    assert own.idxmax() == (planted.CARRIER_LAYER if who == "ov" else 1)
    cosine = found[found["measure"].eq("turn_cosine") & found["around"].eq("vector")]
    assert cosine["value"].iloc[0] == pytest.approx(0, abs=1e-3)


def test_a_pattern_that_alone_turns_has_all_of_it() -> None:
    plant = planted.by_pattern()
    prompts = planted.prompts(3)
    found = turning(plant.model, prompts, plant.vector, [planted.ANSWER]).to_frame()
    share = numbers(found, "turn_share")
    assert share["patterns"] == pytest.approx(1, abs=5e-2)
    assert numbers(found, "image_share")["patterns"] > 0.9
    assert numbers(found, "image_share")["ov"] == share["mlp"] == 0


def test_where_nothing_turns_no_share_is_given() -> None:
    plant = planted.directly()
    found = turning(plant.model, planted.prompts(3), plant.vector, [planted.ANSWER]).to_frame()
    assert not found["measure"].str.startswith("turn_share").any()
    assert numbers(found, "image_share") == {path: float(path == PATHS[0]) for path in PATHS}
    assert ANALYSES["turning"].summarise(found) == "cos(θ, Qθ) 1"


@pytest.mark.parametrize(
    ("sites", "message"),
    [((Site(4, -1),), "no block lies above"), ((Site(0, -1), Site(1, -1)), "is added at layers")],
)
def test_a_vector_without_a_way_of_its_own_is_refused(sites: Any, message: str) -> None:
    plant = planted.by_head()
    values = plant.vector.values.expand(len(sites), -1)
    with pytest.raises(TaskVectorsError, match=message):
        turning(plant.model, planted.prompts(3), TaskVector(values=values, sites=sites), [7])
