"""What the benchmarks on heads have in common: a forward pass per head and prompt, and a ratio."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from _command_line import arguments, show
from torch import Tensor

from taskvectors.models import LanguageModel, patch
from taskvectors.prompts import Prompt

N_PROMPTS = 25
_N_SAMPLED, _TOLERANCE = 40, 1e-4
_Pair = tuple[int, int, int]
"""Prompt, layer, head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One model, and what is done to its heads.

    Attributes:
        model: The model.
        prompts: 25 prompts.
        given: What each head is given at the last token, (layer, head, d_head).
        effects: Changes of the probability of the answer's first token through the trunk, (prompt,
            layer, head), the trunk included.
    """

    model: LanguageModel
    prompts: Sequence[Prompt]
    given: Tensor
    effects: Callable[[], Tensor]


Prepare = Callable[[str, str], Side]
"""From the name of a model and a type."""


def main(description: str, shots: int, prepare: Prepare) -> None:
    """Measure and print."""
    parser = arguments(description, rounds=5)
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2-135m"])
    asked = parser.parse_args()
    rows = [_measured(name, shots, prepare, asked.rounds) for name in asked.models]
    show(rows, as_json=asked.json, line=_line)


def _line(row: dict[str, object]) -> str:
    return (
        f"{row['model']:>13}: hooks {row['hooks_s']:.1f} s, trunk {row['trunk_s']:.2f} s, "
        f"ratio {row['ratio']:.1f}, largest difference {row['largest_difference']:.1e} of "
        f"{row['largest_effect']:.1e}"
    )


def _measured(name: str, shots: int, prepare: Prepare, rounds: int) -> dict[str, object]:
    """The row of one model."""
    difference, largest = _largest_difference(prepare(name, "float32"))
    if difference > min(_TOLERANCE, largest / 100):  # random weights have small effects
        raise RuntimeError(f"the effects of {name} differ by {difference:.2e} in float32")
    side = prepare(name, "bfloat16")
    n_heads = side.model.n_layers * side.model.n_heads
    hooks, trunk = [], []
    for number in range(rounds + 1):
        pairs = _sampled(side.model, seed=number)
        per_pair = _timed(lambda pairs=pairs: _with_hooks(side, pairs)) / _N_SAMPLED
        through = _timed(side.effects)
        if number:  # the first is a warm-up
            hooks.append(per_pair * N_PROMPTS * n_heads)
            trunk.append(through)
    hooks_s, trunk_s = statistics.median(hooks), statistics.median(trunk)
    return {
        "model": name,
        "shots": shots,
        "prompts": N_PROMPTS,
        "heads": n_heads,
        "hooks_s": hooks_s,
        "trunk_s": trunk_s,
        "ratio": hooks_s / trunk_s,
        "largest_difference": difference,
        "largest_effect": largest,
    }


def _largest_difference(side: Side) -> tuple[float, float]:
    """Between both sides' effects, and the largest effect that was compared."""
    effects = side.effects()
    pairs = _sampled(side.model, seed=0)
    base = [_probability(side.model, prompt) for prompt in side.prompts]
    changed = _with_hooks(side, pairs)
    expected = [p - base[pair[0]] for p, pair in zip(changed, pairs, strict=True)]
    found = [float(effects[pair]) for pair in pairs]
    differences = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return max(differences), max(map(abs, expected))


def _probability(model: LanguageModel, prompt: Prompt) -> float:
    """Of the answer's first token, from one forward pass."""
    with torch.inference_mode():
        tokens = torch.tensor([prompt.token_ids])
        out = model.body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
        head = model.hf.get_output_embeddings().weight
        logits = torch.nn.functional.linear(out.contiguous(), head).float()
        return float(logits.softmax(dim=-1)[0, prompt.answer_ids[0]])


def _with_hooks(side: Side, pairs: Sequence[_Pair]) -> list[float]:
    """The probability with one head replaced, a forward pass each."""
    model, found = side.model, []
    for row, layer, number in pairs:
        own = slice(number * model.d_head, (number + 1) * model.d_head)
        value = side.given[layer, number].to(model.dtype)

        def give(state: Tensor, own: slice = own, value: Tensor = value) -> Tensor:
            state = state.clone()
            state[:, -1, own] = value
            return state

        with patch(model, layer, "z", give):
            found.append(_probability(model, side.prompts[row]))
    return found


def _sampled(model: LanguageModel, seed: int) -> list[_Pair]:
    """Pairs of a prompt and a head, drawn without replacement."""
    per_prompt = model.n_layers * model.n_heads
    drawn = random.Random(seed).sample(range(N_PROMPTS * per_prompt), _N_SAMPLED)
    return [(i // per_prompt, *divmod(i % per_prompt, model.n_heads)) for i in drawn]


def _timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
