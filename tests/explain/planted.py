"""Small models with weights written by hand, in which it is known how a vector reaches its token.

Each is a Llama whose residual stream has named dimensions. A vector along `SOURCE` is added at the
last token; the answer's unembedding reads `TARGET`. What leads from the one to the other is planted
in one place, and nothing else does anything: a head, an MLP, or (the control) the unembedding
itself. A large constant coordinate keeps the norms' scale nearly fixed.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.vectors import Site, TaskVector

D_MODEL, N_LAYERS, N_HEADS, D_HEAD, D_VOCAB = 16, 5, 4, 4, 24
SOURCE, TARGET, CUE, SINK, CONSTANT = 12, 13, 11, 14, 15
"""Dimensions: where the vector is added, what the answer reads, what only the last token has, what
only the first token has, and what every token has."""
BOS, CUE_TOKEN, PLAIN_TOKEN, ANSWER = 1, 3, 5, 7
"""Tokens: first, last, what is predicted without the vector, what is predicted with it."""
LAYER = 0
"""Where the vector is added."""
CARRIER_LAYER, CARRIER_HEAD = 2, 1
"""What carries the vector, where something does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A model, and the vector whose way through it is known."""

    model: LanguageModel
    vector: TaskVector


def prompts(n: int = 12, seed: int = 0, *, shots: int = 0) -> tuple[Prompt, ...]:
    """Prompts of random tokens that end with the cue; all have the same answer."""
    draw = random.Random(seed)

    def one(number: int) -> Prompt:
        n_query = draw.randint(2, 4)
        shown = [draw.randrange(8, D_VOCAB) for _ in range(3 * shots)]
        query = [draw.randrange(8, D_VOCAB) for _ in range(n_query)]
        begin = 1 + len(shown)
        spans = {"query": (begin, begin + n_query), "cue": (begin + n_query, begin + n_query + 1)}
        if shots:
            spans["demonstrations"] = (1, begin)
        return Prompt(
            token_ids=(BOS, *shown, *query, CUE_TOKEN),
            answer_ids=(ANSWER,),
            spans=spans,
            query=Example(input=f"input {number}", output="answer"),
            demonstrations=(),
            text="",
        )

    return tuple(one(number) for number in range(n))


def along(dimension: int, size: float = 8.0) -> TaskVector:
    """A vector along one dimension, added at the last token after block `LAYER`."""
    values = torch.zeros(1, D_MODEL)
    values[0, dimension] = size
    return TaskVector(values=values, sites=(Site(layer=LAYER, position=-1),))


def by_head() -> Planted:
    """Head `CARRIER_HEAD` of block `CARRIER_LAYER` looks at the last token and carries the vector.

    Its key-value head is shared with head 0, which writes nothing; heads 2 and 3 look at the sink.
    """
    model = _silent(answer_reads=TARGET)
    attention = model.blocks[CARRIER_LAYER].self_attn  # type: ignore[attr-defined]
    with torch.no_grad():
        # of each head's dimensions, 1 turns slowly with the position: the content decides
        for head, kv_head, seen in ((1, 0, CUE), (2, 1, SINK), (3, 1, SINK)):
            attention.q_proj.weight[head * D_HEAD + 1, CONSTANT] = 3.0
            attention.k_proj.weight[kv_head * D_HEAD + 1, seen] = 3.0
        attention.v_proj.weight[0, SOURCE] = 1.0
        attention.o_proj.weight[TARGET, CARRIER_HEAD * D_HEAD] = 10.0
    return Planted(model=model, vector=along(SOURCE))


def by_mlp() -> Planted:
    """The MLP of block `CARRIER_LAYER` carries the vector; no head writes anything."""
    model = _silent(answer_reads=TARGET)
    mlp = model.blocks[CARRIER_LAYER].mlp  # type: ignore[attr-defined]
    with torch.no_grad():
        mlp.gate_proj.weight[0, CONSTANT] = 2.0
        mlp.up_proj.weight[0, SOURCE] = 1.0
        mlp.down_proj.weight[TARGET, 0] = 2.0
    return Planted(model=model, vector=along(SOURCE))


def directly() -> Planted:
    """The control: the answer's unembedding reads the vector itself; no block does anything."""
    return Planted(model=_silent(answer_reads=SOURCE), vector=along(SOURCE))


def turned_then_scaled(first: Tensor, then: Tensor, *, constant: float = 3000.0) -> LanguageModel:
    """A model that is linear to about (vector / constant)^2 on its first dimensions.

    Block 1 maps the first dimensions by `first` (a rotation, say), block 3 by `then` (a scaling,
    say), and the other blocks do nothing; the unembedding reads the first dimensions, a token for
    each. A vector added after block 0 ends as then @ first @ vector, one added after block 1 as
    then @ vector, and one after block 3 as it is.

    Args:
        first: What block 1 does, `[n, n]` with n up to 8.
        then: What block 3 does.
        constant: The constant coordinate, against which vectors have to be small.
    """
    model = _silent(answer_reads=TARGET, constant=constant)
    rms = constant / D_MODEL**0.5
    for block, map_ in ((1, first), (3, then)):
        n = len(map_)
        mlp = model.blocks[block].mlp  # type: ignore[attr-defined]
        with torch.no_grad():
            # the gate reads the constant alone, so that what is left of the MLP is linear
            mlp.gate_proj.weight[:n, CONSTANT] = 10.0
            gate = torch.nn.functional.silu(torch.tensor(10.0 * constant / rms))
            mlp.up_proj.weight[:n, :n] = (map_ - torch.eye(n)) * rms / gate
            mlp.down_proj.weight[:n, :n] = torch.eye(n)
    with torch.no_grad():
        model.hf.lm_head.weight.zero_()
        model.hf.lm_head.weight[8:16, :8] = torch.eye(8)
    return model


def turned_by_head(turn: Tensor, *, constant: float = 3000.0) -> LanguageModel:
    """A model in which one head's OV circuit turns the first four dimensions; no other part acts.

    Head 0 of block `CARRIER_LAYER` looks at the last token alone, whatever is added there. The
    unembedding reads the first dimensions, a token for each.

    Args:
        turn: `[4, 4]`.
        constant: The constant coordinate, against which vectors have to be small.
    """
    model = _silent(answer_reads=TARGET, constant=constant)
    attention = model.blocks[CARRIER_LAYER].self_attn  # type: ignore[attr-defined]
    rms = constant / D_MODEL**0.5
    with torch.no_grad():
        attention.q_proj.weight[1, CONSTANT] = 3.0
        attention.k_proj.weight[1, CUE] = 3.0 * constant
        attention.v_proj.weight[:4, :4] = (turn - torch.eye(4)) * rms
        attention.o_proj.weight[:4, :4] = torch.eye(4)
        model.hf.lm_head.weight.zero_()
        model.hf.lm_head.weight[8:16, :8] = torch.eye(8)
    return model


def by_pattern() -> Planted:
    """The vector makes a head look away from the first token, whose value it carries to the answer.

    Nothing reads the vector's own value.
    """
    model = _silent(answer_reads=TARGET, constant=3000.0)
    attention = model.blocks[CARRIER_LAYER].self_attn  # type: ignore[attr-defined]
    with torch.no_grad():
        attention.q_proj.weight[1, CONSTANT] = 1.0
        attention.k_proj.weight[1, SOURCE] = 10_000.0  # the norm makes the others small
        attention.v_proj.weight[0, SINK] = 10.0
        attention.o_proj.weight[TARGET, 0] = 100.0
    return Planted(model=model, vector=along(SOURCE, size=0.05))


def _silent(*, answer_reads: int, constant: float = 8.0) -> LanguageModel:
    """A model whose blocks do nothing: embedding, final norm, unembedding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Any = LlamaConfig(
        vocab_size=D_VOCAB,
        hidden_size=D_MODEL,
        intermediate_size=16,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=2,
        head_dim=D_HEAD,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    )
    hf = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        embedding = hf.model.embed_tokens.weight
        embedding[:, CONSTANT] = constant
        for token in range(8, D_VOCAB):
            embedding[token, token % 8] = 1.0
        embedding[BOS, SINK] = 6.0
        embedding[CUE_TOKEN, CUE] = 6.0
        hf.lm_head.weight[PLAIN_TOKEN, CONSTANT] = 0.5
        hf.lm_head.weight[ANSWER, answer_reads] = 1.0
    return LanguageModel.wrap(hf, source="planted")
