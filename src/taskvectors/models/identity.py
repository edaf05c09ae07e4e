"""The identity on the model itself: branches against full passes with the same change.

Asked of every model at first use, and kept by the fingerprint of its weights. The first engine
whose branches are full passes runs the model: `trunk`, `cached`, `whole`. A few prompts of
different lengths, two branches, one and two layers, the last and several positions; in float32, on
a copy where the model is small enough, else in the model's own type with the tolerance of that
type.
"""

import copy
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import DataError, UnsupportedModelError
from taskvectors.files import read_json, write_whole
from taskvectors.models.calls import run_body
from taskvectors.models.engines import prepare
from taskvectors.models.interface import own_implementation
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.packing import Packing
from taskvectors.models.passes import Passes, tensors_of
from taskvectors.models.recording import CutTokens
from taskvectors.models.runs import Prepared, RunRequest, Site, TokenIndex
from taskvectors.models.sites import EMBED, Component, apart, capture, patch
from taskvectors.models.structure import Engine, Verified
from taskvectors.models.trace import FIRST_WORDS, few_tokens

logger = logging.getLogger(__name__)

ENGINES: tuple[Engine, ...] = ("trunk", "cached", "whole")
_LENGTHS = ((9, 3), (9, 3), (6, 1))
"""Tokens before and from the first change, of each prompt; two are equally long."""
_NOT_SEEN = {
    "index_topk": "attention chooses among more tokens than the check has, and a cache is indexed "
    "differently from a whole pass",
}
"""Settings whose effect begins beyond the check's few tokens, and why `cached` is not used there:
transformers 5.24 continues such caches wrongly (deepseek_v32, glm_moe_dsa)."""
_TOLERANCE = 1e-4
"""Largest difference of logits in float32, as a share of the largest logit or of 1."""
_COPY_BYTES = 1_500_000_000
"""Largest float32 copy that is made of a model in half precision."""
_VERSION = 2


def verified(model: LanguageModel) -> Verified:
    """The engine of a model, from the cache of the user if it was found before.

    Raises:
        UnsupportedModelError: A later token changes what is before it, or no engine is exact.
    """
    path = _kept_at(model)
    if path.is_file():
        try:
            kept: Verified = read_json(path, Verified, "it is found out again")
        except DataError as error:
            logger.info("%s", error)
        else:
            return kept
    found = apart(lambda: verify(model))  # first use may be inside of somebody's edit
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(found)))
    if found.engine != "trunk":
        logger.info("%s runs on the engine %r: %s", model.source, found.engine, found.reasons)
    return found


def _kept_at(model: LanguageModel) -> Path:
    import transformers

    about = {
        "version": _VERSION,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "class": f"{type(model.hf).__module__}.{type(model.hf).__qualname__}",
        "config": model.hf.config.to_json_string(use_diff=False),
        "attention": [own_implementation(config) for config in model.attention_configs],
        "dtype": str(model.dtype),
        "fingerprint": model.fingerprint,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / f"{digest[:24]}.json"


def cache_folder() -> Path:
    """Where engines that were found are kept, a file for each model."""
    from platformdirs import user_cache_path

    return user_cache_path("taskvectors") / "engines"


def verify(model: LanguageModel, engines: Sequence[Engine] = ENGINES) -> Verified:
    """Find the first engine whose branches are full passes.

    Args:
        model: The model.
        engines: Those to try, in order.

    Raises:
        UnsupportedModelError: A later token changes what is before it, or no engine is exact.
    """
    checked = _in_float32(model)
    tolerance = _TOLERANCE
    if checked.dtype != torch.float32:
        # rounding of the type, which grows with the root of the number of sums
        tolerance = 4 * torch.finfo(checked.dtype).eps * math.sqrt(checked.n_layers)
    states = _check_causal(checked, tolerance)
    probe = _Probe.of(checked, scale=float(states.square().mean().sqrt()))
    expected = [probe.full_pass(number) for number in range(len(_LENGTHS))]
    if all(bool((logits[-1] == logits).all()) for logits in expected):
        raise UnsupportedModelError(
            f"changing the output of a block of {model.source} does not change its logits, so the "
            "blocks that were found are not on the way to them."
        )
    limit = tolerance * max(1.0, *(float(each.abs().max()) for each in expected))
    reasons: dict[str, str] = {}
    state_bytes = 0
    for engine in engines:
        unseen = [why for name, why in _NOT_SEEN.items() if getattr(model.config, name, None)]
        if engine == "cached" and unseen:
            reasons[engine] = unseen[0]
            continue
        try:
            prepared = prepare(checked, probe.tokens, engine)
            state_bytes = max(state_bytes, _state_bytes(prepared))
            error = probe.error(prepared, expected)
        except Exception as failure:  # whatever a stranger's model raises, another engine may do
            reasons[engine] = f"{type(failure).__name__}: {str(failure).splitlines()[0][:200]}"
            continue
        if error <= limit:
            return Verified(engine=engine, error=error, reasons=reasons, state_bytes=state_bytes)
        reasons[engine] = f"logits of a branch differ by {error:.2g} from those of the full pass"
    raise UnsupportedModelError(
        f"no engine runs {model.source} exactly, so what is measured on it would be wrong: "
        + "; ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
    )


def _in_float32(model: LanguageModel) -> LanguageModel:
    """The model, or, where it is small enough, a float32 copy with the first of its words."""
    if model.dtype == torch.float32 or model._is_quantized:
        return model
    tables = model.hf.get_input_embeddings(), model.hf.get_submodule(model.structure.unembedding)
    cut = {id(p) for table in tables for p in table.parameters(recurse=False)}
    parts = {id(p): p[:FIRST_WORDS] if id(p) in cut else p for p in model.hf.parameters()}
    if 4 * sum(part.numel() for part in parts.values()) > _COPY_BYTES:
        return model
    # `deepcopy` takes what its memo holds, so the weights are copied once
    memo: dict[int, object] = {
        key: nn.Parameter(part.float(), requires_grad=False) for key, part in parts.items()
    }
    for module in model.hf.modules():  # hooks are the copy's as they are
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            memo |= {id(hook): hook for hook in hooks.values()}
    hf = copy.deepcopy(model.hf, memo).float()
    hf.get_input_embeddings().padding_idx = None  # it may be beyond the rows; gradients alone ask
    return replace(model, hf=hf, _memo={})


def _state_bytes(prepared: Prepared) -> int:
    """What the cache of a prompt holds however long it is, in float32."""
    if not isinstance(prepared, Passes) or prepared.groups[0].cache is None:
        return 0
    short, long = (
        sum(t.nbytes for t in tensors_of(group.cache) if t.is_floating_point())
        // len(group.prompts)
        for group in prepared.groups  # the shorter prefix first
    )
    few, many = sorted({before for before, _ in _LENGTHS})
    return max(0, short - few * (long - short) // (many - few))


def _check_causal(model: LanguageModel, tolerance: float) -> Float[Tensor, "2 pos d_model"]:
    """The last block's states of two prompts whose last two tokens differ."""
    tokens = few_tokens(model.hf, 8)
    both = torch.cat([tokens, torch.cat([tokens[:, :-2], tokens[:, :2]], dim=1)])
    final: list[Tensor] = []
    with torch.no_grad(), capture(model, model.n_layers - 1, "resid_post", final.append):
        model.body(input_ids=both, use_cache=False)
    if not final:
        raise UnsupportedModelError(f"the last block of {model.source} never runs.")
    states = final[0].float()
    first, second = states[:, :-2]
    difference = float((first - second).abs().max())
    if difference > tolerance * max(1.0, float(first.abs().max())):
        raise UnsupportedModelError(
            f"{model.source} is not causal: a later token changes the states of earlier ones by "
            f"{difference:.2g}, so nothing before an edit could be shared. Models with "
            "bidirectional attention are not supported."
        )
    return states


@dataclass(frozen=True, kw_only=True, eq=False)
class _Probe:
    """Prompts, and two branches: one layer at the last token; two layers at the first and last."""

    model: LanguageModel
    tokens: CutTokens
    values: dict[tuple[int, int], Float[Tensor, " d_model"]]
    """What is added, by branch and layer, at `resid_post`."""

    @classmethod
    def of(cls, model: LanguageModel, *, scale: float) -> "_Probe":
        """A probe of a model: vectors half as long as states whose entries have this size."""
        ids = few_tokens(model.hf, sum(map(sum, _LENGTHS)))[0]
        middle = (model.n_layers - 1) // 2
        generator = torch.Generator().manual_seed(0)
        layers = ((0, middle), (1, EMBED), (1, middle))
        values = {at: scale / 2 * torch.randn(model.d_model, generator=generator) for at in layers}
        ends = [sum(map(sum, _LENGTHS[: number + 1])) for number in range(len(_LENGTHS))]
        width, suffix = (max(lengths) for lengths in zip(*_LENGTHS, strict=True))
        prefixes, suffixes = ids.new_zeros(len(ends), width), ids.new_zeros(len(ends), suffix)
        for row, ((before, after), end) in enumerate(zip(_LENGTHS, ends, strict=True)):
            prefixes[row, width - before :] = ids[end - before - after : end - after]
            suffixes[row, :after] = ids[end - after : end]
        tokens = CutTokens(
            prefix=prefixes,
            prefix_lengths=ids.new_tensor([before for before, _ in _LENGTHS]),
            suffix=suffixes,
            suffix_lengths=ids.new_tensor([after for _, after in _LENGTHS]),
        )
        return cls(model=model, tokens=tokens, values=values)

    def full_pass(self, number: int) -> Float[Tensor, "3 word"]:
        """Logits of one prompt from its first token on, with hooks: both branches, and plain."""
        before, after = _LENGTHS[number]
        width = self.tokens.prefix.shape[1]
        row = torch.cat([self.tokens.prefix[number, width - before :], self.tokens.suffix[number]])
        index = TokenIndex(
            rows=None,
            n_tokens=before + after,
            offsets=self.tokens.prefix_lengths.new_tensor([before]),
        )
        with torch.no_grad(), ExitStack() as stack:
            for layer in {layer for _, layer in self.values}:
                change = _Added(self, lengths=[after])
                stack.enter_context(
                    patch(
                        self.model,
                        layer,
                        "resid_post",
                        partial(change.apply, (layer, "resid_post"), index=index),
                    )
                )
            ids = row[: before + after].repeat(3, 1)
            states = run_body(self.model, input_ids=ids, use_cache=False)
            return self._logits(states[:, -1])

    def _logits(self, states: Float[Tensor, "branch width"]) -> Float[Tensor, "branch word"]:
        """Logits of a prompt's last token, which sees all changes; a vocabulary is much work."""
        read = self.model.read_state(states.to(self.model.dtype))
        whole = self.model.unembedding
        bias = None if whole.bias is None else whole.bias[:FIRST_WORDS]
        return replace(whole, weight=whole.weight[:FIRST_WORDS], bias=bias).logits(read).float()

    def error(self, prepared: Prepared, expected: Sequence[Tensor]) -> float:
        """Largest difference of logits between branches and the full passes."""
        lengths = [after for _, after in _LENGTHS]
        request = RunRequest(
            rows=None,
            packing=Packing.of(lengths, max(lengths), self.model.device),
            starts=[EMBED, max(EMBED, (self.model.n_layers - 1) // 2)],
            changes=_Added(self, lengths=lengths, order=(1, 0)),
        )
        with torch.no_grad():
            states = prepared.run(request).states
            found = [self._logits(states[row, [1, 0], n - 1]) for row, n in enumerate(lengths)]
        return max(
            float((ours - full[:2]).abs().max()) for ours, full in zip(found, expected, strict=True)
        )


@dataclass(frozen=True, kw_only=False, eq=False)
class _Added:
    """The probe's changes of some prompts, as an engine asks for them."""

    probe: _Probe
    lengths: Sequence[int]
    """Suffix tokens of each prompt."""
    order: Sequence[int] = (0, 1)
    """The branch in each place."""

    def at(self, layer: int) -> tuple[Component, ...]:
        """The components of a layer that some branch changes."""
        return ("resid_post",) if any(at == layer for _, at in self.probe.values) else ()

    def apply(self, site: Site, state: Tensor, index: TokenIndex) -> Tensor:
        """Add each branch's value of the layer at its tokens."""
        flat = state.reshape(-1, state.shape[-1])
        rows = range(len(self.lengths)) if index.rows is None else index.rows.tolist()
        n_active = len(flat) // index.n_tokens
        for place, branch in enumerate(self.order[:n_active]):
            value = self.probe.values.get((branch, site[0]))
            if value is None:
                continue
            tokens = [
                place * index.n_tokens + int(index.offsets[at]) + column
                for at, row in enumerate(rows)
                for column in {self.lengths[row] - 1, *([0] if branch else [])}
            ]
            where = torch.tensor(sorted(set(tokens)), device=flat.device)
            flat = flat.index_add(0, where, value.to(flat).expand(len(where), -1))
        return flat.view(state.shape)
