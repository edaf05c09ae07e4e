"""What experiments will cost: every group summed up from its work before anything is run.

An experiment says what it runs beside how it runs it. What groups share, such as vectors that
several of them explain, is counted where it is first asked for.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from taskvectors.costs import Cost, Device, costs_of, find_device, room_beside, weight_bytes
from taskvectors.costs.devices import LOCAL
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.config import CompareConfig, ModelConfig
from taskvectors.experiments.explain import ExplainConfig, make_case
from taskvectors.experiments.paper_configurations import paper_configurations
from taskvectors.explain import ANALYSES, Sizes
from taskvectors.methods import Plan, RunContext, plan_of
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.possible import check_possible
from taskvectors.methods.shared.run_context import Split
from taskvectors.models import EMBED, LanguageModel, load_meta_model
from taskvectors.tasks import TaskRequest
from taskvectors.trunk.memory import bytes_stated
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector, VectorOrigin, sites_at


def this_machine(dtype: torch.dtype) -> Device:
    """This machine, measured when it is first asked for."""
    return find_device(LOCAL, dtype)


@dataclass(kw_only=True, eq=False)
class Estimator:
    """Puts figures on work.

    Attributes:
        device: Gives the device, by the type that is computed in.
        auto: The type of a model whose type is left open.
        left_out: What has no estimate, and why, in the order it was come by.
    """

    device: Callable[[torch.dtype], Device] = this_machine
    auto: Literal["auto", "bfloat16"] = "auto"
    left_out: list[str] = field(default_factory=list)
    _models: dict[tuple[str, str, str | None], LanguageModel] = field(default_factory=dict)
    _counted: set[Hashable] = field(default_factory=set)

    def model(self, config: ModelConfig) -> LanguageModel:
        """A model without its weights."""
        dtype = self.auto if config.dtype == "auto" else config.dtype
        key = (config.source, dtype, config.revision)
        if key not in self._models:
            if config.quantization:
                raise TaskVectorsError(
                    f"there is no estimate of weights in {config.quantization}; leave out "
                    "--quantization"
                )
            self._models[key] = load_meta_model(
                config.source,
                dtype=dtype,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            )
        return self._models[key]

    def is_new(self, *key: Hashable) -> bool:
        """Whether something that groups share is asked for the first time."""
        is_new = key not in self._counted
        self._counted.add(key)
        return is_new

    def works(
        self, model: LanguageModel, works: Iterable[Work], memory: str | None = None
    ) -> list[Cost]:
        """What work takes on a model, within the memory that is stated or half of what is left."""
        device = self.device(model.dtype)
        work_dir = room_beside(weight_bytes(model), device)
        budget = work_dir if memory is None else bytes_stated(memory)
        return costs_of(model, works, device, budget=budget)

    def plan(self, context: RunContext, plan: Plan, memory: str | None = None) -> list[Cost]:
        """What a method of a comparison takes: found, chosen, and tested in the test model."""
        model, tested = context.model, context.model_for("test")
        found = self.works(model, [*plan.found, *plan.chosen(context)], memory)
        return [*found, *_beside(self.works(tested, plan.tested(context), memory), model, tested)]

    def vector(
        self, config: ModelConfig, method: Any, memory: str | None = None, **fields: Any
    ) -> list[Cost]:
        """What making one vector takes: finding candidates, and choosing among several.

        Args:
            config: The model.
            method: A method's config.
            memory: Budget, such as 4GB.
            fields: The task and further fields of `RunContext`.
        """
        context = RunContext(model=self.model(config), **fields)
        check_possible(context, method, ())
        return self.works(context.model, plan_of(context, method).made(context), memory)

    def unmade_vector(self, config: ModelConfig, layers: Sequence[int] = ()) -> TaskVector:
        """What stands for a vector that is not there yet, for the task `capital`.

        Args:
            config: The model.
            layers: Where it sits; at the middle layer by default.
        """
        model = self.model(config)
        return TaskVector(
            values=torch.zeros(len(layers) or 1, model.d_model),
            sites=sites_at(layers or (model.n_layers // 2,), (-1,)),
            operation="add",
            origin=VectorOrigin(request=TaskRequest(source="capital")),
        )

    def evaluation(
        self,
        context: RunContext,
        vector: TaskVector,
        split: Split,
        strengths: Sequence[float],
        memory: str | None = None,
    ) -> list[Cost]:
        """What measuring a vector takes: its prompts without it, and with it at each strength."""
        n_doses = sum(strength != 0 for strength in strengths)
        joins = (-1, *(min(vector.layers),) * n_doses)
        plan = Plan(joins=joins, positions=vector.positions, shots=context.shots)
        return self.works(context.model, plan.scored(context, split, joins), memory)

    def explanation(self, config: ExplainConfig, vectors: Sequence[TaskVector]) -> list[Cost]:
        """What analyses take, and another task's vector where one is learned to compare with."""
        model, rows = self.model(config.model), [ANALYSES[name] for name in config.names]
        context = make_case(config, model, vectors).context
        sizes = Sizes(
            context=context,
            layers=tuple(min(vector.layers) for vector in vectors),
            n_tasks=len({vector.origin.task for vector in vectors}),
            limit=config.limit,
            has_other=config.other_vector is not None,
        )
        works = [work for row in rows for work in row.cost(sizes)]
        if config.other_vector == "learn" and any(row.needs_other for row in rows):
            layers = tuple("embed" if layer == EMBED else layer for layer in vectors[0].layers)
            other = Learned(layers=layers, positions=vectors[0].positions)
            works = [*plan_of(context, other).found, *works]
        return self.works(model, works, config.memory)

    def comparison(self, config: CompareConfig) -> list[Cost]:
        """What a comparison takes, seed by seed; a method that cannot be run is left out."""
        if config.by_examples:
            raise TaskVectorsError("there is no estimate of a comparison by examples")
        costs: list[Cost] = []
        for seed in config.seeds:
            costs += self._one_seed(self.context(config, seed), config)
        return costs

    def context(self, config: CompareConfig, seed: int) -> RunContext:
        """The run context of a comparison, of models without weights."""
        task = config.load_task(seed)
        model, tested = self.model(config.model), None
        if config.test_dtype == "float32" and model.dtype != torch.float32:
            tested = self.model(config.model.model_copy(update={"dtype": "float32"}))
        return RunContext(
            model=model,
            task=task,
            template=config.template or "",
            shots=config.shots,
            seed=seed,
            chat=config.chat,
            test_model=tested,
        )

    def _one_seed(self, context: RunContext, config: CompareConfig) -> list[Cost]:
        model, tested = context.model, context.model_for("test")
        found: list[Work] = []
        last: list[Work] = []
        for method in config.methods:
            try:
                plans = list(_plans(context, config, method))
            except TaskVectorsError as error:
                self.left_out.append(f"{method.kind}: {error}")
                continue
            for plan in plans:
                found += [*plan.found, *plan.chosen(context)]
                last += plan.tested(context)
        learned = next((one for one in config.methods if isinstance(one, Learned)), Learned())
        for name in config.controls:
            last += CONTROLS[name].works(context, learned)
        costs = self.works(model, found, config.memory)
        return [*costs, *_beside(self.works(tested, last, config.memory), model, tested)]


def _plans(context: RunContext, config: CompareConfig, method: Any) -> Iterator[Plan]:
    """A method's plan, or one for each of the paper's configurations that mean something to it."""
    has_sites = {"layers", "positions"} <= set(type(method).model_fields)
    if config.configurations == "own" or not has_sites:
        check_possible(context, method, ())
        yield plan_of(context, method)
        return
    for preset in paper_configurations(context.model.n_layers, context.shots):
        if preset.has_meaning_for(method):
            yield replace(plan_of(context, preset.config_for(method)), shots=preset.shots)


def _beside(costs: Sequence[Cost], model: LanguageModel, tested: LanguageModel) -> list[Cost]:
    """Costs of what is run on a second copy, the first being held meanwhile."""
    held = 0 if tested is model else weight_bytes(model)
    return [replace(cost, peak_bytes=cost.peak_bytes + held) for cost in costs]
