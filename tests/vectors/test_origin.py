"""Which model a vector belongs to, and what it says about where it comes from.

Run with `pytest tests/vectors/test_origin.py`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from taskvectors.errors import VectorMismatchError
from taskvectors.vectors import Site, TaskVector, VectorOrigin, inject
from taskvectors.vectors.origin import weights_difference

Made = Callable[..., Any]


def vector_at(*sites: Site, width: int, **about: Any) -> TaskVector:
    return TaskVector(values=torch.ones(len(sites), width), sites=sites, **about)


def made_for(model: Any, *sites: Site) -> TaskVector:
    origin = VectorOrigin.of_model(model, method="learned", task="capital")
    return vector_at(*(sites or (Site(1, -1),)), width=model.d_model, origin=origin)


def test_a_vector_fits_its_model_in_any_type(tiny_model: Made, fresh_model: Made) -> None:
    vector = made_for(tiny_model("llama"))
    assert vector.for_model(tiny_model("llama")) is vector
    for dtype in (torch.bfloat16, torch.float16):
        same = fresh_model("llama")
        same.hf.to(dtype)
        vector.check_model(same)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"hidden_size": 48}, r"width \(32 against 48\)"),
        ("llama", {"num_hidden_layers": 2}, r"depth \(4 layers against 2 layers\)"),
        ("mistral", {}, r"family \(llama against mistral\)"),
        ("llama", {"vocab_size": 401}, r"weights \(their shapes differ\)"),
        ("llama", {"seed": 1}, r"weights \(values of .* differ\)"),
    ],
)
def test_a_model_that_differs_is_refused_by_name(
    *, name: str, changes: dict[str, Any], message: str, tiny_model: Made, fresh_model: Made
) -> None:
    vector = made_for(tiny_model("llama"))
    other = fresh_model(name, **changes)
    expected = rf"the learned vector of capital was made for tiny-llama .* differ in {message}"
    for use in (vector.check_model, vector.for_model):
        with pytest.raises(VectorMismatchError, match=expected):
            use(other)
    with pytest.raises(VectorMismatchError, match=expected), inject(other, vector):
        pass


def test_force_is_for_models_of_the_same_shape(
    tiny_model: Made, fresh_model: Made, caplog: pytest.LogCaptureFixture
) -> None:
    vector = made_for(tiny_model("llama"))
    for other in (fresh_model("llama", seed=1), fresh_model("mistral")):
        with caplog.at_level(logging.WARNING):
            forced = vector.for_model(other, force=True)
        assert f"used with {other.source} by force" in caplog.text
        assert torch.equal(forced.values, vector.values)
        assert "by force" in forced.origin.notes[-1]
        with torch.no_grad(), inject(other, forced):
            other.hf(torch.tensor([[1, 5]]))
    for changes in ({"hidden_size": 48}, {"num_hidden_layers": 2}):
        with pytest.raises(VectorMismatchError):
            vector.for_model(fresh_model("llama", **changes), force=True)


def test_a_vector_without_origin_is_checked_for_what_it_shows(tiny_model: Made) -> None:
    model = tiny_model("llama")
    vector_at(Site(3, -1), width=32).check_model(model)
    vector_at(Site(3, -1, "z"), width=48).check_model(model)  # 4 heads of 12
    with pytest.raises(VectorMismatchError, match=r"depth \(layer 4 against 4 layers\)"):
        vector_at(Site(4, -1), width=32).check_model(model)
    with pytest.raises(VectorMismatchError, match=r"width \(32 against 48\)"):
        vector_at(Site(3, -1, "z"), width=32).check_model(model)


def fingerprint(samples: dict[str, list[float]], **changed: Any) -> dict[str, Any]:
    return {"shapes": "a", "samples": samples, "is_quantized": False} | changed


def test_weights_are_compared_on_what_both_fingerprints_have() -> None:
    plain = fingerprint({"norm": [1.0, 2.0], "linear": [0.5, 0.00001]})
    assert weights_difference(plain, fingerprint({"norm": [1.009, 1.99]})) == ""
    assert "norm" in weights_difference(plain, fingerprint({"norm": [1.02, 2.0]}))
    assert "norm" in weights_difference(plain, fingerprint({"norm": [1.0]}))
    # 6 decimals: the last one of a small value may differ by a rounding
    assert weights_difference(plain, fingerprint({"linear": [0.5, 0.000011]})) == ""
    packed = fingerprint({"norm": [1.0, 2.0]}, shapes="b", is_quantized=True)
    assert weights_difference(plain, packed) == ""
    assert "shapes" in weights_difference(plain, packed | {"is_quantized": False})
    assert "quantised" in weights_difference(plain, packed | {"samples": {"other": [1.0]}})


def test_an_origin_names_model_tokenizer_and_versions(tiny_model: Made) -> None:
    model = tiny_model("gpt2")
    origin = VectorOrigin.of_model(model, method="learned", shots=8)
    assert (origin.model, origin.family, origin.n_layers) == ("tiny-gpt2", "gpt2", 4)
    assert origin.dtype == "float32"
    assert origin.fingerprint == model.fingerprint
    assert len(origin.tokenizer_hash) == 64
    assert set(origin.versions) == {"taskvectors", "torch", "transformers"}
    assert (origin.method, origin.shots) == ("learned", 8)


def test_the_tokenizer_hash_tells_tokenizers_apart(tiny_model: Made, tokenizer: Any) -> None:
    from copy import deepcopy

    model = tiny_model("gpt2")
    other = deepcopy(tokenizer)
    same = replace(model, tokenizer=deepcopy(tokenizer))
    other.add_tokens(["entirely new"])
    hashes = [
        VectorOrigin.of_model(one).tokenizer_hash
        for one in (model, same, replace(model, tokenizer=other))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert VectorOrigin.of_model(replace(model, tokenizer=None)).tokenizer_hash == ""
