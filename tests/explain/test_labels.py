"""Label alignment, its matched token sets and the lens, where the answer is known.

Run with `pytest tests/explain/test_labels.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.explain.shared.labels import (
    label_alignment,
    lens,
    logit_differences,
    matched_sets,
    projected_share,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_projected_share_is_the_cosine_with_the_nearest_point_of_the_span() -> None:
    rows, directions = normal(3, 10), normal(4, 10, seed=1)
    found = projected_share(directions, rows)
    for share, x in zip(found, directions, strict=True):
        weights = torch.linalg.lstsq(rows.T, x.unsqueeze(1)).solution
        near = (rows.T @ weights)[:, 0]
        assert float(share) == pytest.approx(float(near.norm() / x.norm()), rel=1e-4)
    twice = torch.cat([rows, rows * 2])  # the same span, named twice
    torch.testing.assert_close(projected_share(directions, twice), found)


def test_a_direction_made_of_labels_is_aligned_with_them_and_a_random_one_is_not(
    tiny_model: Any,
) -> None:
    model = tiny_model("llama")
    labels = [100, 150, 201]
    weight = model.hf.model.norm.weight
    # what the unembedding reads of it, after the norm, lies in the labels' span
    made = (model.unembedding.weight[labels].sum(dim=0) / weight).unsqueeze(0)
    directions = torch.cat([made, normal(1, model.d_model)])
    planted, control = label_alignment(model, directions, labels, torch.Generator().manual_seed(0))
    assert planted.share.labels == pytest.approx(1, abs=1e-4)
    assert planted.share.labels > planted.share.high
    share = control.share
    assert share.low <= share.labels <= share.high or share.labels < 0.6
    assert planted.share.matched < 0.7


def test_a_rank_is_the_share_of_the_vocabulary_that_a_token_beats(tiny_model: Any) -> None:
    model = tiny_model("llama")
    labels = [100, 150, 201]
    made = model.unembedding.weight[labels].sum(dim=0) / model.hf.model.norm.weight
    directions = torch.stack([made, -made, normal(model.d_model)])
    ranks = [one.rank for one in label_alignment(model, directions, labels, torch.Generator())]
    with torch.no_grad():
        logits = model.logits(directions)
    for rank, row in zip(ranks, logits.tolist(), strict=True):
        beaten = [sum(other < row[label] for other in row) for label in labels]
        assert rank.labels == pytest.approx(sum(beaten) / 3 / (len(row) - 1), abs=1e-6)
    on_top, at_the_bottom, control = ranks
    assert on_top.labels > 0.95
    assert on_top.labels > on_top.high
    assert at_the_bottom.labels < 0.05
    assert control.low <= control.labels <= control.high
    named = {row.measure: row for row in label_alignment(
        model, directions[:1], labels, torch.Generator()
    )[0].rows(3, "vector")}  # fmt: skip
    assert named["label_rank"].value == on_top.labels
    assert (named["matched_rank"].low, named["matched_rank"].layer) == (on_top.low, 3)


def test_matched_sets_have_the_size_kind_and_rank_of_the_labels() -> None:
    names = [f"▁{'abcdefghij'[n % 10]}x" if n % 2 else f"{n}" for n in range(3000)]
    labels = [1001, 1500, 2001]
    for tokens in matched_sets(names, labels, 20, torch.Generator().manual_seed(0)):
        found = tokens.tolist()
        assert len(set(found)) == 3
        assert not set(found) & set(labels)
        for token, label in zip(found, labels, strict=True):
            assert token % 2 == label % 2  # begins a word, or is a number
            assert abs(token - label) <= 500


def test_the_lens_reads_the_token_whose_unembedding_a_state_is(tiny_model: Any) -> None:
    model = tiny_model("gpt2")
    (tokens,) = lens(model, model.unembedding.weight[[77]] * 10, n=3)
    with torch.no_grad():
        logits = model.logits(model.unembedding.weight[[77]] * 10)[0]
    best = logits.topk(3)
    assert [text for text, _ in tokens] == [model.tokenizer.decode([t]) for t in best.indices]
    assert [value for _, value in tokens] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_a_logit_difference_is_the_right_label_against_the_mean_of_the_wrong() -> None:
    logits, right = normal(6, 4), torch.tensor([0, 3, 2, 1, 1, 0])
    for found, row, own in zip(
        logit_differences(logits, right).tolist(), logits.tolist(), right.tolist(), strict=True
    ):
        wrong = [value for label, value in enumerate(row) if label != own]
        assert found == pytest.approx(sum(row[own] - value for value in wrong) / 3, rel=1e-4)
