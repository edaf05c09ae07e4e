"""One learning step through the trunk against the same step with plain hooks.

    python benchmarks/learn_step.py [--json] [--rounds 5] [--models embedded smollm2-135m]
        [--dtype auto]

Both sides train one vector at the last token of the middle layer: same prompts, same type, forward
and backward, optimizer apart. The trunk's side has its losses over a shortlist of the vocabulary,
as training has; the renewals of the list in a run of 200 steps are part of its time. The baseline
is written as well as it can be: one padded batch, sdpa, no gradient below the edited layer, and
logits only where an answer token is predicted, from a contiguous matrix of those states. Rounds are
interleaved; the figure is the median. The SmolLM2-135M shape has random weights: the time of a step
does not depend on them; its flat distributions have no short list, so it has the full vocabulary.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from _command_line import arguments, show
from torch import Tensor

from taskvectors.methods.training.trainer import renewals
from taskvectors.methods.training.vocabulary import Reads, TrainingVocabulary
from taskvectors.models import LanguageModel, load_model, patch
from taskvectors.models.loading import resolve_dtype
from taskvectors.prompts import Prompt, build_prompts
from taskvectors.tasks import Example, load_task
from taskvectors.trunk import Edit, Trunk
from taskvectors.trunk.answers import answer_losses, answer_states

STEPS = 200
"""Of the run that renewals are averaged over."""
N_PROMPTS = {0: 98, 8: 32}
"""Prompts per step by demonstrations, as in the design's table."""


def smollm2(dtype: str = "auto") -> LanguageModel:
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
    hf = LlamaForCausalLM(config).to(resolve_dtype(dtype, "cpu"))
    return LanguageModel.wrap(hf, source="smollm2-135m")


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


def trunk_step(
    trunk: Trunk, layers: Sequence[int]
) -> tuple[Callable[[], Tensor], Callable[[], object], TrainingVocabulary]:
    """A step of a vector at each of some layers, and a renewal of the list."""
    model, prompts, batch = trunk.model, trunk.cut.prompts, trunk.batch()
    theta = torch.zeros(len(layers), model.d_model, requires_grad=True)
    answers = [token for prompt in prompts for token in prompt.answer_ids]
    vocabulary = TrainingVocabulary(model.unembedding, answers)

    def states() -> Tensor:
        edits = zip(layers, theta, strict=True)
        return trunk.run([[Edit(layer=layer, value=value)] for layer, value in edits], batch)

    def renew() -> object:
        with torch.no_grad():
            final = model.final_state(answer_states(states(), batch))
        reads = Reads(state=final, targets=batch.targets, weights=batch.weights / len(prompts))
        return vocabulary.renew([reads])

    def step() -> Tensor:
        theta.grad = None
        loss = answer_losses(model, states(), batch, shortlist=vocabulary.shortlist).sum()
        loss.backward()
        assert theta.grad is not None
        return theta.grad

    return step, renew, vocabulary


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


def interleaved(steps: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each step, run in turns after one warm-up each."""
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 1):
        for step, kept in zip(steps, times, strict=True):
            started = time.perf_counter()
            step()
            if number:
                kept.append(time.perf_counter() - started)
    return [statistics.median(kept) for kept in times]


def measure(name: str, rounds: int, dtype: str) -> list[dict[str, object]]:
    """Rows of one model."""
    model = load_model("embedded", dtype=dtype) if name == "embedded" else smollm2(dtype)
    layer = model.n_layers // 2
    rows: list[dict[str, object]] = []
    for shots, n in N_PROMPTS.items():
        prompts = (
            real_prompts(model, shots, n)
            if name == "embedded"
            else random_prompts(shots, n, model.d_vocab)
        )
        through, renew, vocabulary = trunk_step(Trunk.build(model, prompts), [layer])
        plain = hooks_step(model, prompts, layer)
        renew()
        agreement = torch.nn.functional.cosine_similarity(through()[0], plain(), dim=0)
        if agreement < 0.98:
            raise RuntimeError(f"the two steps' gradients do not agree: cosine {agreement:.4f}")
        hooks_s, step_s, renewal_s = interleaved((plain, through, renew), rounds)
        trunk_s = step_s + len(renewals(STEPS)) * renewal_s / STEPS
        listed = vocabulary.shortlist
        rows.append(
            {
                "model": name,
                "shots": shots,
                "prompts": n,
                "hooks_s": hooks_s,
                "trunk_s": trunk_s,
                "step_s": step_s,
                "renewal_s": renewal_s,
                "listed": model.d_vocab if listed is None else len(listed.tokens),
                "ratio": hooks_s / trunk_s,
                "gradient_cosine": float(agreement),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--models", nargs="+", default=["embedded", "smollm2-135m"])
    asked = parser.parse_args()
    rows = [row for name in asked.models for row in measure(name, asked.rounds, asked.dtype)]
    show(rows, as_json=asked.json, line=_line)


def _line(row: dict[str, object]) -> str:
    return (
        f"{row['model']:>13}, {row['shots']} shots: hooks {row['hooks_s']:.3f} s, trunk "
        f"{row['trunk_s']:.3f} s, ratio {row['ratio']:.1f}"
    )


if __name__ == "__main__":
    main()
