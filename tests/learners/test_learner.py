"""A learner is a language model like any other: it is saved, extracted from and injected into."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import EvalBatch, Learner, LearnerShape, is_learner, load_family
from taskvectors.learners.measures import vectors_of
from taskvectors.learners.passes import prompted_states
from taskvectors.models import capture
from taskvectors.models.causal import CausalBody
from taskvectors.vectors import Site, TaskVector, VectorOrigin, inject


@pytest.mark.parametrize("body", ["gpt2", "llama"])
@pytest.mark.parametrize("task", ["offset", "sinusoidal"])
def test_a_learner_is_the_same_after_saving_and_loading(
    task: str,
    body: str,
    tmp_path: Path,
    tiny_learner: Callable[..., Any],
    tiny_eval_batch: Callable[..., EvalBatch],
) -> None:
    learner = tiny_learner(task, body, n_demonstrations=3)
    assert not is_learner(tmp_path)
    learner.save(tmp_path)
    assert is_learner(tmp_path)
    again = Learner.load(tmp_path)
    assert again.family == learner.family
    queries = tiny_eval_batch(learner.family).queries
    first, second = (
        one.body.run(*one.body.enter(one.body.embed(queries)), range(3)) for one in (learner, again)
    )
    assert torch.equal(first, second)


def test_a_folder_without_a_learner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no learner"):
        Learner.load(tmp_path)


DAMAGED = {
    "empty": "",
    "nothing": "{}",
    "a list": "[]",
    "no text": b"\xff\xfe",
    "deep": "[" * 100_000,
    "a huge number": '{"family": ' + "9" * 6000 + "}",
    "other types": '{"family": 3, "settings": [], "about": 1}',
    "a value that is none": '{"family": "offset", "settings": {"n_symbols": "x"}, "about": {}}',
    "another size": '{"family": "offset", "settings": {"n_symbols": 90}, "about": {}}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_learner_is_one_short_error(
    name: str, tmp_path: Path, tiny_learner: Callable[..., Any]
) -> None:
    tiny_learner("offset", "gpt2", n_demonstrations=3).save(tmp_path)
    Learner.load(tmp_path)
    text = DAMAGED[name]
    (tmp_path / "learner.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TaskVectorsError) as caught:
        Learner.load(tmp_path)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff" * 90, b'{"model_type": "bert"}'])
def test_a_learner_without_a_whole_model_is_an_error(
    file: str, text: bytes, tmp_path: Path, tiny_learner: Callable[..., Any]
) -> None:
    tiny_learner("offset", "gpt2", n_demonstrations=3).save(tmp_path)
    (tmp_path / file).write_bytes(text)
    with pytest.raises(TaskVectorsError):
        Learner.load(tmp_path)


def test_a_learner_too_large_to_be_made_is_refused_before_it_is(
    tmp_path: Path, tiny_learner: Callable[..., Any]
) -> None:
    learner = tiny_learner("offset", "gpt2", n_demonstrations=3)
    learner.save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"n_layer": 10**9}))
    with pytest.raises(TaskVectorsError, match="more than 10000 layers is not made"):
        Learner.load(tmp_path)
    with pytest.raises(ValueError, match="less than or equal to 10000"):
        LearnerShape(n_layers=10**9)
    with pytest.raises(TaskVectorsError, match=r"to train, and .* are free; give fewer blocks"):
        LearnerShape(n_layers=10_000, d_model=1_000_000).build(learner.family, seed=0)


def test_a_file_that_a_learner_names_is_run_only_if_the_user_gives_it(
    tmp_path: Path, tiny_learner: Callable[..., Any]
) -> None:
    learner = tiny_learner("offset", "gpt2", n_demonstrations=3)
    learner.save(tmp_path)
    theirs = tmp_path / "theirs.py"
    theirs.write_text(
        f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n"
        "from taskvectors.learners import FAMILIES\nFAMILY = FAMILIES['offset']\n"
    )
    about = json.loads((tmp_path / "learner.json").read_text())
    (tmp_path / "learner.json").write_text(json.dumps(about | {"family": str(theirs)}))
    with pytest.raises(DataError, match=r"give that file, if you trust it: --family FILE"):
        Learner.load(tmp_path)
    assert not (tmp_path / "was-run").exists()
    assert Learner.load(tmp_path, str(theirs)).family == learner.family
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("body", ["gpt2", "llama"])
def test_a_vector_is_read_and_injected_as_in_any_model(
    body: str, tiny_learner: Callable[..., Any], tiny_eval_batch: Callable[..., EvalBatch]
) -> None:
    learner = tiny_learner("offset", body, n_demonstrations=3)
    eval_batch = tiny_eval_batch(learner.family)
    model = learner.language_model()
    assert model.engine == "trunk"
    kept: list[torch.Tensor] = []
    prompt = torch.cat([eval_batch.history, eval_batch.dummies[:, 0]], dim=1)
    with torch.no_grad(), capture(model, 1, "resid_post", kept.append):
        model.hf(input_ids=prompt)
    with torch.no_grad():
        expected = vectors_of(learner.body, eval_batch)[1, :, 0]
    torch.testing.assert_close(kept[0][:, -1], expected)
    site = Site(layer=1, position=-1)
    vectors = [
        TaskVector(
            values=value.unsqueeze(0),
            sites=(site,),
            operation="replace",
            origin=VectorOrigin.of_model(model, method="read"),
        )
        for value in expected
    ]
    with torch.no_grad(), inject(model, vectors):
        injected = model.hf(input_ids=eval_batch.queries).logits[:, -1]
    with torch.no_grad():
        ours = prompted_states(learner.body, eval_batch.queries, expected, 1, layer=1)
        torch.testing.assert_close(injected, learner.body.logits(ours)[:, -1])
        plain = model.hf(input_ids=eval_batch.queries).logits[:, -1]
    assert not torch.allclose(injected, plain, atol=1e-2)


def test_the_trunk_branches_on_a_learner_as_its_own_passes_do(
    tiny_learner: Callable[..., Any], tiny_eval_batch: Callable[..., EvalBatch]
) -> None:
    from taskvectors.prompts import Prompt
    from taskvectors.tasks import Example
    from taskvectors.trunk import Edit, Trunk

    learner = tiny_learner("offset", n_demonstrations=3)
    eval_batch = tiny_eval_batch(learner.family)
    prompts = tuple(
        Prompt(
            token_ids=tuple(row),
            answer_ids=(int(answer),),
            spans={},
            query=Example(input="", output=""),
            demonstrations=(),
            text="",
        )
        for row, answer in zip(eval_batch.queries.tolist(), eval_batch.targets[:, 0], strict=True)
    )
    model = learner.language_model()
    value = torch.randn(16, generator=torch.Generator().manual_seed(3))
    trunk = Trunk.build(model, prompts)
    batch = trunk.batch()
    with torch.no_grad():
        states = trunk.run([[Edit(layer=1, value=value, operation="replace")]], batch)
        losses = trunk.answer_losses(states, batch)
        final = prompted_states(learner.body, eval_batch.queries, value.expand(4, -1), 1, layer=1)
        logits = learner.body.logits(final)[:, -1]
    expected = torch.nn.functional.cross_entropy(logits, eval_batch.targets[:, 0])
    torch.testing.assert_close(losses.squeeze(), expected)


def test_a_family_without_rotary_or_learned_positions_is_refused(
    tiny_model: Callable[..., Any],
) -> None:
    from taskvectors.errors import UnsupportedModelError

    with pytest.raises(UnsupportedModelError, match="gpt2, llama"):
        CausalBody.of(tiny_model("opt").hf)


@pytest.mark.parametrize(("body", "name"), [("gpt2", "c_attn"), ("llama", "q_proj")])
def test_weights_and_read_in_start_with_the_spread_that_is_asked_for(body: Any, name: str) -> None:
    shape = LearnerShape(
        body=body, n_layers=2, d_model=64, n_heads=4, weight_std=0.125, embedding_std=0.5
    )
    hf = shape.build(load_family("linear", {"n_dims": 20}), seed=0)
    weights = [p.detach() for key, p in hf.named_parameters() if name in key and p.dim() == 2]
    assert weights
    assert all(float(one.std()) == pytest.approx(0.125, rel=0.05) for one in weights)
    assert float(hf.get_input_embeddings().weight.detach().std()) == pytest.approx(0.5, rel=0.1)
