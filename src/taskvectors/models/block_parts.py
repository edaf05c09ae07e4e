"""Finding the parts of one block in a traced pass.

Attention and the MLP are the two parts whose outputs add up to what the block adds to the residual
stream. W_O reads what attention makes of the values, and the values lie in the output of W_V.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from taskvectors.models.interface import AttentionCall
from taskvectors.models.structure import BlockParts, Heads
from taskvectors.models.tensors import adds_up, is_same, multiple
from taskvectors.models.trace import ModuleCall, Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """A block's call, what it was given and gave, and the calls inside it."""

    call: ModuleCall
    given: Tensor
    output: Tensor
    inside: list[ModuleCall]
    attention: tuple[int, AttentionCall] | None
    """The one call of the attention interface, with the number of the module call before it."""

    @classmethod
    def of(cls, seen: Trace, call: ModuleCall) -> "_Block":
        """What a trace has of a block."""
        assert call.output is not None
        shape = call.output.shape
        given = next(value for value in call.inputs.values() if value.shape == shape)
        made = [each for each in seen.attention if call.began <= each[0] < call.ended]
        return cls(
            call=call,
            given=given,
            output=call.output,
            inside=seen.within(call),
            attention=made[0] if len(made) == 1 else None,
        )

    def path(self, call: ModuleCall | None) -> str | None:
        """A module's path from the block on."""
        return None if call is None else call.path.removeprefix(self.call.path + ".")

    def givers(self) -> list[ModuleCall]:
        """Calls whose output has one entry per entry of the stream, the outer one of equal ones."""
        found: list[ModuleCall] = []
        for call in sorted(self.inside, key=lambda each: (each.path.count("."), each.began)):
            out = call.output
            if out is None or out.numel() != self.output.numel():
                continue
            if out.shape[-1] != self.output.shape[-1] or out.dtype != self.output.dtype:
                continue
            # a trained part may give zeros like another, so only one inside another is the same
            if not any(other.contains(call) and is_same(out, other.output) for other in found):
                found.append(call)
        return sorted(found, key=lambda each: each.ended)

    def first_given(self, state: Tensor, after: int = -1) -> ModuleCall | None:
        """The first and outermost call that is given a state."""
        return next(
            (
                call
                for call in self.inside
                if call.began > after
                and any(_is_state(given, state) for given in call.inputs.values())
            ),
            None,
        )


def _is_state(given: Tensor, state: Tensor) -> bool:
    """Whether a module is given a state that was computed once more."""
    if given.numel() != state.numel() or given.shape[-1] != state.shape[-1]:
        return False
    return given.is_floating_point() and (is_same(given, state) or adds_up(given, state))


def find_block_parts(seen: Trace, call: ModuleCall, known: Sequence[float]) -> BlockParts:
    """The parts of a block.

    Args:
        seen: The traced pass.
        call: The block's call.
        known: Numbers of the model's config, among which a factor of the parts' outputs is.
    """
    block = _Block.of(seen, call)
    found = _find_attention(block)
    if block.output.dim() != 3:
        return BlockParts(**found)
    sums = _find_sum(block, known)
    if sums is not None:
        first, second, scale = sums
        found |= _name_parts(block, first, second, scale)
    else:
        post = _find_post_norm_sum(block)
        if post is not None:
            found |= _name_parts(block, *post, 1.0) | {"is_post_norm": True}
    return BlockParts(**(found | _find_reading(block, found)))


def heads_by_shape(seen: Trace, call: ModuleCall) -> BlockParts:
    """Only the heads of a block, of a model without weights."""
    made = [each for _, each in seen.attention if call.began <= _ < call.ended]
    if len(made) != 1:
        return BlockParts()
    return BlockParts(heads=_heads(made[0], sees_values=True))


def _heads(made: AttentionCall, *, sees_values: bool) -> Heads:
    return Heads(
        n_heads=made.query.shape[1],
        n_key_value_heads=made.value.shape[1],
        d_head=made.value.shape[-1],
        sees_values=sees_values,
    )


# --- what adds up


def _find_sum(
    block: _Block, known: Sequence[float]
) -> tuple[ModuleCall, ModuleCall | None, float] | None:
    """The two parts (or the one) whose outputs, times a factor, are what the block adds."""
    givers = block.givers()
    for i, first in enumerate(givers):
        assert first.output is not None
        for second in givers[i + 1 :]:
            assert second.output is not None
            if adds_up(block.output, block.given, first.output, second.output):
                return first, second, 1.0
    for call in givers:
        assert call.output is not None
        if adds_up(block.output, block.given, call.output):
            return call, None, 1.0
    change = block.output.float() - block.given.float()
    for i, first in enumerate(givers):
        assert first.output is not None
        for second in givers[i + 1 :]:
            assert second.output is not None
            both = first.output.float().reshape(change.shape) + second.output.reshape(change.shape)
            scale = multiple(both.to(block.output.dtype), change.to(block.output.dtype), known)
            if scale is not None and adds_up(
                block.output, block.given, scale * first.output, scale * second.output
            ):
                return first, second, scale
    return None


def _find_post_norm_sum(block: _Block) -> tuple[ModuleCall, ModuleCall] | None:
    """The two parts of a block that norms each sum on its way on."""
    for first in block.givers():
        assert first.output is not None
        middle = next(
            (
                call
                for call in block.inside
                if call.began > first.began
                and any(
                    _sums_to(given, block.given, first.output) for given in call.inputs.values()
                )
            ),
            None,
        )
        if middle is None or middle.output is None:
            continue
        last = [call for call in block.inside if is_same(block.output, call.output)]
        for second in block.givers():
            if second.began < middle.ended or second.output is None:
                continue
            if any(
                _sums_to(given, middle.output, second.output)
                for call in last
                for given in call.inputs.values()
            ):
                return first, second
    return None


def _sums_to(total: Tensor, *parts: Tensor | None) -> bool:
    whole = [part for part in parts if part is not None]
    if not total.is_floating_point() or any(total.numel() != part.numel() for part in whole):
        return False
    return adds_up(total, *whole)


def _name_parts(
    block: _Block, first: ModuleCall, second: ModuleCall | None, scale: float
) -> dict[str, Any]:
    """Which of the parts is attention, which the MLP, and where the MLP reads."""
    if second is None:
        if block.attention is None:
            return {}
        return {"attention_output": block.path(first), "residual_scale": scale}
    attention, mlp = first, second
    if block.attention is not None and block.attention[0] > first.ended:
        attention, mlp = second, first  # the MLP comes first
    assert attention.output is not None
    middle = block.given + scale * attention.output.reshape(block.given.shape)
    reader = None if mlp.began < attention.began else block.first_given(middle, attention.ended - 1)
    return {
        "attention_output": block.path(attention),
        "mlp_output": block.path(mlp),
        "residual_scale": scale,
        "is_parallel": reader is None,
        "mlp_input": block.path(reader or _parallel_reader(block, mlp)),
        "mlp_last_map": block.path(_last_map(block, mlp)),
    }


def _parallel_reader(block: _Block, mlp: ModuleCall) -> ModuleCall | None:
    """The module through which the MLP alone reads the block's input, in a parallel block."""
    if any(is_same(given, block.given) for given in mlp.inputs.values()):
        return mlp
    for call in block.inside:
        if not any(is_same(given, block.given) for given in call.inputs.values()):
            continue
        readers = [
            other
            for other in block.inside
            if other.began >= call.ended
            and any(is_same(given, call.output) for given in other.inputs.values())
        ]
        if readers and all(other is mlp or mlp.contains(other) for other in readers):
            return call
    return None


def _last_map(block: _Block, mlp: ModuleCall) -> ModuleCall | None:
    """The linear map whose output the MLP gives, before a norm."""
    ends = [mlp.output, *mlp.inputs.values()]
    maps = [
        call
        for call in block.inside
        if is_linear(call.module)
        and any(is_same(end, call.output) for end in ends if end is not None)
    ]
    return maps[-1] if maps else None


# --- attention


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map, of any class and precision."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding)


def _find_attention(block: _Block) -> dict[str, Any]:
    """The attention module, its heads, W_O and W_V."""
    if block.attention is None:
        return {}
    at, made = block.attention
    around = [call for call in block.inside if call.module is made.module]
    if len(around) != 1:
        return {}
    inside = [call for call in block.inside if around[0].contains(call)]
    z = made.output
    width = z.shape[-2:].numel()
    after = [
        call
        for call in inside
        if call.began > at and is_linear(call.module) and _width_in(call) == width
    ]
    exact = [call for call in after if any(is_same(x, z) for x in call.inputs.values())]
    projection = (exact or after or [None])[0]  # type: ignore[list-item]
    value, offsets = _find_values([call for call in inside if call.began <= at], made.value)
    return {
        "attention": block.path(around[0]),
        "output_projection": block.path(projection),
        "value_projection": block.path(value),
        "value_offsets": offsets,
        "heads": _heads(made, sees_values=bool(exact)),
    }


def _width_in(call: ModuleCall) -> int:
    given = next(iter(call.inputs.values()), None)
    return 0 if given is None else int(given.shape[-1])


def _find_values(
    calls: Sequence[ModuleCall], value: Tensor
) -> tuple[ModuleCall | None, tuple[int, ...]]:
    """The linear map in whose output the values lie, and where each head's begin."""
    heads = value[0]  # [kv_head, pos, d_head]
    for call in reversed(calls):
        out = call.output
        if not is_linear(call.module) or out is None or out.numel() % heads.shape[1]:
            continue
        columns = out.reshape(heads.shape[1], -1)
        last = columns.shape[1] - heads.shape[0] * heads.shape[2]
        # first the usual place, which must be found also where values of several heads are alike
        if last >= 0 and bool((columns[:, last:] == heads.transpose(0, 1).flatten(1)).all()):
            return call, tuple(last + head * heads.shape[2] for head in range(len(heads)))
        offsets = [_find_slice(columns, head) for head in heads]
        if all(offset is not None for offset in offsets):
            return call, tuple(offset for offset in offsets if offset is not None)
    return None, ()


def _find_slice(columns: Tensor, head: Tensor) -> int | None:
    """Where a head's `[pos, d_head]` lies among the columns of an output."""
    d_head = head.shape[1]
    starts = (columns == head[:, :1]).all(dim=0).nonzero().flatten().tolist()
    for start in reversed(starts):
        if (columns[:, start : start + d_head].shape == head.shape) and bool(
            (columns[:, start : start + d_head] == head).all()
        ):
            return int(start)
    return None


def _find_reading(block: _Block, found: dict[str, Any]) -> dict[str, Any]:
    """The norm that attention reads through, and the one between W_O and the stream."""
    by_path = {block.path(call): call for call in block.inside}
    more: dict[str, Any] = {}
    value = by_path.get(found.get("value_projection"))
    if value is not None:
        read = next(iter(value.inputs.values()))
        norm = next((call for call in block.inside if is_same(read, call.output)), None)
        if norm is not None and any(is_same(given, block.given) for given in norm.inputs.values()):
            more["attention_norm"] = block.path(norm)
        elif not is_same(read, block.given):
            more |= {"value_projection": None, "value_offsets": ()}
    projection = by_path.get(found.get("output_projection"))
    output = by_path.get(found.get("attention_output"))
    if projection is None or output is None or output.output is None:
        return more
    if not is_same(output.output, projection.output) and any(
        is_same(given, projection.output) for given in output.inputs.values()
    ):
        more["post_attention_norm"] = block.path(output)
    return more
