"""Training steps of a learner against the design of published loops; what the TVP-loss costs.

    OMP_NUM_THREADS=2 python benchmarks/train_learner.py [--json] [--rounds 5] [--sizes 6x128]

Same model, batch and loss on both sides: linear regression, d = 5, 11 demonstrations, batch 64,
written x, z, y. The baseline is the design of the published loops (Garg et al. 2022 and later ones
built on it): transformers' GPT-2 as its defaults are, eager, sequences drawn on the host and moved,
logits at every position, one AdamW step. Ours: the loop of `taskvectors.learners`, compiled (the
time of compiling is given apart) and eager. Rounds of all are interleaved; figures are medians over
rounds. On a GPU the compiled step is a CUDA graph.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _command_line import arguments, show
from torch import Tensor

from taskvectors.learners import LearnerShape, TrainingConfig, load_family
from taskvectors.learners.devices import Devices
from taskvectors.learners.training import Objective, draw_batch

SETTINGS = {"n_dims": 5, "n_demonstrations": 11}
BATCH = 64
Step = Callable[[], Tensor]


def config_of(size: str, tvp_layer: int | None) -> TrainingConfig:
    """A training config for a size such as 6x128."""
    n_layers, d_model = map(int, size.split("x"))
    shape = LearnerShape(n_layers=n_layers, d_model=d_model, n_heads=4)
    return TrainingConfig(shape=shape, batch_size=BATCH, tvp_layer=tvp_layer, tvp_from=0)


def our_step(size: str, device: str, *, tvp_layer: int | None, compile: bool) -> Step:
    """One step of the library's loop: sequences drawn on the device, loss, gradient, AdamW."""
    family, config = load_family("linear", SETTINGS), config_of(size, tvp_layer)
    devices = Devices(device, compile=compile)
    hf = config.shape.build(family, 0).to(device)
    objective = Objective(hf, family, config)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    prepared, optimizer = devices.prepared(objective, optimizer)
    steps = iter(range(10**9))

    def step() -> Tensor:
        batch = draw_batch(family, config, next(steps), devices)
        in_context, prompted = prepared(batch, with_tvp=tvp_layer is not None)
        optimizer.zero_grad(set_to_none=True)
        devices.backward(in_context + prompted)
        optimizer.step()
        return in_context.detach()

    return step


def published_step(size: str, device: str) -> Step:
    """One step as the published loops do it."""
    from transformers import GPT2Config, GPT2Model

    shape = config_of(size, None).shape
    n, d = SETTINGS["n_demonstrations"] + 1, SETTINGS["n_dims"]
    body = GPT2Model(
        GPT2Config(
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
            n_positions=6 * n,
            n_embd=shape.d_model,
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
    )
    model = torch.nn.ModuleDict(
        {
            "read_in": torch.nn.Linear(d, shape.d_model),
            "body": body,
            "read_out": torch.nn.Linear(shape.d_model, 1),
        }
    ).to(device)
    z = torch.nn.Parameter(torch.zeros(shape.d_model, device=device))
    optimizer = torch.optim.AdamW([*model.parameters(), z], lr=1e-4)

    def step() -> Tensor:
        x = torch.randn(BATCH, n, d)
        w = torch.randn(BATCH, d, 1)
        y = (x @ w)[..., 0]
        wide = torch.cat([y.unsqueeze(2), torch.zeros(BATCH, n, d - 1)], dim=2)
        x, y, wide = x.to(device), y.to(device), wide.to(device)
        pieces = [model["read_in"](x), z.expand(BATCH, n, -1), model["read_in"](wide)]
        embedded = torch.stack(pieces, dim=2).flatten(1, 2)[:, :-1]  # the last y is the answer
        states = model["body"](inputs_embeds=embedded).last_hidden_state
        predicted = model["read_out"](states)[:, 1::3, 0]
        loss = (predicted - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def finished(step: Step, device: str, n: int) -> float:
    """Seconds of a step, the mean of n in a row."""
    started = time.perf_counter()
    for _ in range(n):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / n


def measure(size: str, device: str, rounds: int, n: int) -> dict[str, Any]:
    """One row."""
    layer = config_of(size, None).shape.n_layers // 2 - 1
    steps = {
        "published": published_step(size, device),
        "eager": our_step(size, device, tvp_layer=None, compile=False),
        "compiled": our_step(size, device, tvp_layer=None, compile=True),
        "eager_tvp": our_step(size, device, tvp_layer=layer, compile=False),
        "compiled_tvp": our_step(size, device, tvp_layer=layer, compile=True),
    }
    first = {name: finished(step, device, 2) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(finished(step, device, n))
    seconds = {name: statistics.median(found) for name, found in times.items()}
    ratios = {
        name: statistics.median(p / q for p, q in zip(times["published"], times[name], strict=True))
        for name in ("eager", "compiled")
    }
    return {
        "size": size,
        "device": device,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "steps_per_second": {name: 1 / value for name, value in seconds.items()},
        "faster_eager": ratios["eager"],
        "faster_compiled": ratios["compiled"],
        "tvp_over_icl_eager": seconds["eager_tvp"] / seconds["eager"],
        "tvp_over_icl_compiled": seconds["compiled_tvp"] / seconds["compiled"],
        "compile_seconds": 2 * (first["compiled"] - seconds["compiled"]),
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--sizes", nargs="+", default=["6x128"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    rows = [measure(size, asked.device, asked.rounds, asked.steps) for size in asked.sizes]
    show(rows, as_json=asked.json, line=_line)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['size']} on {row['device']}: published "
        f"{row['steps_per_second']['published']:.1f} steps/s, "
        f"eager {row['faster_eager']:.2f} times, compiled {row['faster_compiled']:.2f} times "
        f"that ({row['compile_seconds']:.0f} s to compile); the TVP-loss costs "
        f"{row['tvp_over_icl_eager']:.2f} times a step eager, "
        f"{row['tvp_over_icl_compiled']:.2f} compiled"
    )


if __name__ == "__main__":
    main()
