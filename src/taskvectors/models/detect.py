"""Finding a model's structure from what its modules compute in one traced pass.

Blocks are the modules whose outputs chain: each is given what the one before it gave. The modules
from the last block to the unembedding are followed the same way. Names play no part.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.block_parts import find_block_parts, heads_by_shape
from taskvectors.models.structure import Structure
from taskvectors.models.tensors import is_close, is_same, multiple
from taskvectors.models.trace import ModuleCall, Trace, trace

_MOST_FINAL_MODULES = 4


def detect(hf: Any) -> Structure:
    """The structure of a transformers model.

    Args:
        hf: A causal language model; of one without weights only blocks, heads and sizes are found.

    Raises:
        UnsupportedModelError: It has no chain of blocks, or its logits are not a linear map of what
            the modules after the last block make of the residual stream.
    """
    seen = trace(hf)
    blocks = _find_blocks(hf, seen)
    body = _find_body(seen, blocks)
    last = blocks[-1].output
    assert last is not None
    axis = _stream_axis(last, seen.tokens.shape[1]) if last.dim() == 4 else None
    n_streams = 1 if axis is None else last.shape[axis]
    d_model = n_streams * last.shape[-1]
    head = _find_head(hf, seen)
    if last.is_meta:
        return Structure(
            body=body,
            block_paths=tuple(call.path for call in blocks),
            blocks=tuple(heads_by_shape(seen, call) for call in blocks),
            final=(),
            unembedding=head.path,
            n_logits=seen.logits.shape[-1],
            d_model=d_model,
            n_streams=n_streams,
            stream_axis=2 if axis is None else axis,
        )
    known = config_numbers(hf)
    final, state_scale = _find_final(seen, blocks[-1], head, known, body)
    logit_scale, softcap = _find_logit_map(head, seen.logits, known)
    parts = tuple(find_block_parts(seen, call, known) for call in blocks)
    return Structure(
        body=body,
        block_paths=tuple(call.path for call in blocks),
        blocks=parts,
        final=final,
        unembedding=head.path,
        n_logits=seen.logits.shape[-1],
        d_model=d_model,
        n_streams=n_streams,
        stream_axis=2 if axis is None else axis,
        state_scale=state_scale,
        logit_scale=logit_scale,
        softcap=softcap,
    )


def _find_blocks(hf: Any, seen: Trace) -> list[ModuleCall]:
    """The longest chain of modules from lists, each given what the one before it gave."""
    times = Counter(call.path for call in seen.calls)
    listed = {
        f"{path}.{name}"
        for path, module in hf.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        for name, _ in module.named_children()
    }
    candidates = [
        call
        for call in seen.calls
        if call.path in listed and times[call.path] == 1 and _is_stream(call, seen)
    ]
    chains: dict[int, list[ModuleCall]] = {}  # by the number of their first call
    for call in reversed(candidates):
        rest = next(
            (
                chains[after.began]
                for after in candidates
                if after.began >= call.ended
                and any(is_same(given, call.output) for given in after.inputs.values())
            ),
            [],
        )
        chains[call.began] = [call, *rest]
    # of chains that are equally long, the one around the others, and the last of those
    best = max(
        chains.values(),
        key=lambda chain: (len(chain), chain[0].ended - chain[0].began, chain[0].began),
        default=None,
    )
    if best is None:
        why = _why_no_blocks([call for call in seen.calls if call.path in listed], seen)
        raise UnsupportedModelError(
            f"{type(hf).__name__} has no list of blocks each of which is given what the one before "
            f"gave, so there is no residual stream to edit{why}."
        )
    return best


def _why_no_blocks(calls: Sequence[ModuleCall], seen: Trace) -> str:
    """What the calls of listed modules have that blocks do not."""
    if any(times > 1 for times in Counter(c.path for c in calls if _is_stream(c, seen)).values()):
        return ": its blocks run several times in a pass, so that a layer is no one place"
    n_tokens = seen.tokens.shape[1]
    for call in calls:
        shape = () if call.output is None else tuple(call.output.shape)
        if len(shape) == 3 and shape[:2] == (n_tokens, 1):
            return ": its states have the position before the prompt"
        if len(shape) == 3 and shape[0] == 1 and shape[1] > n_tokens:
            return f": its states have {shape[1]} positions for {n_tokens} tokens"
    return ""


def _is_stream(call: ModuleCall, seen: Trace) -> bool:
    """Whether a call maps a state of every token, of one or several streams, to such a state."""
    out, columns = call.output, seen.tokens.shape[1]
    if out is None or not out.is_floating_point():
        return False
    if not any(given.shape == out.shape for given in call.inputs.values()):
        return False
    if out.dim() == 3:
        return out.shape[:2] == (1, columns)
    return out.dim() == 4 and _stream_axis(out, columns) is not None


def _stream_axis(out: Tensor, columns: int) -> int | None:
    """The axis of several streams, before or after batch and position."""
    if out.shape[:2] == (1, columns):
        return 2
    return 0 if out.shape[1:3] == (1, columns) else None


def _find_body(seen: Trace, blocks: Sequence[ModuleCall]) -> str:
    """The innermost module around all blocks that is given tokens or their embeddings."""
    around = [
        call
        for call in seen.calls
        if call.contains(blocks[0])
        and call.contains(blocks[-1])
        and (
            "input_ids" in call.inputs
            or "inputs_embeds" in call.inputs
            or any(is_same(given, seen.tokens) for given in call.inputs.values())
        )
    ]
    return around[-1].path


def _find_head(hf: Any, seen: Trace) -> ModuleCall:
    """The call of the unembedding: the last one that gives an entry per token of the vocabulary."""
    head = hf.get_output_embeddings()
    calls = [call for call in seen.calls if call.module is head] or [
        call
        for call in seen.calls
        if isinstance(call.module, nn.Linear)
        and call.output is not None
        and call.output.shape == seen.logits.shape
    ]
    if not calls:
        raise UnsupportedModelError(
            f"{type(hf).__name__} makes its logits without a linear map that could be read."
        )
    return calls[-1]


def _find_final(
    seen: Trace, last: ModuleCall, head: ModuleCall, known: Sequence[float], body: str
) -> tuple[tuple[str, ...] | None, float]:
    """The modules from the last block's output to the unembedding's input, and a factor there."""
    assert last.output is not None
    state: Tensor = last.output
    target = next(iter(head.inputs.values()))
    paths: list[str] = []
    after = [call for call in seen.calls if last.ended <= call.began < head.began]
    while len(paths) < _MOST_FINAL_MODULES:
        factor = multiple(state, target, known)
        if factor is not None:
            return tuple(paths), factor
        step = next(
            (
                call
                for call in after
                if call.output is not None
                and _is_alone(call)
                and not is_same(call.output, state)
                and any(is_same(given, state) for given in call.inputs.values())
            ),
            None,
        )
        if step is None or step.output is None:
            break
        paths.append(step.path)
        state = step.output
        after = [call for call in after if call.began > step.began and not step.contains(call)]
    whole = next(call for call in seen.calls if call.path == body)
    factor = None if whole.output is None else multiple(whole.output, target, known)
    if factor is not None:
        return None, factor
    raise UnsupportedModelError(
        f"what the unembedding {head.path!r} reads is neither made from the output of the last "
        f"block, {last.path!r}, by modules that follow one another, nor the output of {body!r}."
    )


def _is_alone(call: ModuleCall) -> bool:
    """Whether a module is given a state and nothing else, so that it can be called again."""
    return len(call.inputs) == 1 and not call.names - set(call.inputs)


def _find_logit_map(
    head: ModuleCall, logits: Tensor, known: Sequence[float]
) -> tuple[float, float | None]:
    """Scale s and bound c: the logits are c tanh(s x / c) of the unembedding's output x."""
    assert head.output is not None
    raw, found = head.output[..., : logits.shape[-1]].float(), logits.float()
    limit = 4 * torch.finfo(logits.dtype).eps
    scale = multiple(raw, found, known, tolerance=limit)
    if scale is not None:
        return scale, None
    for cap in known:
        inside = found / cap
        if float(inside.abs().max()) > 1:
            continue
        before = cap * torch.atanh(inside.clamp(-1 + 1e-6, 1 - 1e-6))
        scale = multiple(raw, before, known, tolerance=0.02)
        if scale is not None and is_close(
            cap * torch.tanh(scale * raw / cap), found, tolerance=limit
        ):
            return scale, cap
    raise UnsupportedModelError(
        "the logits are neither a multiple of what the unembedding gives nor a soft-capped one."
    )


def config_numbers(hf: Any) -> tuple[float, ...]:
    """All positive numbers of the text model's config: factors and bounds are among them."""
    values = hf.config.get_text_config().to_dict().values()
    numbers = (v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool))
    return tuple(sorted({float(number) for number in numbers if number > 0} | {15.0, 30.0}))
