"""All methods and controls of a comparison on one seed, cell by cell."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.experiments.answers import shown_answers
from taskvectors.experiments.config import CompareConfig
from taskvectors.experiments.paper_configurations import (
    PaperConfiguration,
    doublings,
    paper_configurations,
)
from taskvectors.experiments.scored import row_of
from taskvectors.methods import METHODS, Candidate, RunContext, plan_of
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.shared.curves import curves_of, tried
from taskvectors.progress import Throughput
from taskvectors.results import Cell, ComparisonRow, RunFolder, comparison_rows
from taskvectors.results.pivot import failed_row
from taskvectors.results.pooling import with_one_selected
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


_KEPT = ("method", "shots", "strength", "configuration", "note")
"""What a candidate is, beside its vector."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What one method or control gave on one seed."""

    rows: list[ComparisonRow]
    metrics: list[Mapping[str, Any]] = field(default_factory=list)
    chosen: Candidate | None = None
    """What a method chose on validation."""


@dataclass(kw_only=True, eq=False)
class OneSeed:
    """All methods and controls on one seed."""

    context: RunContext
    config: CompareConfig
    run_folder: RunFolder
    throughput: Throughput

    def __post_init__(self) -> None:
        self.metrics: list[Mapping[str, Any]] = []
        self.chosen: dict[str, Candidate] = {}
        self.reached: dict[str, float] = {}
        self.candidates: dict[Any, list[Candidate]] = {}
        self.smaller: dict[int, OneSeed] = {}
        self.presets = paper_configurations(self.context.model.n_layers, self.context.shots)

    def run(self) -> list[ComparisonRow]:
        """Rows of all cells, those finished before included."""
        rows: list[ComparisonRow] = []
        for number, config in enumerate(self.config.methods):
            key = f"seed{self.context.seed}-{number}-{config.kind}"
            if self.config.configurations == "paper":
                rows += self._placed(key, config)
            else:
                works = partial(self._works, config)
                rows += self._cell(key, partial(self._method, config), config.kind, works)
            if self.config.by_examples and config.kind != "zero-shot":
                rows += self._by_examples(key, config)
        for name in self.config.controls:
            key = f"seed{self.context.seed}-control-{name}"
            works = partial(self._works_of_control, name)
            rows += self._cell(key, partial(self._control, name), name, works, is_control=True)
        return with_one_selected(rows)

    def _placed(self, key: str, config: Any) -> list[ComparisonRow]:
        """A method in the paper's configurations, or as it is where it has no site to choose."""
        if {"layers", "positions"} <= set(type(config).model_fields):
            rows: list[ComparisonRow] = []
        else:
            works = partial(self._works, config)
            rows = self._cell(key, partial(self._method, config), config.kind, works)
        if METHODS[config.kind].is_baseline:
            return rows
        for number, preset in enumerate(self.presets):
            if preset.kind not in ("", config.kind):
                continue
            if preset.has_meaning_for(config):
                work = partial(self._method, config, preset)
            else:
                work = partial(_without_meaning, config, preset)
            works = partial(self._works, config, preset)
            key_of = f"{key}-preset{number}"
            rows += self._cell(key_of, work, config.kind, works, preset=preset.name)
        return rows

    def _by_examples(self, key: str, config: Any) -> list[ComparisonRow]:
        """A method on the first 4, 8, 16, ... training pairs."""
        rows: list[ComparisonRow] = []
        for n in doublings(len(self.context.task.train)):
            work = partial(self._on_some, config, n)
            works = partial(self._works_on_some, config, n)
            name = f"{n} training pairs"
            rows += self._cell(f"{key}-examples{n}", work, config.kind, works, preset=name)
        return rows

    def _on(self, n: int) -> "OneSeed":
        """The same on the first training pairs alone."""
        if n not in self.smaller:
            task = replace(self.context.task, train=self.context.task.train[:n])
            # a query of the training split is not among its own demonstrations
            context = self.context.with_task(task, shots=min(self.context.shots, n - 1))
            self.smaller[n] = replace(self, context=context)
        return self.smaller[n]

    def _works_on_some(self, config: Any, n: int) -> list[Work]:
        return self._on(n)._works(config)

    def _on_some(self, config: Any, n: int) -> _Found:
        found = self._on(n)._method(config)
        rows = [
            replace(row, preset=f"{n} training pairs", preset_selected=row.selected, selected=False)
            for row in found.rows
        ]
        return _Found(rows=rows)

    def _cell(
        self,
        key: str,
        work: Callable[[], _Found],
        method: str,
        works: Callable[[], list[Work]],
        *,
        is_control: bool = False,
        preset: str | None = None,
    ) -> list[ComparisonRow]:
        """A cell's rows: from the folder if it was finished before, else worked out and kept."""
        kept = self._kept(key)
        if kept is not None:
            logger.info("%s: finished before (seed %d)", method, self.context.seed)
            self._remember(kept)
            return kept.rows
        started = time.perf_counter()
        try:
            logger.info(f"{', '.join(filter(None, (method, preset)))}: {self._announced(works())}")
            found = work()
        except TaskVectorsError as error:
            logger.warning("%s could not be run: %s", method, error)
            seed = self.context.seed
            return [failed_row(method, seed, error, is_control=is_control, preset=preset)]
        self._keep(key, found)
        self._remember(found)
        for row in found.rows:
            if not row.layers and row.seconds and row.forward_tokens:
                self.throughput.update(row.forward_tokens, row.seconds)
        best = next(row for row in found.rows if row.selected or row.preset_selected)
        where = f" at layer {best.layers[0]}" if len(best.layers) == 1 else ""
        logger.info(
            f"{', '.join(filter(None, (method, preset)))}: "
            f"{best.accuracy:.2f}{where} on {best.n} test items "
            f"({time.perf_counter() - started:.0f} s)"
        )
        return found.rows

    def _works(self, config: Any, preset: PaperConfiguration | None = None) -> list[Work]:
        """What a method runs."""
        plan = plan_of(self.context, preset.config_for(config) if preset else config)
        plan = replace(plan, shots=preset.shots) if preset else plan
        return [*plan.found, *plan.chosen(self.context), *plan.tested(self.context)]

    def _works_of_control(self, name: str) -> list[Work]:
        """What a control runs."""
        return list(CONTROLS[name].works(self.context, self._learned()))

    def _announced(self, works: Sequence[Work]) -> str:
        """What is about to be run, and how long it takes once earlier runs have shown that."""
        parts: dict[str, str] = {}
        for work in works:
            name = work.name.split(", ", 1)[-1]
            steps = f"{work.n_passes} steps of {work.prompts_per_pass} prompts"
            parts.setdefault(name, steps if work.is_step else f"{name} ({work.n_prompts} prompts)")
        n_layers = self.context.model.n_layers
        expected = self.throughput.time_for(sum(work.forward_tokens(n_layers) for work in works))
        # tokens of a step cost other than those of scoring; training shows its own progress
        takes = expected if works and not any(work.is_training for work in works) else ""
        return ", ".join(filter(None, (*parts.values(), takes))) or "nothing is run"

    def _keep(self, key: str, found: _Found) -> None:
        """Write a finished cell, after what it points to.

        A choice whose edits are a function is not kept: no file holds it.
        """
        choice, files, metadata = found.chosen, [], {}
        if choice is not None and choice.adapter is not None:
            files.append(f"adapters/{key}")
            choice.adapter.save(self.context.model, self.run_folder.path / files[0])
        elif choice is not None and choice.edits is None:
            metadata["chosen"] = {name: getattr(choice, name) for name in _KEPT}
            if choice.vector is not None:
                files.append(f"cells/{key}")
                choice.vector.save(self.run_folder.path / files[0])
        rows = [one.as_row() for row in found.rows for one in row.measurements()]
        cell = Cell(rows=rows, curves=found.metrics, metadata=metadata, files=files)
        self.run_folder.keep(key, cell)

    def _kept(self, key: str) -> _Found | None:
        """What a finished cell's method gave; None where it has to be run."""
        cell = self.run_folder.cell(key)
        if cell is None:
            return None
        kept, chosen = cell.metadata.get("chosen"), None
        try:
            if kept is not None:
                has_vector = f"cells/{key}" in cell.files
                folder = self.run_folder.path / "cells" / key
                chosen = Candidate(vector=TaskVector.load(folder) if has_vector else None, **kept)
            rows = comparison_rows(cell.rows)
        except (DataError, KeyError, TypeError, ValueError) as error:
            logger.warning(
                "the cell %s is damaged (%s); that part of the run is made again", key, error
            )
            return None
        return _Found(rows=rows, metrics=list(cell.curves), chosen=chosen)

    def _remember(self, found: _Found) -> None:
        """Remember what was logged, and what was chosen, for controls and examples."""
        self.metrics += found.metrics
        if found.chosen is None:
            return
        reached = next(row.validation_accuracy or 0.0 for row in found.rows if row.selected)
        method = found.chosen.method
        if reached > self.reached.get(method, -1.0):
            self.chosen[method], self.reached[method] = found.chosen, reached

    def _candidates(self, config: Any) -> list[Candidate]:
        """A method's candidates; what several presets share is found once."""
        if config not in self.candidates:
            self.candidates[config] = tried(self.context, config)
        return self.candidates[config]

    def _method(self, config: Any, preset: PaperConfiguration | None = None) -> _Found:
        """Find candidates, choose one on validation, and test them all in one pass."""
        about: dict[str, Any] = {"is_control": False}
        if preset is None:
            candidates = self._candidates(config)
        else:
            about["preset"] = preset.name
            candidates = [
                replace(one, shots=preset.shots, configuration=preset.described(one))
                for one in self._candidates(preset.config_for(config))
            ]
        validation = score_candidates(self.context, "validation", candidates)
        best = choose(validation)
        # strengths other than 1 are tested only where one was chosen
        tested = [i for i, one in enumerate(candidates) if i == best or one.strength == 1]
        test = score_candidates(self.context, "test", [candidates[i] for i in tested])
        rows = [
            row_of(
                self.context,
                candidates[index],
                scores,
                validation[index],
                selected=index == best,
                preset_selected=preset is not None and index == best,
                **about,
            )
            for index, scores in zip(tested, test, strict=True)
        ]
        metrics: list[Mapping[str, Any]] = [*curves_of(candidates, self.context.seed)]
        return _Found(rows=rows, metrics=metrics, chosen=candidates[best])

    def _control(self, name: str) -> _Found:
        candidate = CONTROLS[name].make(self.context, self._subject(), self._learned())
        candidate = replace(candidate, method=name)
        (scores,) = score_candidates(self.context, "test", [candidate])
        row = row_of(self.context, candidate, scores, None, selected=True, is_control=True)
        return _Found(rows=[row])

    def _learned(self) -> Learned:
        """How controls that are trained are trained."""
        return next((one for one in self.config.methods if isinstance(one, Learned)), Learned())

    def _subject(self) -> Candidate:
        """What controls are made for: the learned vector, else another one, else no vector."""
        found = [one for one in self.chosen.values() if one.vector is not None]
        found.sort(key=lambda one: one.method != "learned")
        return found[0] if found else Candidate(method="a comparison without vectors")

    def shown(self) -> list[Mapping[str, Any]]:
        """Test items with the answers each method's choice generates."""
        found = {
            name: one
            for name, one in self.chosen.items()
            if one.constant_answer is None and one.edits is None and one.adapter is None
        }
        return shown_answers(self.context, found, self.config.n_shown)


def _without_meaning(config: Any, preset: PaperConfiguration) -> _Found:
    """The refusal of a method that has no site, or no training, of its own."""
    why = (
        "its vector is read off few-shot prompts either way"
        if {"layers", "positions"} <= set(type(config).model_fields)
        else "it has no layer and position to choose"
    )
    raise TaskVectorsError(
        f"the configuration {preset.name!r} has no meaning for {config.kind}: {why}"
    )
