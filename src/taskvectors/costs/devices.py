"""What a device can do: ceilings of a roofline, measured, or from its maker.

The ceilings of this machine are measured: a matrix product, a copy, and with the library's own code
a block and an unembedding with next to nothing to multiply.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import read_json, write_whole
from taskvectors.models import LanguageModel
from taskvectors.models.accelerator import first_device, synchronize
from taskvectors.models.unembedding import VOCABULARY_SLICE, Unembedding, score_tokens, token_losses
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.trunk import Edit, Trunk

logger = logging.getLogger(__name__)

LOCAL = "local"
_ROWS, _WIDTH = 128, 2048
"""Rows and widths of the product that is measured: as many rows as a step of learning has."""
_COPIED = 64 * 2**20
_BLOCKS = 8
_REACHED = 0.43
"""Share of its maker's figure that an H100 reached in a learning step of a Llama-3.1-8B shape on
64 prompts of 200 tokens: 270 TFLOP in 0.627 s, of 989 a second."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Ceilings of one device.

    Attributes:
        name: Short name.
        flops: Floating-point operations of a matrix product per second, in the type asked for.
        bandwidth: Bytes per second to and from memory.
        weight_bandwidth: Bytes of weights per second that a product takes up, however few its rows.
        block_seconds: Time of one block, forward, with next to nothing to compute.
        step_seconds: The same, forward and backward.
        attention_seconds: Time that a key of a prompt takes, by its width, whatever number of
            branches attends to it; forward.
        attention_step_seconds: The same, forward and backward.
        logit_seconds: Time that one logit takes beside its product, when a state is scored.
        loss_seconds: The same in a learning step.
        memory: Bytes.
        source: Where the figures are from.
    """

    name: str
    flops: float
    bandwidth: float
    weight_bandwidth: float
    block_seconds: float
    step_seconds: float
    attention_seconds: float
    attention_step_seconds: float
    logit_seconds: float
    loss_seconds: float
    memory: float
    source: str


def _maker(name: str, flops: float, bandwidth: float, memory: float) -> Device:
    return Device(
        name=name,
        flops=_REACHED * flops,
        bandwidth=bandwidth,
        weight_bandwidth=bandwidth,
        block_seconds=5e-4,  # some 40 kernels; a captured graph has less
        step_seconds=1.5e-3,
        attention_seconds=8 / bandwidth,  # keys and values of 2 bytes, read and written
        attention_step_seconds=3 * 8 / bandwidth,
        logit_seconds=3 * 8 / bandwidth,  # three passes that read and write float32
        loss_seconds=5 * 8 / bandwidth,
        memory=memory,
        source=f"its maker's figures, {_REACHED:.0%} of its products; not measured",
    )


GPUS: dict[str, Device] = {
    one.name: one
    for one in (
        _maker("a100", 312e12, 2.04e12, 80e9),
        _maker("h100", 989e12, 3.35e12, 80e9),
        _maker("h200", 989e12, 4.8e12, 141e9),
    )
}
"""SXM modules, dense products in 2 bytes; the A100 and the H100 with 80 GB."""
_FLOAT32 = {"a100": 19.5e12, "h100": 67e12, "h200": 67e12}
"""Their products in float32."""


def find_device(name: str, dtype: torch.dtype, *, measure_again: bool = False) -> Device:
    """A device by name: one of this machine, measured when first asked for, or one of `GPUS`.

    Args:
        name: `local` for the first GPU, MPS or the CPU; cpu, cuda, cuda:N or mps; or one of
            `GPUS`.
        dtype: Type that is computed in.
        measure_again: Measure this machine even if that was done before.

    Raises:
        TaskVectorsError: There is no such device.
    """
    if name == LOCAL or name.partition(":")[0] in ("cpu", "cuda", "mps"):
        device = torch.device(first_device() if name == LOCAL else name)
        return _local(device, dtype, measure_again=measure_again)
    if name not in GPUS:
        raise TaskVectorsError(
            f"no device {name!r}; there are {LOCAL}, cpu, cuda, {', '.join(GPUS)}, or give "
            "--flops, --bandwidth and --device-memory"
        )
    if dtype.itemsize == 2:
        return GPUS[name]
    return replace(GPUS[name], flops=_REACHED * _FLOAT32[name])


def measure_device(device: torch.device, dtype: torch.dtype) -> Device:
    """The ceilings of a device of this machine; some seconds."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(size, generator=generator).to(device, dtype)
        for size in ((_ROWS, _WIDTH), (_WIDTH, _WIDTH))
    )
    product = _seconds(lambda: left @ right, device)
    flops = 2 * _ROWS * _WIDTH * _WIDTH / product
    buffer = torch.zeros(_COPIED // 4, device=device)
    copied = _seconds(lambda: buffer + 1, device)
    block, step = _branch_seconds(device, dtype, n_heads=1, d_head=8, length=3, n=2)
    n_heads, d_head, length, n = 8, 64, 128, 16
    attending = _branch_seconds(device, dtype, n_heads=n_heads, d_head=d_head, length=length, n=n)
    attended = n * n_heads * d_head * length
    scored, learned = _logit_seconds(device, dtype)
    n_threads = torch.get_num_threads()
    where = f"{n_threads} threads" if device.type == "cpu" else device.type
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return Device(
        name=LOCAL,
        flops=flops,
        bandwidth=2 * _COPIED / copied,
        weight_bandwidth=_weight_bandwidth(device, dtype, flops),
        block_seconds=block,
        step_seconds=step,
        attention_seconds=max(attending[0] - block, 0.0) / attended,
        attention_step_seconds=max(attending[1] - step, 0.0) / attended,
        logit_seconds=scored,
        loss_seconds=learned,
        memory=float(_total_memory(device)),
        source=f"measured here: {where}, {str(dtype)[6:]}, torch {torch.__version__}",
    )


def _local(device: torch.device, dtype: torch.dtype, *, measure_again: bool) -> Device:
    from platformdirs import user_cache_path

    name = f"{device.type}-{str(dtype)[6:]}-{torch.get_num_threads()}-{torch.__version__}.json"
    path = Path(user_cache_path("taskvectors")) / "devices" / name
    if path.is_file() and not measure_again:
        try:
            kept: Device = read_json(path, Device, "it is measured again")
        except DataError as error:  # or of another version
            logger.info("%s", error)
        else:
            return kept
    found = measure_device(device, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(found), indent=1))
    return found


def clock_for(device: torch.device) -> Callable[[], float]:
    """What times are read off: one thread's own time, which other programs do not lengthen."""
    is_one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if is_one_thread else time.perf_counter


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median time of some work, after a warm-up."""
    times, clock = [], clock_for(device)
    for number in range(8):
        synchronize(device)
        started = clock()
        work()
        synchronize(device)
        if number > 1:
            times.append(clock() - started)
    return statistics.median(times)


def _weight_bandwidth(device: torch.device, dtype: torch.dtype, flops: float) -> float:
    """Bytes of weights per second, of weights that are in no cache and meet few rows."""
    few, size = 16, 4 * _WIDTH
    layers = [torch.zeros(size, size, device=device, dtype=dtype) for _ in range(2)]
    state = torch.zeros(few, size, device=device, dtype=dtype)
    taken = _seconds(lambda: [state @ weight.T for weight in layers], device)
    computing = 2 * few * 2 * size * size / flops
    read = 2 * size * size * dtype.itemsize
    return read / max(taken - computing, taken / 4)


def _branch_seconds(
    device: torch.device, dtype: torch.dtype, *, n_heads: int, d_head: int, length: int, n: int
) -> tuple[float, float]:
    """Time of one block of branches of narrow states: forward, and a whole step.

    Args:
        device: Where.
        dtype: Type to compute in.
        n_heads: Heads; wide ones with long prompts show what attention takes.
        d_head: Their width.
        length: Tokens of a prompt.
        n: Prompts.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=_BLOCKS + 1,
        num_attention_heads=n_heads,
        head_dim=d_head,
        max_position_embeddings=length + 8,
    )
    hf: Any = LlamaForCausalLM(config)
    model = LanguageModel.wrap(hf.to(device, dtype))
    asked = Example(input="", output="")
    prompts = [
        Prompt(
            token_ids=(1,) * length,
            answer_ids=(4,) * (1 + row % 2),  # of two lengths, so that rows are packed
            spans={},
            query=asked,
            demonstrations=(),
            text="",
        )
        for row in range(n)
    ]
    theta = torch.zeros(8, device=device, requires_grad=True)
    trunk = Trunk.build(model, prompts)
    batch = trunk.batch()

    def forward() -> torch.Tensor:
        return trunk.run([[Edit(layer=0, value=theta)]], batch)

    def step() -> None:
        forward().sum().backward()  # type: ignore[no-untyped-call]

    with torch.no_grad():
        alone = _seconds(forward, device)
    with torch.enable_grad():
        return alone / _BLOCKS, _seconds(step, device) / _BLOCKS


def _logit_seconds(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Time per logit of a narrow state, whose products cost nothing: scored, and in a loss."""
    width, d_vocab = 8, 4 * VOCABULARY_SLICE
    weight = torch.zeros(d_vocab, width, device=device, dtype=dtype)
    unembedding = Unembedding(weight=weight, bias=None, softcap=None)
    state = torch.zeros(_ROWS, width, device=device, dtype=dtype)
    targets = torch.zeros(_ROWS, device=device, dtype=torch.long)

    def step() -> None:
        losses = token_losses(unembedding, state.clone().requires_grad_(True), targets)
        losses.sum().backward()  # type: ignore[no-untyped-call]

    scored = _seconds(lambda: score_tokens(unembedding, state, targets), device)
    with torch.enable_grad():
        learned = _seconds(step, device)
    return scored / (_ROWS * d_vocab), learned / (_ROWS * d_vocab)


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return int(psutil.virtual_memory().total)


def with_ceilings(device: Device, **given: float | None) -> Device:
    """A device with some of its ceilings stated by the user."""
    stated = {name: value for name, value in given.items() if value is not None}
    if not stated:
        return device
    return replace(device, **stated, source=f"{device.source}; stated: {', '.join(stated)}")  # type: ignore[arg-type]
