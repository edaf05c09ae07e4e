"""A device that this machine does not have, played on its CPU: what does not belong there fails.

Tensors of the device are a class of their own. An operation that mixes them with the CPU's is an
error, as on every accelerator, and so is float64, which MPS does not have. Nothing is said of
speed, of kernels, or of what the device's own operations give.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import Mock, patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

FAKE = torch.device("mps")
_MIXED = {
    "copy_", "to", "__getitem__", "__setitem__", "type_as", "index_put", "index_put_", "grad",
}  # fmt: skip
"""What takes both kinds: moves, copies, places that are counted on the CPU, and gradients."""


class OnDevice(Tensor):
    """A tensor of the device; its numbers lie on the CPU."""


class _Generator(torch.Generator):
    """One that says it is of the device."""

    device = FAKE


_GENERATORS = {"cpu": torch.Generator, FAKE.type: _Generator}


class _Mode(TorchFunctionMode):
    """Every operation of torch passes here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__" and func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return FAKE if isinstance(args[0], OnDevice) else torch.device("cpu")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if name in {"numpy", "__array__"} and here:
            raise TypeError("can't convert mps:0 device type tensor to numpy; use Tensor.cpu()")
        if name == "_has_compatible_shallow_copy_type" and len({*map(type, tensors)}) > 1:
            return False  # a module that is moved gets parameters of its own
        there = [t for t in tensors if not isinstance(t, OnDevice) and t.dim()]
        if here and there and name not in _MIXED:
            raise RuntimeError(f"{name}: expected all tensors on one device, found mps:0 and cpu")
        target, args, kwargs = _sent(name, args, kwargs)
        is_here = here if target is None else target.type == FAKE.type
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
        if name == "grad":
            inputs = args[1] if len(args) > 1 else kwargs["inputs"]
            inputs = [inputs] if isinstance(inputs, Tensor) else inputs
            pairs = zip(found, inputs, strict=True)
            return tuple(_placed(one, is_here=isinstance(of, OnDevice)) for one, of in pairs)
        if kwargs.get("requires_grad") and isinstance(found, Tensor):
            return _placed(found.detach(), is_here=is_here).requires_grad_()  # stays a leaf
        if isinstance(found, torch.Size):
            return found
        return tree_map(lambda one: _placed(one, is_here=is_here), found)


def _sent(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[torch.device | None, Any, Any]:
    """Where a result is asked to go, and the arguments without it."""
    if name == "cpu":
        return torch.device("cpu"), args, kwargs
    target = kwargs.get("device")
    if target is not None:
        kwargs["device"] = "cpu"
    if name == "to":
        for place, one in enumerate(args[1:], start=1):
            if isinstance(one, Tensor):
                target = FAKE if isinstance(one, OnDevice) else torch.device("cpu")
            elif isinstance(one, str | torch.device):
                target, args = one, (*args[:place], "cpu", *args[place + 1 :])
    return None if target is None else torch.device(target), args, kwargs


def _placed(found: Any, *, is_here: bool) -> Any:
    if not isinstance(found, Tensor):
        return found
    if is_here and found.dtype == torch.float64:
        raise TypeError("the MPS framework does not have float64; use float32, or the CPU")
    if is_here == isinstance(found, OnDevice):
        return found
    return found.as_subclass(OnDevice if is_here else Tensor)


@contextmanager
def fake_device() -> Iterator[torch.device]:
    """Inside, `mps` is a device of this machine."""
    asked: dict[str, Any] = {
        "Generator": lambda device="cpu": _GENERATORS[torch.device(device).type](),
        "Event": Mock,
        "backends.mps.is_available": lambda: True,
        "backends.mps.is_macos_or_newer": lambda *_: False,
        "accelerator.synchronize": lambda *_: None,
        "mps.get_rng_state": torch.get_rng_state,
        "mps.set_rng_state": torch.set_rng_state,
        "mps.recommended_max_memory": lambda: 10**10,
        "mps.driver_allocated_memory": lambda: 10**6,
    }
    with ExitStack() as stack:
        for name, said in asked.items():
            stack.enter_context(patch(f"torch.{name}", said))
        stack.enter_context(_Mode())
        yield FAKE


def moved(module: nn.Module) -> nn.Module:
    """A module whose weights lie on the device."""
    made: dict[int, Any] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                if id(weight) not in made:
                    there = weight.detach().as_subclass(OnDevice)
                    made[id(weight)] = nn.Parameter(there, requires_grad=weight.requires_grad)
                part._parameters[name] = made[id(weight)]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.as_subclass(OnDevice)
    return module
