"""Side effects against whole passes over the passages, written out.

Run with `pytest tests/evaluate/test_side_effects.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from taskvectors.errors import MemoryBudgetError, VectorMismatchError
from taskvectors.evaluate import side_effects
from taskvectors.evaluate.side_effects import PASSAGES
from taskvectors.models import patch
from taskvectors.trunk import Trunk, resolve_budget
from taskvectors.vectors import Site, TaskVector, VectorOrigin

TEXTS = ("The house is here.", "hot and cold, red and big", "Paris, Berlin: Germany")


def vector_of(model: Any, scale: float, positions: Sequence[int] = (-1,)) -> TaskVector:
    generator = torch.Generator().manual_seed(0)
    return TaskVector(
        values=torch.randn(len(positions), model.d_model, generator=generator) * scale,
        sites=tuple(Site(1, position) for position in positions),
        origin=VectorOrigin.of_model(model, method="random"),
    )


def second_halves(model: Any, vector: TaskVector | None, strength: float) -> list[Any]:
    """Per passage: log-probabilities where its second half is predicted, and the tokens there."""
    found = []
    for text in TEXTS:
        ids = model.tokenizer(text)["input_ids"]
        middle = len(ids) // 2

        def edit(state: torch.Tensor, middle: int = middle) -> torch.Tensor:
            state = state.clone()
            if vector is not None:
                for site, value in zip(vector.sites, vector.values, strict=True):
                    state[0, middle + site.position] += strength * value
            return state

        with torch.no_grad(), patch(model, 1, "resid_post", edit):
            logits = model.hf(input_ids=torch.tensor([ids])).logits[0]
        found.append((logits[middle - 1 : -1].log_softmax(dim=1), torch.tensor(ids[middle:])))
    return found


@pytest.mark.parametrize("positions", [(-1,), (-1, -2)])
def test_divergence_and_perplexity_are_those_of_whole_passes(
    tiny_model: Any, tiny_kind: str, positions: tuple[int, ...]
) -> None:
    model = tiny_model(tiny_kind)
    vector = vector_of(model, 1.0, positions)
    plain, edited = (second_halves(model, one, -2.0) for one in (None, vector))
    divergences = [
        (p.exp() * (p - e)).sum(dim=1) for (p, _), (e, _) in zip(plain, edited, strict=True)
    ]
    perplexities = [
        float(torch.cat([-p.gather(1, t[:, None])[:, 0] for p, t in halves]).mean().exp())
        for halves in (plain, edited)
    ]
    found = side_effects(model, vector, strength=-2.0, passages=TEXTS)
    assert found.n_tokens == sum(map(len, divergences))
    assert found.kl == pytest.approx(float(torch.cat(divergences).mean()), abs=1e-4)
    assert found.kl > 0.01
    assert found.kl_first == pytest.approx(
        sum(float(d[0]) for d in divergences) / len(TEXTS), abs=1e-4
    )
    assert found.kl_first > found.kl
    assert (found.perplexity_plain, found.perplexity) == pytest.approx(perplexities, rel=1e-3)


def test_a_vector_of_zeros_has_no_side_effects(tiny_model: Any) -> None:
    model = tiny_model("llama")
    found = side_effects(model, vector_of(model, 0.0), passages=TEXTS)
    assert found.kl == pytest.approx(0, abs=1e-6)
    assert found.kl_first == pytest.approx(0, abs=1e-6)
    assert found.perplexity == pytest.approx(found.perplexity_plain, rel=1e-5)


def test_strength_zero_has_no_side_effects(tiny_model: Any) -> None:
    model = tiny_model("llama")
    found = side_effects(model, vector_of(model, 3.0), strength=0.0, passages=TEXTS)
    assert found.kl == pytest.approx(0, abs=1e-6)


def test_a_larger_vector_does_more(tiny_model: Any) -> None:
    model = tiny_model("llama")
    vector = vector_of(model, 1.0)
    divergences = [
        side_effects(model, vector, strength=s, passages=TEXTS).kl for s in (0.1, 0.5, 2.0)
    ]
    assert divergences == sorted(divergences)


def test_the_projects_own_passages_are_read_by_default(tiny_model: Any) -> None:
    model = tiny_model("llama")
    found = side_effects(model, vector_of(model, 1.0))
    halves = [len(model.tokenizer(text)["input_ids"]) for text in PASSAGES]
    assert found.n_tokens == sum(n - n // 2 for n in halves)
    assert all(value >= 0 for value in asdict(found).values())


def test_passages_are_read_in_pieces_that_fit_the_memory(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    vector = vector_of(model, 1.0, (-1, -2))
    whole = side_effects(model, vector)
    built: list[int] = []
    build = Trunk.build.__func__  # type: ignore[attr-defined]

    def seen(cls: Any, model: Any, prompts: Any, **about: Any) -> Any:
        built.append(len(prompts))
        return build(cls, model, prompts, **about)

    monkeypatch.setattr(Trunk, "build", classmethod(seen))
    with pytest.raises(MemoryBudgetError) as caught:
        side_effects(model, vector, memory=30_000)
    least = resolve_budget(str(caught.value).split("Grant --memory ")[1].split()[0], model.device)
    pieces = side_effects(model, vector, memory=2 * least)
    assert sum(built) == len(PASSAGES)
    assert max(built) <= 3
    assert asdict(pieces) == pytest.approx(asdict(whole), rel=1e-4)


def test_a_vector_of_another_model_is_refused(tiny_model: Any, fresh_model: Any) -> None:
    vector = vector_of(tiny_model("llama"), 1.0)
    with pytest.raises(VectorMismatchError):
        side_effects(fresh_model("llama", seed=1), vector)
