"""Scores are those of a loop over prompts, whatever the memory, the labels and the branches.

Run with `pytest tests/evaluate/test_scoring.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import Spec, branches_of

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.evaluate import Scores, score, score_alike, score_whole
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.trunk import Branch, Edit, Trunk, shape_of
from taskvectors.trunk.memory import trunk_bytes, work_bytes

THREE_BRANCHES: list[list[Spec]] = [
    [],
    [{"layer": 1, "positions": (-1,)}],
    [{"layer": 0, "positions": (-4, -1), "each": "prompt"}, {"layer": 2, "operation": "replace"}],
]
LABELS = {
    "one token each": {"left": (5,), "right": (250,), "ahead": (31,)},
    "of several lengths": {"left": (5, 9), "right": (250,), "ahead": (31, 7, 12)},
    "that begin alike": {"left": (5, 9), "right": (5, 250), "ahead": (5,)},
}


def same(found: Scores, expected: dict[str, Any]) -> None:
    for name, values in expected.items():
        torch.testing.assert_close(getattr(found, name), values, atol=1e-4, rtol=1e-4)


def budget_for(model: Any, prompts: Sequence[Prompt], branches: Sequence[Branch], n: int) -> int:
    """Just enough for n prompts at once."""
    positions = [place for branch in branches for edit in branch for place in edit.positions]
    shape = shape_of(prompts, positions or [-1], n_branches=len(branches))
    return n * (trunk_bytes(model, shape) + work_bytes(model, shape))


@pytest.fixture
def trunk_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each trunk that is built holds."""
    sizes: list[int] = []
    build = Trunk.build

    def counted(model: Any, prompts: Sequence[Prompt], **rest: Any) -> Trunk:
        sizes.append(len(prompts))
        return build(model, prompts, **rest)

    monkeypatch.setattr(Trunk, "build", counted)
    return sizes


# --- against the loop


def test_scores_are_those_of_one_full_pass_per_prompt(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, one_by_one: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    drawn = ragged_prompts(model, 8, answers=(1, 3))
    branches = branches_of(model, THREE_BRANCHES, drawn)
    prompts = partly_right(model, drawn, branches)
    expected = one_by_one(model, prompts, branches)
    assert 0 < int(expected["is_correct"].sum()) < expected["is_correct"].numel()
    assert expected["first_is_correct"].any(dim=1).all()
    same(score(model, prompts, branches), expected)


def test_an_answer_is_right_only_if_all_of_its_tokens_are(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any
) -> None:
    model = tiny_model("llama")
    right = partly_right(model, ragged_prompts(model, 1, answers=(3, 3)), [[]])[0]
    last, middle = (*right.answer_ids[:2], 5), (right.answer_ids[0], 5, right.answer_ids[2])
    prompts = [right, replace(right, answer_ids=last), replace(right, answer_ids=middle)]
    found = score(model, prompts)
    assert found.is_correct.tolist() == [[True, False, False]]
    assert found.first_is_correct.tolist() == [[True, True, True]]


@pytest.mark.parametrize("chunked", [False, True])
def test_any_of_several_right_answers_counts(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, chunked: bool
) -> None:
    model = tiny_model("llama")
    drawn = ragged_prompts(model, 6, answers=(1, 3))
    branches = branches_of(model, THREE_BRANCHES, drawn)
    right = partly_right(model, drawn, branches)
    wrong = [replace(prompt, answer_ids=(7, 8)) for prompt in right]
    # none, one or two further answers; the right one is the first, the second or the last
    several = [
        replace(one, answer_ids=ids[0], other_answer_ids=ids[1:])
        for number, one in enumerate(right)
        for ids in [[((7, 8), one.answer_ids, (9,)), (one.answer_ids, (9,)), ((7, 8),)][number % 3]]
    ]
    memory = budget_for(model, drawn, branches, 2) if chunked else None
    found = score(model, several, branches, memory=memory)
    by_answer = [score(model, right, branches), score(model, wrong, branches)]
    nine = score(model, [replace(one, answer_ids=(9,)) for one in right], branches)
    for number in range(6):
        used = [[*by_answer, nine], [by_answer[0], nine], [by_answer[1]]][number % 3]
        for name, join in [
            ("is_correct", any),
            ("first_is_correct", any),
            ("log_probability", max),
        ]:
            for branch in range(3):
                values = [float(getattr(one, name)[branch, number]) for one in used]
                assert float(getattr(found, name)[branch, number]) == pytest.approx(
                    float(join(values)), abs=1e-4
                )
    assert found.is_correct.any()
    assert found.forward_tokens > score(model, wrong, branches).forward_tokens


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("is_biased", [False, True])
def test_the_most_probable_label_is_that_of_a_loop_over_labels(
    tiny_model: Any,
    ragged_prompts: Any,
    one_by_one: Any,
    labels: dict[str, tuple[int, ...]],
    is_biased: bool,
) -> None:
    model = tiny_model("gemma2")
    names = list(labels)
    prompts = [
        replace(
            prompt,
            query=Example(input=str(number), output=names[number % 3]),
            answer_ids=labels[names[number % 3]],
        )
        for number, prompt in enumerate(ragged_prompts(model, 6))
    ]
    branches = branches_of(model, THREE_BRANCHES, prompts)
    bias = None
    if is_biased:
        bias = torch.zeros(model.d_vocab)
        bias[[5, 250, 31]] = torch.tensor([7.0, -7.0, 3.0])
    expected = one_by_one(model, prompts, branches, labels, bias)
    if is_biased:
        without = one_by_one(model, prompts, branches, labels)["label_is_correct"]
        same_starts = len({tokens[0] for tokens in labels.values()}) == 1
        assert torch.equal(without, expected["label_is_correct"]) == same_starts
    assert 0 < int(expected["label_is_correct"].sum()) < expected["label_is_correct"].numel()
    same(score(model, prompts, branches, labels=labels, logit_bias=bias), expected)


def test_a_large_bias_on_one_label_makes_it_every_answer(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = [
        replace(prompt, query=Example(input="", output=name), answer_ids=(token,))
        for prompt in ragged_prompts(model, 3)
        for name, token in (("left", 5), ("right", 250))
    ]
    bias = torch.zeros(model.d_vocab)
    bias[250] = 1e3
    found = score(model, prompts, labels={"left": (5,), "right": (250,)}, logit_bias=bias)
    assert found.label_is_correct is not None
    assert found.label_is_correct.tolist() == [[False, True] * 3]
    assert found.is_correct.tolist() == [[False, True] * 3]
    assert found.first_token.tolist() == [[250] * 6]


def test_a_bias_acts_where_an_answer_begins_and_nowhere_else(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any
) -> None:
    model = tiny_model("llama")
    prompts = partly_right(model, ragged_prompts(model, 4, answers=(2, 2)), [[]] * 3)
    bias = torch.zeros(model.d_vocab)
    bias[7] = 1e3  # no second token is 7
    asked = [replace(prompt, answer_ids=(7, prompt.answer_ids[1])) for prompt in prompts]
    with_bias, without = (score(model, asked, logit_bias=b) for b in (bias, None))
    assert with_bias.first_is_correct.all()
    assert not without.first_is_correct.any()
    second = [score(model, [prompt]).log_probability * 2 for prompt in asked]
    firsts = [
        score(model, [replace(prompt, answer_ids=prompt.answer_ids[:1])]).log_probability
        for prompt in asked
    ]
    alone = torch.cat(second, dim=1) - torch.cat(firsts, dim=1)
    torch.testing.assert_close(with_bias.log_probability * 2, alone, atol=1e-4, rtol=1e-4)


def test_without_labels_nothing_is_said_about_them(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    assert score(model, ragged_prompts(model, 2)).label_is_correct is None


# --- memory


def test_chunks_of_prompts_give_what_all_at_once_gives(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, trunk_sizes: list[int], tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    drawn = ragged_prompts(model, 7, answers=(1, 3))
    branches = branches_of(model, THREE_BRANCHES, drawn)
    prompts = [
        replace(prompt, query=Example(input="", output="ab"[number % 2]))
        for number, prompt in enumerate(partly_right(model, drawn, branches))
    ]
    about: dict[str, Any] = {
        "labels": {"a": (5,), "b": (31,)},
        "logit_bias": torch.linspace(-1, 1, model.d_vocab),
    }
    whole = score(model, prompts, branches, **about)
    assert trunk_sizes == [7]
    parts = score(model, prompts, branches, **about, memory=budget_for(model, prompts, branches, 2))
    assert trunk_sizes == [7, 2, 2, 2, 1]
    for name in ("is_correct", "first_is_correct", "first_token", "label_is_correct"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
    torch.testing.assert_close(parts.log_probability, whole.log_probability, atol=1e-4, rtol=1e-4)


def test_too_small_a_budget_is_an_error_that_says_what_would_do(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4)
    enough = budget_for(model, prompts, [()], 1)
    with pytest.raises(MemoryBudgetError) as caught:
        score(model, prompts, memory=enough - 1)
    said = str(caught.value)
    assert "are granted" in said
    assert "--memory" in said
    assert "fewer shots" in said
    score(model, prompts, memory=enough)


# --- prompts that begin alike


@pytest.fixture
def alike(ragged_prompts: Any) -> Any:
    """`alike(model)`: ragged prompts that share their first nine tokens."""

    def make(model: LanguageModel) -> list[Prompt]:
        before = tuple(range(5, 14))
        return [
            replace(
                prompt,
                token_ids=before + prompt.token_ids,
                query=Example(input="", output="ab"[number % 2]),
            )
            for number, prompt in enumerate(ragged_prompts(model, 5, answers=(1, 3)))
        ]

    return make


def test_what_prompts_share_runs_once_and_changes_no_score(
    tiny_model: Any, alike: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = alike(model)
    labels = {"a": (5,), "b": (31, 8)}
    whole = score(model, prompts, labels=labels)
    found = score_alike(model, prompts, labels=labels)
    for name in ("is_correct", "first_is_correct", "first_token", "label_is_correct"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    torch.testing.assert_close(found.log_probability, whole.log_probability, atol=1e-4, rtol=1e-4)
    shared = 9 + all(p.token_ids[9] == prompts[0].token_ids[9] for p in prompts)  # perhaps a BOS
    others = [tokens for p in prompts for tokens in labels.values() if p.answer_ids != tokens]
    n_runs = len(prompts) + len(others)
    assert found.forward_tokens == whole.forward_tokens - shared * (n_runs - 1)


def test_prompts_that_share_nothing_or_nearly_all_are_scored_too(
    tiny_model: Any, alike: Any
) -> None:
    model = tiny_model("llama")
    prompts = alike(model)
    apart = [replace(p, token_ids=(20 + n, *p.token_ids)) for n, p in enumerate(prompts)]
    same = [replace(prompts[0], answer_ids=(n,)) for n in range(3)]
    for asked in (apart, same):
        expected = score(model, asked).log_probability
        found = score_alike(model, asked).log_probability
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_prompts_that_begin_alike_are_scored_in_chunks_that_fit(
    tiny_model: Any, alike: Any
) -> None:
    model = tiny_model("llama")
    prompts = alike(model)
    whole = score_alike(model, prompts)
    parts = score_alike(model, prompts, memory=budget_for(model, prompts, [()], 2))
    torch.testing.assert_close(parts.log_probability, whole.log_probability, atol=1e-4, rtol=1e-4)
    with pytest.raises(MemoryBudgetError):
        score_alike(model, prompts, memory=1000)


# --- cost


def test_a_plain_run_costs_each_token_once(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 5, answers=(1, 3))
    # the last token of an answer is predicted and never read
    expected = sum(len(p.token_ids) + len(p.answer_ids) - 1 for p in prompts)
    assert score(model, prompts).forward_tokens == expected
    few = budget_for(model, prompts, [()], 2)
    assert score(model, prompts, memory=few).forward_tokens == expected


def test_a_branch_costs_the_blocks_above_its_edit(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 6, answers=(1, 1))
    plain = score(model, prompts).forward_tokens
    halfway = branches_of(model, [[{"layer": 1}]], prompts)  # two of four blocks are above
    assert score(model, prompts, halfway).forward_tokens == plain + 3
    at_the_end = branches_of(model, [[{"layer": 3}]], prompts)
    assert score(model, prompts, at_the_end).forward_tokens == plain


def test_labels_of_several_tokens_run_what_is_not_the_answer_and_count_it(
    tiny_model: Any, ragged_prompts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    labels = {"a": (5, 9), "b": (31,), "c": (7, 8, 2)}
    names = ["a", "a", "b", "c", "a", "a"]
    prompts = [
        replace(prompt, query=Example(input=str(i), output=name), answer_ids=labels[name])
        for i, (prompt, name) in enumerate(zip(ragged_prompts(model, 6), names, strict=True))
    ]
    asked: list[int] = []
    build = Trunk.build

    def counted(model: Any, prompts: Any, **about: Any) -> Trunk:
        asked.append(len(prompts))
        return build(model, prompts, **about)

    monkeypatch.setattr(Trunk, "build", counted)
    with_labels = score(model, prompts, labels=labels)
    assert asked == [6, 2, 5, 5]
    others = [
        replace(prompt, answer_ids=labels[label])
        for label in labels
        for prompt in prompts
        if prompt.query.output != label
    ]
    expected = score(model, [*prompts, *others]).forward_tokens
    assert with_labels.forward_tokens == expected


def test_one_branch_of_scores_is_its_row(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = [
        replace(prompt, query=Example(input="", output="a")) for prompt in ragged_prompts(model, 3)
    ]
    branches = branches_of(model, THREE_BRANCHES, prompts)
    whole = score(model, prompts, branches, labels={"a": (5,), "b": (31,)})
    for index in range(3):
        one = whole.branch(index)
        for name in ("is_correct", "first_is_correct", "first_token", "log_probability"):
            assert torch.equal(getattr(one, name)[0], getattr(whole, name)[index])
        assert one.label_is_correct is not None
        assert whole.label_is_correct is not None
        assert torch.equal(one.label_is_correct[0], whole.label_is_correct[index])


# --- where an answer ends


def next_token(model: LanguageModel, prompt: Prompt, answer: Sequence[int]) -> torch.Tensor:
    """Log-probabilities after an answer, by one whole pass."""
    with torch.no_grad():
        ids = torch.tensor([[*prompt.token_ids, *answer]])
        logits: torch.Tensor = model.hf(input_ids=ids).logits[0, -1]
    return logits.log_softmax(dim=0)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_an_answer_that_has_to_end_is_right_only_if_the_next_token_ends_it(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, kind: str
) -> None:
    model = tiny_model(kind)
    right = partly_right(model, ragged_prompts(model, 6, answers=(1, 3)), [[]])
    best = [int(next_token(model, one, one.answer_ids).argmax()) for one in right]
    ends = tuple(sorted({best[0], best[1], 7}))
    asked = [replace(one, end_ids=ends) for one in right]
    found, plain = score(model, asked), score(model, right)
    both = zip(plain.is_correct[0].tolist(), best, strict=True)
    assert found.is_correct[0].tolist() == [was and one in ends for was, one in both]
    assert found.is_correct.any()
    # what is said of the answer's own tokens is as it was
    assert torch.equal(found.first_is_correct, plain.first_is_correct)
    torch.testing.assert_close(found.log_probability, plain.log_probability)
    assert torch.equal(score_alike(model, asked).is_correct, found.is_correct)
    other = next(token for token in range(model.d_vocab) if token not in best)
    assert not score(model, [replace(one, end_ids=(other,)) for one in right]).is_correct.any()


def test_labels_of_which_one_begins_another_are_told_apart_by_their_ends(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    drawn = ragged_prompts(model, 8)
    new = int(next_token(model, drawn[0], ()).argmax())
    before = next_token(model, drawn[0], (new,))
    longer = [[*drawn[0].token_ids, new, token] for token in range(model.d_vocab)]
    with torch.no_grad():
        after = model.hf(input_ids=torch.tensor(longer)).logits[:, -1].log_softmax(dim=1)
    # of the first prompt: the label and the end for which the longer one wins most clearly
    york, end = divmod(int((before[:, None] + after - before).argmax()), model.d_vocab)
    ends = (end,)
    names = {"New": (new,), "New York": (new, york), "left": (31, 7)}
    query = Example(input="x", output="New York")
    prompts = [replace(p, query=query, answer_ids=(new, york), end_ids=ends) for p in drawn]
    found = score(model, prompts, labels=names)
    assert found.label_is_correct is not None
    expected = []
    for prompt in prompts:
        sums = {}
        for name, label in names.items():
            at = [next_token(model, prompt, label[:n])[token] for n, token in enumerate(label)]
            after = next_token(model, prompt, label)[list(ends)].logsumexp(dim=0)
            sums[name] = float(sum(at) + after)
        expected.append(max(sums, key=sums.__getitem__) == "New York")
    assert found.label_is_correct[0].tolist() == expected
    assert any(expected)  # without an end the longer one never wins
    plain = score(model, [replace(one, end_ids=()) for one in prompts], labels=names)
    assert plain.label_is_correct is not None
    assert not plain.label_is_correct.any()


def test_prompts_whose_answers_end_otherwise_are_not_scored_together(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    first, second = ragged_prompts(tiny_model("llama"), 2)
    with pytest.raises(ValueError, match="end alike"):
        score(tiny_model("llama"), [replace(first, end_ids=(3,)), second])


# --- numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error_and_not_a_wrong_answer(
    tiny_model: Any, ragged_prompts: Any, value: float
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4)
    score(model, prompts, [()])  # the same prompts have scores
    edit = Edit(layer=1, value=torch.full((model.d_model,), value))
    with pytest.raises(TaskVectorsError, match=r"answers are not finite.*lower the strength"):
        score(model, prompts, [(), (edit,)])

    def broken(tokens: Any, _: Any) -> Any:
        return torch.full((*tokens.shape, model.d_model), value)

    with pytest.raises(TaskVectorsError, match="not finite"):
        score_whole(model, prompts, broken)
