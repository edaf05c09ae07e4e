"""Calls: what each forward pass of a model is given, seen while it happens.

A hook at a site sees a bare `[row, column, width]` tensor. Which of its columns are a prompt's
tokens, padding, or generated is known one level up, where token ids, mask and cache go in. This
module shows that level and judges nothing; `taskvectors.vectors` turns it into positions.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from taskvectors.errors import PromptTooLongError, TaskVectorsError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.sites import capture

ONE_PROMPT_A_ROW = (
    "Expected is one prompt per row, padded on the left or on the right, with a 2-D attention mask "
    "[row, column] or none; static caches (cache_implementation='static') and packed rows have "
    "others."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """What one forward pass of a model's body was given."""

    n_rows: int
    n_columns: int
    """New columns; those in the cache are not counted."""
    n_cached: int
    """Columns that the cache held before the call; 1 where it keeps states and does not count."""
    token_ids: Int[Tensor, "row column"] | None
    """None where embeddings were given."""
    mask: Bool[Tensor, "row key"] | None
    """True where a column, cached ones first, holds a token; None where all do."""
    position_ids: Int[Tensor, "one_or_row column"] | None
    forbids_cache: bool
    """Whether it was said that nothing is to be cached, as `generate(use_cache=False)` does."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the longest row, cached ones included and padding not."""
        every = self.n_cached + self.n_columns
        return every if self.mask is None else int(self.mask.sum(dim=1).max())


CACHE_NAMES = ("cache", "past_key_values", "cache_params", "state")
"""What a body calls its cache: the first since transformers 5.24, where the second and, in state
spaces, the third were before; RWKV the last."""


class _Eager:
    """Compiled models run as they are while anybody is inside.

    torch's stance is the process's, not a thread's: the first to enter sets it, the last to leave
    gives back what was there. Two threads that each did both would leave one another's stance.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.stance: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.stance = torch.compiler.set_stance("force_eager")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.stance.__exit__(None, None, None)


_eager = _Eager()
Watch = Callable[[Call | None], None]


@contextmanager
def watching_calls(
    model: LanguageModel, watch: Watch, is_ours: Callable[[], bool]
) -> Iterator[None]:
    """Show calls of the model's body to `watch` before they run, and None after they have run.

    Models compiled by torch run as they are while inside: graphs made before have no hooks in them.

    Args:
        model: The model.
        watch: Receives what the call was given; what it raises ends the call.
        is_ours: Whether the call that begins is to be shown; others are not looked at.

    Raises:
        PromptTooLongError: A call goes past the model's context.
    """
    signature = inspect.signature(model.body.forward)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        if kwargs is None:  # torch forgets that a hook wants them if a thread is removing it
            return
        if not is_ours():
            watch(None)
            return
        call = _read(arguments_by_name(signature, args, kwargs))
        if call is not None:
            check_context(model, call.n_tokens)
            watch(call)

    def after(*_: Any) -> None:
        watch(None)

    handles = [
        model.body.register_forward_pre_hook(before, with_kwargs=True),
        model.body.register_forward_hook(after),
    ]
    try:
        with _eager:
            yield
    finally:
        for handle in handles:
            handle.remove()


def counts_padding(model: LanguageModel) -> bool:
    """Whether a call without position ids counts padding on the left as positions.

    So it is where positions are rows of a table that is read by column (GPT-2, GPT-Neo,
    GPT-BigCode): `generate` gives such a model position ids, a plain call has to bring its own.
    """
    tokens = model.hf.get_input_embeddings()
    return any(
        # OPT and others have classes of their own, which count by the mask
        type(module) is nn.Embedding
        and module is not tokens
        and module.num_embeddings >= model.context_length
        for module in model.body.modules()
    )


def check_context(model: LanguageModel, n_prompt: int, n_new: int = 0) -> None:
    """Check that tokens fit the model's context; some models run past its end without a word.

    Args:
        model: The model.
        n_prompt: Tokens that there are.
        n_new: Tokens that are to follow them.

    Raises:
        PromptTooLongError: There are more than fit.
    """
    check_fits(model.context_length, n_prompt, n_new)


def check_fits(limit: int, n_prompt: int, n_new: int) -> None:
    """Check that a prompt and what follows it have no more tokens than a context.

    Raises:
        PromptTooLongError: They have.
    """
    if n_prompt + n_new <= limit:
        return
    new = f" and {n_new} are to follow" if n_new else ""
    fewer = f"write at most {limit - n_prompt} tokens, " if n_prompt < limit else ""
    raise PromptTooLongError(
        f"the prompt has {n_prompt} tokens{new}, where {limit} fit; {fewer}shorten the prompt or "
        "take a model with a longer context"
    )


def arguments_by_name(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """What a function with this signature is given: families pass the same things differently."""
    named = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
    return named


def run_body(model: LanguageModel, **given: Any) -> Float[Tensor, "row column width"]:
    """Run a model without its unembedding.

    Args:
        model: The model.
        given: What its body is given.

    Returns:
        `resid_post` of the last block, or, of a model whose logits are not made from that alone,
        the body's output; see `LanguageModel.read_state`.
    """
    model.forget_longer_calls()
    if model.structure.final is None:
        output: Tensor = model.body(**given)[0]
        return output
    final: list[Tensor] = []
    with capture(model, model.n_layers - 1, "resid_post", final.append):
        model.body(**given)
    return final[0]


def cache_name(model: LanguageModel) -> str:
    """What the body of a model calls its cache."""
    parameters = inspect.signature(model.body.forward).parameters
    return next(name for name in CACHE_NAMES if name in parameters)


def _read(given: Mapping[str, Any]) -> Call | None:
    """The call with these arguments; None where there is no input, which the model refuses."""
    token_ids, embeddings = given.get("input_ids"), given.get("inputs_embeds")
    if embeddings is not None:
        token_ids = None
        rows, columns = embeddings.shape[:2]
    elif token_ids is not None:
        rows, columns = (1, *token_ids.shape)[-2:]
        token_ids = token_ids.view(rows, columns)
    else:
        return None
    if any(name.startswith("cu_seq_lens") and given[name] is not None for name in given):
        raise TaskVectorsError(f"the rows of this call are packed. {ONE_PROMPT_A_ROW}")
    cache = next((given[name] for name in CACHE_NAMES if given.get(name) is not None), None)
    position_ids = given.get("position_ids")
    if position_ids is not None and position_ids.dim() == 3:
        position_ids = position_ids[0]  # of time, height and width, which are alike for text
    cached = _n_cached(cache)
    return Call(
        n_rows=rows,
        n_columns=columns,
        n_cached=cached,
        token_ids=token_ids,
        mask=_read_mask(given.get("attention_mask"), None if cached else (rows, columns)),
        position_ids=None if position_ids is None else position_ids.reshape(-1, columns),
        forbids_cache=given.get("use_cache") is False,
    )


def _n_cached(cache: Any) -> int:
    if cache is None:
        return 0
    try:
        return int(cache.get_seq_length())
    except (AttributeError, ValueError):  # no layer of it is attention
        has_states = getattr(cache, "has_previous_state", None)
        return int(has_states is None or bool(has_states(0)))


def _read_mask(mask: Any, shape: tuple[int, int] | None) -> Tensor | None:
    if isinstance(mask, dict) and "full_attention" in mask:
        # what `generate` makes of a 2-D mask for Gemma 3: the last token sees all but padding
        full = mask["full_attention"]
        if isinstance(full, Tensor) and full.dim() == 4:
            seen = full if full.dtype == torch.bool else full > torch.finfo(full.dtype).min / 2
            full = seen[:, 0, -1]
        mask = full
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2 or (shape and mask.shape != shape):
        found = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        of = f" for tokens {list(shape)}" if shape else ""
        raise TaskVectorsError(f"cannot read the attention mask {found}{of}. {ONE_PROMPT_A_ROW}")
    return mask != 0


@contextmanager
def contiguous_unembedding(model: LanguageModel) -> Iterator[None]:
    """Give the unembedding contiguous states while inside.

    The last column of a batch of prompts, as generation passes it, is not contiguous; torch then
    expands a large unembedding per row in bfloat16 on a CPU: seconds and gigabytes per step. Of one
    prompt it counts as contiguous and has the strides of its batch all the same, hence the copy.
    """

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].clone(memory_format=torch.contiguous_format), *args[1:])

    handle = model.hf.get_output_embeddings().register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
