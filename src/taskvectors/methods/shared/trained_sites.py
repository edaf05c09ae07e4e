"""Training at sites: what the configs of methods share that train something at a site."""

import logging
from typing import ClassVar

from pydantic import Field

from taskvectors.errors import DataError, PromptTooLongError
from taskvectors.methods.shared.at_sites import AtSites
from taskvectors.methods.shared.plan import Plan, read_work, training_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training.recipe import RECIPES, Recipe
from taskvectors.prompts import resolve_positions, with_first_tokens
from taskvectors.vectors import Site, sites_at

logger = logging.getLogger(__name__)


class SiteTraining(AtSites):
    """Where something is trained, and on what."""

    train_shots: int = Field(default=0, ge=0)
    """Demonstrations in the prompts it is trained and used on."""
    n_examples: int | None = Field(default=None, ge=1)
    """Training pairs to use; all by default."""

    recipe: Recipe
    """How it is trained."""
    has_named_recipes: ClassVar[bool] = False
    """Whether published settings under a name are of this method."""


def trained_sites(context: RunContext, config: SiteTraining) -> list[tuple[Site, ...]]:
    """The sites of everything that a config asks to train.

    By default that is one layer each, without the last one where nothing would carry what is
    changed there to the answer.

    Raises:
        UnsupportedModelError: The model has no such layer.
    """
    groups = config.groups(context.model)
    if config.layers is None and not _reach_the_answer(context, config):
        logger.warning(
            "no vector is learned at the last layer (%d): nothing above it could carry what is "
            "added at %s to the answer",
            groups.pop()[0],
            ", ".join(map(str, config.positions)),
        )
    return [sites_at(group, config.positions) for group in groups]


def recipe_for(context: RunContext, config: SiteTraining) -> Recipe:
    """A config's recipe, from zero where there is nothing to extract a start from."""
    recipe = config.recipe
    if recipe.initialisation != "extracted":
        return recipe
    why = _no_demonstrations(context, config)
    if why is None:
        return recipe
    logger.warning("training is as by the recipe from-zero: %s", why)
    ours, plain = Recipe(), RECIPES["from-zero"]
    changed = {
        name: getattr(plain, name)
        for name in ("initialisation", "distillation", "learning_rate")
        if getattr(recipe, name) == getattr(ours, name)  # the others were asked for
    }
    return recipe.model_copy(update=changed)


def _no_demonstrations(context: RunContext, config: SiteTraining) -> str | None:
    """Why no few-shot run can be had, to start from and to be close to; None if it can."""
    if config.train_shots:
        return f"its prompts have {config.train_shots} demonstrations of their own"
    if not context.shots:
        return "there are no demonstrations (shots 0)"
    try:
        pairs = zip(context.prompts("train"), context.prompts("train", context.shots), strict=True)
    except (DataError, PromptTooLongError) as error:
        return str(error)
    if any(plain.answer_ids != shown.answer_ids for plain, shown in pairs):
        return "answers are tokenized differently after demonstrations"
    return None


def reads_shots(config: SiteTraining) -> bool:
    """Whether a few-shot run is learned from, at the start or all along."""
    return bool(config.recipe.distillation) or config.recipe.initialisation == "extracted"


def _reach_the_answer(context: RunContext, config: SiteTraining) -> bool:
    """Whether each position is the last token, where even the last layer acts on the answer."""
    prompts = context.prompts("train", config.train_shots)
    return all(
        any(len(prompt.token_ids) - 1 in resolve_positions(prompt, (place,)) for prompt in prompts)
        for place in config.positions
    )


def plan_of_training(context: RunContext, config: SiteTraining) -> Plan:
    """What is read before, the steps and the checks, for any method that trains at sites."""
    recipe, shots = recipe_for(context, config), config.train_shots
    joins = tuple(min(site.layer for site in sites) for sites in trained_sites(context, config))
    train = context.prompts("train", shots)[: config.n_examples]
    if recipe.answer == "first-token":
        train = with_first_tokens(train)
    prompts = (train, context.prompts("validation", shots))
    steps = training_work(context, recipe, prompts, config.positions, joins)
    is_extracted = recipe.initialisation == "extracted"
    read = {context.shots: is_extracted or bool(recipe.distillation), 0: is_extracted}
    before = [read_work(context, "train", k, config.n_examples) for k in read if read[k]]
    return Plan(found=(*before, *steps), joins=joins, positions=config.positions, shots=shots)
