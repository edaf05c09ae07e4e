"""A GGUF model in llama.cpp, with a vector at the tokens where it acts.

llama.cpp knows control vectors that act at every token. What a token leaves in the cache depends on
the vector that is set while that token is decoded. So a prompt is decoded in runs of tokens at
which the same directions act, and the vector is set anew between them: for one at the last token,
all tokens but the last without, then the last with it.
"""

import ctypes
import threading
import weakref
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import PositionError, TaskVectorsError, VectorMismatchError
from taskvectors.export.llama_cpp_library import Library, library
from taskvectors.models.calls import check_fits
from taskvectors.vectors import TaskVector

_N_BATCH = 512
"""Tokens that are decoded in one call; llama.cpp takes 2048 by default."""
_EXTRA = 256
"""A context has a multiple of so many tokens, so that few prompts need a new one."""


class LlamaCpp:
    """A model that llama.cpp runs, on the processor or wherever its build puts it.

    Args:
        path: A .gguf file.

    Raises:
        TaskVectorsError: There is no such file, llama.cpp does not load it, or it is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise TaskVectorsError(f"there is no GGUF file {path}; give the path of one")
        self.library = library()
        self._c = self.library.functions
        params = self._c.llama_model_default_params()
        model = self._c.llama_model_load_from_file(str(self.path).encode(), params)
        if not model:
            raise TaskVectorsError(
                f"llama.cpp does not load {self.path.name} ({_said(self.library)}); give a whole "
                "model of an architecture that it knows"
            )
        self._model, self._context, self._n_context = model, 0, 0
        self._vocabulary = self._c.llama_model_get_vocab(model)
        self.d_vocab = int(self._c.llama_vocab_n_tokens(self._vocabulary))
        self.d_model = int(self._c.llama_model_n_embd(model))
        self.n_layers = int(self._c.llama_model_n_layer(model))
        self.context_length = int(self._c.llama_model_n_ctx_train(model))
        self._lock = threading.Lock()
        self._reads_vectors: bool | None = None
        self._free = weakref.finalize(self, self._c.llama_model_free, model)

    def __repr__(self) -> str:
        return (
            f"LlamaCpp({self.path.name}: {self.n_layers} layers, d_model {self.d_model}; "
            f"{self.library.name})"
        )

    def close(self) -> None:
        """Give back the model's memory; it cannot be used afterwards."""
        self._close_context()
        self._free()

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, by llama.cpp's own tokenizer; BOS where the model has one.

        Raises:
            TaskVectorsError: The text is empty.
        """
        raw = text.encode()
        room = len(raw) + 8  # a token has a byte at least, and special ones are added
        ids = (ctypes.c_int32 * room)()
        n = self._c.llama_tokenize(self._vocabulary, raw, len(raw), ids, room, True, True)
        if not text or n <= 0:
            raise TaskVectorsError("the prompt is empty; give some text to go on with")
        return list(ids[:n])

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text of tokens.

        Args:
            ids: The tokens.
            special: Write special tokens, too.
        """
        given = (ctypes.c_int32 * len(ids))(*ids)
        room = 64
        while True:
            text = ctypes.create_string_buffer(room)
            n = self._c.llama_detokenize(
                self._vocabulary, given, len(ids), text, room, False, special
            )
            if n >= 0:
                return text.raw[:n].decode(errors="replace")
            room = -n

    def log_probabilities(
        self, ids: Sequence[int], vector: TaskVector | None = None, strength: float = 1.0
    ) -> Float[Tensor, " d_vocab"]:
        """Log-probabilities of the token that follows a prompt.

        Args:
            ids: The prompt's tokens.
            vector: A vector that is added after blocks 1 and up.
            strength: Factor of the vector.

        Raises:
            TaskVectorsError: As `write`.
        """
        with self._lock:
            return self._after_prompt(ids, self._checked(vector, strength), n_new=0)

    def write(
        self,
        ids: Sequence[int],
        vector: TaskVector | None = None,
        *,
        strength: float = 1.0,
        max_new_tokens: int = 20,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[int]:
        """Tokens that the model writes after a prompt, up to the end of its answer.

        Args:
            ids: The prompt's tokens.
            vector: A vector that is added after blocks 1 and up, at numbered tokens of the prompt,
                at `last`, `all` or `generated`.
            strength: Factor of the vector.
            max_new_tokens: Most tokens to write.
            temperature: How evenly tokens are drawn; with 0 the most probable one is taken.
            seed: Seed of what is drawn.

        Raises:
            PromptTooLongError: Prompt and answer do not fit into the context.
            TaskVectorsError: llama.cpp cannot add such a vector, or ignores it in this model.
            VectorMismatchError: The vector has another width or depth than the model.
        """
        generator = torch.Generator().manual_seed(seed)
        written: list[int] = []
        with self._lock:
            vector = self._checked(vector, strength)
            log_p = self._after_prompt(ids, vector, n_new=max_new_tokens)
            self._set(directions_when_generating(vector))
            while True:
                token = _choose(log_p, temperature, generator)
                if self._c.llama_vocab_is_eog(self._vocabulary, token):
                    return written
                written.append(token)
                if len(written) == max_new_tokens:
                    return written
                log_p = self._decode([token])

    def _checked(self, vector: TaskVector | None, strength: float) -> TaskVector | None:
        """The vector at its strength, which this model has the sites of."""
        if vector is None:
            return None
        origin, depth = vector.origin, self.n_layers
        if vector.d_model != self.d_model or origin.n_layers not in (None, depth):
            raise VectorMismatchError(
                f"{origin.label} was made for a model with {origin.n_layers or 'unknown'} layers "
                f"and d_model {vector.d_model}; {self.path.name} has {depth} and {self.d_model}. "
                "Use it with the model it was made for"
            )
        if max(vector.layers) >= depth:
            raise VectorMismatchError(
                f"{origin.label} is at layer {max(vector.layers)}, and {self.path.name} has "
                f"{depth} layers, from 0; make one for this model"
            )
        if self._reads_vectors is None:
            self._reads_vectors = self._changes_with_a_vector()
        if not self._reads_vectors:
            raise TaskVectorsError(
                f"llama.cpp ignores control vectors in models of the kind of {self.path.name}: "
                "what it computes is the same with one. Leave out --backend llama.cpp"
            )
        return vector * strength

    def _changes_with_a_vector(self) -> bool:
        """Some architectures of llama.cpp read no control vectors, and say nothing."""
        generator = torch.Generator().manual_seed(0)
        found = []
        self._open(_EXTRA)
        for scale in (0.0, 1.0):
            noise = torch.randn(self.n_layers, self.d_model, generator=generator) * scale
            self._set({layer: noise[layer] for layer in range(1, self.n_layers)})
            self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
            found.append(self._decode([0]))
        return not torch.equal(*found)

    def _after_prompt(
        self, ids: Sequence[int], vector: TaskVector | None, *, n_new: int
    ) -> Float[Tensor, " d_vocab"]:
        check_fits(self.context_length, len(ids), n_new)
        self._open(len(ids) + n_new)
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        log_p = torch.empty(0)
        for start, stop, directions in runs_of(vector, len(ids)):
            self._set(directions)
            for begin in range(start, stop, _N_BATCH):
                log_p = self._decode(ids[begin : min(begin + _N_BATCH, stop)])
        return log_p

    def _decode(self, ids: Sequence[int]) -> Float[Tensor, " d_vocab"]:
        """Read tokens on from where the cache ends."""
        given = (ctypes.c_int32 * len(ids))(*ids)
        batch = self._c.llama_batch_get_one(given, len(ids))
        if self._c.llama_decode(self._context, batch) != 0:
            raise TaskVectorsError(
                f"llama.cpp fails on {len(ids)} tokens ({_said(self.library)}); shorten the prompt"
            )
        address = self._c.llama_get_logits_ith(self._context, -1)
        logits = torch.frombuffer(
            (ctypes.c_float * self.d_vocab).from_address(address), dtype=torch.float32
        )
        log_p: Tensor = logits.log_softmax(dim=0)
        if bool(log_p.isnan().any()):
            raise TaskVectorsError(
                f"{self.path.name} computes numbers that are not finite; lower the strength"
            )
        return log_p

    def _set(self, directions: dict[int, Tensor]) -> None:
        """Add directions from here on; at other blocks zeros, so that the graph is always one."""
        values = torch.zeros(self.n_layers - 1, self.d_model)  # block 0 has none
        for layer, direction in directions.items():
            values[layer - 1] = direction
        shape = (self.d_model, 1, self.n_layers - 1)
        data = ctypes.c_void_p(values.data_ptr())
        if self._c.llama_set_adapter_cvec(self._context, data, values.numel(), *shape) != 0:
            raise TaskVectorsError(f"llama.cpp takes no control vector ({_said(self.library)})")

    def _open(self, n_tokens: int) -> None:
        """A context with room for so many tokens."""
        if self._n_context >= n_tokens:
            return
        self._close_context()
        params = self._c.llama_context_default_params()
        size = -(-n_tokens // _EXTRA) * _EXTRA
        params.numbers[0] = size
        context = self._c.llama_init_from_model(self._model, params)
        if not context:
            raise TaskVectorsError(
                f"llama.cpp has no room for {size} tokens of {self.path.name} "
                f"({_said(self.library)}); shorten the prompt"
            )
        threads = torch.get_num_threads()
        self._c.llama_set_n_threads(context, threads, threads)
        self._context, self._n_context = context, size

    def _close_context(self) -> None:
        if self._context:
            self._c.llama_free(self._context)
        self._context, self._n_context = 0, 0


def runs_of(vector: TaskVector | None, n_tokens: int) -> list[tuple[int, int, dict[int, Tensor]]]:
    """A prompt as runs of tokens at which the same directions act.

    Args:
        vector: A vector that is added after blocks 1 and up.
        n_tokens: Tokens of the prompt.

    Returns:
        First token, the token after the last one, and the direction at each block.

    Raises:
        PositionError: The prompt is too short.
        TaskVectorsError: llama.cpp cannot add such a vector.
    """
    acting = [
        tuple(row for row, places in enumerate(_places(vector, n_tokens)) if token in places)
        for token in range(n_tokens)
    ]
    found, start = [], 0
    for rows, tokens in groupby(acting):
        stop = start + len(list(tokens))
        found.append((start, stop, _directions(vector, rows)))
        start = stop
    return found


def directions_when_generating(vector: TaskVector | None) -> dict[int, Tensor]:
    """The direction at each block while an answer is written."""
    sites = () if vector is None else vector.sites
    rows = tuple(row for row, site in enumerate(sites) if site.position == "generated")
    return _directions(vector, rows)


def _places(vector: TaskVector | None, n_tokens: int) -> list[range]:
    """The tokens of the prompt at which each row of a vector acts."""
    if vector is None:
        return []
    if vector.operation != "add":
        raise TaskVectorsError(
            f"{vector.origin.label} does not add ({vector.operation}), and llama.cpp only adds; "
            "make one that is added"
        )
    found = []
    for site in vector.sites:
        layer, component, position = site.place
        if component != "resid_post" or layer < 1:
            raise TaskVectorsError(
                f"{vector.origin.label} has {site}, and llama.cpp adds after blocks 1 and up only; "
                "make one at other layers"
            )
        if position == "all":
            found.append(range(n_tokens))
        elif position in ("generated", "answer"):
            found.append(range(0))
        elif isinstance(position, int):
            found.append(_one_token(position, n_tokens))
        else:
            raise TaskVectorsError(
                f"{vector.origin.label} acts at {position!r}, a place of a template that llama.cpp "
                "does not know; make one at numbers, last, all or generated"
            )
    return found


def _one_token(position: int, n_tokens: int) -> range:
    if not -n_tokens <= position < n_tokens:
        raise PositionError(
            f"the prompt has {n_tokens} tokens and no position {position}; give a longer prompt"
        )
    return range(position % n_tokens, position % n_tokens + 1)


def _directions(vector: TaskVector | None, rows: tuple[int, ...]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for row in rows:
        assert vector is not None
        layer, value = vector.sites[row].place[0], vector.values[row].float().cpu()
        found[layer] = found[layer] + value if layer in found else value
    return found


def _choose(log_p: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(log_p.argmax())
    shares = (log_p / temperature).softmax(dim=0)
    return int(torch.multinomial(shares, 1, generator=generator))


def _said(library: Library) -> str:
    return "; ".join(library.errors) or "it does not say why"
