"""Adapters: small trained parts put into a frozen model, or before its prompts, for a while.

Most are peft's. Inside the context of an adapter its parts act and can be trained; after it the
model is what it was, to the bit. What runs is the model's body, not its unembedding, so that logits
are never held whole.
"""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models.accelerator import seeded
from taskvectors.models.block_parts import is_linear
from taskvectors.models.calls import cache_name, run_body
from taskvectors.models.interface import AttentionCall, attention_configs, watch_interface
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.rope import Forward, by_length
from taskvectors.models.sites import patch_output
from taskvectors.models.trace import few_tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A model with an adapter on."""

    forward: Forward
    parameters: Mapping[str, Tensor]
    """What is trained, in float32, by the names it is saved under."""
    hf: Any
    """What peft made of the transformers model; that model itself without peft."""

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def weights(self) -> dict[str, Tensor]:
        """A copy of what is trained."""
        return {name: value.detach().cpu().clone() for name, value in self.parameters.items()}


class Adapter(ABC):
    """Something that can be put on a model and taken off."""

    @abstractmethod
    def on(self, model: LanguageModel) -> AbstractContextManager[Adapted]:
        """Have it on a model while inside."""

    @abstractmethod
    def with_weights(self, weights: Mapping[str, Tensor]) -> "Adapter":
        """The same adapter after training."""

    @abstractmethod
    def save(self, model: LanguageModel, folder: Path) -> None:
        """Keep it in a folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PeftAdapter(Adapter):
    """An adapter of peft, as its config and its trained weights."""

    config: Any
    """A peft config."""
    seed: int = 0
    """Of the start, where there are no weights yet."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def with_weights(self, weights: Mapping[str, Tensor]) -> "PeftAdapter":
        """The same adapter after training."""
        return replace(self, weights=dict(weights))

    @contextmanager
    def on(self, model: LanguageModel) -> Iterator[Adapted]:
        """Have it on a model while inside.

        Raises:
            TaskVectorsError: peft is not installed.
        """
        peft = load_peft()
        before = dict(vars(model.hf))
        # peft draws from the global state
        with seeded(self.seed, model.device), deprecations_hushed():
            adapted = peft.get_peft_model(model.hf, copy.deepcopy(self.config))
        try:
            adapted.eval()
            parameters = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
            for name, value in self.weights.items():
                with torch.no_grad():
                    parameters[name].copy_(value)
            yield Adapted(forward=_forward(model, adapted), parameters=parameters, hf=adapted)
        finally:
            if not self.config.is_prompt_learning:
                adapted.unload()
            for name in set(vars(model.hf)) - set(before):
                delattr(model.hf, name)
            model.hf.requires_grad_(False)

    def save(self, model: LanguageModel, folder: Path) -> None:
        """Keep it as peft does: `PeftModel.from_pretrained` reads it."""
        with self.on(model) as adapted, deprecations_hushed():
            adapted.hf.save_pretrained(str(folder))


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasAdapter(Adapter):
    """A change to biases that a model already has (peft has no such adapter)."""

    modules: tuple[str, ...]
    """Paths of the modules whose bias is trained, inside the transformers model."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def with_weights(self, weights: Mapping[str, Tensor]) -> "BiasAdapter":
        """The same adapter after training."""
        return replace(self, weights=dict(weights))

    @contextmanager
    def on(self, model: LanguageModel) -> Iterator[Adapted]:
        """Add the change to what the modules give while inside: their bias is left alone."""
        modules = {name: model.hf.get_submodule(name) for name in self.modules}
        parameters = {
            f"{name}.bias": torch.zeros_like(module.bias, dtype=torch.float32, requires_grad=True)
            for name, module in modules.items()
        }
        for name, value in self.weights.items():
            with torch.no_grad():
                parameters[name].copy_(value)

        def adding(change: Tensor) -> Callable[..., Tensor]:
            return lambda _, __, output: output + change.to(output.dtype)

        handles = [
            module.register_forward_hook(adding(parameters[f"{name}.bias"]))
            for name, module in modules.items()
        ]
        try:
            yield Adapted(forward=_forward(model, model.hf), parameters=parameters, hf=model.hf)
        finally:
            for handle in handles:
                handle.remove()

    def save(self, model: LanguageModel, folder: Path) -> None:
        """Keep the biases, changed, under their names in the transformers model."""
        from safetensors.torch import save_file

        biases = {
            name: model.hf.get_parameter(name).detach().float().cpu() + change
            for name, change in self.weights.items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        save_file(biases, folder / "biases.safetensors")


@contextmanager
def deprecations_hushed() -> Iterator[None]:
    """Peft asks transformers for things by names that are on their way out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def load_peft() -> Any:
    """The peft package.

    Raises:
        TaskVectorsError: It is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise TaskVectorsError(
            "adapters are made by the package peft, which is not installed; install "
            "taskvectors[demo] or peft"
        ) from error
    return peft


def _forward(model: LanguageModel, adapted: Any) -> Forward:
    """The body of an adapted model, up to the last block's output.

    Args:
        model: The model, with whatever the adapter put into it.
        adapted: What peft made of it; the transformers model where peft has no part in it.
    """
    config: Any = getattr(adapted, "active_peft_config", None)
    # adapters inside the model have no virtual tokens
    virtual = int(getattr(config, "num_virtual_tokens", 0))
    is_prefix = virtual > 0 and config.peft_type == "PREFIX_TUNING"

    def forward(tokens: Tensor, mask: Tensor) -> Tensor:
        given: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
        if virtual:
            mask = torch.cat([mask.new_ones(len(mask), virtual), mask], dim=1)
            prompt = adapted.get_prompt(batch_size=len(tokens))
            if is_prefix:
                given |= {cache_name(model): prompt, "use_cache": True}
            else:
                embedded = model.hf.get_input_embeddings()(tokens)
                both = torch.cat([prompt.to(embedded.dtype), embedded], dim=1)
                given = {"inputs_embeds": both, "use_cache": False}
        states = run_body(model, attention_mask=mask, **given)
        return states[:, -tokens.shape[1] :]  # a prefix has no states, virtual tokens have

    return by_length(model.rope_limit, forward, n_before=virtual)


def check_takes_embeddings(model: LanguageModel) -> None:
    """Check that a model runs on embeddings alone, as trained prompts need.

    Raises:
        UnsupportedModelError: It reads token ids beside them.
    """
    if model.device.type == "meta":
        return
    embedded = 0.5 * model.hf.get_input_embeddings()(few_tokens(model.hf))  # of no token
    try:
        with torch.no_grad():
            model.body(inputs_embeds=embedded, use_cache=False)
    except Exception as error:  # a model of transformers may raise anything
        raise UnsupportedModelError(
            f"{model.source} does not run on embeddings without token ids, which prompt-tuning "
            f"trains: {str(error).splitlines()[0][:200]}"
        ) from error


# --- which modules


def attention_maps(model: LanguageModel, layers: Sequence[int]) -> list[str]:
    """Full names of the attention's linear maps in some blocks."""
    return [_full(model, layer, path) for layer in layers for path in _linear_maps(model, layer)]


def output_maps(model: LanguageModel, layers: Sequence[int]) -> list[str]:
    """Full names of W_O in some blocks."""
    for layer in layers:
        model.part(layer, "output_projection")
    return [_full(model, layer, str(model.parts(layer).output_projection)) for layer in layers]


def scaled_maps(model: LanguageModel, layers: Sequence[int]) -> tuple[list[str], list[str]]:
    """Full names of the maps that (IA)3 scales: keys and values, and the MLP's last map.

    The second list is empty for a mixture of experts, which has no such map.
    """
    attention: list[str] = []
    known: dict[tuple[str, ...], list[str]] = {}  # layers with the same maps have the same roles
    for layer in layers:
        maps = tuple(_linear_maps(model, layer))
        if maps not in known:
            known[maps] = _key_value_maps(model, layer)
        attention += [_full(model, layer, path) for path in known[maps]]
    last = [(layer, model.parts(layer).mlp_last_map) for layer in layers]
    return attention, [_full(model, layer, path) for layer, path in last if path is not None]


def _linear_maps(model: LanguageModel, layer: int) -> list[str]:
    """Paths of all linear maps of a block's attention, inside the block."""
    attention = model.part(layer, "attention")
    above = model.parts(layer).attention
    names = [name for name, module in attention.named_modules() if is_linear(module)]
    return [f"{above}.{name}" for name in names]


def _key_value_maps(model: LanguageModel, layer: int) -> list[str]:
    """Of these, the ones that keys or values are made with: changing one changes them."""
    module, paths = model.part(layer, "attention"), _linear_maps(model, layer)
    plain = _keys_and_values(model, module)
    found = []
    for path in paths:
        with patch_output(model.module(layer, path), _changed):
            changed = _keys_and_values(model, module)
        if not all(torch.equal(new, old) for new, old in zip(changed, plain, strict=True)):
            found.append(path)
    return found


def _keys_and_values(model: LanguageModel, module: nn.Module) -> tuple[Tensor, Tensor]:
    """What one attention module passes on as keys and values in a short pass."""
    found: list[AttentionCall] = []
    with torch.no_grad(), watch_interface(attention_configs(model.hf), found.append):
        model.body(input_ids=few_tokens(model.hf), use_cache=False)
    call = next(call for call in found if call.module is module)
    return call.key, call.value


def _changed(state: Tensor) -> Tensor:
    return 2 * state + 1


def biased_modules(model: LanguageModel, layers: Sequence[int]) -> list[str]:
    """Full names of all modules in some blocks that have a bias.

    Raises:
        UnsupportedModelError: The model uses a bias without calling the module that has it, or
            not as an addition to what the module gives.
    """
    found = {
        module: _full(model, layer, name)
        for layer in layers
        for name, module in model.blocks[layer].named_modules()
        if isinstance(getattr(module, "bias", None), nn.Parameter)
    }
    if model.device.type != "meta":
        _check_added(model, found)
    return list(found.values())


def _check_added(model: LanguageModel, modules: Mapping[nn.Module, str]) -> None:
    """Raise unless every module is called and gives its bias added to the rest."""
    calls: dict[nn.Module, tuple[Any, Any, Any]] = {}
    with ExitStack() as stack, torch.no_grad():
        for module in modules:
            keep = module.register_forward_hook(
                lambda it, args, given, out: calls.update({it: (args, given, out)}),
                with_kwargs=True,
            )
            stack.callback(keep.remove)
        model.body(input_ids=few_tokens(model.hf), use_cache=False)
    for module, name in modules.items():
        if module not in calls or not _is_added(module, *calls[module]):
            how = "without calling that module" if module not in calls else "not as an addition"
            raise UnsupportedModelError(
                f"{model.source} uses the bias of {name} {how}, so it cannot be trained apart from "
                "the model. A trained bias of the residual stream is `learned` at the position "
                "`all`."
            )


@torch.no_grad()
def _is_added(module: nn.Module, args: Any, given: Any, out: Any) -> bool:
    """Whether one more in each number of the bias is one more in each number of the output."""
    if not isinstance(out, Tensor):
        return False
    moved = functional_call(module, {"bias": module.get_parameter("bias") + 1}, args, given)
    return torch.allclose(moved.float(), out.float() + 1, rtol=1e-2, atol=1e-2)


def is_transposed(model: LanguageModel) -> bool:
    """Whether linear maps keep their matrix the other way round, as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(model.part(0, "output_projection"), Conv1D)


def _full(model: LanguageModel, layer: int, path: str) -> str:
    return f"{model.structure.block_paths[layer]}.{path}"
