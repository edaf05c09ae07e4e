"""`taskvectors estimate VERB ...`: every option of the verb, and what it changes.

Run with `pytest tests/cli/test_estimate.py`.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from taskvectors.cli.estimate import Estimate
from taskvectors.cli.parsing import VERBS

Tv = Callable[..., Any]
Estimated = Callable[..., dict[str, Any]]
ESTIMATED = {kind.__metadata__[0].name: get_args(kind)[0]
             for kind in get_args(fields(Estimate)[0].type)}  # fmt: skip


@pytest.fixture
def estimated(tv: Tv, on_both: list[object]) -> Estimated:
    """`estimated(verb, ...)`: the estimate of a verb on the small model and task, on an H100."""

    def estimate(verb: str, *words: object) -> dict[str, Any]:
        own: list[object] = [] if verb in ("train", "reproduce") else on_both
        said = tv("estimate", verb, *own, "--device", "h100", *words, "--json")
        assert said.code == 0, said.err
        found: dict[str, Any] = said.json
        return found

    return estimate


def tokens(found: dict[str, Any]) -> int:
    """Of all work together."""
    return int(found["rows"][-1]["forward_tokens"])


@pytest.mark.parametrize("verb", ESTIMATED)
def test_an_estimate_takes_all_that_the_verb_takes(verb: str) -> None:
    kind: Any = VERBS[verb]
    taken = {field.name: field.type for field in fields(kind)}
    assert taken.items() <= {field.name: field.type for field in fields(ESTIMATED[verb])}.items()


def test_what_is_neither_listed_nor_tiny_can_be_estimated() -> None:
    prints = {"demo", "tasks", "methods", "families", "estimate", "report", "export", "runs",
              "vectors", "generate", "play"}  # fmt: skip
    assert {*VERBS} - prints == {*ESTIMATED}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("learn", ["--steps", 400]),
        ("learn", ["--train-shots", 2]),
        ("learn", ["--distillation", 0.5]),
        ("learn", ["--n-examples", 24, "--each-layer", "--positions", -1, -2]),
        ("extract", ["--shots", 12]),
        ("extract", ["--strengths", 1, 2, 3, 4]),
        ("evaluate", ["--strengths", 1, 2, 3]),
        ("evaluate", ["--shots", 3]),
        ("compare", ["--seeds", 0, 1]),
        ("compare", ["--configurations", "paper"]),
        ("compare", ["--methods", "zero-shot", "icl", "vanilla", "learned", "hendel"]),
        ("compare", ["--controls", "majority", "random", "other-task"]),
        ("explain", ["--shots", 10]),
        ("train", ["--steps", 3200]),
        ("train", ["--tvp-layer", "none", "0", "1", "2"]),
        ("reproduce", ["--seeds", 1, 2, 3]),
    ],
)
def test_an_option_of_the_verb_changes_its_estimate(
    verb: str, words: list[object], estimated: Estimated
) -> None:
    own = {
        "explain": ["--analyses", "attention"],
        "learn": ["--recipe", "from-zero"],
        "train": ["--task", "offset"],
        "reproduce": ["ltv-lens", "--preset", "smoke"],
    }.get(verb, [])
    assert tokens(estimated(verb, *own, *words)) > tokens(estimated(verb, *own))


def test_a_recipe_is_estimated_as_it_would_be_learned(estimated: Estimated, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 50\nanswer: first-token\n")
    assert tokens(estimated("learn", "--recipe", path)) < tokens(estimated("learn", "--steps", 50))


def test_a_vector_is_estimated_where_it_is(
    estimated: Estimated, tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    for layer in (0, 3):
        made = ["--layers", layer, "--steps", 1, "--out", tmp_path / f"v{layer}"]
        assert tv("learn", *on_both, *made).code == 0
    low, high = (
        tokens(estimated("evaluate", "--vector", tmp_path / name)) for name in ("v0", "v3")
    )
    assert low > high
    asked = ["--analyses", "head-ablation", "--limit", 8]
    alone = estimated("explain", "--vector", tmp_path / "v0", "--other-vector", "none", *asked)
    beside = estimated("explain", "--vector", tmp_path / "v0", *asked)
    assert {row["name"].partition(",")[0] for row in alone["rows"]} == {"head-ablation", "all"}
    assert {row["name"].partition(",")[0] for row in beside["rows"]} >= {"head-ablation", "learned"}
    several = ["--vectors", tmp_path / "v0", tmp_path / "v3", "--analyses", "geometry"]
    assert estimated("explain", *several)["rows"][-1]["name"] == "all"


def test_the_work_is_named_and_adds_up(estimated: Estimated) -> None:
    found = estimated("compare", "--methods", "zero-shot", "vanilla")
    *parts, whole = found["rows"]
    assert {row["name"].partition(",")[0] for row in parts} == {"zero-shot", "vanilla", "random"}
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] for row in parts))
    assert whole["peak_bytes"] == max(row["peak_bytes"] for row in parts)


@pytest.mark.slow(small_models=True)
def test_estimate_needs_a_config_and_no_weights(
    tv: Tv, tmp_path: Path, model_folder: Any, task_file: Path
) -> None:
    config = tmp_path / "config.json"
    shutil.copy(Path(model_folder("llama")) / "config.json", config)
    words = ["--model", config, "--task", task_file, "--device", "h100", "--shots", 2]
    for verb in ("learn", "compare", "extract", "evaluate", "explain"):
        said = tv("estimate", verb, *words, "--json")
        assert said.code == 0, said.err
        assert said.json["n_devices"] == 1
        assert said.json["rows"][-1]["name"] == "all"
        assert said.json["rows"][-1]["seconds"] > 0
    shown = tv("estimate", "learn", *words, "--flops", "1e12", "--device-memory", "1GB").out
    assert "1 TFLOP/s" in shown
    assert "stated: flops, memory" in shown
    assert "It fits one device." in shown
    assert json.loads(config.read_text())["model_type"] == "llama"
    trained = tv("estimate", "train", "--task", "offset", "--device", "h100", "--json")
    assert trained.json["rows"][0]["name"] == "train offset"
    assert (
        "invalid choice 'nothing'" in tv("estimate", "compare", *words, "--methods", "nothing").err
    )


def test_estimate_sums_up_the_groups_of_an_experiment(
    estimated: Estimated, model_folder: Any
) -> None:
    smoke = ("--preset", "smoke")
    *groups, whole = estimated(
        "reproduce", "ltv-key-heads", *smoke, "--tasks", "capital", "antonym", "--seeds", 1, 2
    )["rows"]
    assert len({row["name"] for row in groups}) == len(groups) == 4
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] for row in groups))
    other = estimated("reproduce", "ltv-lens", *smoke, "--model", model_folder("gpt2"))["rows"]
    assert other[0]["name"] == "tiny-gpt2-capital-seed0"
    peft = estimated("reproduce", "ltv-peft", *smoke)
    assert any(one.startswith("bitfit: ") for one in peft["left_out"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ltv-lens"], "Available subcommands: compare, learn, extract"),
        (["reproduce", "ltv-lenz"], "no experiment is called 'ltv-lenz'; did you mean ltv-lens"),
        (["learn"], "--task"),
        (["reproduce", "tvp-loss", "--model", "smollm2-135m"], "takes no --model"),
        (["train", "--task", "offset", "--preset", "smoke"], "no preset 'smoke'"),
        (["evaluate", "--side-effects"], "no estimate of --learner and --side-effects"),
        (
            ["learn", "--task", "capital", "--quantization", "4bit"],
            "no estimate of weights in 4bit",
        ),
        (["compare", "--task", "capital", "--by-examples"], "no estimate of a comparison by"),
        (["learn", "--task", "capital", "--device", "v100"], "no device 'v100'; there are local"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(words: list[str], message: str, tv: Tv) -> None:
    device = [] if "--device" in words else ["--device", "h100"]
    model = ["--model", "smollm2-135m"] if words[0] in ("learn", "compare", "evaluate") else []
    said = tv("estimate", *words, *device, *model)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1
