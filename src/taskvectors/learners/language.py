"""The TVP-loss on a pretrained language model and word tasks: does it form a vector there, too?

Training goes on from the pretrained weights, embeddings frozen, on few-shot prompts of some tasks;
whole groups of tasks are held out. z is the last token of the answer cue. The vector is the state
after block l* there, in the prompt of a dummy query; it replaces the state at the same place of
another query's prompt without demonstrations. Vanilla is trained on L_ICL alone, on as many tokens.
"""

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import read_json, write_whole
from taskvectors.learners.checkpoints import (
    Checkpoint,
    check_same_run,
    read_checkpoint,
    write_checkpoint,
    write_run,
)
from taskvectors.learners.language_measures import Row, measured_rows
from taskvectors.models import LanguageModel, load_model
from taskvectors.models.prefix import after_prefix
from taskvectors.models.sites import capture, patch
from taskvectors.progress import track
from taskvectors.prompts import Prompt, build_prompts, safe_pairs
from taskvectors.tasks import Task, load_task
from taskvectors.trunk import FullForward

logger = logging.getLogger(__name__)

CHECKPOINT, WEIGHTS, RESULTS, METRICS = (
    "checkpoint.pt", "weights.safetensors", "results.json", "metrics.jsonl"
)  # fmt: skip
VariantName = Literal["pretrained", "vanilla", "tvp"]


class LanguageConfig(BaseModel):
    """What is trained on, how, and what it is measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    model: str = "embedded"
    """Whatever `load_model` takes; it is loaded in float32."""
    trained: tuple[str, ...] = (
        "capitalize", "lowercase-uppercase", "english-french", "english-spanish", "antonym",
        "present-past", "singular-plural", "masculine-feminine", "element-symbol", "sentiment",
    )  # fmt: skip
    """Tasks to train on."""
    held_out: tuple[str, ...] = (
        "capital", "country-language", "country-currency", "next-item", "number-word",
    )  # fmt: skip
    """Tasks to measure on only: all about countries, and all about sequences."""
    shots: int = Field(default=8, ge=1)
    """Demonstrations in a few-shot prompt."""
    tvp_layer: int = Field(default=9, ge=0)
    """l*: the block, from 0, after which the vector is formed."""
    tvp_weight: float = Field(default=1.0, gt=0)
    """λ."""
    steps: int = Field(default=300, ge=1)
    """Steps with the TVP-loss; vanilla gets more, until it has seen as many tokens."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts per step, each of a task drawn anew."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Of AdamW, after a rise over a tenth of the steps; it falls to zero along a line."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """`bfloat16` computes matrix products in it; weights and optimizer stay float32."""
    n_test: int = Field(default=60, ge=2)
    """Most test queries of a task."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Of splits and prompts."""

    @model_validator(mode="after")
    def _are_apart(self) -> "LanguageConfig":
        both = sorted(set(self.trained) & set(self.held_out))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be trained on and held out")
        return self


def train_language(config: LanguageConfig, folder: Path) -> list[Row]:
    """Measure a pretrained model, and what continued training with and without L_TVP makes of it.

    Args:
        config: What is trained on, how, and what it is measured on.
        folder: Where to; a folder per variant. A run that was cut off goes on.

    Returns:
        Rows by variant, task and layer; see `measured_rows`.

    Raises:
        DataError: The folder holds a run with other settings.
        TaskVectorsError: The model has too few blocks for the layer.

    Source:
        Yang et al. (2025), https://arxiv.org/abs/2501.09240, who train on MetaICL's tasks at larger
        size. Tasks, sizes and settings are ours; so is that L_ICL is over the query's answer alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = config.model_dump(mode="json")
    check_same_run(folder / "run.json", asked)
    write_run(folder / "run.json", asked)
    tasks = {
        name: load_task(name, seed=config.seed) for name in (*config.trained, *config.held_out)
    }
    rows: list[Row] = []
    for name in ("pretrained", "tvp", "vanilla"):
        rows += _variant(name, config, tasks, folder / name)
    write_whole(folder / RESULTS, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


def _variant(
    name: VariantName, config: LanguageConfig, tasks: Mapping[str, Task], folder: Path
) -> list[Row]:
    """A variant's rows; measured once, then kept."""
    kept = folder / RESULTS
    if kept.is_file():
        logger.info("%s: finished before", name)
        advice = "delete it, and the variant is measured again"
        found: dict[str, list[Row]] = read_json(kept, dict[str, list[dict[str, Any]]], advice)
        return found.get("rows", [])
    folder.mkdir(exist_ok=True)
    model = load_model(config.model, dtype="float32")
    if not config.tvp_layer < model.n_layers - 1:
        raise TaskVectorsError(
            f"tvp_layer {config.tvp_layer} is too late: after it a block has to read the query, so "
            f"{model.source}, of {model.n_layers} blocks, takes 0 to {model.n_layers - 2}"
        )
    if (folder / WEIGHTS).is_file():
        restore_weights(model, folder)
    elif name != "pretrained":
        draws = Draws(model, config, [tasks[one] for one in config.trained])
        _Run(model, config, draws, folder, with_tvp=name == "tvp").train()
    logger.info("%s: measuring on %d tasks", name, len(tasks))
    rows = [
        {"variant": name, "seed": config.seed, "tvp_layer": config.tvp_layer, **row}
        for row in measured_rows(
            model, tasks, held_out=config.held_out, shots=config.shots, n_test=config.n_test,
            seed=config.seed,
        )
    ]  # fmt: skip
    write_whole(kept, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


@dataclass(frozen=True, kw_only=True)
class Step:
    """The prompts of one step, row by row of one task each."""

    shown: tuple[Prompt, ...]
    """With demonstrations: their answers are L_ICL's, and their last states are the vectors."""
    asked: tuple[Prompt, ...]
    """Without, of other queries of the same tasks: their answers are L_TVP's."""

    def n_tokens(self, *, with_tvp: bool) -> int:
        """Tokens that go through the model."""
        prompts = (*self.shown, *self.asked) if with_tvp else self.shown
        return sum(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)


@dataclass(frozen=True)
class Draws:
    """The prompts of every step, a function of seed and step."""

    model: LanguageModel
    config: LanguageConfig
    tasks: Sequence[Task]

    def at(self, step: int) -> Step:
        """The prompts of a step."""
        config = self.config
        rng = random.Random(repr((config.seed, step)))
        shown: list[Prompt] = []
        asked: list[Prompt] = []
        for _ in range(config.batch_size):
            task = rng.choice(self.tasks)
            dummy, query = rng.sample(task.train, 2)
            pool = safe_pairs(task.train, (dummy, query))
            demonstrations = rng.sample(pool, config.shots)
            build = partial(build_prompts, self.model.tokenizer, task.template)
            shown += build([dummy], demonstrations=demonstrations, shots=config.shots)
            asked += build([query])
        return Step(shown=tuple(shown), asked=tuple(asked))

    def steps_of_equal_tokens(self) -> int:
        """Steps after which vanilla has seen as many tokens as all steps with the TVP-loss have."""
        steps = range(self.config.steps)
        wanted = sum(self.at(step).n_tokens(with_tvp=True) for step in steps)
        seen = number = 0
        while seen < wanted:
            seen += self.at(number).n_tokens(with_tvp=False)
            number += 1
        return number


def language_losses(
    model: LanguageModel, step: Step, layer: int | None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L_ICL and L_TVP of the prompts of a step; the second is 0 without a layer.

    The gradient of L_TVP reaches the demonstrations through the vectors.
    """
    forward = after_prefix(model, ())
    shown = FullForward.of(model, step.shown, forward)
    if layer is None:
        loss = shown.losses(shown.batch())[0]
        return loss, torch.zeros_like(loss)
    states: list[Tensor] = []
    with capture(model, layer, "resid_post", states.append):
        in_context = shown.losses(shown.batch())[0]
    rows = torch.arange(len(step.shown), device=model.device)
    vectors = states[0][rows, _last(model, step.shown)]
    asked = FullForward.of(model, step.asked, forward)
    put = partial(_put, vectors, rows, _last(model, step.asked))
    with patch(model, layer, "resid_post", put):
        prompted = asked.losses(asked.batch())[0]
    return in_context, prompted


def _last(model: LanguageModel, prompts: Sequence[Prompt]) -> Int[Tensor, " row"]:
    """The last token of each prompt; answers and padding follow it."""
    return torch.tensor([len(prompt.token_ids) - 1 for prompt in prompts], device=model.device)


def _put(vectors: Tensor, rows: Tensor, at: Tensor, state: Tensor) -> Tensor:
    return state.index_put((rows, at), vectors.to(state.dtype))


class _Run:
    """Continued training of a model, in place."""

    def __init__(
        self,
        model: LanguageModel,
        config: LanguageConfig,
        draws: Draws,
        folder: Path,
        *,
        with_tvp: bool,
    ) -> None:
        self.model, self.config, self.draws, self.folder = model, config, draws, folder
        self.layer = config.tvp_layer if with_tvp else None
        self.steps = config.steps if with_tvp else draws.steps_of_equal_tokens()
        self.step, self.metrics = 0, list[Mapping[str, Any]]()
        self.parameters = dict(_trained_parameters(model))
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=0.0, weight_decay=0.0)

    def train(self) -> None:
        """All steps that are left; the weights are written at the end."""
        self._restore()
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        with track("training", self.steps, initial=self.step) as progress:
            while self.step < self.steps:
                self._one()
                if self.step % self.config.checkpoint_every == 0 and self.step < self.steps:
                    self._save()
                progress.update(note=f"loss {self.metrics[-1]['icl_loss']:.4g}")
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
        self._finish()

    def _one(self) -> None:
        step = self.draws.at(self.step)
        rise = min(1.0, (self.step + 1) / max(1, self.steps // 10))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rise * (1 - self.step / self.steps)
        autocast = torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        )
        with autocast:
            in_context, prompted = language_losses(self.model, step, self.layer)
        self.optimizer.zero_grad(set_to_none=True)
        (in_context + self.config.tvp_weight * prompted).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.metrics.append(
            {
                "step": self.step,
                "icl_loss": float(in_context.detach()),
                "tvp_loss": None if self.layer is None else float(prompted.detach()),
                "tokens": step.n_tokens(with_tvp=self.layer is not None),
            }
        )

    def _save(self) -> None:
        held = Checkpoint(
            step=self.step,
            weights={name: value.detach() for name, value in self.parameters.items()},
            optimizer=self.optimizer.state_dict(),
            metrics=[dict(point) for point in self.metrics],
        )
        write_checkpoint(self.folder / CHECKPOINT, held)

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        held = read_checkpoint(path, self.model.device)
        _copy_weights(self.parameters, held.weights, path)
        self.optimizer.load_state_dict(held.optimizer)
        self.step, self.metrics = held.step, list(held.metrics)
        logger.info("going on from step %d", self.step)

    def _finish(self) -> None:
        from safetensors.torch import save_file

        weights = {name: value.detach() for name, value in self.parameters.items()}
        write_whole(self.folder / WEIGHTS, lambda partial: save_file(weights, partial))
        lines = "".join(json.dumps(point) + "\n" for point in self.metrics)
        write_whole(self.folder / METRICS, lines)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def restore_weights(model: LanguageModel, folder: Path) -> None:
    """Give a pretrained model the weights that a variant's training ended with.

    Raises:
        DataError: The file of weights is damaged, or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        held = load_file(path, device=str(model.device))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_TRAIN_AGAIN}") from error
    _copy_weights(dict(_trained_parameters(model)), held, path)


_TRAIN_AGAIN = "delete it, and the variant is trained again"


def _copy_weights(
    parameters: Mapping[str, torch.nn.Parameter], held: Mapping[str, Tensor], path: Path
) -> None:
    wrong = [
        name for name, p in parameters.items() if name not in held or held[name].shape != p.shape
    ]
    if wrong:
        raise DataError(f"{path} is of another model (it has no {wrong[0]}); {_TRAIN_AGAIN}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(held[name])


def _trained_parameters(model: LanguageModel) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """All but the embeddings, which are the unembedding, too, in many models."""
    frozen = {
        id(parameter)
        for module in (model.hf.get_input_embeddings(), model.hf.get_output_embeddings())
        for parameter in module.parameters()
    }
    for name, parameter in model.hf.named_parameters():
        if id(parameter) not in frozen:
            yield name, parameter
