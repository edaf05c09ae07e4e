"""What `inject` refuses, and that it says so: positions, prompts, rows, calls it cannot read.

Run with `pytest tests/vectors/test_refusals.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from taskvectors.errors import PositionError, TaskVectorsError, UnsupportedModelError
from taskvectors.models.calls import cache_name
from taskvectors.vectors import Site, inject, sites_at

Made = Callable[..., Any]

SHORT = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}


def test_a_prompt_too_short_for_a_position_is_named(
    tiny_model: Made, random_vector: Made, padded: Made
) -> None:
    model = tiny_model("llama")
    inputs = padded([[1, 5, 6, 7, 8], [1, 5, 6]], "left")
    for position in (3, -4):
        vector = random_vector(model, [Site(1, position)])
        message = rf"row 1 has 3 tokens and no position {position}; give one from -3 to 2"
        with pytest.raises(PositionError, match=message), inject(model, vector):
            model.hf(**inputs)
        with torch.no_grad(), inject(model, [vector, None]):
            model.hf(**inputs)


def test_names_that_depend_on_the_prompt_need_prompts(
    tiny_model: Made, ragged_prompts: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    for name in ("query_last", "cue", "answer"):
        vector = random_vector(model, [Site(1, name)])
        with (
            pytest.raises(PositionError, match=rf"'{name}' is depends.*prompts="),
            inject(model, vector),
        ):
            pass
    prompts = ragged_prompts(model, 2)
    for position, message in (
        ("demonstrations", "row 0: .*no token at"),
        (40, "row 0: .*position 40"),
    ):
        vector = random_vector(model, [Site(1, position)])
        with pytest.raises(PositionError, match=message), inject(model, vector, prompts=prompts):
            pass


def test_prompts_have_to_be_those_of_the_rows(
    tiny_model: Made, ragged_prompts: Made, random_vector: Made, padded: Made
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 2, lengths=(8, 8))
    vector = random_vector(model, [Site(1, "cue")])
    rows = [prompt.token_ids for prompt in prompts]
    for given, message in (
        (rows[::-1], "tokens of row 0 are not those of"),
        ([rows[0], rows[1][:-1]], "row 1 has 7 tokens"),
        ([rows[0]] * 3, "3 rows, and inject was given vectors or prompts for 2"),
    ):
        with pytest.raises(TaskVectorsError, match=message), inject(model, vector, prompts=prompts):
            model.hf(**padded(given))
    with (
        pytest.raises(TaskVectorsError, match="3 vectors and 2 prompts"),
        inject(model, [vector] * 3, prompts=prompts),
    ):
        pass


def test_vectors_by_row_have_to_fit_the_rows(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)])
    for rows, message in (
        ([[1, 5], [1, 6], [1, 7]], "3 rows, and inject was given vectors or prompts for 2"),
        ([[1, 5], [1, 5], [1, 6], [1, 7]], "rows of vector 1 are different prompts"),
        ([[1, 5]], "1 rows"),
    ):
        with pytest.raises(TaskVectorsError, match=message), inject(model, [vector, None]):
            model.hf(torch.tensor(rows))


def test_a_site_that_was_never_reached_is_an_error_at_exit(
    tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1), Site(2, "generated")])
    with pytest.raises(TaskVectorsError, match="was not called"), inject(model, vector):
        pass
    message = "reached resid_post of layer 2 at position generated"
    with pytest.raises(TaskVectorsError, match=message), inject(model, vector):
        model.hf(torch.tensor([[1, 5]]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attention_mask": torch.ones(1, 1, 4, 4).tril().bool()}, r"mask \[1, 1, 4, 4\]"),
        ({"attention_mask": torch.tensor([[1, 0, 1, 1]])}, "row 0 is not one run"),
        ({"attention_mask": torch.tensor([[0, 0, 0, 0]])}, "row 0 is not one run"),
        ({"attention_mask": torch.ones(1, 5)}, r"mask \[1, 5\] for tokens \[1, 4\]"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "position ids of row 0"),
    ],
)
def test_rows_that_are_not_one_padded_prompt_are_refused(
    changed: dict[str, Any], message: str, tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)])
    with pytest.raises(TaskVectorsError, match=message) as caught, inject(model, vector):
        model.hf(**{"input_ids": torch.tensor([[1, 5, 6, 7]]), **changed})
    assert "one prompt per row" in str(caught.value)


def test_one_token_is_not_replaced_twice(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, sites_at([1], [-1, 3]), "replace")
    with pytest.raises(PositionError, match="are one token in row 0"), inject(model, vector):
        model.hf(torch.tensor([[1, 5, 6, 7]]))
    with inject(model, vector):
        model.hf(torch.tensor([[1, 5, 6, 7, 8]]))


def test_sites_that_the_model_does_not_have_are_refused_at_entry(
    tiny_model: Made, random_vector: Made
) -> None:
    model = tiny_model("gpt_neox")
    vector = random_vector(model, [Site(1, -1, "resid_mid")])
    with pytest.raises(UnsupportedModelError, match="in parallel"), inject(model, vector):
        pass


# --- around generate


def test_prompts_in_pieces_are_refused(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)])
    tokens = torch.tensor([[1, 5, 6, 7, 8, 9]])
    with (
        pytest.raises(TaskVectorsError, match="3 tokens per row to 3 cached"),
        inject(model, vector),
    ):
        model.hf.generate(tokens, **SHORT, prefill_chunk_size=3)
    with torch.no_grad():
        cache = model.hf(tokens[:, :2])[cache_name(model)]
    with (
        pytest.raises(TaskVectorsError, match="4 tokens per row to 2 cached"),
        inject(model, vector),
    ):
        model.hf.generate(tokens, **SHORT, **{cache_name(model): cache})


def test_pieces_of_known_prompts_are_refused_at_once(
    tiny_model: Made, ragged_prompts: Made, random_vector: Made
) -> None:
    model = tiny_model("llama")
    (prompt,) = ragged_prompts(model, 1, lengths=(6, 6))
    vector = random_vector(model, [Site(1, -1)])
    with (
        pytest.raises(TaskVectorsError, match="row 0 has 5 tokens"),
        inject(model, vector, prompts=[prompt]),
    ):
        model.hf.generate(torch.tensor([prompt.token_ids]), **SHORT, prefill_chunk_size=5)


def test_assisted_decoding_is_refused(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)])
    tokens = torch.tensor([[1, 5, 6, 5, 6, 5, 6]])
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with pytest.raises(TaskVectorsError, match="without an assistant"), inject(model, vector):
        model.hf.generate(tokens, **options, prompt_lookup_num_tokens=3)


def test_static_caches_are_refused(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, -1)])
    with pytest.raises(TaskVectorsError, match="static caches"), inject(model, vector):
        model.hf.generate(torch.tensor([[1, 5]]), **SHORT, cache_implementation="static")


def test_one_new_token_reaches_no_generated_token(tiny_model: Made, random_vector: Made) -> None:
    model = tiny_model("llama")
    vector = random_vector(model, [Site(1, "generated")])
    with pytest.raises(TaskVectorsError, match="at position generated"), inject(model, vector):
        model.hf.generate(torch.tensor([[1, 5]]), max_new_tokens=1, pad_token_id=0)
