"""`taskvectors estimate`: what a verb will take, on any device, for any model, before it is run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from taskvectors.cli.arguments import (
    Output,
    SiteChoice,
    TaskChoice,
    TrainingChoice,
    checked,
    default,
    method_config,
)
from taskvectors.cli.results import Result, Table
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    import torch

    from taskvectors.costs import Cost, Device

_NUMBERS = frozenset({"tokens", "TFLOP", "trunk", "peak memory", "time"})


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a verb will take: tokens, operations, memory and time, of any model on any device.

    The model's weights are not needed: of a hub id its config and tokenizer are fetched.
    """

    what: Positional[Literal["compare", "learn", "extract", "evaluate", "explain", "train"]]
    """The verb."""
    model: str = "embedded"
    """`embedded`, a hub id, a folder, a config's .json file, or a shape that is known here:
    llama-3.1-8b, llama-3.1-70b, llama-3.1-405b, smollm2-135m."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type to compute in; `auto` is bfloat16 where the device has it, else float32."""
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
    methods: tuple[str, ...] = ("zero-shot", "icl", "vanilla", "learned")
    """What compare compares, and the first of them extract extracts."""
    shots: int = 8
    """Demonstrations in a few-shot prompt."""
    n_seeds: int = 1
    """Seeds that compare is run with."""
    family: str = "offset"
    """Family of tasks that train trains on."""
    preset: Literal["cpu", "paper"] = "cpu"
    """Settings that train starts from."""
    task: TaskChoice
    sites: SiteChoice
    training: TrainingChoice
    output: Output

    def run(self) -> Result:
        """Estimate."""
        return self._train() if self.what == "train" else self._verb()

    def _verb(self) -> Result:
        from taskvectors.costs import WORKS, Question, costs_of, room_beside, total, weight_bytes
        from taskvectors.methods import Workbench
        from taskvectors.models import load_weightless

        model = load_weightless(self.model, dtype=self._dtype())
        device = self._device(model.dtype)
        bench = Workbench(
            model=model,
            task=self.task.load(0),
            template=self.task.template or "",
            shots=self.shots,
            chat=self.task.chat,
        )
        question = Question(
            bench=bench,
            methods=tuple(map(self._method, self.methods)),
            learned=self.training.learned(self.sites),
            analyses=self.analyses,
        )
        budget = room_beside(weight_bytes(model), device)
        costs = costs_of(model, WORKS[self.what](question), device, budget=budget)
        return self._shown([*costs, total(costs)], device, model.source)

    def _train(self) -> Result:
        import torch

        from taskvectors.costs import train_cost
        from taskvectors.learners.presets import PRESETS

        key: Any = (self.preset, self.family)
        if key not in PRESETS:
            known = ", ".join(family for preset, family in PRESETS if preset == self.preset)
            raise TaskVectorsError(f"--family {self.family}: the preset is of {known}")
        device = self._device(torch.float32)
        cost = train_cost(PRESETS[key], device)
        return self._shown([cost], device, f"learner of {self.family}")

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
        from taskvectors.methods import METHODS

        if name not in METHODS:
            raise TaskVectorsError(f"--methods: no method {name!r}; see taskvectors methods")
        if name == "learned":
            return self.training.learned(self.sites)
        if {"layers", "positions"} <= set(METHODS[name].config.model_fields):
            return method_config(name, self.sites, ())
        return checked(METHODS[name].config)

    def _shown(self, costs: "Sequence[Cost]", device: "Device", model: str) -> Result:
        from taskvectors.costs import devices_needed

        n = devices_needed(costs[-1], device)
        rows = [asdict(cost) for cost in costs]
        data = {"what": self.what, "model": model, "device": asdict(device), "n_devices": n}
        shown: list[str | Table] = [
            _table(costs),
            f"{device.name}: {device.flops / 1e12:.3g} TFLOP/s, {device.bandwidth / 1e9:.4g} GB/s; "
            f"{device.source}.",
            "It fits one device."
            if n == 1
            else f"It needs {n} devices, whose layers run one after the other "
            "(--device-map auto): the time is that of one.",
        ]
        return Result(data=data | {"rows": rows}, shown=shown)


def _table(costs: "Sequence[Cost]") -> Table:
    from taskvectors.report.wording import duration, memory, whole

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
