"""`taskvectors estimate`: what a verb or an experiment will take, on any device, for any model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from taskvectors.cli.arguments import (
    Output,
    SiteChoice,
    TaskChoice,
    TrainingChoice,
    checked,
    default,
    method_config,
)
from taskvectors.cli.names import AnalysisName, FamilyName
from taskvectors.cli.results import Result, Table, duration
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    import torch

    from taskvectors.costs import Cost, Device

_VERBS = ("compare", "learn", "extract", "evaluate", "explain", "train")
_NUMBERS = frozenset({"tokens", "TFLOP", "trunk", "peak memory", "time"})


@dataclass(frozen=True, kw_only=True)
class VerbsTaskChoice(TaskChoice):
    """Which task a verb is run on."""

    task: Annotated[str, default("capital")] = ""
    """A built-in task, a file of input/output pairs, or hub:OWNER/NAME; of a verb."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a verb or an experiment will take: tokens, operations, memory and time.

    Of any model on any device. The model's weights are not needed: of a hub id its config and
    tokenizer are fetched.
    """

    what: Positional[str]
    """A verb (compare, learn, extract, evaluate, explain, train), or an experiment of `taskvectors
    reproduce --list`, or all of them."""
    model: Annotated[str, default("embedded, or the preset's")] = ""
    """`embedded`, a hub id, a folder, a config's .json file, or a shape that is known here:
    llama-3.1-8b, llama-3.1-70b, llama-3.1-405b, smollm2-135m."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type to compute in; `auto` is what the verb would take, bfloat16 where the device has it."""
    trust_remote_code: bool = False
    """Run the code that comes with the model; it can do anything, so read it first."""
    device: str = "local"
    """`local`, which is measured once, or a100, h100, h200."""
    measure: bool = False
    """Measure this machine anew; some seconds."""
    flops: Annotated[float | None, default("the device's")] = None
    """Floating-point operations per second that it reaches, such as 4e14."""
    bandwidth: Annotated[float | None, default("the device's")] = None
    """Bytes per second to and from its memory, such as 2e12."""
    device_memory: Annotated[str | None, default("the device's")] = None
    """Its memory, such as 80GB."""
    preset: str = "cpu"
    """How large an experiment is run (smoke, cpu or paper), or what train starts from."""
    tasks: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: the preset's)")] = ()
    """Tasks of an experiment."""
    seeds: Annotated[
        tuple[int, ...], arg(aliases=["--seed"], help_behavior_hint="(default: the preset's, or 0)")
    ] = ()
    """Seeds of an experiment, or that compare is run with."""
    methods: tuple[str, ...] = ("zero-shot", "icl", "vanilla", "learned")
    """What compare compares, and the first of them extract extracts."""
    library: Annotated[str, default("none")] = ""
    """Folder of saved vectors that the method library retrieves from."""
    analyses: Annotated[tuple[AnalysisName, ...], default("all of one vector")] = ()
    """What explain runs."""
    shots: int = 8
    """Demonstrations in a few-shot prompt; of a verb."""
    family: FamilyName = FamilyName("offset")  # noqa: RUF009  (a text)
    """Family of tasks that train trains on."""
    task: VerbsTaskChoice
    sites: SiteChoice
    training: TrainingChoice
    output: Output

    def run(self) -> Result:
        """Estimate."""
        if self.what == "train":
            return self._train()
        return self._verb() if self.what in _VERBS else self._experiments()

    def _verb(self) -> Result:
        from taskvectors.costs import WORKS, Question, costs_of, room_beside, weight_bytes
        from taskvectors.methods import RunContext
        from taskvectors.models import load_meta_model

        if self.tasks:
            raise TaskVectorsError(f"--tasks is for experiments; {self.what} takes one --task")
        # what explain adds up is float32 unless another type is asked for
        is_exact = self.what == "explain" and self.dtype == "auto"
        model = load_meta_model(
            self.model or "embedded",
            dtype="float32" if is_exact else self._dtype(),
            trust_remote_code=self.trust_remote_code,
        )
        device = self._device(model.dtype)
        context = RunContext(
            model=model,
            task=replace(self.task, task=self.task.task or "capital").load(0),
            template=self.task.template or "",
            shots=self.shots,
            chat=self.task.chat,
        )
        question = Question(
            context=context,
            methods=tuple(map(self._method, self.methods)),
            learned=method_config("learned", self.sites, self.training),
            analyses=self.analyses,
        )
        budget = room_beside(weight_bytes(model), device)
        costs = costs_of(model, WORKS[self.what](question), device, budget=budget)
        n_seeds = len(self.seeds) if self.what == "compare" and self.seeds else 1
        return self._shown(costs * n_seeds, device, model.source)

    def _train(self) -> Result:
        import torch

        from taskvectors.costs import train_cost
        from taskvectors.learners import preset_of

        device = self._device(torch.float32)
        config = preset_of(str(self.family), self.preset)
        return self._shown([train_cost(config, device)], device, f"learner of {self.family}")

    def _experiments(self) -> Result:
        import torch

        from taskvectors.experiments import ModelConfig
        from taskvectors.experiments.estimates import Estimator
        from taskvectors.experiments.experiment import EXPERIMENTS
        from taskvectors.experiments.reproduce import ALL, ReproduceConfig, estimate

        if self.what not in (*EXPERIMENTS, ALL):
            raise TaskVectorsError(
                f"{self.what!r} is neither a verb that is estimated ({', '.join(_VERBS)}) nor an "
                "experiment; taskvectors reproduce --list has the names"
            )
        if self.task.task:
            raise TaskVectorsError(f"--task is for verbs; {self.what} takes --tasks, one or more")
        config = checked(
            ReproduceConfig,
            experiment=self.what,
            preset=self.preset,
            models=tuple(filter(None, (self.model,))),
            loading=ModelConfig(dtype=self.dtype, trust_remote_code=self.trust_remote_code),
            tasks=self.tasks,
            seeds=self.seeds,
        )
        is_gpu = self.device != "local"
        estimator = Estimator(device=self._device, auto="bfloat16" if is_gpu else "auto")
        costs = estimate(config, estimator)
        device = self._device(torch.bfloat16 if is_gpu else torch.float32)
        model = self.model or f"those of the preset {self.preset}"
        return self._shown(costs, device, model, [*dict.fromkeys(estimator.left_out)])

    def _dtype(self) -> Any:
        is_named_gpu = self.device != "local" and self.dtype == "auto"
        return "bfloat16" if is_named_gpu else self.dtype

    def _device(self, dtype: "torch.dtype") -> "Device":
        from taskvectors.costs import find_device, with_ceilings
        from taskvectors.trunk.memory import bytes_stated

        device = find_device(self.device, dtype, measure_again=self.measure)
        memory = None if self.device_memory is None else float(bytes_stated(self.device_memory))
        return with_ceilings(device, flops=self.flops, bandwidth=self.bandwidth, memory=memory)

    def _method(self, name: str) -> Any:
        return method_config(name, self.sites, self.training, library=self.library)

    def _shown(
        self,
        costs: "Sequence[Cost]",
        device: "Device",
        model: str,
        left_out: Sequence[str] = (),
    ) -> Result:
        from taskvectors.costs import devices_needed, total

        whole = total(costs)
        n = devices_needed(whole, device)
        data = {"what": self.what, "model": model, "device": asdict(device), "n_devices": n}
        data |= {"left_out": list(left_out), "rows": [asdict(cost) for cost in (*costs, whole)]}
        shown: list[str | Table] = [
            _table([*costs, whole]),
            f"{device.name}: {device.flops / 1e12:.3g} TFLOP/s, {device.bandwidth / 1e9:.4g} GB/s; "
            f"{device.source}.",
            "It fits one device."
            if n == 1
            else f"It needs {n} devices, whose layers run one after the other "
            "(--device-map auto): the time is that of one.",
            *(f"Not estimated: {one}" for one in left_out),
        ]
        return Result(data=data, shown=shown)


def _table(costs: "Sequence[Cost]") -> Table:
    from taskvectors.format import memory, whole

    return Table(
        headings=("work", "tokens", "TFLOP", "trunk", "peak memory", "time"),
        rows=[
            (
                cost.name,
                whole(cost.forward_tokens),
                f"{cost.flops / 1e12:,.3g}",
                memory(cost.trunk_bytes),
                memory(cost.peak_bytes),
                duration(cost.seconds),
            )
            for cost in costs
        ],
        numbers=_NUMBERS,
    )
