"""Statistics of the published generator, and labels against enumeration."""

import itertools
import math

import pytest
import torch
from naive_paths import N_STATES, naive_paths

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.shared.ginc_world import (
    DELIMITER,
    WorldSizes,
    draw_corpus,
    draw_documents,
    draw_histories,
    draw_prompts,
    draw_segments,
    draw_trained,
    draw_world,
)


def test_the_published_world_has_the_published_shape(published):
    assert published.memory.shape == (10, 10)
    assert (published.memory[:, 0] == 0).all()
    assert published.memory[:, 1:].min() >= 1
    assert published.memory[:, 1:].max() <= 49
    assert published.start.shape == (10, 100)
    assert published.n_trained == 5
    assert published.sizes.n_tokens == 51
    # exp(0.05) / exp(-0.05) at most: a softmax of temperature 10 is nearly flat
    assert (published.start.amax(dim=1) / published.start.amin(dim=1)).max() < math.exp(0.1)


def test_transitions_are_slot_times_value_and_the_value_matrix_is_shared(published):
    transition = published.models.transition
    blocks = transition.reshape(10, 10, 10, 10, 10)  # [hmm, value, slot, next value, next slot]
    slot_matrix, value_matrix = blocks.sum(dim=3)[:, 0], blocks.sum(dim=4)[:, :, 0]
    assert torch.allclose(value_matrix, value_matrix[:1].expand_as(value_matrix))
    assert not torch.allclose(slot_matrix[0], slot_matrix[1])
    assert (value_matrix[0].diagonal() >= 0.9 - 1e-12).all()
    rebuilt = torch.einsum("vw,hst->hvswt", value_matrix[0], slot_matrix)
    assert torch.allclose(rebuilt, blocks)


def test_mixing_weights_have_the_published_temperature(seeded):
    ratios = []
    for seed in range(30):
        weights = draw_world(WorldSizes(), seeded(seed)).slots.weights
        ratios.append(weights.log().amax(dim=1) - weights.log().amin(dim=1))
    spread = torch.cat(ratios).mean()  # ten times the range of 10 uniform draws: 10 * 9 / 11
    assert float(spread) == pytest.approx(90 / 11, rel=0.03)


def test_documents_follow_the_model_they_are_by(small_world, seeded):
    hmm = torch.arange(2).repeat(4000)
    tokens = draw_documents(small_world, hmm, 30, seeded(1)) - 1
    models = small_world.models
    for one in range(2):
        own, emission = tokens[hmm == one], models.emission[one]
        first = torch.bincount(own[:, 0], minlength=5) / 4000
        assert torch.allclose(first.double(), models.start[one] @ emission, atol=0.03)
        pairs = (own[:, -2] * 5 + own[:, -1]).bincount(minlength=25).reshape(5, 5) / 4000
        joint = emission.T @ (models.transition[one] / N_STATES) @ emission  # states are uniform
        assert torch.allclose(pairs.double(), joint, atol=0.03)


def test_a_tenth_of_a_published_document_is_delimiters(published, seeded):
    documents = draw_documents(published, draw_trained(published, 60, seeded(0)), 500, seeded(0))
    assert float((documents == DELIMITER).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert documents.min() >= 1
    assert documents.max() <= 50


def test_the_corpus_is_documents_with_a_delimiter_after_each(small_world, seeded):
    corpus = draw_corpus(small_world, 5, 20, seeded(3))
    assert (corpus.hmm < small_world.n_trained).all()
    stream = corpus.stream()
    assert stream.shape == (5 * 21,)
    assert (stream.reshape(5, 21)[:, -1] == DELIMITER).all()
    assert torch.equal(stream, draw_corpus(small_world, 5, 20, seeded(3)).stream())
    assert not torch.equal(stream, draw_corpus(small_world, 5, 20, seeded(4)).stream())


def test_a_world_is_its_seed(seeded):
    one, same, other = (draw_world(WorldSizes(), seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.models.transition, same.models.transition)
    assert not torch.equal(one.memory, other.memory)


def test_segments_begin_with_a_delimiter_and_go_on_as_the_model_does(small_world, seeded):
    hmm = torch.zeros(4000, dtype=torch.long)
    value = torch.arange(4000) % 2
    segments = draw_segments(small_world, hmm, value, 3, seeded(2))
    assert segments.shape == (4000, 4)
    assert (segments[:, 0] == DELIMITER).all()
    delimiter_states = torch.zeros(N_STATES).double()
    delimiter_states[::3] = 0.5
    after = delimiter_states @ small_world.models.transition[0] @ small_world.models.emission[0]
    shares = torch.bincount(segments[:, 1] - 1, minlength=5) / 4000
    assert torch.allclose(shares.double(), after, atol=0.03)


def test_histories_are_what_comes_before_a_delimiter(small_world, seeded):
    """Drawn backwards, they are the documents that happen to go on with a delimiter."""
    which = torch.zeros(40000, dtype=torch.long)
    model = small_world.models
    value = torch.arange(8000) % 2
    backwards = draw_histories(small_world, which[:8000], value, 2, seeded(3)) - 1
    shares = (backwards[:, 0] * 5 + backwards[:, 1]).bincount(minlength=25) / 8000
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for path in itertools.product(range(N_STATES), repeat=3):
        p = 1 / N_STATES
        for before, after in itertools.pairwise(path):
            p *= float(model.transition[0, before, after])
        if path[2] % 3 == 0:
            one, two = (int(model.emission[0, state].argmax()) for state in path[:2])
            expected[one, two] += p
    assert torch.allclose(shares.double(), (expected / expected.sum()).flatten(), atol=0.02)


@pytest.mark.parametrize("kind", ["id", "ood-hmm", "ood-slots"])
@pytest.mark.parametrize(("n_examples", "length"), [(0, 3), (4, 3), (2, 5)])
def test_prompts_are_examples_joined_by_delimiters(published, seeded, kind, n_examples, length):
    prompts = draw_prompts(
        published, kind, 40, n_examples=n_examples, example_length=length, generator=seeded(1)
    )
    assert prompts.tokens.shape == (40, n_examples * (length + 1) + length - 1)
    assert (prompts.tokens[:, length :: length + 1] == DELIMITER).all()
    is_trained = prompts.hmm < 5
    assert bool(is_trained.all() if kind == "id" else (~is_trained).all())
    assert prompts.labels.max() <= 50


def test_slot_patterns_keep_the_value_and_avoid_the_delimiter(published, seeded):
    prompts = draw_prompts(
        published, "ood-slots", 200, n_examples=3, example_length=5, generator=seeded(1)
    )
    rows = [set(row.tolist()) for row in published.memory[:, 1:] + 1]
    for example in prompts.tokens[:, :6].tolist():
        assert example[5] == DELIMITER
        assert any(set(example[:5]) <= row for row in rows)


def test_examples_of_a_prompt_share_the_start_slot_and_not_the_value(published, seeded):
    prompts = draw_prompts(
        published, "id", 300, n_examples=8, example_length=3, generator=seeded(2)
    )
    firsts = prompts.tokens[:, ::4] - 1
    possible = (firsts[:, :, None, None] == published.memory[None, None, :, 1:]).any(dim=2)
    assert possible.all(dim=1).any(dim=-1).all()  # one slot explains all first tokens
    assert float(torch.tensor([len(set(row)) for row in firsts.tolist()]).float().mean()) > 4


def test_labels_are_the_likeliest_answers_to_the_query_alone(small_world, seeded):
    for kind in ("id", "ood-slots"):
        prompts = draw_prompts(
            small_world, kind, 12, n_examples=1, example_length=3, generator=seeded(7)
        )
        for tokens, label, hmm in zip(prompts.tokens, prompts.labels, prompts.hmm, strict=True):
            query = (tokens[-2:] - 1).tolist()
            choices = []
            for starts in ([1, 4], [2, 5]) if kind == "id" else (list(range(N_STATES)),):
                scores = [naive_paths(small_world, hmm, starts, [*query, y]) for y in range(5)]
                best = max(scores)
                choices += [1 + y for y, s in enumerate(scores) if best > 0 and s > best - 1e-12]
                choices += [-1] if best == 0 else []
            assert int(label) in choices


def test_impossible_queries_carry_no_label(published, seeded):
    prompts = draw_prompts(
        published, "ood-slots", 400, n_examples=0, example_length=8, generator=seeded(0)
    )
    share = float((prompts.labels == -1).float().mean())
    assert 0.1 < share < 0.6
    assert (prompts.labels[prompts.labels != -1] >= 1).all()


def test_an_example_needs_an_input_and_an_answer(small_world, seeded):
    with pytest.raises(TaskVectorsError, match="2 or more"):
        draw_prompts(small_world, "id", 2, n_examples=1, example_length=1, generator=seeded(0))
