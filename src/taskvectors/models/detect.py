"""Finding a model's structure from what its modules compute in one traced pass.

Blocks are the modules whose outputs chain: each is given what the one before it gave. The modules
from the last block to the unembedding are followed the same way. Names play no part.
"""

import itertools
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
    n_streams = last.shape[2] if last.dim() == 4 else 1
    d_model = last.shape[2:].numel()
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
        )
    known = config_numbers(hf)
    final, state_scale = _find_final(seen, blocks[-1], head, known)
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
        state_scale=state_scale,
        logit_scale=logit_scale,
        softcap=softcap,
    )


def _find_blocks(hf: Any, seen: Trace) -> list[ModuleCall]:
    """The longest list of modules whose outputs chain; of equal ones the last."""
    calls: dict[str, list[ModuleCall]] = {}
    for call in seen.calls:
        calls.setdefault(call.path, []).append(call)
    best: list[ModuleCall] = []
    for path, module in hf.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or not len(module):
            continue
        made = [calls.get(f"{path}.{name}", []) for name, _ in module.named_children()]
        if any(len(each) != 1 for each in made):
            continue
        chain = [each[0] for each in made]
        if _chains(chain, seen) and (len(chain), chain[0].began) > (
            len(best),
            best[0].began if best and not _is_inside(chain[0], best[0]) else -1,
        ):
            best = chain
    if not best:
        raise UnsupportedModelError(
            f"{type(hf).__name__} has no list of blocks each of which is given what the one before "
            "gave, so there is no residual stream to edit."
        )
    return best


def _is_inside(call: ModuleCall, outer: ModuleCall) -> bool:
    return outer.contains(call)


def _chains(chain: Sequence[ModuleCall], seen: Trace) -> bool:
    rows, columns = seen.tokens.shape
    for call in chain:
        out = call.output
        if out is None or out.dim() not in (3, 4) or out.shape[:2] != (rows, columns):
            return False
        if not call.inputs or all(given.shape != out.shape for given in call.inputs.values()):
            return False
    return all(
        any(is_same(given, before.output) for given in after.inputs.values())
        for before, after in itertools.pairwise(chain)
    )


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
    seen: Trace, last: ModuleCall, head: ModuleCall, known: Sequence[float]
) -> tuple[tuple[str, ...], float]:
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
    raise UnsupportedModelError(
        f"what the unembedding of {head.path!r} reads is not made from the output of the last "
        f"block, {last.path!r}, by modules that follow one another."
    )


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


def causal_types() -> tuple[str, ...]:
    """All causal model types of the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
