"""`learned`: the injected vector itself is trained, the model stays frozen.

The paper's loss is the mean negative log-probability of the answer's tokens, with θ added at the
chosen sites of prompts without demonstrations (or with, by option). By default half of ours is the
divergence from the few-shot run, and θ starts from what `vanilla` extracts. All candidates of a run
are trained side by side: one branch per layer, all in one pass over one trunk.

θ = s·u, with s the root mean square of the residual stream at the site: AdamW, its decay and the
initialisation act on u, so one learning rate fits all layers and models.
"""

from typing import ClassVar, Literal

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.shared.trained_sites import (
    SiteTraining,
    plan_of_training,
    reads_shots,
    recipe_for,
    trained_sites,
)
from taskvectors.methods.training.recipe import NamedRecipe, Recipe
from taskvectors.methods.training.vectors import train_vectors
from taskvectors.vectors import TaskVector

LTV = Paper(
    "Yang, Cho, Ding, Inoue",
    2026,
    "Task Vectors, Learned Not Extracted: Performance Gains and Mechanistic Insights",
    "https://arxiv.org/abs/2509.24169",
)


class Learned(SiteTraining):
    """A vector trained by gradient descent at any layers and positions."""

    kind: Literal["learned"] = "learned"
    recipe: NamedRecipe = Recipe()
    """How it is trained: a recipe, or the name of one."""
    has_named_recipes: ClassVar[bool] = True


def learned(context: RunContext, config: Learned) -> list[Candidate]:
    """One candidate per layer, or one for all given layers together.

    Raises:
        TaskVectorsError: The gradient of a vector is zero or not finite on the first step.
        MemoryBudgetError: A training step does not fit the budget.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169, AdamW on -log p(y|x, θ). We differ
        by default: the start is what `vanilla` extracts, half of the loss is the divergence from
        the few-shot run, the learning rate is relative to the residual stream, batches of 32, and
        the vector of the best validation check is kept.
    """
    sites, recipe = trained_sites(context, config), recipe_for(context, config)
    trained = train_vectors(context, sites, recipe, config.train_shots, config.n_examples)
    return [
        Candidate(
            method=config.kind,
            vector=TaskVector(
                values=result.values,
                sites=group,
                operation="add",
                origin=context.origin(
                    config.kind,
                    shots=config.train_shots,
                    settings=recipe.model_dump()
                    | {"s": list(result.scale), "alpha": result.strength},
                    scores={"validation_accuracy": result.validation_accuracy},
                ),
            ),
            shots=config.train_shots,
            cost=result.cost,
            converged=result.converged,
            curve=result.curve,
        )
        for group, result in zip(sites, trained, strict=True)
    ]


METHODS.register(
    Method(
        config=Learned,
        find=learned,
        plan=plan_of_training,
        title="Learned vector",
        summary="the injected vector trained by gradient descent, the model frozen (LTV)",
        papers=(LTV,),
        fails="Near the last layer it can be little more than a bias on the answer (compare with "
        "the control logit-bias), and positions that no answer token sees have nothing to learn.",
        quick={"recipe": Recipe(steps=2, batch_size=4, check_every=1)},
        reads_shots=reads_shots,
    )
)
