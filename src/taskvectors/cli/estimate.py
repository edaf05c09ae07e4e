"""`taskvectors estimate VERB ...`: what a command will take, on any device, for any model.

Each verb is parsed by its own class, so that every option that the verb takes is taken here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import subcommand

from taskvectors.cli.arguments import Output, default
from taskvectors.cli.compare import Compare
from taskvectors.cli.evaluate import Evaluate
from taskvectors.cli.explain import Explain
from taskvectors.cli.extract import Extract
from taskvectors.cli.learn import Learn
from taskvectors.cli.reproduce import Reproduce
from taskvectors.cli.results import Result, Table, duration
from taskvectors.cli.train import Train
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    import torch

    from taskvectors.costs import Cost, Device
    from taskvectors.experiments.estimates import Estimator

_NUMBERS = frozenset({"tokens", "TFLOP", "trunk", "peak memory", "time"})


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What it would run on: --device names this machine's, or is one of a100, h100, h200."""

    measure: bool = False
    """Measure this machine anew; some seconds."""
    flops: Annotated[float | None, default("the device's")] = None
    """Floating-point operations per second that it reaches, such as 4e14."""
    bandwidth: Annotated[float | None, default("the device's")] = None
    """Bytes per second to and from its memory, such as 2e12."""
    device_memory: Annotated[str | None, default("the device's")] = None
    """Its memory, such as 80GB."""

    def device(self, name: str | None, dtype: "torch.dtype") -> "Device":
        """A device with the ceilings that were stated."""
        from taskvectors.costs import GPUS, LOCAL, find_device, with_ceilings
        from taskvectors.trunk.memory import bytes_stated

        if name in GPUS:
            refuse(given(self, "measure"), f"{name} is not this machine")
        device = find_device(name or LOCAL, dtype, measure_again=self.measure)
        memory = None if self.device_memory is None else float(bytes_stated(self.device_memory))
        return with_ceilings(device, flops=self.flops, bandwidth=self.bandwidth, memory=memory)

    def estimator(self, name: str | None) -> "Estimator":
        """What puts figures on work on a device."""
        from taskvectors.costs import GPUS
        from taskvectors.experiments.estimates import Estimator

        auto: Any = "bfloat16" if name in GPUS else "auto"
        return Estimator(device=lambda dtype: self.device(name, dtype), auto=auto)


@dataclass(frozen=True, kw_only=True)
class EstimateCompare(Compare):
    """What `compare` will take."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        config, estimator = self.config(), self.machine.estimator(self.model.device)
        return _of_a_model("compare", estimator, config.model, estimator.comparison(config))


@dataclass(frozen=True, kw_only=True)
class EstimateLearn(Learn):
    """What `learn` will take: the trunks, the steps, the checks, the choice among layers."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        return _of_one_vector("learn", self, self.config())


@dataclass(frozen=True, kw_only=True)
class EstimateExtract(Extract):
    """What `extract` will take: states read, the choice among layers and strengths."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        return _of_one_vector("extract", self, self.config())


@dataclass(frozen=True, kw_only=True)
class EstimateEvaluate(Evaluate):
    """What `evaluate` will take; without --vector, of one for `capital` at the middle layer."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        if self.learner or self.side_effects:
            raise TaskVectorsError(
                "there is no estimate of --learner and --side-effects; leave them out"
            )
        self.check_read()
        from taskvectors.experiments.evaluation import context_of, unseen_task
        from taskvectors.vectors import TaskVector

        estimator = self.machine.estimator(self.model.device)
        vector = TaskVector.load(self.vector) if self.vector else None
        config = _model_config(self.model, vector)
        vector = vector or estimator.unmade_vector(config)
        asked = self.config(config)
        context = context_of(asked, vector, estimator.model(config), unseen_task(asked, vector))
        costs = estimator.evaluation(context, vector, self.split, self.strengths, self.model.memory)
        return _of_a_model("evaluate", estimator, config, costs)


@dataclass(frozen=True, kw_only=True)
class EstimateExplain(Explain):
    """What `explain` will take; without --vector, of one for `capital`."""

    layers: Annotated[tuple[int, ...], default("the middle one")] = ()
    """Layers of the vector, where --vector names none."""
    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        from taskvectors.vectors import TaskVector

        paths = self.paths()
        if paths:
            refuse(given(self, "layers"), "the vector says where it is")
        estimator = self.machine.estimator(self.model.device)
        vectors = [TaskVector.load(path) for path in paths]
        model = _model_config(self.model, vectors[0] if vectors else None)
        config = self.config(paths or ("a vector to be made",), model)
        vectors = vectors or [estimator.unmade_vector(config.model, self.layers)]
        costs = estimator.explanation(config, vectors)
        return _of_a_model("explain", estimator, config.model, costs)


@dataclass(frozen=True, kw_only=True)
class EstimateTrain(Train):
    """What `train` will take: all variants and seeds, one after the other."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        import torch

        from taskvectors.learners.costs import train_cost

        device = self.machine.device(self.device, torch.float32)
        return _shown(
            "train", [train_cost(self.config(), device)], device, f"a learner of {self.task}"
        )


@dataclass(frozen=True, kw_only=True)
class EstimateReproduce(Reproduce):
    """What an experiment of `reproduce`, or all of them, will take, group by group."""

    machine: Machine

    def run(self) -> Result:
        """Estimate."""
        import torch

        from taskvectors.experiments.reproduce import estimate

        if self.list:
            return super().run()
        estimator = self.machine.estimator(self.model.device)
        # the device is of the estimate, and not what models are loaded on
        config = replace(self, model=replace(self.model, device=None)).config()
        costs = estimate(config, estimator)
        device = estimator.device(torch.bfloat16 if estimator.auto != "auto" else torch.float32)
        model = ", ".join(config.models) or f"those of the preset {self.preset}"
        return _shown(self.experiment, costs, device, model, estimator.left_out)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a command will take: tokens, operations, memory and time.

    Written before the command's own words: `taskvectors estimate compare --task capital`. The
    model's weights are not needed: of a hub id its config and tokenizer are fetched. --model also
    takes a config's .json file, or a shape that is known here: llama-3.1-8b, llama-3.1-70b,
    llama-3.1-405b, smollm2-135m.
    """

    verb: (
        Annotated[EstimateCompare, subcommand("compare")]
        | Annotated[EstimateLearn, subcommand("learn")]
        | Annotated[EstimateExtract, subcommand("extract")]
        | Annotated[EstimateEvaluate, subcommand("evaluate")]
        | Annotated[EstimateExplain, subcommand("explain")]
        | Annotated[EstimateTrain, subcommand("train")]
        | Annotated[EstimateReproduce, subcommand("reproduce")]
    )

    @property
    def output(self) -> Output:
        """How it is to speak."""
        return self.verb.output

    def run(self) -> Result:
        """Estimate."""
        return self.verb.run()


def _model_config(choice: Any, vector: Any) -> Any:
    """The model that was named, else a vector's, else the embedded one."""
    return (
        choice.config_for(vector)
        if vector
        else replace(choice, model=choice.model or "embedded").config()
    )


def _of_one_vector(what: str, verb: Any, method: Any) -> Result:
    """What making one vector takes."""
    estimator, task = verb.machine.estimator(verb.model.device), verb.task.load(verb.seed)
    config = verb.model.config()
    costs = estimator.vector(
        config,
        method,
        verb.model.memory,
        task=task,
        **verb.context(),
    )
    return _of_a_model(what, estimator, config, costs)


def _of_a_model(what: str, estimator: "Estimator", config: Any, costs: "Sequence[Cost]") -> Result:
    model = estimator.model(config)
    return _shown(what, costs, estimator.device(model.dtype), model.source, estimator.left_out)


def _shown(
    what: str,
    costs: "Sequence[Cost]",
    device: "Device",
    model: str,
    left_out: Sequence[str] = (),
) -> Result:
    from taskvectors.costs import devices_needed, total

    whole = total(costs)
    n = devices_needed(whole, device)
    left_out = list(dict.fromkeys(left_out))
    data = {"what": what, "model": model, "device": asdict(device), "n_devices": n}
    data |= {"left_out": left_out, "rows": [asdict(cost) for cost in (*costs, whole)]}
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
