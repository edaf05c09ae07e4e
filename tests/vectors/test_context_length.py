"""A prompt longer than the model's context is one error, before and while generation goes on.

Run with `pytest tests/vectors/test_context_length.py`.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.cli import main
from taskvectors.errors import PromptTooLongError
from taskvectors.models.calls import check_context
from taskvectors.vectors import TaskVector, VectorOrigin, inject, sites_at

LIMIT = 24
GENERATE = {"do_sample": False, "pad_token_id": 0}


def short_model(fresh_model: Any, kind: str) -> Any:
    name = {"gpt2": "n_positions"}.get(kind, "max_position_embeddings")
    return fresh_model(kind, **{name: LIMIT})


def vector_of(model: Any) -> TaskVector:
    return TaskVector(
        values=torch.ones(1, model.d_model),
        sites=sites_at([1], [-1]),
        origin=VectorOrigin.of_model(model, method="random", task="capital", seed=0),
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "gpt_neox", "opt"])
def test_a_call_past_the_context_is_refused(fresh_model: Any, kind: str) -> None:
    model = short_model(fresh_model, kind)
    tokens = torch.randint(3, 200, (2, LIMIT + 1), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), inject(model, vector_of(model)):
        model.hf(input_ids=tokens[:, :LIMIT])
        with pytest.raises(PromptTooLongError, match=r"has 25 tokens, where 24 fit; shorten"):
            model.hf(input_ids=tokens)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generating_past_the_context_is_refused_while_it_goes_on(
    fresh_model: Any, kind: str, use_cache: bool
) -> None:
    model = short_model(fresh_model, kind)
    tokens = torch.randint(3, 200, (1, LIMIT - 2), generator=torch.Generator().manual_seed(0))
    about: dict[str, Any] = GENERATE | {"use_cache": use_cache}
    with torch.no_grad(), inject(model, vector_of(model)):
        model.hf.generate(input_ids=tokens, max_new_tokens=2, min_new_tokens=2, **about)
        with pytest.raises(PromptTooLongError, match="where 24 fit"):
            model.hf.generate(input_ids=tokens, max_new_tokens=6, min_new_tokens=6, **about)


def test_padding_takes_no_room(fresh_model: Any) -> None:
    model = short_model(fresh_model, "llama")
    tokens = torch.full((1, LIMIT + 6), 7)
    mask = torch.ones_like(tokens)
    mask[:, :6] = 0
    with torch.no_grad(), inject(model, vector_of(model)):
        model.hf(input_ids=tokens, attention_mask=mask)


def test_the_error_says_how_many_tokens_may_follow(fresh_model: Any) -> None:
    model = short_model(fresh_model, "llama")
    check_context(model, 20, 4)
    with pytest.raises(PromptTooLongError, match=r"20 tokens and 5 are .*at most 4 tokens"):
        check_context(model, 20, 5)
    with pytest.raises(PromptTooLongError, match=r"24 tokens and 1 are .*where 24 fit; shorten"):
        check_context(model, 24, 1)


@pytest.mark.parametrize("source", ["random", "random-gpt2"])
@pytest.mark.parametrize(("words", "new"), [(1800, 5), (1000, 200)])
def test_the_command_line_refuses_before_it_generates(
    source: str, words: int, new: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from taskvectors.models import load_model

    model = load_model(source, device="cpu", dtype="float32")
    vector_of(model).save(tmp_path / "v")
    prompt = "hot " * words
    command = ["generate", "--model", source, "--vector", str(tmp_path / "v"), "--prompt", prompt]
    assert main([*command, "--max-new-tokens", str(new), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "where 1024 fit" in said
    assert "Traceback" not in said
