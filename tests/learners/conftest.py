"""Small learners with random weights that are large enough for every part to act."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_learner() -> Callable[..., Any]:
    """`tiny_learner(task, body="gpt2", **settings)`: 3 layers, never trained."""
    import torch

    from taskvectors.learners import Learner, LearnerShape, load_family

    def build(task: str, body: Any = "gpt2", **settings: Any) -> Learner:
        family = load_family(task, settings)
        hf = LearnerShape(body=body, n_layers=3, d_model=16, n_heads=2).build(family, seed=0)
        generator = torch.Generator().manual_seed(1)
        for parameter in hf.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        return Learner(hf=hf, family=family, family_source=task)

    return build


@pytest.fixture(scope="session")
def tiny_batch() -> Callable[..., Any]:
    """`tiny_batch(family, n=4, seed=0)`: training sequences."""
    from taskvectors.learners import CurriculumStage
    from taskvectors.learners.family import generator_for

    def draw(family: Any, n: int = 4, seed: int = 0, **stage: Any) -> Any:
        generator = generator_for("cpu", seed)
        return family.batch(family.draw_tasks(n, generator), generator, CurriculumStage(**stage))

    return draw


@pytest.fixture(scope="session")
def tiny_eval_batch() -> Callable[..., Any]:
    """`tiny_eval_batch(family, n=4, seed=0, **options)`: questions."""
    from taskvectors.learners.family import generator_for

    def draw(family: Any, n: int = 4, seed: int = 0, **options: Any) -> Any:
        generator = generator_for("cpu", seed)
        shown = options.pop("n_demonstrations", family.n_demonstrations)
        return family.eval_batch(family.draw_tasks(n, generator), generator, shown, **options)

    return draw
