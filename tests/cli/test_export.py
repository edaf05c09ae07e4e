"""`taskvectors export`, and the verbs that take what it wrote.

Run with `pytest tests/cli/test_export.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors import TaskVector
from taskvectors.vectors import sites_at

pytest.importorskip("gguf")
Tv = Callable[..., Any]


def test_a_vector_at_every_token_is_exported_and_goes_on_working(
    *,
    tv: Tv,
    on_model: list[object],
    on_both: list[object],
    vector: Path,
    tmp_path: Path,
) -> None:
    last = TaskVector.load(vector)
    values = torch.cat([last.values[:1]] * 2)
    everywhere = replace(last, values=values, sites=sites_at([1], ["all", "generated"]))
    everywhere.save(tmp_path / "everywhere")
    file = tmp_path / "v.gguf"
    said = tv("export", "--vector", tmp_path / "everywhere", "--out", file, "--json")
    assert said.code == 0, said.err
    assert said.json["file"] == str(file)
    assert said.json["layers"] == [1]
    assert said.json["is_equivalent"]
    assert any("every token" in note for note in said.json["notes"])
    prompt = ("--prompt", "hot ->", "--max-new-tokens", 3, "--json")
    rows = [
        tv("generate", *on_model, "--vector", place, *prompt).json["rows"][1]["completion"]
        for place in (tmp_path / "everywhere", file)
    ]
    assert rows[0] == rows[1]
    measured = [
        tv("evaluate", *on_both, "--template", "arrow", "--seed", 1, "--vector", place, "--json")
        for place in (tmp_path / "everywhere", file)
    ]
    log_probabilities = [said.json["rows"][1]["answer_logprob"] for said in measured]
    assert log_probabilities[0] == pytest.approx(log_probabilities[1], abs=1e-6)
    assert log_probabilities[0] != pytest.approx(measured[0].json["rows"][0]["answer_logprob"])


def test_a_vector_at_the_last_token_is_exported_only_by_force(
    tv: Tv, vector: Path, tmp_path: Path
) -> None:
    words = ("export", "--vector", vector, "--format", "gguf", "--out", tmp_path / "v.gguf")
    said = tv(*words)
    assert said.code == 2
    assert "acts at -1 only" in said.err
    assert "--force" in said.err
    assert not (tmp_path / "v.gguf").exists()
    said = tv(*words, "--force")
    assert said.code == 0
    assert "by force" in said.out
    assert (tmp_path / "v.gguf").is_file()


@pytest.mark.parametrize(
    ("form", "name"),
    [("checkpoint", "m"), ("peft", "a"), ("lm-eval", "v.pt"), ("vllm-lens", "v.json")],
)
def test_other_forms_are_written_and_a_vector_at_some_tokens_by_force(
    *, form: str, name: str, tv: Tv, vector: Path, tmp_path: Path
) -> None:
    last = TaskVector.load(vector)
    values = torch.cat([last.values[:1]] * 2)
    replace(last, values=values, sites=sites_at([1], ["all", "generated"])).save(tmp_path / "all")
    words = ("export", "--format", form, "--vector", tmp_path / "all", "--out", tmp_path / name)
    dtype = () if form == "vllm-lens" else ("--dtype", "float32")
    said = tv(*words, *dtype, "--json")
    assert said.code == 0, said.err
    assert said.json["is_equivalent"]
    assert (tmp_path / name).exists()
    last_words = ("export", "--format", form, "--vector", vector, "--out", tmp_path / "last.pt")
    is_positioned = form == "vllm-lens"
    assert (tv(*last_words).code == 0) == is_positioned
    forced = tv(*last_words, "--dtype", "float32", "--force")
    assert (forced.code == 2) == is_positioned
    assert is_positioned or "measure it anew" in " ".join(forced.out.split())


def test_a_baked_checkpoint_says_what_the_vector_makes_the_model_say(
    *, tv: Tv, on_model: list[object], vector: Path, tmp_path: Path
) -> None:
    last = TaskVector.load(vector)
    values = torch.cat([last.values[:1]] * 2) * 5
    everywhere = replace(last, values=values, sites=sites_at([1], ["all", "generated"]))
    everywhere.save(tmp_path / "all")
    out = ("--format", "checkpoint", "--out", tmp_path / "baked", "--dtype", "float32")
    assert tv("export", "--vector", tmp_path / "all", *out).code == 0
    prompt = ("--vector", tmp_path / "all", "--prompt", "hot ->", "--max-new-tokens", 4, "--json")
    plain, edited = tv("generate", *on_model, *prompt).json["rows"]
    assert plain["completion"] != edited["completion"]
    import transformers

    baked = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "baked")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "baked")
    ids = tokenizer("hot ->", return_tensors="pt")
    kept = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
    found = baked.generate(**kept, max_new_tokens=4, do_sample=False, pad_token_id=0)
    said = tokenizer.decode(found[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said == edited["completion"]
