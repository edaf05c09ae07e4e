"""Zeroing every head through the trunk against one full forward pass per head.

    python benchmarks/explain.py [--json] [--rounds 5] [--models embedded smollm2-135m]

Both sides put each head to zero at the last token of 25 prompts of 8 shots and read the probability
of the answer's first token; the trunk's time includes building it. The baseline is one forward pass
per head and prompt with a hook, logits of the last token only (from a contiguous state). 40 pairs
of head and prompt are drawn and scaled to all of them. Rounds of the two are interleaved; the
figure is the ratio of the medians. Times are in bfloat16; in float32 the same 40 effects are
compared with those of the trunk. The SmolLM2-135M shape has random weights: the time does not
depend on them.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from learn_step import random_prompts, real_prompts, smollm2

from taskvectors.explain.head_removal import removal_effects
from taskvectors.models import LanguageModel, load_model, rewriting
from taskvectors.prompts import Prompt

SHOTS, N_PROMPTS, N_SAMPLED, TOLERANCE = 8, 25, 40, 1e-4
Pair = tuple[int, int, int]
"""Prompt, layer, head."""


def prepared(name: str, dtype: str) -> tuple[LanguageModel, Sequence[Prompt]]:
    """A model and its prompts."""
    if name == "embedded":
        model = load_model("embedded", dtype=dtype)
        return model, real_prompts(model, SHOTS, N_PROMPTS)
    model = smollm2()
    model.hf.to(getattr(torch, dtype))
    return model, random_prompts(SHOTS, N_PROMPTS, model.d_vocab)


def probability(model: LanguageModel, prompt: Prompt) -> float:
    """Of the answer's first token, from one forward pass."""
    with torch.inference_mode():
        tokens = torch.tensor([prompt.token_ids])
        out = model.body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
        head = model.hf.get_output_embeddings().weight
        logits = torch.nn.functional.linear(out.contiguous(), head).float()
        return float(logits.softmax(dim=-1)[0, prompt.answer_ids[0]])


def with_hooks(
    model: LanguageModel, prompts: Sequence[Prompt], pairs: Sequence[Pair]
) -> list[float]:
    """The probability with one head at zero, a forward pass each."""
    found = []
    for row, layer, number in pairs:
        own = slice(number * model.d_head, (number + 1) * model.d_head)

        def silence(state: torch.Tensor, own: slice = own) -> torch.Tensor:
            state = state.clone()
            state[:, -1, own] = 0
            return state

        with rewriting(model, layer, "z", silence):
            found.append(probability(model, prompts[row]))
    return found


def sampled(model: LanguageModel, seed: int) -> list[Pair]:
    """Pairs of a prompt and a head, drawn without replacement."""
    per_prompt = model.n_layers * model.n_heads
    drawn = random.Random(seed).sample(range(N_PROMPTS * per_prompt), N_SAMPLED)
    return [(i // per_prompt, *divmod(i % per_prompt, model.n_heads)) for i in drawn]


def largest_difference(name: str) -> tuple[float, float]:
    """Between both sides' effects in float32, and the largest effect that was compared."""
    model, prompts = prepared(name, "float32")
    effects = removal_effects(model, prompts)
    pairs = sampled(model, seed=0)
    base = [probability(model, prompt) for prompt in prompts]
    removed = with_hooks(model, prompts, pairs)
    expected = [p - base[pair[0]] for p, pair in zip(removed, pairs, strict=True)]
    found = [float(effects[pair]) for pair in pairs]
    differences = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return max(differences), max(map(abs, expected))


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
    model, prompts = prepared(name, "bfloat16")
    n_pairs = N_PROMPTS * model.n_layers * model.n_heads
    hooks, trunk = [], []
    for number in range(rounds + 1):
        pairs = sampled(model, seed=number)
        per_pair = timed(lambda pairs=pairs: with_hooks(model, prompts, pairs)) / N_SAMPLED
        through = timed(lambda: removal_effects(model, prompts))
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
