"""What an answer costs: latency and memory of the first token, by what is used to get it.

Each way is used as transformers runs it: one prompt at a time, whole, in one forward pass. Not by
`generate`: that of transformers 5.24 drops the prefix that peft passes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.methods import RunContext
from taskvectors.methods.shared.adapters import AdapterConfig
from taskvectors.methods.training import PeakMemory
from taskvectors.models.accelerator import synchronize
from taskvectors.models.adapters import Adapter, deprecations_hushed
from taskvectors.prompts import Prompt
from taskvectors.results import Measurement
from taskvectors.trunk.work import Work, generated
from taskvectors.vectors import Site, TaskVector, inject

N_PROMPTS = 20
"""Most test prompts that are timed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """One way to an answer."""

    row: Measurement
    """Method, places and demonstrations."""
    prompts: Sequence[Prompt]
    ready: Callable[[], AbstractContextManager[Any]]
    """Gives the transformers model to call."""


def ways(context: RunContext, layer: int, adapters: Sequence[AdapterConfig]) -> Iterator[Way]:
    """A zero-shot prompt, few-shot, with a vector, and every adapter in its sizes.

    What a vector or an adapter holds does not change what it costs, so none is trained. An adapter
    that has no meaning for the model is left out.
    """
    model, plain = context.model, context.prompts("test")[:N_PROMPTS]
    row = Measurement(measure="", value=None, shots=0)

    def as_it_is() -> AbstractContextManager[Any]:
        return nullcontext(model.hf)

    yield Way(row=replace(row, method="zero-shot"), prompts=plain, ready=as_it_is)
    shown = context.prompts("test", context.shots)[:N_PROMPTS]
    yield Way(row=replace(row, method="icl", shots=context.shots), prompts=shown, ready=as_it_is)
    vector = TaskVector(values=torch.ones(1, model.d_model), sites=(Site(layer, -1),))

    @contextmanager
    def with_vector() -> Iterator[Any]:
        with inject(model, vector):
            yield model.hf

    at = replace(row, method="learned", layers=(layer,), positions=(-1,))
    yield Way(row=at, prompts=plain, ready=with_vector)
    for config in adapters:
        for size in config.sizes:
            kind: str = config.kind  # type: ignore[attr-defined]
            where = replace(row, method=kind)
            try:
                adapter = config.build(model, size, context.seed)
                said = config.describe(size, config.block(model))
            except TaskVectorsError:  # the comparison has a row that says why
                continue
            yield Way(
                row=replace(where, configuration=said), prompts=plain, ready=_with(context, adapter)
            )


def _with(context: RunContext, adapter: Adapter) -> Callable[[], AbstractContextManager[Any]]:
    @contextmanager
    def with_adapter() -> Iterator[Any]:
        with adapter.on(context.model) as adapted, deprecations_hushed():
            yield adapted.hf

    return with_adapter


def inference_costs(
    context: RunContext, layer: int, adapters: Sequence[AdapterConfig]
) -> Iterator[Measurement]:
    """Median seconds to the first token, and peak memory on top of the model, of every way."""
    for way in ways(context, layer, adapters):
        with way.ready() as hf:
            _answer(hf, way.prompts[0], context)  # the first call sets things up
            with PeakMemory(context.model.device) as peak:
                seconds = [_answer(hf, prompt, context) for prompt in way.prompts]
        n = len(seconds)
        yield replace(way.row, measure="inference_seconds", value=median(seconds), n=n)
        yield replace(way.row, measure="inference_peak_bytes", value=float(peak.bytes), n=n)


def inference_works(
    context: RunContext, layer: int, adapters: Sequence[AdapterConfig]
) -> list[Work]:
    """A first token after each prompt, for every way."""
    n_layers = context.model.n_layers
    return [
        generated(f"inference, {way.row.method}", way.prompts, n_layers, 1)
        for way in ways(context, layer, adapters)
    ]


def _answer(hf: Any, prompt: Prompt, context: RunContext) -> float:
    """Seconds to the first token after a prompt."""
    device = context.model.device
    ids = torch.tensor([prompt.token_ids], device=device)
    started = time.perf_counter()
    with torch.no_grad():
        hf(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1)
    synchronize(device)
    return time.perf_counter() - started
