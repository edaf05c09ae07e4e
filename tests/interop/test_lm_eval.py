"""lm-eval itself: its model `steered` on an exported file, and the model `taskvectors`.

Run with `make interop`, or where lm-eval is installed: `pytest tests/interop/test_lm_eval.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import PromptTooLongError
from taskvectors.evaluate import score
from taskvectors.export import write_lm_eval
from taskvectors.prompts import build_prompts
from taskvectors.tasks import Example
from taskvectors.vectors import TaskVector, VectorOrigin, inject, on_the_prompt, sites_at

pytest.importorskip("lm_eval", reason="make interop installs lm-eval")
pytestmark = pytest.mark.filterwarnings("ignore")
PAIRS = [("hot", "cold"), ("big", "small"), ("red", "rouge"), ("house", "maison")]


@pytest.fixture(scope="module")
def model(fresh_model: Any) -> Any:
    return fresh_model("llama")


@pytest.fixture(scope="module")
def folder(model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    model.hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def vector_at(model: Any, positions: tuple[Any, ...]) -> TaskVector:
    value = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    return TaskVector(
        values=value.repeat(len(positions), 1),
        sites=sites_at([1], positions),
        origin=VectorOrigin.of_model(model, method="learned", task="pairs"),
    )


def asked(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def opened(folder: Path, vector: TaskVector, place: Path) -> Any:
    from taskvectors.export.lm_eval_model import register

    vector.save(place)
    return register()(
        vector=str(place), pretrained=str(folder), dtype="float32", device="cpu", max_length=64
    )


def test_its_own_steered_model_computes_what_inject_does(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    from lm_eval.models.hf_steered import SteeredModel

    vector = vector_at(model, ("all", "generated"))
    write_lm_eval(vector, model, tmp_path / "steer.pt")
    steered = SteeredModel(
        pretrained=str(folder), steer_path=str(tmp_path / "steer.pt"), device="cpu",
        dtype="float32",
    )  # fmt: skip
    ids = model.tokenizer("Q: hot is", return_tensors="pt")["input_ids"]
    with inject(model, on_the_prompt(vector)):
        expected = model.hf(input_ids=ids).logits
    found = steered._model_call(ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.hf(input_ids=ids).logits, expected, atol=1e-2)


@pytest.mark.parametrize("positions", [(-1,), ("all",), (0, -1)])
def test_log_likelihoods_are_those_of_our_scores(
    positions: tuple[Any, ...], model: Any, folder: Path, tmp_path: Path
) -> None:
    vector = vector_at(model, positions)
    lm = opened(folder, vector, tmp_path / "v")
    prompts = build_prompts(
        model.tokenizer, "arrow", [Example(input=a, output=b) for a, b in PAIRS]
    )
    requests = [(None, list(p.token_ids), list(p.answer_ids)) for p in prompts]
    found = torch.tensor([value for value, _ in lm._loglikelihood_tokens(requests)])
    ours = score(model, prompts, [vector.edits()]).log_probability[0]
    lengths = torch.tensor([len(p.answer_ids) for p in prompts])
    torch.testing.assert_close(found, ours.float() * lengths, atol=1e-4, rtol=1e-4)
    plain = score(model, prompts, [()]).log_probability[0].float() * lengths
    assert not torch.allclose(found, plain, atol=1e-2)


def test_a_vector_at_every_token_acts_on_the_answer_too(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    """Scored in one call as it is generated token by token."""
    vector = vector_at(model, ("all", "generated"))
    lm = opened(folder, vector, tmp_path / "v")
    ids = model.tokenizer("Q: hot is")["input_ids"]
    with inject(model, vector):
        out = model.hf.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    written = out[0, len(ids) :].tolist()
    ((_, is_greedy),) = lm._loglikelihood_tokens([(None, ids, written)])
    assert is_greedy
    with pytest.raises(PromptTooLongError, match="the model takes 64"):
        lm._loglikelihood_tokens([(None, ids * 30, written)])


def test_it_runs_a_task_of_yaml_and_a_file(
    model: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    vector = vector_at(model, (-1,))
    lm = opened(folder, vector, tmp_path / "v")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"q": a, "a": b}) + "\n" for a, b in PAIRS))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "pairs.yaml").write_text(f"""task: pairs_of_the_test
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}} ->"
doc_to_choice: ["cold", "small", "rouge", "maison"]
doc_to_target: a
metric_list:
  - metric: acc
""")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=lm, tasks=["pairs_of_the_test"], task_manager=manager, bootstrap_iters=0
    )
    choices = ["cold", "small", "rouge", "maison"]
    right = 0
    for query, answer in PAIRS:
        requests = [asked("loglikelihood", f"{query} ->", f" {one}") for one in choices]
        values = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
        right += choices[max(range(4), key=values.__getitem__)] == answer
    assert found["results"]["pairs_of_the_test"]["acc,none"] == right / 4
