"""The exact predictors against sums over all paths of hidden states."""

import itertools
import math

import pytest
import torch
from naive_paths import N_STATES, naive_paths

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tasks.shared.ginc_bayes import (
    document_surprise,
    log_start_of_segments,
    prompt_predictor,
    segment_predictions,
    states_after,
)
from taskvectors.learners.tasks.shared.ginc_world import (
    draw_documents,
    draw_histories,
    draw_prompts,
    draw_segments,
    draw_trained,
)
from taskvectors.learners.tasks.shared.hmm import log_evidence


def test_the_bayes_predictor_is_the_sum_over_models_and_start_slots(small_world, seeded):
    prompts = draw_prompts(
        small_world, "id", 6, n_examples=2, example_length=3, generator=seeded(8)
    )
    found = prompt_predictor(small_world, prompts)
    for row, tokens in enumerate((prompts.tokens - 1).tolist()):
        shown, query = [tokens[0:3], tokens[4:7]], tokens[8:10]
        joint = torch.zeros(5, dtype=torch.float64)
        for hmm, slot in itertools.product(range(2), (1, 2)):
            starts = [slot, slot + 3]
            weight = math.prod(naive_paths(small_world, hmm, starts, one) for one in shown)
            for y in range(5):
                joint[y] += weight * naive_paths(small_world, hmm, starts, [*query, y])
        assert float(found[row, 0]) == 0.0  # the end of text
        assert torch.allclose(found[row, 1:], joint / joint.sum())


def test_more_examples_bring_the_bayes_predictor_to_the_label(published, seeded):
    accuracy = {}
    for n_examples in (0, 16):
        prompts = draw_prompts(
            published, "id", 200, n_examples=n_examples, example_length=3, generator=seeded(0)
        )
        guess = prompt_predictor(published, prompts).argmax(dim=-1)
        accuracy[n_examples] = float((guess == prompts.labels).float().mean())
    assert accuracy[16] > 0.97
    assert accuracy[0] < 0.8


def test_the_predictor_refuses_prompts_that_no_model_can_have_written(published, seeded):
    prompts = draw_prompts(
        published, "ood-slots", 50, n_examples=4, example_length=8, generator=seeded(0)
    )
    with pytest.raises(TaskVectorsError, match="impossible"):
        prompt_predictor(published, prompts)


@pytest.mark.parametrize("begin", ["document", "segment"])
def test_document_surprise_is_the_mixtures_own(small_world, seeded, begin):
    tokens = draw_documents(small_world, torch.tensor([0, 1, 1]), 4, seeded(5))
    if begin == "segment":
        hmm, value = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])
        tokens = draw_segments(small_world, hmm, value, 3, seeded(5))
    found = document_surprise(small_world, tokens, begin=begin)
    for row, symbols in enumerate((tokens - 1).tolist()):
        before = 1.0
        for end in range(1, 5):
            total = 0.0
            for hmm in range(2):
                if begin == "segment":
                    total += naive_paths(small_world, hmm, [0, 3], symbols[:end]) / 2
                else:
                    for state in range(N_STATES):
                        start = float(small_world.start[hmm, state]) / 2
                        total += start * naive_paths(small_world, hmm, [state], symbols[:end])
            assert float(found[row, end - 1]) == pytest.approx(-math.log(total / before))
            before = total


def test_no_single_model_pays_less_than_the_mixture_on_average(small_world, seeded):
    hmm = draw_trained(small_world, 200, seeded(0))
    tokens = draw_documents(small_world, hmm, 60, seeded(1))
    mixture = document_surprise(small_world, tokens, begin="document").sum(dim=1).mean()
    each = -log_evidence(small_world.trained, tokens - 1)[:, :, -1]
    told = each[torch.arange(200), hmm].mean()
    assert float(told) < float(mixture) < float(told) + math.log(2) + 1e-9
    assert (each.mean(dim=0) > mixture).all()


def test_predictions_after_a_history_are_those_of_the_middle_of_a_document(small_world, seeded):
    hmm, value = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])
    histories = draw_histories(small_world, hmm, value, 1, seeded(6))
    segments = draw_segments(small_world, hmm, value, 1, seeded(7))
    states = states_after(small_world.trained, histories)
    found = segment_predictions(small_world.trained, segments, states).exp()
    everywhere = list(range(N_STATES))
    whole = torch.cat([histories, segments], dim=1) - 1
    for row, symbols in enumerate(whole.tolist()):
        for one, end, following in itertools.product(range(2), (2, 3), range(5)):
            expected = naive_paths(small_world, one, everywhere, [*symbols[:end], following])
            assert float(found[row, one, end - 2, following]) == pytest.approx(expected)


def test_segment_predictions_are_those_of_each_model_from_its_delimiter(small_world, seeded):
    segments = draw_segments(small_world, torch.tensor([0, 3]), torch.tensor([0, 1]), 2, seeded(6))
    start = log_start_of_segments(small_world, 4)[None]
    found = segment_predictions(small_world.models, segments, start).exp()
    assert found.shape == (2, 4, 3, 5)
    for row, symbols in enumerate((segments - 1).tolist()):
        for hmm, end, following in itertools.product(range(4), range(1, 4), range(5)):
            path = [*symbols[:end], following]
            expected = naive_paths(small_world, hmm, [0, 3], path)
            assert float(found[row, hmm, end - 1, following]) == pytest.approx(expected)
