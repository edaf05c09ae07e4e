"""One learning step through the trunk against the same step with plain hooks.

    python benchmarks/learn_step.py [--json] [--rounds 5] [--models embedded smollm2-135m]

Both sides train one vector at the last token of the middle layer: same prompts, same type, forward
and backward, optimizer apart. The baseline is written as well as it can be: one padded batch, sdpa,
no gradient below the edited layer, and logits only where an answer token is predicted, from a
contiguous matrix of those states. Rounds of the two are interleaved; the figure is the median. The
SmolLM2-135M shape has random weights: the time of a step does not depend on them.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from taskvectors.models import LanguageModel, load_model, patch
from taskvectors.prompts import Prompt, build_prompts
from taskvectors.tasks import Example, load_task
from taskvectors.trunk import Edit, Trunk

N_PROMPTS = {0: 98, 8: 32}
"""Prompts per step by demonstrations, as in the design's table."""


def smollm2() -> LanguageModel:
    """A Llama of SmolLM2-135M's shape, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LanguageModel.wrap(LlamaForCausalLM(config).to(torch.bfloat16), source="smollm2-135m")


def random_prompts(shots: int, n: int, d_vocab: int) -> tuple[Prompt, ...]:
    """Prompts of random tokens, as long as those of the design's table, answers of one to three."""
    draw = random.Random(0)
    length = 12 if shots == 0 else 100

    def ids(k: int) -> tuple[int, ...]:
        return tuple(draw.randrange(d_vocab) for _ in range(k))

    pair = Example(input="", output="")
    return tuple(
        Prompt(
            token_ids=ids(length + draw.randint(-2, 2)),
            answer_ids=ids(draw.choice((1, 1, 2, 3))),
            spans={},
            query=pair,
            demonstrations=(),
            text="",
        )
        for _ in range(n)
    )


def real_prompts(model: LanguageModel, shots: int, n: int) -> tuple[Prompt, ...]:
    """Prompts of the task `capital`."""
    task = load_task("capital")
    pairs = (*task.train, *task.validation, *task.test)[:n]
    return build_prompts(
        model.tokenizer, task.template, pairs, demonstrations=task.train, shots=shots
    )


def trunk_step(model: LanguageModel, prompts: Sequence[Prompt], layer: int) -> Callable[[], Tensor]:
    """A step through the trunk, which is built before the clock starts."""
    trunk = Trunk.build(model, prompts)
    batch = trunk.batch()
    theta = torch.zeros(model.d_model, requires_grad=True)

    def step() -> Tensor:
        theta.grad = None
        states = trunk.run([[Edit(layer=layer, value=theta)]], batch)
        loss = trunk.answer_losses(states, batch).sum()
        loss.backward()
        assert theta.grad is not None
        return theta.grad

    return step


def hooks_step(model: LanguageModel, prompts: Sequence[Prompt], layer: int) -> Callable[[], Tensor]:
    """The same step with a hook and a full forward pass."""
    rows = [prompt.token_ids + prompt.answer_ids[:-1] for prompt in prompts]
    width = max(map(len, rows))
    tokens = torch.tensor([row + (0,) * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    last = torch.tensor([len(prompt.token_ids) - 1 for prompt in prompts])
    every = torch.arange(len(rows))
    reads = [
        (row, len(prompt.token_ids) - 1 + slot, token, 1 / len(prompt.answer_ids))
        for row, prompt in enumerate(prompts)
        for slot, token in enumerate(prompt.answer_ids)
    ]
    at_row, at_column, targets, weights = (torch.tensor(x) for x in zip(*reads, strict=True))
    theta = torch.zeros(model.d_model, requires_grad=True)
    head = model.hf.get_output_embeddings().weight

    def add(state: Tensor) -> Tensor:
        return state.index_put((every, last), theta.to(state.dtype), accumulate=True)

    def step() -> Tensor:
        theta.grad = None
        with patch(model, layer, "resid_post", add):
            out = model.body(input_ids=tokens, attention_mask=mask, use_cache=False)
        states = out.last_hidden_state[at_row, at_column].contiguous()
        logits = torch.nn.functional.linear(states, head)
        losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        ((losses * weights).sum() / len(rows)).backward()
        assert theta.grad is not None
        return theta.grad

    return step


def interleaved(
    first: Callable[[], Tensor], second: Callable[[], Tensor], rounds: int
) -> list[float]:
    """Median seconds of two steps, run in turns after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for step, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            step()
            if number:
                kept.append(time.perf_counter() - started)
    return [statistics.median(kept) for kept in times]


def measure(name: str, rounds: int) -> list[dict[str, object]]:
    """Rows of one model."""
    model = load_model("embedded", dtype="bfloat16") if name == "embedded" else smollm2()
    layer = model.n_layers // 2
    rows: list[dict[str, object]] = []
    for shots, n in N_PROMPTS.items():
        prompts = (
            real_prompts(model, shots, n)
            if name == "embedded"
            else random_prompts(shots, n, model.d_vocab)
        )
        through, plain = trunk_step(model, prompts, layer), hooks_step(model, prompts, layer)
        agreement = torch.nn.functional.cosine_similarity(through(), plain(), dim=0)
        if agreement < 0.98:
            raise RuntimeError(f"the two steps' gradients do not agree: cosine {agreement:.4f}")
        hooks_s, trunk_s = interleaved(plain, through, rounds)
        rows.append(
            {
                "model": name,
                "shots": shots,
                "prompts": n,
                "hooks_s": hooks_s,
                "trunk_s": trunk_s,
                "ratio": hooks_s / trunk_s,
                "gradient_cosine": float(agreement),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2-135m"])
    asked = parser.parse_args()
    rows = [row for name in asked.models for row in measure(name, asked.rounds)]
    if asked.json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
        return
    for row in rows:
        sys.stdout.write(
            f"{row['model']:>13}, {row['shots']} shots: hooks {row['hooks_s']:.3f} s, trunk "
            f"{row['trunk_s']:.3f} s, ratio {row['ratio']:.1f}\n"
        )


if __name__ == "__main__":
    main()
