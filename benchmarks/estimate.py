"""What `taskvectors estimate` says against what was measured.

    python benchmarks/estimate.py [--json] [--rounds 3] [--models embedded smollm2-135m wide deep]
        [--methods vanilla function-vector ...]

The ceilings of this machine are measured first, and the machine is asked nothing else. Then each
kind of work that verbs are made of is run and timed: plain scoring without demonstrations and with
eight, the branches of all layers in one pass, a learning step at the middle layer and one at all
layers, over a shortlist of the vocabulary where that is large. A row has the median of its rounds,
the estimate, and their ratio. What the trunk keeps is compared, too. Shapes other than `embedded`
have random weights, on which no time depends.

Methods are found, chosen and tested once each on the embedded model, on the task `capital` with 48
training, 24 validation and 24 test pairs and 10 steps, which all methods that are trained take. One
thread of a CPU is timed by what it ran itself, whatever else the machine does.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _command_line import arguments, show
from learn_step import random_prompts, real_prompts, smollm2, trunk_step

from taskvectors.costs import Device, cost_of, costs_of, total
from taskvectors.costs.devices import clock_for, measure_device
from taskvectors.methods import METHODS, RunContext, load_recipe, plan_of
from taskvectors.methods.shared.adapters import AdapterConfig
from taskvectors.methods.shared.choosing import choose, score_candidates
from taskvectors.methods.shared.trained_sites import SiteTraining
from taskvectors.models import LanguageModel, load_model
from taskvectors.prompts import Prompt
from taskvectors.tasks import load_task
from taskvectors.trunk import Edit, Trunk
from taskvectors.trunk.memory import Kept, trunk_bytes
from taskvectors.trunk.work import Work, work_of

N_PROMPTS = {0: 32, 8: 16}
"""Prompts by demonstrations."""
CPU = torch.device("cpu")
_WITHOUT = ("bitfit", "library")
"""The embedded model has no biases, and there is no library of its vectors."""
_STEPS = {"steps": 10, "check_every": 5}
_ROOM = 1e12
"""Bytes: all prompts are run at once on both sides."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One piece of work, and how to run it."""

    work: Work
    run: Callable[[], object]
    trunk: Trunk


def peaked(model: LanguageModel) -> LanguageModel:
    """A model whose distributions are peaked as trained ones are: flat ones have no shortlist."""
    with torch.no_grad():
        model.unembedding.weight.mul_(20)
    return model


def random_llama(name: str, dtype: torch.dtype, **sizes: int) -> LanguageModel:
    """A Llama of some sizes with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(max_position_embeddings=2048, tie_word_embeddings=True, **sizes)
    torch.manual_seed(0)
    return LanguageModel.wrap(LlamaForCausalLM(config).to(dtype), source=name)


MODELS: dict[str, Callable[[], LanguageModel]] = {
    "embedded": lambda: load_model("embedded"),
    "smollm2-135m": lambda: peaked(smollm2()),
    "wide": lambda: random_llama(
        "wide",
        torch.float32,
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=6,
        num_attention_heads=16,
    ),
    "deep": lambda: random_llama(
        "deep",
        torch.float32,
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=24,
        num_attention_heads=4,
    ),
}


def cases(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Case]:
    """Every kind of work on some prompts."""
    n_layers = model.n_layers
    middle, blocks = n_layers // 2, list(range(n_layers))
    theta = torch.zeros(n_layers, model.d_model)
    trunk = Trunk.build(model, prompts)
    batch = trunk.batch()

    def branches(layers: Sequence[int]) -> list[list[Edit]]:
        return [[Edit(layer=layer, value=theta[layer])] for layer in layers]

    def build() -> object:
        with torch.no_grad():
            fresh = Trunk.build(model, prompts)
            return fresh.answer_scores(fresh.run([()], batch), batch)

    def score(layers: Sequence[int]) -> object:
        with torch.no_grad():
            return trunk.answer_scores(trunk.run(branches(layers), batch), batch)

    def step(layers: Sequence[int]) -> Callable[[], object]:
        one_step, renew, _ = trunk_step(trunk, layers)
        renew()
        return one_step

    def passes(name: str, layers: Sequence[int], *, is_training: bool) -> Work:
        work = work_of(name, prompts, (-1,), layers, n_layers, is_training=is_training)
        return _without_trunk(work)

    return [
        Case(
            work=work_of("trunk and plain scores", prompts, (-1,), [n_layers - 1], n_layers),
            run=build,
            trunk=trunk,
        ),
        Case(
            work=passes("scores, all layers", blocks, is_training=False),
            run=lambda: score(blocks),
            trunk=trunk,
        ),
        Case(
            work=passes("step, middle layer", [middle], is_training=True),
            run=step([middle]),
            trunk=trunk,
        ),
        Case(
            work=passes("step, all layers", blocks, is_training=True),
            run=step(blocks),
            trunk=trunk,
        ),
    ]


def _without_trunk(work: Work) -> Work:
    """The passes of a piece of work alone: the trunk is there already."""
    from dataclasses import replace

    kept = Kept(shape=work.shape, n_prompts=work.n_prompts)
    return replace(work, kept=(kept,), has_trunk=True)


def measure(name: str, device: Device, rounds: int) -> list[dict[str, object]]:
    """Rows of one model."""
    model, clock = MODELS[name](), clock_for(CPU)
    rows: list[dict[str, object]] = []
    for shots, n in N_PROMPTS.items():
        prompts = (
            real_prompts(model, shots, n)
            if name == "embedded"
            else random_prompts(shots, n, model.d_vocab)
        )
        for case in cases(model, prompts):
            times = []
            for number in range(rounds + 1):
                started = clock()
                case.run()
                if number:
                    times.append(clock() - started)
            measured = statistics.median(times)
            estimated = cost_of(model, case.work, device, budget=_ROOM).seconds
            held = trunk_bytes(model, case.work.shape) * len(prompts)
            rows.append(
                {
                    "model": name,
                    "dtype": str(model.dtype)[6:],
                    "shots": shots,
                    "prompts": n,
                    "work": case.work.name,
                    "measured_s": measured,
                    "estimated_s": estimated,
                    "ratio": estimated / measured,
                    "trunk_ratio": held / case.trunk.bytes_held,
                }
            )
    return rows


def config_of(name: str, n_layers: int) -> Any:
    """A method's config: few steps, at the middle layer where something is trained at one."""
    kind: Any = METHODS[name].config
    if issubclass(kind, SiteTraining):
        return kind(layers=(n_layers // 2,), recipe=load_recipe("from-zero", **_STEPS))
    if issubclass(kind, AdapterConfig):
        return kind(sizes=("matched",), learning_rates=(0.01,), **_STEPS)
    return kind(**(_STEPS if "steps" in kind.model_fields else {}))


def measure_methods(names: Sequence[str], device: Device) -> list[dict[str, object]]:
    """Rows of whole methods, each on a run context of its own."""
    model, clock = MODELS["embedded"](), clock_for(CPU)
    task = load_task("capital", n_train=48, n_validation=24, n_test=24)
    rows: list[dict[str, object]] = []
    for name in names:
        config = config_of(name, model.n_layers)
        context = RunContext(model=model, task=task)
        plan = plan_of(context, config)
        works = [*plan.found, *plan.chosen(context), *plan.tested(context)]
        estimated = total(costs_of(model, works, device, budget=_ROOM)).seconds
        started = clock()
        found = METHODS[name].find(context, config)
        best = choose(score_candidates(context, "validation", found))
        tested = [one for i, one in enumerate(found) if i == best or one.strength == 1]
        score_candidates(context, "test", tested)
        measured = clock() - started
        rows.append(
            {
                "model": "embedded",
                "dtype": str(model.dtype)[6:],
                "work": name,
                "measured_s": measured,
                "estimated_s": estimated,
                "ratio": estimated / measured,
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    methods = [name for name in METHODS if name not in _WITHOUT]
    parser.add_argument("--methods", nargs="*", default=methods, choices=methods)
    asked = parser.parse_args()
    rows = []
    for name in asked.models:
        dtype = MODELS[name]().dtype
        rows += measure(name, measure_device(CPU, dtype), asked.rounds)
    if asked.methods:
        rows += measure_methods(asked.methods, measure_device(CPU, MODELS["embedded"]().dtype))
    show(rows, as_json=asked.json, line=_line)


def _line(row: dict[str, Any]) -> str:
    shown = f", {row['shots']} shots" if "shots" in row else ""
    trunk = f"; trunk {row['trunk_ratio']:.2f}" if "trunk_ratio" in row else ""
    return (
        f"{row['model']:>13}{shown}, {row['work']}: measured {row['measured_s']:.3f} s, "
        f"estimated {row['estimated_s']:.3f} s, ratio {row['ratio']:.2f}{trunk}"
    )


if __name__ == "__main__":
    main()
