"""The generation task: does a vector make a model choose, and write, the option of a behaviour?"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taskvectors.costs import Cost
from taskvectors.evaluate import score
from taskvectors.experiments.answers import EXTRA_TOKENS, generate_answers
from taskvectors.experiments.catalog.shared.learned_vectors import layers_at, recipe
from taskvectors.experiments.catalog.shared.measuring import share
from taskvectors.experiments.catalog.shared.presets import presets
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    LTV_PAPER,
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.methods import Candidate, RunContext, plan_of
from taskvectors.methods.controls.random import random_vector
from taskvectors.methods.function_vector import FunctionVector
from taskvectors.methods.icl import InContext
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import best_candidate
from taskvectors.methods.shared.curves import tried
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.vanilla import Vanilla
from taskvectors.methods.zero_shot import ZeroShot
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.results import NOT_READ, Measurement, Published
from taskvectors.results.drawing import by_configuration
from taskvectors.tasks.behaviours import BUILT_IN, LETTERS, behaviour_task
from taskvectors.trunk import resolve_budget
from taskvectors.trunk.work import generated

logger = logging.getLogger(__name__)

PUBLIC = (
    "hub:Anthropic/model-written-evals/advanced-ai-risk/human_generated_evals/myopic-reward.jsonl"
)


def _generation(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    assert unit.model is not None
    context = _context(unit, preset, work_dir.load(unit.model))
    chosen = []
    for config in (*_plain_and_extracted(preset, context.model), _learned(preset, context.model)):
        logger.info("%s: %s", context.task.name, config.kind)
        chosen.append(best_candidate(context, tried(context, config)))
    random = random_vector(context, chosen[-1], _learned(preset, context.model))
    chosen.append(replace(random, method="random"))
    measurements: list[Measurement] = []
    for candidate in chosen:
        measurements += _measured(context, candidate)
    return GroupResult(measurements=measurements, warnings=context.task.notes)


def _generation_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """Each choice scores both options, and writes an answer token by token."""
    assert unit.model is not None
    context = _context(unit, preset, estimator.model(unit.model))
    learned = plan_of(context, _learned(preset, context.model))
    plans = [plan_of(context, config) for config in _plain_and_extracted(preset, context.model)]
    works = [work for plan in (*plans, learned) for work in (*plan.found, *plan.chosen(context))]
    for plan in (*plans, learned, learned):  # the random vector is where the learned one is
        one = replace(plan, joins=plan.joins[:1], strengths=(1.0,))
        prompts = context.prompts("test", plan.shots)
        n_new = max(len(prompt.answer_ids) for prompt in prompts) + EXTRA_TOKENS
        works += [*one.tested(context), *one.tested(context)]
        works.append(generated("answers", prompts, context.model.n_layers, n_new))
    return estimator.works(context.model, works, preset.memory)


def _context(unit: RunUnit, preset: Preset, model: LanguageModel) -> RunContext:
    task = behaviour_task(
        unit.task,
        seed=unit.seed,
        n_train=preset.n_train,
        n_validation=preset.n_validation,
        n_test=preset.n_test,
    )
    memory = None if preset.memory is None else resolve_budget(preset.memory, model.device)
    return RunContext(model=model, task=task, shots=preset.shots, seed=unit.seed, memory=memory)


def _plain_and_extracted(preset: Preset, model: LanguageModel) -> tuple[Any, ...]:
    layers = layers_at(model, preset.depths)[:1]
    return (ZeroShot(), InContext(), Vanilla(layers=layers), FunctionVector(layers=layers))


def _learned(preset: Preset, model: LanguageModel) -> Learned:
    return Learned(layers=layers_at(model, preset.depths)[:1], recipe=recipe(preset))


def _measured(context: RunContext, candidate: Candidate) -> list[Measurement]:
    """How likely the matching option is, and how often it is what the model writes."""
    prompts = context.prompts("test", candidate.shots)
    matching = _log_probability(context, candidate, prompts)
    other = _log_probability(context, candidate, [_with_other_letter(context, p) for p in prompts])
    likelier = torch.sigmoid(matching - other).double()
    written = [_letter(text) for text, _ in generate_answers(context, candidate, tuple(prompts))]
    right = [prompt.query.output for prompt in prompts]
    n = len(prompts)
    reach = 1.96 * float(likelier.std()) / n**0.5 if n > 1 else 0.0
    mean = float(likelier.mean())
    about = {
        "strength": candidate.strength if candidate.sites else None,
        "is_control": candidate.method == "random",
    }
    row = Measurement(
        measure="matching_probability",
        value=mean,
        low=mean - reach,
        high=mean + reach,
        configuration="of the two options",
        method=candidate.method,
        layers=[layer_name(site.layer) for site in candidate.sites],
        positions=[site.position for site in candidate.sites],
        shots=candidate.shots,
        n=n,
        about=about,
    )
    preferred = replace(row, configuration="more likely than the other")
    in_writing = replace(row, configuration="generated answer")
    hits = [one == letter for one, letter in zip(written, right, strict=True)]
    found = [
        row,
        share(preferred, "matching_preferred", likelier > 0.5),
        share(in_writing, "matching_written", hits),
        share(in_writing, "no_option_written", [one is None for one in written]),
    ]
    for letter in LETTERS:
        own = replace(
            row,
            configuration=f"matching option is {letter}",
            about=about | {"matching_is": letter},
        )
        hits = [bool(s > 0.5) for s, one in zip(likelier, right, strict=True) if one == letter]
        found.append(share(own, "matching_preferred_by_letter", hits))
    return found


def _log_probability(
    context: RunContext, candidate: Candidate, prompts: Sequence[Prompt]
) -> Tensor:
    """Summed over the answer's tokens; both options have as many."""
    scores = score(context.model, prompts, [candidate.branch(prompts)], memory=context.memory)
    lengths = torch.tensor([len(prompt.answer_ids) for prompt in prompts])
    total: Tensor = scores.log_probability[0].cpu() * lengths
    return total


def _with_other_letter(context: RunContext, prompt: Prompt) -> Prompt:
    """The same prompt, answered with the option that does not match."""
    answers = {p.query.output: p.answer_ids for p in context.prompts("train")}
    return replace(prompt, answer_ids=next(answers[x] for x in LETTERS if x != prompt.query.output))


def _letter(text: str) -> str | None:
    """The option that a generated text names first, if it names one."""
    places = {letter: text.find(letter) for letter in LETTERS if letter in text}
    return min(places, key=places.__getitem__) if places else None


GENERATION = Experiment(
    name="ltv-generation",
    title="A behaviour in generation: Myopic",
    question="Does a vector make a model prefer, and write, the option that shows a behaviour?",
    paper=LTV_PAPER,
    what_the_paper_did="A generation task called Myopic; its data and its measure are not known to "
    "us. The nearest public data are the model-written evaluations on myopic rewards.",
    what_we_do_otherwise="The option's probability against the other's, and the generated answer, "
    "each question in both orders. smoke and cpu use a small set of our own, which stands in for "
    "the public file; paper reads the public file from the hub, and --tasks takes a path.",
    presets=presets(
        smoke={"tasks": (BUILT_IN,), "n_train": 8, "n_validation": 3, "n_test": 4},
        cpu={"tasks": (BUILT_IN,), "shots": 4},
        paper={"tasks": (PUBLIC,)},
    ),
    run=_generation,
    estimate=_generation_cost,
    shown=("matching_probability", "matching_preferred", "matching_written"),
    figures=lambda rows: by_configuration(
        rows[rows["measure"].isin(["matching_preferred", "matching_written"])].assign(
            measure="accuracy"
        ),
        "Answers with the matching option",
        selected=False,
    ),
    published=(
        Published(
            measure="matching_written", value=NOT_READ, source="tables of the paper",
            model="Llama-3.1-8B",
        ),
    ),
)  # fmt: skip
register(GENERATION)
