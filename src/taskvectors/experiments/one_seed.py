"""All methods and controls of a comparison on one seed, cell by cell."""

import logging
import time
from collections.abc import Callable, Mapping
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
from taskvectors.methods import METHODS, Candidate, RunContext
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.adapters import AdapterConfig
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.shared.trained_sites import SiteTraining
from taskvectors.progress import Throughput
from taskvectors.prompts import n_tokens
from taskvectors.results import Cell, ComparisonRow, RunFolder, comparison_rows
from taskvectors.results.pivot import failed_row
from taskvectors.results.pooling import with_one_selected
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
                plan = partial(self._plan, config)
                rows += self._cell(key, partial(self._method, config), config.kind, plan)
            if self.config.by_examples and config.kind != "zero-shot":
                rows += self._by_examples(key, config)
        for name in self.config.controls:
            key = f"seed{self.context.seed}-control-{name}"
            plan = partial(self._plan_of_control, name)
            rows += self._cell(key, partial(self._control, name), name, plan, is_control=True)
        return with_one_selected(rows)

    def _placed(self, key: str, config: Any) -> list[ComparisonRow]:
        """A method in the paper's configurations, or as it is where it has no site to choose."""
        if {"layers", "positions"} <= set(type(config).model_fields):
            rows: list[ComparisonRow] = []
        else:
            plan = partial(self._plan, config)
            rows = self._cell(key, partial(self._method, config), config.kind, plan)
        if METHODS[config.kind].is_baseline:
            return rows
        for number, preset in enumerate(self.presets):
            if preset.kind not in ("", config.kind):
                continue
            if preset.has_meaning_for(config):
                work = partial(self._method, config, preset)
            else:
                work = partial(_without_meaning, config, preset)
            plan = partial(self._plan_of_preset, preset.name)
            key_of = f"{key}-preset{number}"
            rows += self._cell(key_of, work, config.kind, plan, preset=preset.name)
        return rows

    def _by_examples(self, key: str, config: Any) -> list[ComparisonRow]:
        """A method on the first 4, 8, 16, ... training pairs."""
        rows: list[ComparisonRow] = []
        for n in doublings(len(self.context.task.train)):
            work = partial(self._on_some, config, n)
            name = f"{n} training pairs"
            plan = partial(self._plan_of_preset, name)
            rows += self._cell(f"{key}-examples{n}", work, config.kind, plan, preset=name)
        return rows

    def _on_some(self, config: Any, n: int) -> _Found:
        if n not in self.smaller:
            task = replace(self.context.task, train=self.context.task.train[:n])
            # a query of the training split is not among its own demonstrations
            context = self.context.with_task(task, shots=min(self.context.shots, n - 1))
            self.smaller[n] = replace(self, context=context)
        found = self.smaller[n]._method(config)
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
        plan: Callable[[], str],
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
            logger.info(f"{method}: {plan()}")
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

    def _plan(self, config: Any) -> str:
        """What a method is about to do, and for how long."""
        context = self.context
        test, validation = context.prompts("test"), context.prompts("validation")
        if isinstance(config, AdapterConfig):
            runs = len(config.sizes) * len(config.learning_rates)
            return (
                f"{runs} trainings of at most {config.steps} steps of {config.batch_size} whole "
                f"prompts, then {len(validation)} validation and {len(test)} test prompts; the "
                "time is told when a few steps have shown it"
            )
        if isinstance(config, SiteTraining):
            return (
                f"trained in at most {config.recipe.steps} steps of "
                f"{config.recipe.batch_size} prompts, then {len(validation)} validation and "
                f"{len(test)} test prompts; the time is told when a few steps have shown it"
            )
        shots = context.shots if config.kind == "icl" else 0
        tokens = n_tokens(context.prompts("validation", shots)) + n_tokens(
            context.prompts("test", shots)
        )
        what = f"{len(validation)} validation and {len(test)} test prompts with {shots} shots"
        if not METHODS[config.kind].is_baseline:
            # with demonstrations and without; a demonstration is as long as a query
            tokens += (context.shots + 2) * n_tokens(context.prompts("train"))
            what = (
                f"states of up to {len(context.task.train)} training prompts, then all its "
                f"candidates on {len(validation)} validation prompts and the layers on "
                f"{len(test)} test prompts"
            )
        # the first run of all shows the pace of the others
        return f"{what}, {self.throughput.time_for(tokens) or 'a few seconds to a minute'}"

    def _plan_of_preset(self, name: str) -> str:
        """What a method is about to do besides."""
        return f"{name}, on {len(self.context.task.test)} test prompts"

    def _plan_of_control(self, name: str) -> str:
        """What a control is about to do, and for how long."""
        expected = self.throughput.time_for(n_tokens(self.context.prompts("test")))
        made = "trained as the vector was, then scored" if CONTROLS[name].is_trained else "scored"
        takes = f", {expected}" if expected else ""
        return f"a control, {made} on {len(self.context.task.test)} test prompts{takes}"

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
            self.candidates[config] = METHODS[config.kind].find(self.context, config)
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
        metrics: list[Mapping[str, Any]] = [
            {
                "method": one.method,
                "seed": self.context.seed,
                "layer": layer_name(one.sites[0].layer) if one.sites else None,
                **point,
            }
            for one in candidates
            for point in one.curve
        ]
        return _Found(rows=rows, metrics=metrics, chosen=candidates[best])

    def _control(self, name: str) -> _Found:
        config = next((c for c in self.config.methods if isinstance(c, Learned)), Learned())
        candidate = CONTROLS[name].make(self.context, self._subject(), config)
        candidate = replace(candidate, method=name)
        (scores,) = score_candidates(self.context, "test", [candidate])
        row = row_of(self.context, candidate, scores, None, selected=True, is_control=True)
        return _Found(rows=[row])

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
