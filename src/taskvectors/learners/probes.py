"""Where in a learner the task is written, whether or not anything reads it from there."""

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.models.tensors import in_double


def linear_probe(
    states: Float[Tensor, "trial d_model"],
    targets: Float[Tensor, "trial label"],
    *,
    penalty: float = 1e-3,
) -> float:
    """R² of the task's parameters predicted linearly from states, on trials not fitted on.

    Ridge regression with an intercept on the first half, scored on the second; the penalty is in
    units of the states' mean variance. 1 is a task that can be read off exactly, 0 the mean task.

    Args:
        states: One state per trial, each trial a task of its own.
        targets: Its parameters.
        penalty: Weight of the penalty.

    Raises:
        TaskVectorsError: There are fewer than four trials.

    Source: ours, as a second measure beside task-vector prompting.
    """
    half = len(states) // 2
    if half < 2:
        raise TaskVectorsError(
            f"{len(states)} trials are too few to read a task off states; give at least 4"
        )
    x, y = in_double(states), in_double(targets)
    mean_x, mean_y = x[:half].mean(dim=0), y[:half].mean(dim=0)
    fitted, aim = x[:half] - mean_x, y[:half] - mean_y
    gram = fitted.T @ fitted
    scale = penalty * gram.diagonal().mean()
    ridge = gram + scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(ridge, fitted.T @ aim)
    predicted = (x[half:] - mean_x) @ weights + mean_y
    left = (y[half:] - predicted).square().sum()
    total = (y[half:] - mean_y).square().sum()
    return float(1 - left / total)


def task_share(states: Float[Tensor, "trial dummy d_model"]) -> float | None:
    """Share of the states' variance that lies between tasks, not between queries of one task.

    Near 1 the state is the same whatever the query is; near 0 it is about the query. None where
    there is one dummy: a vector that is read at a delimiter has seen no query.

    Source: ours: the variance between tasks over the sum of that and the variance within them. The
        variance between tasks is corrected for the spread of means of few queries.
    """
    if states.shape[1] < 2:
        return None
    within = states.var(dim=1).sum(dim=-1).mean()
    between = states.mean(dim=1).var(dim=0).sum() - within / states.shape[1]
    between = between.clamp(min=0)
    return float(between / (between + within))
