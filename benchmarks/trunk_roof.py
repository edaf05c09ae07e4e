"""Trunks of few-shot prompts against the matrix products in them alone.

    python benchmarks/trunk_roof.py [--json] [--rounds 5] [--models embedded smollm2-135m]
        [--shots 8] [--threads 2] [--dtype auto]

One side builds the trunk of 32 prompts. The other multiplies as many rows as these prompts have
tokens, padding left out, by every weight of the blocks, and does nothing else: the roof of this
machine's own matrix product. `ratio` is the share of the roof that the trunk reaches; norms,
activations, attention, padding and what is kept are the rest. Rounds are interleaved; the figures
are medians. `--threads` takes several numbers, each measured by itself; the default is torch's own.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from _command_line import arguments, show
from learn_step import interleaved, random_prompts, real_prompts, smollm2
from torch import Tensor

from taskvectors.models import LanguageModel, load_model
from taskvectors.prompts import Prompt
from taskvectors.trunk import Trunk

N_PROMPTS = 32


def products(model: LanguageModel, n_tokens: int) -> tuple[Callable[[], None], int]:
    """All products of the blocks on that many tokens, and their floating-point operations."""
    weights = [
        module.weight
        for block in model.blocks
        for module in block.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    rows: dict[int, Tensor] = {
        width: torch.randn(n_tokens, width, dtype=model.dtype)
        for width in {weight.shape[1] for weight in weights}
    }

    def run() -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.nn.functional.linear(rows[weight.shape[1]], weight)

    return run, 2 * n_tokens * sum(weight.numel() for weight in weights)


def tokens_of(prompts: Sequence[Prompt]) -> int:
    """Tokens that run: the prompts, and their answers but for the last token."""
    return sum(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)


def measure(name: str, asked: argparse.Namespace) -> list[dict[str, object]]:
    """A row of one model for each number of threads."""
    if name == "embedded":
        model = load_model("embedded", dtype=asked.dtype)
        prompts = real_prompts(model, asked.shots, N_PROMPTS)
    else:
        model = smollm2(asked.dtype)
        prompts = random_prompts(asked.shots, N_PROMPTS, model.d_vocab)
    alone, operations = products(model, tokens_of(prompts))
    rows: list[dict[str, object]] = []
    for threads in asked.threads:
        torch.set_num_threads(threads)
        trunk_s, products_s = interleaved(
            (lambda: Trunk.build(model, prompts), alone), asked.rounds
        )
        rows.append(
            {
                "model": name,
                "dtype": str(model.dtype)[6:],
                "shots": asked.shots,
                "prompts": N_PROMPTS,
                "threads": threads,
                "trunk_s": trunk_s,
                "products_s": products_s,
                "products_flops": operations / products_s,
                "ratio": products_s / trunk_s,
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--threads", nargs="+", type=int, default=[torch.get_num_threads()])
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2-135m"])
    asked = parser.parse_args()
    rows = [row for name in asked.models for row in measure(name, asked)]
    show(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
