"""Looks at prompts are those of plain calls of the model inside `inject`, and problems are said.

Run with `pytest tests/play`.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from play.random_vectors import vector_at

from taskvectors.errors import TaskVectorsError
from taskvectors.play import Asked, Playground, load_vectors
from taskvectors.play import playground as module
from taskvectors.play.playground import AS_IT_IS
from taskvectors.trunk import Trunk
from taskvectors.vectors import Site, TaskVector, inject


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> Any:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def playground(model: Any) -> Playground:
    return Playground(
        model=model,
        vectors={
            "one": vector_at(model, Site(1, -1)),
            "two": vector_at(model, Site(1, -1), Site(2, "query_last"), seed=1),
            "in place": vector_at(model, Site(1, -1), seed=2, operation="replace"),
            "everywhere": vector_at(model, Site(1, "all"), Site(1, "generated"), seed=3),
            "at the cue": vector_at(model, Site(1, "cue"), seed=4),
        },
    )


def by_hand(model: Any, prompt: Any, vector: TaskVector | None, strength: float) -> Any:
    """Probabilities of the next token by one whole pass."""
    tokens = torch.tensor([prompt.token_ids])
    with torch.no_grad():
        if vector is None:
            return model.hf(tokens).logits[0, -1].softmax(dim=0)
        with inject(model, vector, strength=strength, prompts=[prompt]):
            return model.hf(tokens).logits[0, -1].softmax(dim=0)


@pytest.mark.parametrize(
    ("names", "strength", "layer"),
    [(("one",), 1.0, None), (("one",), -2.5, 3), (("two",), 0.7, -1), (("one", "two"), 1.3, 0)],
)
def test_a_look_is_a_whole_pass_with_the_vector_moved_by_hand(
    playground: Playground, names: tuple[str, ...], strength: float, layer: int | None
) -> None:
    model = playground.model
    look = playground.look(Asked(query="hot", vectors=names, strength=strength, layer=layer))
    assert look.prompt.text == "Q: hot\nA:"
    vector = playground.vectors[names[0]]
    for name in names[1:]:
        vector = vector + playground.vectors[name]
    if layer is not None:
        by = layer - 1
        vector = replace(
            vector, sites=tuple(replace(one, layer=one.layer + by) for one in vector.sites)
        )
    plain, edited = (by_hand(model, look.prompt, one, strength) for one in (None, vector))
    best = (edited.topk(10).indices.tolist(), plain.topk(10).indices.tolist())
    wanted = list(dict.fromkeys([*best[0], *best[1]]))
    assert [one.token for one in look.next_tokens] == [
        model.tokenizer.decode([token]) for token in wanted
    ]
    found = torch.tensor([[one.plain, one.edited] for one in look.next_tokens])
    torch.testing.assert_close(
        found, torch.stack([plain[wanted], edited[wanted]], dim=1), atol=1e-5, rtol=1e-4
    )


def test_without_a_vector_there_are_ten_tokens_and_no_place(playground: Playground) -> None:
    look = playground.look(Asked(query="hot"))
    assert len(look.next_tokens) == 10
    assert {one.edited for one in look.next_tokens} == {None}
    assert (look.place, look.problem, look.vector) == ("", "", None)
    assert not any(is_there for _, is_there in look.tokens)


def test_tokens_with_the_vector_are_marked_and_shown_on_one_line(playground: Playground) -> None:
    look = playground.look(Asked(query="hot", vectors=("two",)))
    _, stop = look.prompt.spans["query"]
    there = [n for n, (_, is_there) in enumerate(look.tokens) if is_there]
    assert there == [stop - 1, len(look.tokens) - 1]
    assert any("\\n" in text for text, _ in look.tokens)
    assert look.place == (
        "Added after layers 1 and 2, at the positions \N{MINUS SIGN}1 and query_last, with "
        "strength 1."
    )
    everywhere = playground.look(Asked(query="hot", vectors=("everywhere",)))
    assert all(is_there for _, is_there in everywhere.tokens)
    assert "tokens of the answer" in everywhere.place


def test_another_strength_or_layer_runs_no_trunk_again(
    model: Any, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Playground(model=model, vectors=playground.vectors)
    built: list[int] = []
    build = Trunk.build
    monkeypatch.setattr(Trunk, "build", lambda *a, **k: (built.append(1), build(*a, **k))[1])
    for layer in (0, 1, 2):
        for strength in (-1.0, 1.0, 3.0):
            fresh.look(Asked(query="cold", vectors=("one",), layer=layer, strength=strength))
    assert len(built) == 1


def test_answers_are_those_of_generate_and_the_plain_one_is_written_once(
    model: Any, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Playground(model=model, vectors=playground.vectors)
    written: list[Any] = []
    write = module.write
    monkeypatch.setattr(module, "write", lambda *a: (written.append(a[1]), write(*a))[1])
    looks = [fresh.look(Asked(query="hot", vectors=("one",), strength=s)) for s in (1.0, 6.0)]
    answers = [fresh.answers(look, 3) for look in looks]
    assert [vector is None for vector in written] == [True, False, False]
    for look, (plain, edited) in zip(looks, answers, strict=True):
        tokens = torch.tensor([look.prompt.token_ids])
        asked = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
        with torch.no_grad():
            first = model.hf.generate(tokens, **asked)
            with inject(model, look.vector, strength=look.strength):
                second = model.hf.generate(tokens, **asked)
        decode = model.tokenizer.decode
        assert plain == decode(first[0, tokens.shape[1] :], skip_special_tokens=True)
        assert edited == decode(second[0, tokens.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vectors": ("gone",)}, "no vector 'gone' any more"),
        ({"vectors": ("one", "in place")}, "do not go together"),
        ({"vectors": ("in place",), "strength": 0.5}, "no meaning for a vector that replaces"),
        ({"vectors": ("one",), "layer": 9}, "layer 9 does not exist"),
        ({"vectors": ("at the cue",), "template": AS_IT_IS}, "no token at 'cue'"),
    ],
)
def test_what_cannot_be_put_is_said_and_the_look_goes_on_without(
    playground: Playground, changes: dict[str, Any], said: str
) -> None:
    look = playground.look(Asked(query="hot", **changes))
    assert said in look.problem
    assert look.vector is None
    assert len(look.next_tokens) == 10
    assert playground.answers(look, 1)[1] is None


def test_a_vector_of_another_model_is_said(playground: Playground, tiny_model: Any) -> None:
    other = tiny_model("gpt2")
    strange = Playground(model=playground.model, vectors={"v": vector_at(other, Site(1, -1))})
    assert "was made for tiny-gpt2 and does not fit tiny-llama" in (
        strange.look(Asked(query="hot", vectors=("v",))).problem
    )
    assert strange.fitting() is None
    strange.vectors = {"v": vector_at(other, Site(1, -1)), **playground.vectors}
    assert strange.fitting() == "one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"query": " \n"}, "type a query"), ({"query": "x", "template": "none"}, "no template"),
     ({"query": "hot " * 600}, "where 512 fit")],
)  # fmt: skip
def test_a_prompt_that_cannot_be_is_an_error(
    playground: Playground, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(TaskVectorsError, match=said):
        playground.look(Asked(**changes))


def test_templates_are_the_vectors_own_one_of_the_page_or_none(
    playground: Playground, model: Any
) -> None:
    arrow = Playground(
        model=model,
        vectors={
            "v": replace(
                playground.vectors["one"],
                origin=replace(playground.vectors["one"].origin, template="arrow"),
            )
        },
    )
    texts = [
        arrow.look(Asked(query="hot", vectors=("v",), **changes)).prompt.text
        for changes in ({}, {"template": "colon"}, {"template": "{input} = {output}"},
                        {"template": AS_IT_IS})
    ]  # fmt: skip
    assert texts == ["hot ->", "hot:", "hot =", "hot"]


def test_a_vector_moves_as_far_as_its_highest_part_can(playground: Playground, model: Any) -> None:
    assert list(playground.layers(playground.vectors["one"])) == [-1, 0, 1, 2, 3]
    assert list(playground.layers(playground.vectors["two"])) == [-1, 0, 1, 2]
    inside = vector_at(model, Site(1, -1, "mlp_out"))
    assert list(playground.layers(inside)) == [0, 1, 2, 3]


def test_vectors_of_folders_and_runs_have_names_that_differ(
    playground: Playground, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vector = playground.vectors["one"]
    for folder in ("vectors/a", "vectors/b", "runs/a/best-vector", "broken/a"):
        vector.save(tmp_path / folder)
    (tmp_path / "broken" / "a" / "config.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        found = load_vectors([tmp_path, tmp_path / "runs", tmp_path / "not there"])
    assert set(found) == {
        "capital, learned, after layer 1 (a)",
        "capital, learned, after layer 1 (a) 2",
        "capital, learned, after layer 1 (b)",
    }
    assert "left out" in caplog.text
    assert all(one.values.equal(vector.values) for one in found.values())
