"""What a model writes without a vector and with it, and the tokens it finds likely first."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.format import html_table, printable
from taskvectors.models import LanguageModel, as_model
from taskvectors.models.accelerator import seeded
from taskvectors.models.calls import check_context, contiguous_unembedding
from taskvectors.models.tensors import require_finite
from taskvectors.prompts import Prompt, build_prompts, prompt_of_text
from taskvectors.report import draw_plotly
from taskvectors.results.figures import Figure, Series, style_at
from taskvectors.tasks import Example
from taskvectors.vectors import TaskVector, as_vector, inject, on_the_prompt

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LIKELIEST = 10
PLAIN = "zero-shot"


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """How likely a token is to come first, without the vector and with it."""

    token: str
    plain: float
    edited: float | None
    """None where there is no vector."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model writes after a prompt."""

    prompt: str
    plain: str
    """Without the vector."""
    edited: str | None
    """With it; None where there is none."""
    method: str
    strength: float
    next_tokens: tuple[NextToken, ...]
    """The likeliest first tokens: those with the vector, then those without."""

    def to_frame(self) -> pd.DataFrame:
        """A row without the vector, and one with it."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The same as plain values."""
        rows = [{"method": PLAIN, "strength": 0.0, "completion": self.plain}]
        if self.edited is not None:
            edited = {"method": self.method, "strength": self.strength, "completion": self.edited}
            rows.append(edited)
        return rows

    def figure(self) -> Figure:
        """The likeliest first tokens as data."""
        shares: dict[str, list[float | None]] = {
            "without the vector": [one.plain for one in self.next_tokens]
        }
        if self.edited is not None:
            shares["with it"] = [one.edited for one in self.next_tokens]
        places = tuple(float(number) for number in range(len(self.next_tokens)))
        return Figure(
            name="next-tokens",
            title="The likeliest next tokens",
            x_label="Token",
            y_label="Probability",
            series=tuple(
                Series(label=label, x=places, y=tuple(y), kind="point", style=style_at(number))
                for number, (label, y) in enumerate(shares.items())
            ),
            x_ticks=tuple(
                (place, printable(one.token))
                for place, one in zip(places, self.next_tokens, strict=True)
            ),
            shares=True,
        )

    def plot(self) -> "go.Figure":
        """The likeliest first tokens, as a plotly chart."""
        return draw_plotly(self.figure())

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file; one that is there is replaced."""
        write_whole(Path(path).expanduser(), json.dumps(asdict(self), indent=2) + "\n")

    def _repr_html_(self) -> str:
        rows = [(row["method"], row["strength"], row["completion"]) for row in self.rows()]
        return html_table(self.prompt, ("method", "strength", "completion"), rows)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is to be written, as `generate` takes it.

    Raises:
        TaskVectorsError: There is no prompt, or two; or a number is not positive.
    """

    prompt: str | None = None
    input: str | None = None
    template: str | None = None
    chat: bool = False
    strength: float = 1.0
    max_new_tokens: int = 20
    sample: bool = False
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.input is None):
            raise TaskVectorsError("give a prompt either as --prompt or as --input, and not both")
        if self.max_new_tokens < 1 or not 0 < self.temperature < float("inf"):
            raise TaskVectorsError("--max-new-tokens and --temperature have to be positive")


def generate(  # noqa: PLR0913  (what is written depends on all of it)
    model: LanguageModel | str | Path,
    vector: TaskVector | str | PathLike[str] | None = None,
    *,
    prompt: str | None = None,
    input: str | None = None,
    template: str | None = None,
    chat: bool = False,
    strength: float = 1.0,
    max_new_tokens: int = 20,
    sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
) -> Generation:
    """What the model writes without a vector and with it.

    Args:
        model: What `load_model` returns, or a name or path that it takes.
        vector: The vector, or its folder.
        prompt: Text to go on with, as it is.
        input: What is asked, in the vector's template; instead of `prompt`.
        template: Template for `input`; the vector's own, else `qa`.
        chat: Put `input` into the tokenizer's chat template; so for a vector that was made so.
        strength: Factor of the vector.
        max_new_tokens: Most tokens to write.
        sample: Draw each token, in place of the most probable one.
        temperature: How evenly `sample` draws.
        seed: Seed of what `sample` draws; the state of torch's generators is left as it was.

    Raises:
        TaskVectorsError: There is no prompt, or two; or a number is not positive.
        VectorMismatchError: The vector was made for another model.
    """
    asked = Writing(
        prompt=prompt, input=input, template=template, chat=chat, strength=strength,
        max_new_tokens=max_new_tokens, sample=sample, temperature=temperature, seed=seed,
    )  # fmt: skip
    return written_by(as_model(model), None if vector is None else as_vector(vector), asked)


def written_by(model: LanguageModel, vector: TaskVector | None, asked: Writing) -> Generation:
    """What a model writes without a vector and with it; see `generate`."""
    prompt = prompt_for(
        model, vector, prompt=asked.prompt, input=asked.input, template=asked.template,
        chat=asked.chat,
    )  # fmt: skip
    check_context(model, len(prompt.token_ids), asked.max_new_tokens)
    drawn: dict[str, Any] = {"do_sample": asked.sample}
    drawn |= {"temperature": asked.temperature} if asked.sample else {}
    written, firsts = [], []
    for one in (None,) if vector is None else (None, vector):
        with seeded(asked.seed, model.device):
            written.append(write(model, one, prompt, asked.strength, asked.max_new_tokens, **drawn))
        firsts.append(next_probabilities(model, one, prompt, asked.strength))
    return generation(
        prompt.text, vector, asked, written, likeliest(firsts, model.tokenizer.decode)
    )


def generation(
    prompt: str,
    vector: TaskVector | None,
    asked: Writing,
    written: Sequence[str],
    next_tokens: tuple[NextToken, ...],
) -> Generation:
    """What was written, the one without the vector first."""
    return Generation(
        prompt=prompt,
        plain=written[0],
        edited=None if vector is None else written[1],
        method="" if vector is None else vector.origin.method,
        strength=asked.strength,
        next_tokens=next_tokens,
    )


def prompt_for(
    model: LanguageModel,
    vector: TaskVector | None,
    *,
    prompt: str | None,
    input: str | None,
    template: str | None = None,
    chat: bool = False,
) -> Prompt:
    """The prompt of a text, or of an input in the vector's template."""
    if prompt is not None:
        return prompt_of_text(model.tokenizer, prompt)
    assert input is not None
    own = "" if vector is None else vector.origin.template
    (built,) = build_prompts(
        model.tokenizer,
        template or own or "qa",
        [Example(input=input, output="?")],  # a prompt ends before its answer
        max_tokens=model.context_length,
        chat=chat or (vector is not None and bool(vector.origin.chat)),
    )
    return built


def next_probabilities(
    model: LanguageModel, vector: TaskVector | None, prompt: Prompt, strength: float = 1.0
) -> Float[Tensor, " d_vocab"]:
    """Probabilities of the token after a prompt, with a vector or without.

    Args:
        model: The model.
        vector: The vector, or none.
        prompt: The prompt.
        strength: Factor of the vector.
    """
    tokens = torch.tensor([prompt.token_ids], device=model.device)
    shown = None if vector is None else on_the_prompt(vector)
    with torch.inference_mode(), _injected(model, shown, prompt, strength):
        logits = model.hf(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1]
    require_finite(logits, "logits of the next token")
    probabilities: Tensor = logits.float().softmax(dim=0).cpu()
    return probabilities


def likeliest(
    found: Sequence[Float[Tensor, " d_vocab"]], decode: Callable[[list[int]], str]
) -> tuple[NextToken, ...]:
    """The ten likeliest tokens with a vector, then those without that are not among them.

    Args:
        found: Probabilities without the vector, and with it where there is one.
        decode: The text of tokens.
    """
    best = [probabilities.topk(_LIKELIEST).indices.tolist() for probabilities in reversed(found)]
    ids = dict.fromkeys(token for some in best for token in some)
    return tuple(
        NextToken(
            token=decode([token]),
            plain=float(found[0][token]),
            edited=float(found[1][token]) if len(found) > 1 else None,
        )
        for token in ids
    )


def _injected(
    model: LanguageModel, vector: TaskVector | None, prompt: Prompt, strength: float
) -> Any:
    if vector is None:
        return nullcontext()
    return inject(model, vector, strength=strength, prompts=[prompt])


def write(
    model: LanguageModel,
    vector: TaskVector | None,
    prompt: Prompt,
    strength: float,
    max_new_tokens: int,
    **drawn: Any,
) -> str:
    """What a model writes after a prompt, with a vector or without; greedy by default.

    Args:
        model: The model.
        vector: The vector, or none.
        prompt: The prompt.
        strength: Factor of the vector.
        max_new_tokens: Most tokens to write.
        drawn: How tokens are drawn, as `generate` of transformers takes it.
    """
    from transformers import LogitsProcessorList

    tokens = torch.tensor([prompt.token_ids], device=model.device)

    def numbers_only(_: Tensor, logits: Tensor) -> Tensor:
        require_finite(logits.amax(dim=-1), "largest logits")  # others may be ruled out by -inf
        return logits

    injected = _injected(model, vector, prompt, strength)
    with torch.inference_mode(), contiguous_unembedding(model), injected:
        out = model.hf.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=max_new_tokens,
            pad_token_id=_padding(model),
            logits_processor=LogitsProcessorList([numbers_only]),
            **{"do_sample": False} | drawn,
        )
    new = out[0, len(prompt.token_ids) :]
    return str(model.tokenizer.decode(new, skip_special_tokens=True))


def _padding(model: LanguageModel) -> int:
    """A token that generate may fill up with: one row needs none, but generate asks."""
    pad = model.tokenizer.pad_token_id
    return int(model.tokenizer.eos_token_id or 0) if pad is None else int(pad)
