"""`taskvectors evaluate`: what a saved vector does on a task."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import ModelChoice, Output, TaskChoice, default
from taskvectors.cli.results import Result, Table
from taskvectors.cli.train import evaluate_learner
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.methods import RunContext
    from taskvectors.tasks import Task
    from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VectorTask(TaskChoice):
    """What a vector is measured on."""

    task: Annotated[str, default("none")] = ""
    """A built-in task (`taskvectors tasks`), a file of input/output pairs, or hub:OWNER/NAME."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a saved vector on a task, or a learner, beside the same prompts without it."""

    vector: Annotated[str, default("none")] = ""
    """Folder of the vector; then --task has to be given."""
    learner: Annotated[str, default("none")] = ""
    """Folder of a learner, or one that comes with the package, to measure on its own task."""
    trials: int = 1280
    """Questions to measure a learner on."""
    split: Literal["train", "validation", "test"] = "test"
    """The pairs to measure on."""
    strengths: Annotated[tuple[float, ...], arg(aliases=["--strength"])] = (1.0,)
    """Factors of the vector; negative ones push away from the task."""
    shots: int = 0
    """Demonstrations in the prompts."""
    side_effects: bool = False
    """Measure what each strength does to unrelated text, too."""
    seed: Annotated[int | None, default("the vector's")] = None
    """Seed of split and demonstrations."""
    task: VectorTask
    model: ModelChoice
    output: Output

    def run(self) -> Result:
        """Measure it."""
        if self.learner:
            return evaluate_learner(self.learner, trials=self.trials, seed=self.seed or 0)
        if not (self.vector and self.task.task):
            raise TaskVectorsError("give --vector and --task, or --learner")
        loading = self.model.config()
        from taskvectors.evaluate import dose_response
        from taskvectors.methods import RunContext
        from taskvectors.vectors import TaskVector

        vector = TaskVector.load(self.vector)
        own_seed = vector.origin.seed or 0
        seed = own_seed if self.seed is None else self.seed
        task = self.task.load(seed)
        model = loading.load()
        context = RunContext(
            model=model,
            task=task,
            template=self.task.template or vector.origin.template,
            shots=self.shots,
            seed=seed,
            memory=self.model.budget(model),
            chat=self.task.chat,
        )
        found = dose_response(
            model,
            context.prompts(self.split, self.shots),
            vector,
            self.strengths,
            labels=context.labels,
            memory=context.memory,
        )
        self._check_splits(vector, task, seed)
        effects = self._side_effects(context, vector) if self.side_effects else {}
        rows = [
            _row(vector, strength, self.shots) | asdict(measures) | effects.get(strength, {})
            for strength, measures in found
        ]
        data = {
            "vector": self.vector,
            "method": vector.origin.method,
            "model": model.source,
            "family": model.model_type,
            "task": task.name,
            "template": context.template,
            "split": self.split,
            "seed": seed,
            "rows": rows,
        }
        return Result(data=data, shown=[_table(rows)])

    def _check_splits(self, vector: "TaskVector", task: "Task", seed: int) -> None:
        """Warn where the pairs may not be new to the vector, or are shown in another form."""
        origin = vector.origin
        if task.name != origin.task:
            return
        sizes = {name: len(getattr(task, name)) for name in origin.split_sizes}
        differences = []
        if seed != (origin.seed or 0):
            differences.append(f"seed {origin.seed or 0}, not {seed}")
        if sizes != origin.split_sizes:
            sizes_of = [", ".join(map(str, of.values())) for of in (origin.split_sizes, sizes)]
            differences.append(f"splits of {sizes_of[0]} pairs, not {sizes_of[1]}")
        if differences:
            logger.warning(
                "the vector was made with %s: it may have seen the %s pairs",
                " and ".join(differences),
                self.split,
            )
        if origin.chat is not None and origin.chat != self.task.chat:
            logger.warning(
                "the vector was made %s --chat, and is measured %s",
                *(("with", "without it") if origin.chat else ("without", "with it")),
            )

    def _side_effects(
        self, context: "RunContext", vector: "TaskVector"
    ) -> dict[float, dict[str, Any]]:
        from taskvectors.evaluate import side_effects

        return {
            strength: asdict(
                side_effects(context.model, vector, strength=strength, memory=context.memory)
            )
            for strength in self.strengths
            if strength != 0
        }


def _row(vector: "TaskVector", strength: float, shots: int) -> dict[str, Any]:
    from taskvectors.methods.shared.run_context import layer_name

    if strength == 0:
        method = "icl" if shots else "zero-shot"
        return {"method": method, "layers": [], "positions": [], "shots": shots, "strength": 0.0}
    return {
        "method": vector.origin.method,
        "layers": [layer_name(layer) for layer in vector.layers],
        "positions": list(vector.positions),
        "shots": shots,
        "strength": strength,
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from taskvectors.format import percent, percent_range, whole

    texts: dict[str, Callable[[dict[str, Any]], str]] = {
        "method": lambda row: row["method"] or "vector",
        "strength": lambda row: f"{row['strength']:g}",
        "accuracy": lambda row: percent(row["accuracy"], 1),
        "95 % interval": lambda row: percent_range(row["ci_low"], row["ci_high"], 1),
        "first token": lambda row: percent(row["first_token_accuracy"], 1),
        "among labels": lambda row: percent(row["label_accuracy"], 1),
        "log p": lambda row: f"{row['answer_logprob']:.2f}",
        "n": lambda row: whole(row["n"]),
    }
    if any("kl" in row for row in rows):
        texts["KL elsewhere"] = lambda row: f"{row['kl']:.3f}" if "kl" in row else ""
        texts["perplexity elsewhere"] = _perplexity
    return Table(
        headings=tuple(texts),
        rows=[[text(row) for text in texts.values()] for row in rows],
        numbers=frozenset(texts) - {"method"},
    )


def _perplexity(row: dict[str, Any]) -> str:
    if "perplexity" not in row:
        return ""
    return f"{row['perplexity']:.1f} (plain {row['perplexity_plain']:.1f})"
