"""Model types, each measured on a tiny random model of its own.

Run with `pytest tests/models/test_survey.py`; `-m slow` measures every type of transformers.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from taskvectors.cli import main
from taskvectors.models import LanguageModel, capture
from taskvectors.models import survey as surveying
from taskvectors.models.survey import SurveyRow, model_types, survey, survey_type
from taskvectors.models.tiny import N_LAYERS, build_tiny, tiny_config

ALL = {"resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z"}
A_FEW = ("llama", "gpt2", "mamba")
SOFT_CAPPED = ("gemma2", "vaultgemma")
NOT_SERVED = {
    "blt": "its tokens are bytes in patches of two models",
    "cpmant": "its forward pass makes a prompt of its own before the tokens",
    "gemma4_unified_assistant": "it drafts for another model, whose states it is given",
    "hrm_text": "its blocks run several times",
    "prophetnet": "it predicts several tokens at once",
    "reformer": "its blocks keep two streams",
    "xlnet": "its first axis is the position",
}
"""Types of 5.24 that read a prompt from left to right and are not served."""


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "taskvectors" / "families"


# --- tiny models


def test_a_tiny_model_has_every_kind_of_layer() -> None:
    for model_type, kinds in (
        ("qwen3_next", {"linear_attention", "full_attention"}),
        ("gemma3_text", {"sliding_attention", "full_attention"}),
        ("lfm2", {"conv", "full_attention"}),
    ):
        config = tiny_config(model_type)
        assert len(config.layer_types) == N_LAYERS
        assert set(config.layer_types) == kinds


def test_a_tiny_model_is_small_repeats_and_every_weight_of_it_acts() -> None:
    hf, again = build_tiny("granitemoe"), build_tiny("granitemoe")
    assert sum(p.numel() for p in hf.parameters()) < 200_000
    assert all(
        torch.equal(one, two) for one, two in zip(hf.parameters(), again.parameters(), strict=True)
    )
    tokens = torch.arange(3, 13)[None]
    plain = hf(input_ids=tokens).logits
    for name, parameter in hf.named_parameters():
        if "router" in name:
            continue
        with torch.no_grad():
            before = parameter.clone()
            parameter.add_(0.5 * torch.randn_like(before))
            assert not torch.equal(hf(input_ids=tokens).logits, plain), name
            parameter.copy_(before)


def test_factors_that_are_one_by_default_are_not_one() -> None:
    config = tiny_config("granite")
    assert {config.residual_multiplier, config.logits_scaling, config.embedding_multiplier} != {1}


# --- rows


def test_a_type_runs_on_the_fastest_engine_that_is_exact() -> None:
    found = {name: survey_type(name, "text") for name in A_FEW}
    for name in ("llama", "gpt2"):
        assert found[name].engine == "trunk"
        assert set(found[name].sites) == ALL
        assert found[name].reason == ""
    assert found["mamba"].engine in {"cached", "whole"}
    assert set(found["mamba"].sites) == {"resid_pre", "resid_post"}
    assert found["mamba"].reason.startswith("trunk: ")
    for row in found.values():
        assert row.largest_error is not None
        assert row.largest_error < 1e-4


@pytest.mark.parametrize("model_type", SOFT_CAPPED)
def test_a_type_is_measured_with_the_attention_that_it_is_loaded_with(model_type: str) -> None:
    assert build_tiny(model_type).config._attn_implementation == "eager"
    assert survey_type(model_type, "text").engine == "trunk"


def test_sites_of_some_blocks_are_told_from_those_of_all() -> None:
    row = survey_type("qwen3_next", "text")
    assert "z" in row.some_sites
    assert "z" not in row.sites


def test_what_a_type_raises_is_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    row = survey_type("bert", "text")  # without is_decoder it sees what comes after
    assert (row.engine, row.sites, row.largest_error) == (None, (), None)
    assert row.reason
    monkeypatch.setattr(surveying, "build_tiny", lambda name: 1 / 0)
    row = survey_type("llama", "text")
    assert row.engine is None
    assert row.reason == "no tiny model can be built here: division by zero"
    monkeypatch.setattr(surveying, "build_tiny", lambda name: build_tiny("gpt2"))
    monkeypatch.setattr(surveying, "verify", lambda model: 1 / 0)
    assert survey_type("llama", "text").reason == "division by zero"


@pytest.mark.parametrize("model_type", ["gemma3", "llava", "llama4", "qwen3_vl"])
def test_the_text_model_inside_a_multimodal_one_is_found(model_type: str) -> None:
    assert "ForConditionalGeneration" in type(build_tiny(model_type)).__name__
    row = survey_type(model_type, model_types()[model_type])
    assert row.kind == "multimodal"
    assert row.engine == "trunk"
    assert "resid_post" in row.sites


def test_hooks_on_a_text_model_that_is_whole_act_in_calls_of_the_outer_one() -> None:
    hf = build_tiny("blip-2")
    model = LanguageModel.wrap(hf)
    assert model.hf is hf.language_model
    tokens, pixels = torch.full((1, 12), 7), torch.zeros(1, 3, 32, 32)
    hf.config.image_token_id = 9
    tokens[0, : hf.config.num_query_tokens] = 9
    seen: list[torch.Tensor] = []
    with torch.no_grad(), capture(model, 1, "resid_post", seen.append):
        hf(input_ids=tokens, pixel_values=pixels)
    assert seen


def test_rows_are_kept_by_version_and_made_again_when_damaged(
    user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def measure(name: str, kind: Any) -> SurveyRow:
        built.append(name)
        return SurveyRow(model_type=name, kind=kind, engine="trunk", sites=("z",), reason="it is")

    monkeypatch.setattr(surveying, "survey_type", measure)
    first = list(survey(["llama", "gpt2"]))
    assert built == ["llama", "gpt2"]
    assert list(survey(["gpt2", "llama", "opt"])) == [*reversed(first), measure("opt", "text")]
    assert built == ["llama", "gpt2", "opt", "opt"]
    (file,) = user_cache.iterdir()
    assert transformers.__version__ in file.name
    for damage in ("", "[{}]", '{"a": 1}', file.read_text()[:50]):
        file.write_text(damage)
        built.clear()
        list(survey(["llama"]))
        assert built == ["llama"]


# --- the command


def test_families_prints_rows_for_machines_and_counts_for_people(
    user_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["families", "--types", *A_FEW, "bert", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["model_type"] for row in rows] == [*A_FEW, "bert"]
    assert {"model_type", "engine", "sites", "largest_error", "reason"} <= set(rows[0])
    assert rows[-1]["engine"] is None
    assert main(["families", "--types", *A_FEW, "bert"]) == 0
    said = capsys.readouterr().out
    assert "text: 4 types, 2 trunk" in said
    assert "1 not served" in said


def test_families_refuses_a_type_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families", "--types", "gpt9"]) == 2
    assert "no causal model type 'gpt9'" in capsys.readouterr().err


# --- all of them


@pytest.mark.slow(small_models=True)
def test_nearly_every_type_of_transformers_is_served(user_cache: Path) -> None:
    rows = list(survey())
    assert {row.model_type for row in rows} == set(model_types())
    served = [row for row in rows if row.engine is not None]
    for row in served:
        assert row.largest_error is not None
        assert row.largest_error < 1e-4, row
        assert {"resid_pre", "resid_post"} <= set(row.sites), row
    assert all(row.reason for row in rows if row.engine != "trunk")
    of_kind = {kind: [r for r in served if r.kind == kind] for kind in ("text", "multimodal")}
    engines = {kind: Counter(row.engine for row in found) for kind, found in of_kind.items()}
    if transformers.__version__.startswith("5.24"):
        assert len(of_kind["text"]) >= 137
        assert engines["text"]["trunk"] >= 90
        assert len(of_kind["multimodal"]) >= 24
        assert engines["multimodal"]["trunk"] >= 18
    missing = {row.model_type: row.reason for row in rows if row.engine is None}
    wrong = {
        name: reason
        for name, reason in missing.items()
        if "bidirectional" not in reason and "no tiny model" not in reason
    }
    assert set(NOT_SERVED) >= {name for name in wrong if is_decoder(name)}, wrong

    page = (Path(__file__).parents[2] / "docs" / "model-types.md").read_text()
    if f"transformers {transformers.__version__} " in page:
        told = dict(re.findall(r"^\| (\S+) \| (trunk|cached|whole) \|", page, re.MULTILINE))
        assert told == {row.model_type: row.engine for row in served}


def is_decoder(model_type: str) -> bool:
    """Whether a type of text reads a prompt from left to right by default, and nothing beside."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type]()
    return model_types()[model_type] == "text" and not (
        config.is_encoder_decoder or getattr(config, "is_decoder", None) is False
    )
