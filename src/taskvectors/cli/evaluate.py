"""`taskvectors evaluate`: what a saved vector does on a task."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import Output, VectorModelChoice, VectorTaskChoice, default
from taskvectors.cli.results import Result, Table
from taskvectors.cli.train import evaluate_learner
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.methods import RunContext
    from taskvectors.models import LanguageModel
    from taskvectors.tasks import Task
    from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a saved vector on a task, or a learner, beside the same prompts without it."""

    vector: Annotated[str, default("none")] = ""
    """Folder of the vector, or of a run that has one."""
    learner: Annotated[str, default("none")] = ""
    """Folder of a learner, or one that comes with the package, to measure on its own task."""
    family: Annotated[str, default("the learner's")] = ""
    """Python file of the family that a learner was trained on, where that is in one."""
    trials: int = 1280
    """Questions to measure a learner on."""
    split: Literal["train", "validation", "test"] = "test"
    """The pairs to measure on."""
    strengths: Annotated[tuple[float, ...], arg(aliases=["--strength"])] = (1.0,)
    """Factors of the vector; negative ones push away from the task."""
    shots: Annotated[int | None, default("those of the prompts it was made for")] = None
    """Demonstrations in the prompts."""
    end_of_answer: bool = False
    """Count an answer as right only if the next token ends it: a new line, or the end of text."""
    side_effects: bool = False
    """Measure what each strength does to unrelated text, too."""
    task: VectorTaskChoice
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Measure it."""
        if self.learner:
            return evaluate_learner(
                self.learner, family=self.family, trials=self.trials, seed=self.task.seed or 0
            )
        if not self.vector:
            raise TaskVectorsError("give --vector, or --learner")
        from taskvectors.evaluate import dose_response
        from taskvectors.vectors import TaskVector

        vector = TaskVector.load(self.vector)
        task = self.unseen_task(vector)
        model = self.model.config_for(vector).load()
        context = self.context(vector, model, task)
        shots, notes = context.shots, context.notes_on_ends(self.split)
        found = dose_response(
            model,
            context.prompts(self.split, shots),
            vector,
            self.strengths,
            labels=context.labels,
            memory=context.memory,
        )
        effects = self._side_effects(context, vector) if self.side_effects else {}
        rows = [
            _row(vector, strength, shots) | asdict(measures) | effects.get(strength, {})
            for strength, measures in found
        ]
        data = {
            "vector": self.vector,
            "method": vector.origin.method,
            "model": model.source,
            "family": model.model_type,
            "engine": model.engine,
            "task": task.name,
            "template": context.template,
            "split": self.split,
            "seed": context.seed,
            "end_of_answer": self.end_of_answer,
            "notes": notes,
            "rows": rows,
        }
        return Result(data=data, shown=[_table(rows), *(f"Note: {note}" for note in notes)])

    def unseen_task(self, vector: "TaskVector") -> "Task":
        """The task, of which the vector has not seen the split that it is measured on."""
        from taskvectors.vectors import check_unseen, task_of

        task = task_of(vector.origin, self.task.task, **self.task.changes())
        if not self.task.allow_overlap:
            check_unseen(vector.origin, getattr(task, self.split))
        return task

    def context(self, vector: "TaskVector", model: "LanguageModel", task: "Task") -> "RunContext":
        """The prompts to measure on."""
        from taskvectors.methods import RunContext

        origin = vector.origin
        return RunContext(
            model=model,
            task=task,
            template=self.task.template or origin.template,
            shots=(origin.used_shots or 0) if self.shots is None else self.shots,
            seed=(origin.seed or 0) if self.task.seed is None else self.task.seed,
            memory=self.model.budget(model),
            chat=self.task.chat or bool(origin.chat),
            end_of_answer=self.end_of_answer,
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
    from taskvectors.methods.shared.layers import layer_name

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
