"""Indirect effects of all heads through the trunk against one full forward pass per head.

    python benchmarks/indirect_effect.py [--json] [--rounds 5] [--models embedded smollm2-135m]

Both sides work on 25 label-shuffled prompts of 10 shots. The baseline is the published procedure:
for each head and prompt one forward pass of that prompt, the head replaced by a hook at the last
token, logits of the last token only (from a contiguous state). 40 pairs of head and prompt are
drawn and scaled to all of them. Rounds of the two are interleaved; the figure is the ratio of the
medians. Times are in bfloat16; in float32 the same 40 effects are compared with those of the trunk.
The SmolLM2-135M shape has random weights: the time does not depend on them.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from learn_step import random_prompts, smollm2
from torch import Tensor

from taskvectors.methods import Workbench
from taskvectors.methods.head_means import head_means
from taskvectors.methods.indirect_effect import (
    exact_effects,
    first_token_trunk,
    label_shuffled_prompts,
)
from taskvectors.models import LanguageModel, load_model, rewriting
from taskvectors.prompts import Prompt
from taskvectors.tasks import load_task

SHOTS, N_PROMPTS, N_SAMPLED, TOLERANCE = 10, 25, 40, 1e-4
Pair = tuple[int, int, int]
"""Prompt, layer, head."""


def prepared(name: str, dtype: str) -> tuple[LanguageModel, Sequence[Prompt], Tensor]:
    """A model, its label-shuffled prompts, and what each head is given."""
    if name == "embedded":
        model = load_model("embedded", dtype=dtype)
        bench = Workbench(model=model, task=load_task("capital"), shots=SHOTS)
        prompts, _ = label_shuffled_prompts(bench, N_PROMPTS, 100)
        return model, prompts, head_means(bench, 100).z
    model = smollm2()
    model.hf.to(getattr(torch, dtype))
    prompts = random_prompts(SHOTS, N_PROMPTS, model.d_vocab)
    # about as large as what the heads themselves give with such weights
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(model.n_layers, model.n_heads, model.d_head, generator=generator)
    return model, prompts, means


def through_trunk(model: LanguageModel, prompts: Sequence[Prompt], means: Tensor) -> Tensor:
    """All effects, the trunk included."""
    return exact_effects(first_token_trunk(model, prompts), means)[0]


def with_hooks(
    model: LanguageModel, prompts: Sequence[Prompt], means: Tensor, pairs: Sequence[Pair]
) -> list[float]:
    """Probability of the answer's first token with one head replaced, a forward pass each."""
    head = model.hf.get_output_embeddings().weight
    found = []
    for row, layer, number in pairs:
        own = slice(number * model.d_head, (number + 1) * model.d_head)
        value = means[layer, number].to(model.dtype)

        def give(state: Tensor, own: slice = own, value: Tensor = value) -> Tensor:
            state = state.clone()
            state[:, -1, own] = value
            return state

        with torch.inference_mode(), rewriting(model, layer, "z", give):
            tokens = torch.tensor([prompts[row].token_ids])
            out = model.body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
            logits = torch.nn.functional.linear(out.contiguous(), head).float()
            found.append(float(logits.softmax(dim=-1)[0, prompts[row].answer_ids[0]]))
    return found


def plain(model: LanguageModel, prompts: Sequence[Prompt]) -> list[float]:
    """The same probability of every prompt with nothing replaced."""
    head = model.hf.get_output_embeddings().weight
    found = []
    for prompt in prompts:
        with torch.inference_mode():
            tokens = torch.tensor([prompt.token_ids])
            out = model.body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
            logits = torch.nn.functional.linear(out.contiguous(), head).float()
            found.append(float(logits.softmax(dim=-1)[0, prompt.answer_ids[0]]))
    return found


def sampled(model: LanguageModel, seed: int) -> list[Pair]:
    """Pairs of a prompt and a head, drawn without replacement."""
    n = N_PROMPTS * model.n_layers * model.n_heads
    per_prompt = model.n_layers * model.n_heads
    drawn = random.Random(seed).sample(range(n), N_SAMPLED)
    return [(i // per_prompt, *divmod(i % per_prompt, model.n_heads)) for i in drawn]


def largest_difference(name: str) -> tuple[float, float]:
    """Between both sides' effects in float32, and the largest effect that was compared."""
    model, prompts, means = prepared(name, "float32")
    effects = through_trunk(model, prompts, means)
    pairs = sampled(model, seed=0)
    base = plain(model, prompts)
    patched = with_hooks(model, prompts, means, pairs)
    expected = [p - base[pair[0]] for p, pair in zip(patched, pairs, strict=True)]
    found = [float(effects[pair]) for pair in pairs]
    return (
        max(abs(a - b) for a, b in zip(found, expected, strict=True)),
        max(map(abs, expected)),
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(name: str, rounds: int) -> dict[str, object]:
    """The row of one model."""
    difference, largest = largest_difference(name)
    if difference > min(TOLERANCE, largest / 100):  # random weights have small effects
        raise RuntimeError(f"the effects of {name} differ by {difference:.2e} in float32")
    model, prompts, means = prepared(name, "bfloat16")
    n_pairs = N_PROMPTS * model.n_layers * model.n_heads
    hooks, trunk = [], []
    for number in range(rounds + 1):
        pairs = sampled(model, seed=number)
        per_pair = timed(lambda pairs=pairs: with_hooks(model, prompts, means, pairs)) / N_SAMPLED
        through = timed(lambda: through_trunk(model, prompts, means))
        if number:  # the first is a warm-up
            hooks.append(per_pair * n_pairs)
            trunk.append(through)
    hooks_s, trunk_s = statistics.median(hooks), statistics.median(trunk)
    return {
        "model": name,
        "shots": SHOTS,
        "prompts": N_PROMPTS,
        "heads": model.n_layers * model.n_heads,
        "hooks_s": hooks_s,
        "trunk_s": trunk_s,
        "ratio": hooks_s / trunk_s,
        "largest_difference": difference,
        "largest_effect": largest,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2-135m"])
    asked = parser.parse_args()
    rows = [measure(name, asked.rounds) for name in asked.models]
    if asked.json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
        return
    for row in rows:
        sys.stdout.write(
            f"{row['model']:>13}: hooks {row['hooks_s']:.1f} s, trunk {row['trunk_s']:.2f} s, "
            f"ratio {row['ratio']:.1f}, largest difference {row['largest_difference']:.1e} of "
            f"{row['largest_effect']:.1e}\n"
        )


if __name__ == "__main__":
    main()
