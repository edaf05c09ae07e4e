"""The planted models do what the other tests take for granted."""

import pytest
import torch
from explain import planted

from taskvectors.evaluate import score


@pytest.mark.parametrize("plant", [planted.by_head, planted.by_mlp, planted.directly])
def test_a_planted_vector_gives_its_token_and_no_vector_another(plant) -> None:
    case = plant()
    scores = score(case.model, planted.prompts(), [(), case.vector.edits()])
    assert (scores.first_token[0] == planted.PLAIN_TOKEN).all()
    assert (scores.first_token[1] == planted.ANSWER).all()


def test_a_vector_is_turned_and_scaled_as_planted() -> None:
    from taskvectors.trunk import Edit, Trunk

    angle = torch.tensor(0.7)
    turn = torch.eye(4)
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[1, 0], turn[0, 1] = angle.sin(), -angle.sin()
    scale = torch.diag(torch.tensor([3.0, 3.0, 0.5, 0.5]))
    model = planted.turned_then_scaled(turn, scale)
    vector = torch.zeros(planted.D_MODEL)
    vector[:4] = torch.tensor([1.0, 0.5, -0.5, 2.0])
    trunk = Trunk.build(model, planted.prompts(3))
    with torch.no_grad():
        states = trunk.run([(), *([Edit(layer=layer, value=vector)] for layer in (0, 1, 3))])
    change = (states[:, 1:, 0] - states[:, :1, 0])[..., :4]
    wanted = torch.stack([scale @ turn @ vector[:4], scale @ vector[:4], vector[:4]])
    torch.testing.assert_close(change, wanted.expand(3, 3, 4), atol=2e-3, rtol=2e-3)
