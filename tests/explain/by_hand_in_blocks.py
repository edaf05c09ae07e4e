"""Analyses of what happens inside blocks, by hand: of `gpt_oss`, whose parts have plain names."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch
from explain.by_hand import Hand, accuracy
from torch import Tensor
from torch.nn.functional import cross_entropy

from taskvectors.evaluate import score
from taskvectors.explain.frozen_paths import FROZEN
from taskvectors.explain.frozen_paths import frozen_paths as find_frozen_paths
from taskvectors.explain.shared.ov_terms import mlp_terms, paper_terms, scaled_terms
from taskvectors.prompts import with_first_tokens

LAYER = 1
"""Of the vector; what is above it is looked at."""
CLOSE: dict[str, float] = {"rel": 2e-3, "abs": 2e-4}
Seen = dict[tuple[int, str], Tensor]
"""What parts of blocks gave, or were given, at the last token of a prompt."""


def watched(hand: Hand, prompt: Any, **changes: Any) -> tuple[Seen, Tensor]:
    """What parts give at the prompt's last token, and the logits there."""
    seen: Seen = {}
    with torch.no_grad():
        logits = hand.logits(
            prompt.token_ids,
            len(prompt.token_ids) - 1,
            hooks=partial(watch, hand, seen),
            **changes,
        )
    return seen, logits[-1]


def watch(hand: Hand, seen: Seen, stack: ExitStack, at: int) -> None:
    for layer, block in enumerate(hand.blocks):
        attention = block.self_attn
        for name, module in (
            ("attention", attention), ("mlp", block.mlp), ("v", attention.v_proj),
        ):  # fmt: skip

            def after(_: Any, __: Any, out: Any, key: Any = (layer, name)) -> None:
                seen[key] = (out[0] if isinstance(out, tuple) else out)[0, at].clone()

            stack.callback(module.register_forward_hook(after).remove)
        for name, module in (
            ("entered", block.input_layernorm), ("middle", block.post_attention_layernorm),
            ("z", attention.o_proj),
        ):  # fmt: skip

            def before(_: Any, args: Any, key: Any = (layer, name)) -> None:
                seen[key] = args[0][0, at].clone()

            stack.callback(module.register_forward_pre_hook(before).remove)


def patterns(hand: Hand, prompt: Any, add: Mapping[int, Tensor]) -> list[Tensor]:
    """Attention `[head, key]` of a prompt's last token, by layer; the sinks' share is left out."""
    own = hand.hf.config._attn_implementation
    hand.hf.set_attn_implementation("eager")
    kept: list[Tensor] = []
    try:
        with torch.no_grad(), ExitStack() as stack:
            for block in hand.blocks:

                def after(_: Any, __: Any, out: Any) -> None:
                    kept.append(out[1][0, :, -1])

                stack.callback(block.self_attn.register_forward_hook(after).remove)
            hand.logits(prompt.token_ids, len(prompt.token_ids) - 1, add=add)
    finally:
        hand.hf.set_attn_implementation(own)
    return kept


def per_head(hand: Hand, values: Tensor) -> Tensor:
    """Values of key-value heads, `[head, d_head]` for the query heads."""
    config = hand.hf.config
    own = values.unflatten(-1, (config.num_key_value_heads, -1))
    return own.repeat_interleave(config.num_attention_heads // config.num_key_value_heads, dim=-2)


def norm_scale(norm: Any, state: Tensor) -> Tensor:
    """What an RMS norm multiplies a state with."""
    scale: Tensor = norm.weight * torch.rsqrt(state.pow(2).mean() + norm.variance_epsilon)
    return scale


def above(hand: Hand) -> range:
    return range(LAYER + 1, hand.last + 1)


# --- where heads look


def attention(setting: Any, frame: pd.DataFrame) -> None:
    """Mean mass of all heads above the vector on five classes of tokens, in three conditions."""
    hand, case = setting.hand, setting.case
    for condition, shots, add in (
        ("injected", 0, {LAYER: setting.theta}), ("plain", 0, {}), ("icl", case.context.shots, {}),
    ):  # fmt: skip
        masses: dict[str, list[float]] = {}
        for prompt in case.prompts("test", shots):
            n = len(prompt.token_ids)
            spans = [(name, prompt.spans.get(name, (0, 0))) for name in ("demonstrations", "query")]
            looks = torch.stack([patterns(hand, prompt, add)[layer] for layer in above(hand)])
            on_key = looks.mean(dim=(0, 1)).tolist()
            found = dict.fromkeys(("sink", "last", "query", "demonstrations", "template"), 0.0)
            for key, mass in enumerate(on_key):
                name = next((s for s, (start, stop) in spans if start <= key < stop), "template")
                found["sink" if key == 0 else "last" if key == n - 1 else name] += mass
            for name, mass in found.items():
                masses.setdefault(name, []).append(mass)
        rows = frame[(frame["condition"] == condition) & (frame["heads"] == "all")]
        for name, mass in rows.set_index("falls_on")["mass"].items():
            assert mass == pytest.approx(sum(masses[str(name)]) / len(masses[str(name)]), **CLOSE)


# --- paths


def frozen_paths(setting: Any, frame: pd.DataFrame) -> None:
    """One path at a time held at the prompt's last token at what it is without the vector."""
    hand, case, theta = setting.hand, setting.case, setting.theta
    prompts = case.prompts("test")
    scores: list[Any] = []

    def spied(*args: Any, **kwargs: Any) -> Any:
        scores.append(score(*args, **kwargs))
        return scores[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["taskvectors.explain.frozen_paths"], "score", spied)
        find_frozen_paths(case.model, prompts, case.vector)
    for row in frame.itertuples():
        hits = []
        found = scores[0].log_probability[1 + FROZEN.index(row.frozen)]
        for number, prompt in enumerate(prompts):
            plain, _ = watched(hand, prompt)
            own = [look[:, -1:] for look in patterns(hand, prompt, {})]
            add = {LAYER: theta}
            if row.frozen == "direct path":
                add[hand.last] = -theta
            hold = partial(held, hand, plain, own, row.frozen)
            hits.append(hand.hits(prompt, add=add, hooks=hold))
            with torch.no_grad():
                logits = hand.answer(prompt, add=add, hooks=hold)
            expected = -cross_entropy(logits, torch.tensor(prompt.answer_ids))
            assert float(found[number]) == pytest.approx(float(expected), **CLOSE), row.frozen
        assert row.accuracy == pytest.approx(sum(map(all, hits)) / len(hits)), row.frozen
        assert row.first_token_accuracy == pytest.approx(sum(h[0] for h in hits) / len(hits))
    plain_accuracy = accuracy(hand, prompts)
    assert frame["plain_accuracy"].unique().tolist() == pytest.approx([plain_accuracy])
    assert len(frame) == 7
    assert frame["first_token_accuracy"].nunique() > 1


def held(
    hand: Hand, plain: Seen, own: Sequence[Tensor], what: str, stack: ExitStack, at: int
) -> None:
    """Hooks that hold one thing in the blocks above the vector."""
    for layer in above(hand):
        block = hand.blocks[layer]
        values: list[Tensor] = []

        def at_token(out: Any, value: Tensor) -> Any:
            state = (out[0] if isinstance(out, tuple) else out).clone()
            state[0, at] = value
            return (state, *out[1:]) if isinstance(out, tuple) else state

        def after(_: Any, __: Any, out: Any, key: Any) -> Any:
            return at_token(out, plain[key])

        def keep(_: Any, __: Any, out: Any, kept: list[Tensor] = values) -> None:
            kept.append(out[0, at])

        def z(_: Any, args: Any, layer: int = layer, kept: list[Tensor] = values) -> Any:
            change = per_head(hand, kept[-1]) - per_head(hand, plain[layer, "v"])
            return (at_token(args[0], plain[layer, "z"] + (own[layer] * change).flatten()),)

        attention = block.self_attn
        if "attention" in what:
            hook = partial(after, key=(layer, "attention"))
            stack.callback(attention.register_forward_hook(hook).remove)
        if "mlps" in what:
            hook = partial(after, key=(layer, "mlp"))
            stack.callback(block.mlp.register_forward_hook(hook).remove)
        if what == "values":
            hook = partial(after, key=(layer, "v"))
            stack.callback(attention.v_proj.register_forward_hook(hook).remove)
        if what == "patterns":
            stack.callback(attention.v_proj.register_forward_hook(keep).remove)
            stack.callback(attention.o_proj.register_forward_pre_hook(z).remove)


def path_expansion(setting: Any, frame: pd.DataFrame) -> None:
    """The whole effect, and the parts of it that the vector and MLPs have without a hop."""
    hand, theta = setting.hand, setting.theta
    prompts = setting.case.prompts("test")
    rows = hand.hf.lm_head.weight
    tokens = sorted({prompt.answer_ids[0] for prompt in prompts})
    whole, direct, mlps = [], [], []
    for prompt in prompts:
        others = [rows[token] for token in tokens if token != prompt.answer_ids[0]]
        contrast = rows[prompt.answer_ids[0]] - torch.stack(others).mean(dim=0)
        plain, before = watched(hand, prompt)
        injected, after = watched(hand, prompt, add={LAYER: theta})
        scale = norm_scale(hand.hf.model.norm, hand.states[hand.last])
        change = sum(injected[layer, "mlp"] - plain[layer, "mlp"] for layer in above(hand))
        logits = after - before
        beside = torch.stack([logits[t] for t in tokens if t != prompt.answer_ids[0]]).mean()
        whole.append(float(logits[prompt.answer_ids[0]] - beside))
        direct.append(float(theta * scale @ contrast))
        mlps.append(float(change * scale @ contrast))
    assert frame["whole"].iloc[0] == pytest.approx(sum(whole) / len(whole), **CLOSE)
    assert frame["effect"].sum() == pytest.approx(sum(whole) / len(whole), **CLOSE)
    assert frame["residual"].max() < 1e-4
    without_hop = frame[frame["hops"] == 0].set_index("source")["effect"]
    assert without_hop["vector"] == pytest.approx(sum(direct) / len(direct), **CLOSE)
    assert without_hop["mlps"] == pytest.approx(sum(mlps) / len(mlps), **CLOSE)


def turning(setting: Any, frame: pd.DataFrame) -> None:
    """Shares of Jθ, by derivatives of plain passes."""
    hand, theta = setting.hand, setting.theta
    prompts = setting.case.prompts("train")
    seen: Seen = {}

    def ends(strength: Tensor) -> Tensor:
        found = []
        for prompt in prompts:
            hand.logits(
                prompt.token_ids,
                len(prompt.token_ids) - 1,
                add={LAYER: strength * theta},
                hooks=partial(watch, hand, seen),
            )
            mlp = torch.stack([seen[layer, "mlp"] for layer in above(hand)]).sum(dim=0)
            found.append(torch.stack([hand.states[hand.last], mlp]))
        return torch.stack(found).mean(dim=0)

    rows = torch.autograd.functional.jacobian(ends, torch.tensor(1.0))
    image, mlp = rows.double()
    shares = frame[(frame["measure"] == "image_share") & (frame["around"] == "vector")]
    found = shares.set_index("text")["value"]
    assert found.sum() == pytest.approx(1.0, abs=1e-4)
    assert found["identity"] == pytest.approx(
        float(theta.double() @ image / image.square().sum()), **CLOSE
    )
    assert found["mlp"] == pytest.approx(float(mlp @ image / image.square().sum()), **CLOSE)
    residual = frame[frame["measure"] == "residual"]["value"].item()
    assert residual < 1e-4


# --- reconstruction


def ov_reconstruction(setting: Any, frame: pd.DataFrame) -> None:
    """Every variant at the strength that was chosen, in place of the vector."""
    hand, case, theta = setting.hand, setting.case, setting.theta
    terms = terms_of(hand, case.prompts("train"), theta)
    asked, layers = with_first_tokens(case.prompts("train")), above(hand)
    for name, find in (("paper", paper_terms), ("scaled", scaled_terms), ("mlp", mlp_terms)):
        about = () if name == "paper" else (asked,)
        found = find(case.model, case.vector, layers, *about)
        torch.testing.assert_close(found, terms[name], atol=1e-4, rtol=1e-3)
    assert frame["accuracy"].nunique() > 2
    known = frame.set_index("variant")
    prompts = case.prompts("test")
    assert known["accuracy"]["none"] == pytest.approx(accuracy(hand, prompts))
    assert known["accuracy"]["vector"] == pytest.approx(accuracy(hand, prompts, add={LAYER: theta}))
    for variant in ("paper", "scaled", "mlp"):
        once, by_layer = (known["strength"][f"{variant}{end}"] for end in ("", "-by-layer"))
        total = once * terms[variant].sum(dim=0)
        each = dict(zip(above(hand), by_layer * terms[variant], strict=True))
        found = known["accuracy"]
        assert found[variant] == pytest.approx(accuracy(hand, prompts, add={LAYER: total}))
        assert found[f"{variant}-by-layer"] == pytest.approx(accuracy(hand, prompts, add=each))
    for variant, enter in (("path", into_values), ("mlp-path", into_mlps)):
        value = known["strength"][variant] * theta
        expected = accuracy(hand, prompts, hooks=partial(enter, hand, value))
        assert known["accuracy"][variant] == pytest.approx(expected), variant


def terms_of(hand: Hand, prompts: Sequence[Any], theta: Tensor) -> dict[str, Tensor]:
    """What heads and MLPs of each block above make of the vector."""
    found: dict[str, list[Tensor]] = {"paper": [], "scaled": [], "mlp": []}
    with torch.no_grad():
        injected = [watched(hand, prompt, add={LAYER: theta})[0] for prompt in prompts]
        plain = [watched(hand, prompt)[0] for prompt in prompts]
        looks = [patterns(hand, prompt, {LAYER: theta}) for prompt in prompts]
        for layer in above(hand):
            block = hand.blocks[layer]
            norm, own = block.input_layernorm, block.self_attn

            def carried(read: Tensor, weight: Any, own: Any = own) -> Tensor:
                values = per_head(hand, own.v_proj.weight @ read)
                return own.o_proj.weight @ (weight * values).flatten()

            found["paper"].append(carried(theta * norm.weight, 1.0))
            scaled = [
                carried(theta * norm_scale(norm, seen[layer, "entered"]), look[layer][:, -1:])
                for seen, look in zip(injected, looks, strict=True)
            ]
            found["scaled"].append(torch.stack(scaled).mean(dim=0))
            before = block.post_attention_layernorm
            changes = [
                mlp(block, before(seen[layer, "middle"] + theta))
                - mlp(block, before(seen[layer, "middle"]))
                for seen in plain
            ]
            found["mlp"].append(torch.stack(changes).mean(dim=0))
    terms = {name: torch.stack(parts) for name, parts in found.items()}
    terms["paper"] *= theta.norm() / terms["paper"].sum(dim=0).norm()
    return terms


def mlp(block: Any, read: Tensor) -> Tensor:
    """What a block's MLP makes of what it reads at one token."""
    out = block.mlp(read[None, None])
    found: Tensor = (out[0] if isinstance(out, tuple) else out)[0, 0]
    return found


def into_values(hand: Hand, value: Tensor, stack: ExitStack, at: int) -> None:
    """A vector that only the value inputs of one token read."""
    for layer in above(hand):
        block = hand.blocks[layer]
        entered: list[Tensor] = []

        def keep(_: Any, args: Any, kept: list[Tensor] = entered) -> None:
            kept.append(args[0][0, at])

        def read(_: Any, args: Any, kept: list[Tensor] = entered, block: Any = block) -> Any:
            changed = args[0].clone()
            changed[0, at] = norm_of(block.input_layernorm, kept[-1] + value)
            return (changed,)

        stack.callback(block.input_layernorm.register_forward_pre_hook(keep).remove)
        stack.callback(block.self_attn.v_proj.register_forward_pre_hook(read).remove)


def norm_of(norm: Any, state: Tensor) -> Tensor:
    """An RMS norm, without its hooks."""
    return state * norm_scale(norm, state)


def into_mlps(hand: Hand, value: Tensor, stack: ExitStack, at: int) -> None:
    """A vector that only MLPs read, at one token."""

    def read(_: Any, args: Any) -> Any:
        changed = args[0].clone()
        changed[0, at] += value
        return (changed,)

    for layer in above(hand):
        norm = hand.blocks[layer].post_attention_layernorm
        stack.callback(norm.register_forward_pre_hook(read).remove)


BLOCK_CHECKS: dict[str, Callable[[Any, pd.DataFrame], None]] = {
    "attention": attention,
    "frozen-paths": frozen_paths,
    "path-expansion": path_expansion,
    "turning": turning,
    "ov-reconstruction": ov_reconstruction,
}
