"""Every analysis on a type of each class of models: as passes by hand say, or a site is missing.

Run with `pytest tests/explain/test_engine_classes.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pandas as pd
import pytest
import torch
from explain.by_hand import Hand, accuracy, first_accuracy
from explain.by_hand_in_blocks import BLOCK_CHECKS
from recipes import from_zero
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.explain import ANALYSES, Case, bijections, composition
from taskvectors.explain.key_heads import key_heads_of
from taskvectors.explain.shared.responses import Responses
from taskvectors.methods import RunContext
from taskvectors.tasks.derived import both_directions, reversed_task
from taskvectors.vectors import Site, TaskVector, VectorOrigin

CLASSES = {
    "gpt_oss": ("trunk", "model.layers", "self_attn.o_proj"),  # sinks, a mixture of experts
    "gemma4_text": ("trunk", "model.layers", "self_attn.o_proj"),  # heads of two widths, no W_V
    "qwen3_5_text": ("cached", "model.layers", "self_attn.o_proj"),  # with linear attention
    "nemotron_h": ("cached", "model.layers", "mixer.o_proj"),  # with state spaces
    "gpt_neo": ("cached", "transformer.h", ""),  # attention of its own
    "bloom": ("cached", "transformer.h", ""),  # alibi
    "deepseek_v32": ("whole", "model.layers", "self_attn.o_proj"),  # attention by an index
    "hy_v4": ("whole", "model.layers", "self_attn.o_proj"),  # several streams
    "mamba": ("whole", "backbone.layers", ""),  # state spaces alone
}
"""Engine, blocks, and W_O where heads can be read: in hybrids in blocks 1 and 3 of four."""
EXTRA = {"gemma4_text": {"vocab_size_per_layer_input": 397}}
FAST = ("gpt_oss", "qwen3_5_text", "bloom", "mamba")
"""Those of which all analyses are in the fast tier."""
BY_HEAD = ("key-heads", "head-overlap", "head-ablation")
FAST_OF = {"deepseek_v32": BY_HEAD, "gemma4_text": (*BY_HEAD, "attention")}
BY_PATTERN = ("attention", "frozen-paths", "ov-reconstruction", "path-expansion", "turning")
MISSING = (
    r"attention heads, which|mlp_out, which|z, the heads' outputs before W_O, which|"
    r"W_V, which OV circuits|so it has no OV circuits|"
    r"attention patterns of branches are not seen; attention, frozen-paths"
)
"""What a refusal names: a site, and what needs it."""
LAYER = 1
WORDS = ("cold", "rouge", "maison", "small", "yes")
PAIRS = [(f"{'ab'[n % 2]}{n}", WORDS[n % 5]) for n in range(15)]
SIZES = (6, 3, 6)
CLOSE: dict[str, float] = {"rel": 2e-3, "abs": 2e-4}


@dataclass(kw_only=True, eq=False)
class Setting:
    """A model, its vectors and tasks, and the tokens that stand for answers."""

    hand: Hand
    case: Case
    contexts: dict[str, RunContext]
    known: dict[str, tuple[int, ...]]
    """Tokens of answers by their text."""
    answers: dict[str, tuple[int, ...]]
    """Those that are in use, of this setting while it is; other answers are tokenized."""
    spied: list[Any] = field(default_factory=list)
    """What an analysis asked of the model, and got."""

    @property
    def theta(self) -> Tensor:
        """The vector."""
        return self.case.vector.values[0]

    @property
    def labels(self) -> list[int]:
        return sorted(self.case.context.label_starts)


@pytest.fixture(scope="module")
def settings(fresh_model: Any, small_bench: Any) -> Iterator[Callable[[str], Setting]]:
    """`settings(name)`; answers are what models say, since untrained ones say no words."""
    answers: dict[str, tuple[int, ...]] = {}
    ask = RunContext.ask

    def worded(self: RunContext, *args: Any, **kwargs: Any) -> Any:
        found = ask(self, *args, **kwargs)
        return tuple(
            replace(p, answer_ids=answers.get(p.query.output, p.answer_ids)) for p in found
        )

    @cache
    def make(name: str) -> Setting:
        engine, blocks, projection = CLASSES[name]
        sizes = {"vocab_size": 397} | EXTRA.get(name, {})
        model = fresh_model(name, **sizes)
        assert model.engine == engine
        hand = Hand(model.hf, blocks, projection)
        named = ("words", 0), ("words", 1), ("others", 2)
        first, second, other = (vector_of(model, *one) for one in named)
        contexts = {
            "words": small_bench(model, "words", PAIRS, SIZES),
            "others": small_bench(model, "others", PAIRS[::-1], SIZES),
        }
        runs: list[dict[int, Tensor]] = [{LAYER: first.values[0]}, {}, {LAYER: other.values[0]}]
        known: dict[str, tuple[int, ...]] = {}
        for number, prompt in enumerate(contexts["words"].prompts("test")[:5]):
            said = hand.says(prompt, 1 + number % 2, add=runs[number % 3])
            known[prompt.query.output] = said
        contexts = {key: afresh(one) for key, one in contexts.items()}
        beside = Case(context=contexts["others"], vector=other, limit=4)
        case = Case(
            context=contexts["words"], vector=first, vectors=(first, second, other), other=beside,
            limit=4,
        )  # fmt: skip
        return Setting(hand=hand, case=case, contexts=contexts, known=known, answers=answers)

    def again(name: str) -> Setting:
        answers.clear()
        found = make(name)
        answers.update(found.known)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunContext, "ask", worded)
        yield again


def afresh(context: RunContext, **changes: Any) -> RunContext:
    """A context that remembers nothing of another."""
    return replace(context, **changes, _prompts={}, _memo={}, _read={})


def vector_of(model: Any, task: str, seed: int) -> TaskVector:
    values = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(seed))
    return TaskVector(
        values=2 * values,
        sites=(Site(layer=LAYER, position=-1),),
        origin=VectorOrigin(task=task, method="learned", seed=seed),
    )


def _cases() -> Iterator[Any]:
    for name in CLASSES:
        for analysis in ANALYSES:
            is_fast = name in FAST or analysis in FAST_OF.get(name, ())
            marks = [] if is_fast else [pytest.mark.slow(small_models=True)]
            yield pytest.param(name, analysis, marks=marks)


@pytest.mark.parametrize(("name", "analysis"), list(_cases()))
def test_an_analysis_says_what_passes_by_hand_say_or_names_what_is_missing(
    settings: Any, name: str, analysis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting: Setting = settings(name)
    engine, _, projection = CLASSES[name]
    is_served = (analysis not in BY_HEAD or projection) and (
        analysis not in BY_PATTERN
        or (engine == "trunk" and (analysis == "attention" or name != "gemma4_text"))
    )
    if not is_served:
        with pytest.raises(UnsupportedModelError, match=MISSING):
            ANALYSES[analysis].run(setting.case)
        return
    if analysis in ("propagation", "rotation"):
        spy_on_responses(setting, monkeypatch)
    own = {"composition": compose, "bijections": map_both_ways}
    if analysis in own:
        own[analysis](setting, monkeypatch)
        return
    vectors = setting.case.vectors[::2] if analysis == "transfer" else setting.case.vectors
    case = replace(setting.case, vectors=vectors, _memo={})
    (CHECKS | BLOCK_CHECKS)[analysis](setting, ANALYSES[analysis].run(case).to_frame())


# --- of the residual stream


def lens(setting: Setting, frame: pd.DataFrame) -> None:
    """The vector in place of the last state."""
    logits = setting.hand.read(setting.case.prompts("test")[0], setting.theta)
    of_vector = frame[frame["around"] == "vector"]
    found = of_vector[of_vector["measure"] == "lens"]["value"].tolist()
    assert found == pytest.approx(logits.topk(5).values.tolist(), **CLOSE)
    below = [float((logits < logits[token]).sum()) for token in setting.labels]
    rank = of_vector[of_vector["measure"] == "label_rank"]["value"].item()
    assert rank == pytest.approx(sum(below) / len(below) / (len(logits) - 1), abs=3e-3)


def states(setting: Setting, frame: pd.DataFrame) -> None:
    """What the end makes of the state of each layer, of three runs."""
    case, hand, labels = setting.case, setting.hand, setting.labels
    shots = {"vector": 0, "zero-shot": 0, "icl": case.context.shots}
    for around, n_shots in shots.items():
        prompts = case.prompts("test", n_shots)
        add = {LAYER: setting.theta} if around == "vector" else {}
        for layer in range(LAYER, hand.last + 1):
            hits, gaps = [], []
            for prompt in prompts:
                hand.next(prompt, add=add)
                logits = hand.read(prompt, hand.states[layer])
                right = prompt.answer_ids[0]
                others = [float(logits[token]) for token in labels if token != right]
                hits.append(int(logits.argmax()) == right)
                gaps.append(float(logits[right]) - sum(others) / len(others))
            here = frame[(frame["around"] == around) & (frame["layer"] == layer)]
            numbers = here.drop_duplicates("measure").set_index("measure")["value"]
            assert numbers["lens_accuracy"] == sum(hits) / len(hits)
            assert numbers["logit_difference"] == pytest.approx(sum(gaps) / len(gaps), **CLOSE)


def spy_on_responses(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.spied.clear()
    changes, jacobian = Responses.changes, Responses.mean_jacobian

    def spied_changes(self: Responses, values: Tensor) -> Any:
        found = changes(self, values)
        setting.spied.append((self, values[:1], found.mean[:1]))
        return found

    def spied_jacobian(self: Responses, at: Tensor) -> Tensor:
        found = jacobian(self, at)
        setting.spied.append((self, at, found))
        return found

    monkeypatch.setattr(Responses, "changes", spied_changes)
    monkeypatch.setattr(Responses, "mean_jacobian", spied_jacobian)


def mean_change(hand: Hand, prompts: Sequence[Any], layer: int, value: Tensor) -> Tensor:
    found = [hand.final(p, add={layer: value}) - hand.final(p) for p in prompts]
    return torch.stack(found).mean(dim=0)


def responses(setting: Setting) -> None:
    """Everything that maps are fitted to: mean changes of the last state, and their Jacobian."""
    generator, hand = torch.Generator().manual_seed(0), setting.hand
    assert setting.spied
    jacobians = [one for one in setting.spied if one[1].dim() == 1]
    for asked, values, found in (*setting.spied[::4], *jacobians):
        prompts = asked.trunk.cut.prompts
        if values.dim() == 2:
            expected = mean_change(hand, prompts, asked.layer, values[0])
            torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=2e-3)
            continue
        along = torch.randn(len(values), generator=generator)
        value = values.clone().requires_grad_()
        for prompt in prompts:
            hand.logits(prompt.token_ids, len(prompt.token_ids) - 1, add={asked.layer: value})
            (hand.states[hand.last] @ along / len(prompts)).backward()
        torch.testing.assert_close(along @ found, value.grad, atol=1e-4, rtol=2e-3)


def propagation(setting: Setting, frame: pd.DataFrame) -> None:
    """Beside the maps: how proportional the response is, and what the vector does."""
    responses(setting)
    case, hand = setting.case, setting.hand
    of_vector = frame[frame["around"] == "vector"]
    one, two = (
        mean_change(hand, case.prompts("test"), LAYER, s * setting.theta) for s in (1.0, -2.0)
    )
    error = of_vector[(of_vector["measure"] == "proportionality_error") & (of_vector["at"] == -2)]
    expected = float((two + 2 * one).norm() / (2 * one).norm())
    assert error["value"].item() == pytest.approx(expected, **CLOSE)
    for around, add in (("vector", {LAYER: setting.theta}), ("zero-shot", {})):
        rows = frame[frame["around"] == around].set_index("measure")["value"]
        prompts = case.prompts("test")
        assert rows["first_token_accuracy"] == first_accuracy(hand, prompts, add=add)
        assert rows["accuracy"] == accuracy(hand, prompts, add=add)


def rotation(setting: Setting, frame: pd.DataFrame) -> None:
    """Beside the maps: how far the right label is above the others, without and with θ."""
    responses(setting)
    labels = setting.labels
    for around, add in (("zero-shot", {}), ("theta", {LAYER: setting.theta})):
        gaps = []
        for prompt in setting.case.prompts("test"):
            logits = setting.hand.next(prompt, add=add)
            right = prompt.answer_ids[0]
            others = [float(logits[token]) for token in labels if token != right]
            gaps.append(float(logits[right]) - sum(others) / len(others))
        rows = frame[(frame["around"] == around) & (frame["measure"] == "logit_difference")]
        assert rows["value"].item() == pytest.approx(sum(gaps) / len(gaps), **CLOSE)


# --- of several vectors


def check_scores(setting: Setting, row: Any, context: RunContext, add: dict[int, Tensor]) -> None:
    prompts, hand = context.prompts("test"), setting.hand
    assert row.accuracy == pytest.approx(accuracy(hand, prompts, add=add))
    assert row.first_token_accuracy == pytest.approx(first_accuracy(hand, prompts, add=add))
    said = [hand.says(prompt, 1, add=add)[0] in context.label_starts for prompt in prompts]
    assert row.in_label_set == pytest.approx(sum(said) / len(said))


def transfer(setting: Setting, frame: pd.DataFrame) -> None:
    added = {vector.origin.task: vector.values[0] for vector in setting.case.vectors[::2]}
    rows = list(frame.itertuples())
    assert len(rows) == 6
    assert len({row.first_token_accuracy for row in rows}) > 1
    for row in rows:
        add = {LAYER: added[row.vector]} if row.vector in added else {}
        check_scores(setting, row, setting.contexts[row.task], add)


def interpolation(setting: Setting, frame: pd.DataFrame) -> None:
    a, b = setting.theta, setting.case.vectors[2].values[0]
    chosen = frame[frame["t"].isin([0.3, 1.0])]
    assert len(chosen) == 8
    assert chosen["first_token_accuracy"].nunique() > 1
    for row in chosen.itertuples():
        alone = (1 - row.t) * a if row.task == "words" else row.t * b
        value = (1 - row.t) * a + row.t * b if row.mixed else alone
        check_scores(setting, row, setting.contexts[row.task], {LAYER: value})


def geometry(setting: Setting, frame: pd.DataFrame) -> None:
    """The model has no part in it."""
    first, second, _ = (vector.values[0] for vector in setting.case.vectors)
    cosine = float(torch.cosine_similarity(first, second, dim=0))
    assert frame["intra"].dropna().iloc[0] == pytest.approx(cosine, abs=1e-5)


def compose(setting: Setting, _: pytest.MonkeyPatch) -> None:
    """Sums and differences; of four words the longest that is said counts."""
    hand, context = setting.hand, setting.case.context
    left, right = setting.case.vectors[0], setting.case.vectors[2]
    branches = {
        "none": {},
        composition.PARTS[0]: {LAYER: left.values[0]},
        composition.PARTS[1]: {LAYER: right.values[0]},
        "sum": {LAYER: left.values[0] + right.values[0]},
        "difference": {LAYER: left.values[0] - right.values[0]},
    }
    forms = [dict.fromkeys(composition.FORMS, "") for _ in context.task.test]
    for number, form in enumerate(forms):
        form.update({name: f"{name[:9]}{number}" for name in composition.FORMS})
        form |= {name: f"{name}-{number}" for name in composition.FORMS}
    pairs = [
        replace(pair, input=form["english_masculine"], output=form["french_feminine"])
        for pair, form in zip(context.task.test, forms, strict=True)
    ]
    asked = afresh(context, task=replace(context.task, test=tuple(pairs)))
    prompts = {shots: asked.ask(pairs, shots) for shots in (0, asked.shots)}
    for prompt, form in zip(prompts[0], forms, strict=True):
        said = hand.says(prompt, add=branches["sum"])
        setting.answers |= {
            form["french_feminine"]: said,
            form["french_masculine"]: said[:1],
            form["english_feminine"]: hand.says(prompt, 1, add=branches[composition.PARTS[0]]),
            form["english_masculine"]: hand.says(prompt, 1),
        }
    frame = composition.compose(asked, left, right, forms=forms).to_frame()
    outcomes = set()
    for row in frame.itertuples():
        if row.vector not in branches or row.strength == 0.5:
            continue
        counts = dict.fromkeys((*composition.FORMS, "other"), 0)
        for prompt, form in zip(prompts[row.shots], forms, strict=True):
            said = hand.says(prompt, add=branches[row.vector])
            tokens = {name: setting.answers[form[name]] for name in composition.FORMS}
            fitting = [name for name, ids in tokens.items() if said[: len(ids)] == ids]
            longest = max(fitting, key=lambda name: len(tokens[name]), default="other")
            counts[longest] += 1
        for name, count in counts.items():
            assert getattr(row, name) == pytest.approx(count / len(forms)), (row.vector, name)
            outcomes |= {name} if count else set()
    assert len(outcomes) > 2


def map_both_ways(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors are learned; what they do in both directions is counted by hand."""
    hand, context = setting.hand, setting.case.context
    renamed = {
        split: tuple(
            replace(pair, output=f"y{pair.input}") for pair in getattr(context.task, split)[:3]
        )
        for split in ("train", "validation", "test")
    }
    forward = replace(context.task, **renamed)
    tasks = {
        "forward": forward,
        "backward": reversed_task(forward),
        "both": both_directions(forward),
    }
    benches = {name: afresh(context, task=task) for name, task in tasks.items()}
    for direction in ("forward", "backward"):
        for number, prompt in enumerate(benches[direction].ask(tasks[direction].test, 0)):
            said = hand.says(prompt, 1 + number % 2)
            setting.answers[prompt.query.output] = said if number % 3 else (7, 8)
    learned: list[dict[int, Tensor]] = []
    learn = bijections._learn

    def spied(*args: Any) -> Any:
        found = learn(*args)
        learned.append({edit.layer: edit.value for edit in found})
        return found

    monkeypatch.setattr(bijections, "_learn", spied)
    recipe = from_zero(steps=2, batch_size=99, check_every=2, initialisation="normal", scale=1.0)
    places = bijections.around(LAYER, hand.last + 1)[:1]
    own = benches["forward"]
    frame = bijections.map_both_ways(own, places, recipe, keeps_unclear=True).to_frame()
    added = {"none": {}, **dict(zip(tasks, learned, strict=True))}
    assert len(frame) == 10
    for row in frame.itertuples():
        prompts = benches["both"].ask(tasks[row.direction].test, row.shots)
        other = {"forward": "backward", "backward": "forward"}[row.direction]
        add = added[row.vector]
        assert row.accuracy == pytest.approx(accuracy(hand, prompts, add=add))
        assert row.first_token_accuracy == pytest.approx(first_accuracy(hand, prompts, add=add))
        said = [hand.says(prompt, 1, add=add)[0] for prompt in prompts]
        sides = {
            name: {p.answer_ids[0] for s in ("train", "validation", "test") for p in one.prompts(s)}
            for name, one in ((n, benches[n]) for n in (row.direction, other))
        }
        wrong = [token in sides[other] - sides[row.direction] for token in said]
        assert row.wrong_direction == pytest.approx(sum(wrong) / len(wrong))
    assert frame["accuracy"].max() > 0


# --- of heads


def scores_by_hand(setting: Setting, vector: TaskVector) -> Tensor:
    """Mean |z ∂p/∂z|, `[layer, head]` of the blocks above that have heads."""
    hand = setting.hand
    products = []
    for prompt in setting.case.prompts("train"):
        n, right = len(prompt.token_ids), torch.tensor(prompt.answer_ids)
        logits = hand.answer(prompt, add={LAYER: vector.values[0]})
        p = logits.log_softmax(dim=-1).gather(1, right[:, None]).mean().exp()
        z = [hand.z[layer] for layer in blocks_above(hand)]
        found = [
            (each * slope)[0, n - 1 :].unflatten(-1, (hand.n_heads, -1)).sum(dim=(0, 2)).abs()
            for each, slope in zip(z, torch.autograd.grad(p, z), strict=True)
        ]
        products.append(torch.stack(found).detach())
    return torch.stack(products).mean(dim=0)


def blocks_above(hand: Hand) -> list[int]:
    return [layer for layer in hand.projections if layer > LAYER]


def removed_by_hand(setting: Setting) -> list[float]:
    """What the answer's probability loses without each head of the blocks above."""
    hand, add = setting.hand, {LAYER: setting.theta}
    removed = []
    for prompt in setting.case.prompts("train"):
        right = prompt.answer_ids[0]
        before = hand.next(prompt, add=add).softmax(dim=-1)[right]
        for layer in blocks_above(hand):
            width = hand.projections[layer].in_features // hand.n_heads
            for head in range(hand.n_heads):
                out = {(layer, head): torch.zeros(width)}
                after = hand.next(prompt, add=add, heads=out).softmax(dim=-1)[right]
                removed.append(float(after - before))
    found = torch.tensor(removed).view(len(setting.case.prompts("train")), -1)
    return found.mean(dim=0).tolist()


def key_heads(setting: Setting, frame: pd.DataFrame) -> None:
    scores = scores_by_hand(setting, setting.case.vector).flatten().tolist()
    removed = removed_by_hand(setting)
    assert frame["score"].tolist() == pytest.approx(scores, rel=5e-3, abs=1e-6)
    assert frame["removed"].tolist() == pytest.approx(removed, rel=5e-3, abs=1e-5)
    assert frame["score"].max() > 1e-4
    best = frame[frame["is_key"]]
    assert (best["score"] == frame["score"].max()).all()
    without = sorted({*range(LAYER + 1, setting.hand.last + 1)} - {*blocks_above(setting.hand)})
    assert key_heads_of(setting.case).without == tuple(without)


def best_head(setting: Setting, vector: TaskVector) -> tuple[int, int]:
    scores = scores_by_hand(setting, vector)
    index = int(scores.argmax())
    return blocks_above(setting.hand)[index // scores.shape[1]], index % scores.shape[1]


def head_overlap(setting: Setting, frame: pd.DataFrame) -> None:
    """One of the heads above is key: another seed's is the same one or not."""
    first, second, _ = setting.case.vectors
    is_same = best_head(setting, first) == best_head(setting, second)
    row = frame[frame["reference"].str.startswith("2: ")]
    assert row["shared"].item() == float(is_same)
    assert row["chance"].item() == pytest.approx(1 / (4 * len(blocks_above(setting.hand))))


def head_ablation(setting: Setting, frame: pd.DataFrame) -> None:
    """The key head at zero and at its mean, at the last token and at all."""
    case, hand = setting.case, setting.hand
    place = best_head(setting, case.vector)
    width = hand.projections[place[0]].in_features // hand.n_heads
    own = slice(place[1] * width, (place[1] + 1) * width)
    add = {LAYER: setting.theta}
    last, everywhere = [], []
    for prompt in case.prompts("train"):
        hand.next(prompt, add=add)
        last.append(hand.z[place[0]][0, -1, own])
        everywhere.append(hand.z[place[0]][0, :, own])
    values = {
        ("last", "zero"): torch.zeros(width),
        ("last", "mean"): torch.stack(last).mean(dim=0),
        ("all", "zero"): torch.zeros(width),
        ("all", "mean"): torch.cat(everywhere).mean(dim=0),
    }
    key = frame[(frame["heads"] == "key") & frame["curve_share"].isna()]
    for (positions, mode), value in values.items():
        changes = {"heads": {place: value}, "first": 0 if positions == "all" else None}
        is_row = (key["positions"] == positions) & (key["mode"] == mode)
        row = key[is_row & (key["condition"] == "vector")]
        expected = accuracy(hand, case.prompts("test"), add=add, **changes)
        assert row["accuracy"].item() == pytest.approx(expected)
        if (positions, mode) == ("last", "zero"):
            row = key[is_row & (key["condition"] == "icl")]
            shown = case.prompts("test", case.context.shots)
            assert row["accuracy"].item() == pytest.approx(accuracy(hand, shown, **changes))
    assert key["accuracy"].nunique() > 1
    whole = frame[(frame["heads"] == "none") & (frame["condition"] == "vector")]
    assert set(whole["accuracy"]) == {accuracy(hand, case.prompts("test"), add=add)}


CHECKS: dict[str, Callable[[Setting, pd.DataFrame], None]] = {
    "lens": lens,
    "states": states,
    "propagation": propagation,
    "rotation": rotation,
    "transfer": transfer,
    "interpolation": interpolation,
    "geometry": geometry,
    "key-heads": key_heads,
    "head-overlap": head_overlap,
    "head-ablation": head_ablation,
}
