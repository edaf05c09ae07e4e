"""vLLM itself with vllm-lens: vectors per request, batched, against `inject`.

Run with `make interop-vllm`, which has an environment of its own.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from taskvectors.export.vllm_lens import steering_vectors
from taskvectors.vectors import TaskVector, VectorOrigin, inject, sites_at

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = [[1, 17, 40, 8, 99, 250, 31], [1, 300, 12], [1, 45, 46, 47, 48]]
N_NEW = 6
PLACES: list[tuple[Any, ...]] = [(), (-1,), ("all", "generated"), (1, -1)]
"""Not 0: the plugin adds what is there at every new token, too."""


@pytest.fixture(scope="module")
def model(fresh_model: Callable[..., Any]) -> Any:
    return fresh_model("llama", head_dim=32)  # vLLM takes multiples of 32 on CPUs


@pytest.fixture(scope="module")
def server(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    vllm = pytest.importorskip("vllm", reason="make interop-vllm installs vLLM")
    pytest.importorskip("vllm_lens", reason="make interop-vllm installs vllm-lens")
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    model.hf.save_pretrained(folder)
    return vllm.LLM(
        model=str(folder), dtype="float32", max_model_len=64, enforce_eager=True, max_num_seqs=8,
        skip_tokenizer_init=True, max_logprobs=-1,
    )  # fmt: skip


def a_vector(model: Any, positions: tuple[Any, ...]) -> TaskVector | None:
    if not positions:
        return None
    sites = sites_at([1, 2], positions)
    one = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(3)) * 2
    values = torch.stack([one[site.layer - 1] for site in sites])
    origin = VectorOrigin.of_model(model, method="random")
    return TaskVector(values=values, sites=sites, origin=origin)


def ours(model: Any, ids: list[int], vector: TaskVector | None) -> tuple[Tensor, list[int]]:
    tokens = torch.tensor([ids])
    with nullcontext() if vector is None else inject(model, vector), torch.no_grad():
        out = model.hf.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=N_NEW,
            do_sample=False, pad_token_id=0, eos_token_id=None, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
    return out.logits[0][0].float().log_softmax(dim=0), out.sequences[0, len(ids) :].tolist()


def test_requests_of_one_batch_have_their_own_vectors(model: Any, server: Any) -> None:
    from vllm import SamplingParams

    requests = [(ids, a_vector(model, places)) for ids in PROMPTS for places in PLACES]
    asked = []
    for ids, vector in requests:
        extra = {} if vector is None else {
            "apply_steering_vectors": _read(steering_vectors(vector, len(ids)))
        }  # fmt: skip
        asked.append(
            SamplingParams(
                temperature=0, max_tokens=N_NEW, detokenize=False, logprobs=-1, ignore_eos=True,
                extra_args=extra,
            )
        )  # fmt: skip
    answers = server.generate([{"prompt_token_ids": ids} for ids, _ in requests], asked)
    for (ids, vector), answer in zip(requests, answers, strict=True):
        (output,) = answer.outputs
        log_p, written = ours(model, ids, vector)
        assert list(output.token_ids) == written
        there = output.logprobs[0]
        found = torch.tensor([there[token].logprob for token in range(len(log_p))])
        torch.testing.assert_close(found, log_p, atol=1e-4, rtol=0)
    distinct = {tuple(answer.outputs[0].token_ids) for answer in answers[-len(PLACES) :]}
    assert len(distinct) == len(PLACES)


def _read(wire: list[dict[str, Any]]) -> list[Any]:
    """As the plugin reads what `export` writes."""
    from vllm_lens import SteeringVector

    return [SteeringVector.model_validate(one) for one in wire]
