"""`taskvectors evaluate`: what a saved vector does on a task."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import (
    Output,
    VectorModelChoice,
    VectorTaskChoice,
    checked,
    default,
)
from taskvectors.cli.folders import folder_for
from taskvectors.cli.reports import page_tables, shown_learners, with_report
from taskvectors.cli.results import Result
from taskvectors.cli.typed import command_line
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments import ModelConfig
    from taskvectors.experiments.evaluation import EvaluateConfig

_OF_VECTORS = ("split", "strengths", "shots", "end_of_answer", "side_effects")


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
    out: Annotated[str, default("nothing is written")] = ""
    """Folder of a run to keep the results and their report in."""
    task: VectorTaskChoice
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Measure it."""
        folder = folder_for(self.out, "runs") if self.out else None
        if self.learner:
            return self._learner(folder)
        if not self.vector:
            raise TaskVectorsError("give --vector, or --learner")
        self.check_read()
        from taskvectors.experiments.evaluation import evaluate_vector
        from taskvectors.report import page_of
        from taskvectors.results.evaluation import evaluation_rows
        from taskvectors.vectors import TaskVector

        config = self.config(self.model.config_for(TaskVector.load(self.vector)))
        record = evaluate_vector(config, folder, command=command_line())
        kept = ("vector", "method", "model", "family", "engine", "task", "template", "split",
                "seed", "end_of_answer", "notes")  # fmt: skip
        data = {name: record.metadata[name] for name in kept}
        data["rows"] = evaluation_rows(record.frame)
        notes = (f"Note: {note}" for note in data["notes"])
        return with_report(record, data, [*page_tables(page_of(record)), *notes])

    def check_read(self) -> None:
        """Refuse what is of learners alone."""
        refuse(given(self, "family", "trials"), "only a --learner has one")

    def config(self, model: "ModelConfig") -> "EvaluateConfig":
        """The same for the library."""
        from taskvectors.experiments.evaluation import EvaluateConfig

        return checked(
            EvaluateConfig,
            vector=self.vector,
            model=model,
            split=self.split,
            strengths=self.strengths,
            task=self.task.task,
            changes=self.task.changes(),
            template=self.task.template,
            shots=self.shots,
            chat=self.task.chat,
            end_of_answer=self.end_of_answer,
            side_effects=self.side_effects,
            allow_overlap=self.task.allow_overlap,
            memory=self.model.memory,
        )

    def _learner(self, folder: Path | None) -> Result:
        if self.vector:
            raise TaskVectorsError("give --vector or --learner, not both")
        of_vectors = given(self, *_OF_VECTORS) + given(self.model)
        of_vectors += [name for name in given(self.task) if name != "seed"]
        refuse(of_vectors, "a learner is measured on its own task")
        from taskvectors.learners import Learner
        from taskvectors.learners.variants import evaluate_learner

        learner = Learner.load(Path(self.learner), self.family)
        record = evaluate_learner(
            learner,
            folder,
            name=Path(self.learner).name,
            n_trials=self.trials,
            seed=self.task.seed or 0,
            command=command_line(),
        )
        about = {name: record.metadata[name] for name in ("task", "settings", "training")}
        return shown_learners(record, {"learner": self.learner, **about})
