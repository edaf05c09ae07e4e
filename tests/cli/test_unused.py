"""Options that nothing would read, and values that say nothing, are refused by their names.

Run with `pytest tests/cli/test_unused.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskvectors.cli import unused
from taskvectors.cli.parsing import parse
from taskvectors.errors import TaskVectorsError

Tv = Callable[..., Any]
LEARNER = ["--learner", "offset-tvp-1"]
TRAIN = ["train", "--task", "offset", "--tvp-layer", "none"]


def config_of(words: list[str]) -> None:
    """Parse words, and make of them what the library takes."""
    verb: Any = parse(words)
    getattr(verb, "verb", verb).config()


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["compare", "--task", "t", "--methods", "icl", *option]
            for option in (
                *(["--layers", "1"], ["--each-layer"], ["--positions", "-2"], ["--steps", "7"]),
                *(["--strengths", "2"], ["--library", "shelf"], ["--recipe", "paper"]),
                *(["--learning-rate", "1"], ["--batch-size", "3"], ["--distillation", "1"]),
                *(["--n-examples", "3"], ["--train-shots", "3"], ["--tracker", "trackio"]),
                ["--configurations", "paper"],
            )
        ),
        ["compare", "--task", "t", "--methods", "vanilla", "--steps", "7"],
        ["compare", "--task", "t", "--methods", "lora", "--recipe", "paper"],
        ["compare", "--task", "t", "--configurations", "paper", "--layers", "1"],
        ["compare", "--task", "t", "--methods", "zero-shot", "--by-examples"],
        ["compare", "--task", "t", "--methods", "zero-shot", "lora", "--shots", "3"],
        ["compare", "--task", "t", "--methods", "learned", "--recipe", "paper", "--shots", "3"],
        ["extract", "--task", "t", "--method", "icv", "--shots", "3"],
        ["estimate", "compare", "--task", "t", "--methods", "icl", "--steps", "7"],
        ["learn", "--task", "t", "--recipe", "from-zero", "--shots", "3"],
        ["estimate", "learn", "--task", "t", "--recipe", "from-zero", "--shots", "3"],
        ["reproduce", "ltv-lens", "--gpus", "2"],
        [*TRAIN, "--tvp-weight", "2"],
        [*TRAIN, "--stop-gradient"],
        [*TRAIN, "--sites-per-sequence", "2"],
        [*TRAIN, "--equal-flops"],
    ],
)
def test_an_option_that_nothing_reads_is_refused_by_its_name(words: list[str]) -> None:
    flag = [word for word in words if word.startswith("--")][-1]
    with pytest.raises(
        TaskVectorsError, match=rf"^{flag} would change nothing: .*; leave {flag} o"
    ):
        config_of(words)


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--task", "t", "--layers", "1", "--steps", "7", "--strengths", "2"],
        ["compare", "--task", "t", "--methods", "icl", "learned", "--recipe", "paper"],
        ["compare", "--task", "t", "--methods", "lora", "--learning-rate", "1"],
        ["compare", "--task", "t", "--methods", "library", "--library", "shelf"],
        [
            "compare",
            "--task",
            "t",
            "--methods",
            "icv",
            "--configurations",
            "paper",
            "--layers",
            "1",
        ],
        ["learn", "--task", "t", "--shots", "3"],
        ["compare", "--task", "t", "--methods", "lora", "learned", "--shots", "3"],
        [
            *("compare", "--task", "t", "--methods", "learned", "--recipe", "paper"),
            *("--shots", "3", "--controls", "learned-from-shots"),
        ],
        ["extract", "--task", "t", "--method", "hendel", "--shots", "3"],
        [
            *("learn", "--task", "t", "--shots", "3", "--recipe", "from-zero"),
            *("--distillation", "0.5"),
        ],
        ["reproduce", "ltv-lens", "--gpus", "2", "--ray", "auto"],
        [*TRAIN[:-2], "--tvp-weight", "2"],
    ],
)
def test_an_option_that_something_reads_is_taken(words: list[str]) -> None:
    config_of(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--vector", "v", "--trials", "5"], "--trials would change nothing"),
        (["evaluate", "--vector", "v", *LEARNER], "give --vector or --learner, not both"),
        (["evaluate", *LEARNER, "--split", "train"], "--split would change nothing"),
        (["evaluate", *LEARNER, "--task", "capital"], "--task would change nothing"),
        (["evaluate", *LEARNER, "--dtype", "float16"], "--dtype would change nothing"),
        (["generate", "--vector", "v", "--prompt", "x", "--chat"], "--chat would change nothing"),
        (["generate", "--vector", "v", "--input", "x", "--seed", "1"], "--seed would change n"),
        (["reproduce", "ltv-lens", "--model", "a", "--models", "b"], "give --model or --models"),
        (["estimate", "learn", "--task", "capital", "--device", "h100", "--measure"],
         "--measure would change nothing: h100 is not this machine"),
        (["extract", "--task", "capital", "--strengths", "0"], "0 alone gives no vector"),
        (["extract", "--task", "capital", "--method", "learned-heads", "--each-layer"],
         "leaves no choice of each_layer"),
        (["compare", "--task", "t", "--methods", "icl", "--controls", "random"],
         "--controls: random is made for a vector"),
        (["explain", "--vector", "v", "--vectors", "v"], "--vectors: v is the --vector, too"),
        (["train", "--task", "offset", "--tvp-layer", "00"], "--tvp-layer: '00' is no layer"),
        (["train", "--task", "offset", "--tvp-layer", "0+٣"], "is no layer"),
        (["learn", "--task", "capital", "--layers", "1", "01"], "--layers: '01' is not a layer"),
        (["learn", "--task", "capital", "--positions", "-0"], "--positions: '-0' is not a positi"),
        *((["reproduce", "tvp-loss", *option], f"takes no {option[0]}") for option in (
            ["--attention", "eager"], ["--device-map", "auto"], ["--device", "cpu"],
            ["--dtype", "float16"], ["--memory", "1GB"], ["--trust-remote-code"],
            ["--quantization", "4bit"], ["--revision", "main"])),
        (["reproduce", "ltv-lens", "--tasks", "nope", "--dry-run"], "no task is called 'nope'"),
        (["reproduce", "tvp-loss", "--tasks", "nope", "--dry-run"], "no family of tasks 'nope'"),
        (["reproduce", "--list", "--model", "random"], "--model would change nothing: --list"),
        (["reproduce", "--list", "--seeds", "3"], "--seeds would change nothing: --list"),
        (["reproduce", "--list", "ltv-lens"], "give --list or ltv-lens, not both"),
        (["reproduce", "ltv-lens", "--device", "cuda:99"], "there is no device 'cuda:99' here"),
        (["compare", "--task", "t", "--attention", "foo"], "there is no attention 'foo' here"),
        (["play", "--host", "999.1.1.1"], "nothing can listen on 999.1.1.1 here"),
        (["play", "--memory", "1MB"], "--memory would change nothing: one prompt"),
        (["generate", "--vector", "v", "--input", "x", "--memory", "1MB"], "--memory would change"),
        (["estimate", "evaluate", "--trials", "5"], "--trials would change nothing"),
        (["estimate", "explain", "--model", "random", "--layers", "-1"], "--layers: -1 is not a l"),
        (["estimate", "learn", "--task", "capital", "--model", "random", "--device", "h100",
          "--n-examples", "500"], "n_examples 500 are more than the 94 training pairs"),
        (["report", "runs/a", "runs/../runs/a/"], "runs/../runs/a/ is given twice"),
        (["explain", "--vectors", "v", "./v"], "--vectors: ./v is given twice"),
        (["learn", "--task", "capital", "--template", ""], "--template: '' is no value"),
        (["learn", "--task", "capital", "--template="], "--template: '' is no value"),
        (["learn", "--task", "capital", "--out", ""], "--out: '' is no value"),
        (["report", ""], "'' is no value"),
        (["compare", "--task", "t", "--methods", "icl", "icl"], "--methods: 'icl' is given twice"),
        (["compare", "--task", "t", "--seeds", "1", "01"], "--seeds: 1 is given twice"),
        (["train", "--task", "offset", "--set", "n_symbols=7", "n_symbols=9"], "--set: a field"),
        (["learn", "--task", "capital", "--learning-rate", "1e300"], "--learning-rate: 1e+300 is"),
        (["learn", "--task", "capital", "--learning-rate", "1e-300"], "a number that float32 has"),
        (["learn", "--task", "capital", "--out", "\ud800"], "'\\ud800' is not a text"),
        (["train", "--task", "offset", "--width", "1000000000"], "give fewer blocks"),
        (["train", "--task", "offset", "--set", "n_symbols=1e9"], "sizes of tasks end at 100,000"),
    ],
)  # fmt: skip
def test_what_says_nothing_or_says_it_twice_is_one_line(
    tv: Tv, words: list[str], message: str
) -> None:
    said = tv(*words)
    assert (said.code, said.out) == (2, "")
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize("form", ["gguf", "vllm-lens"])
def test_a_form_that_needs_no_model_takes_no_option_of_one(
    tv: Tv, vector: Path, form: str, tmp_path: Path
) -> None:
    words = ["export", "--vector", vector, "--format", form, "--out", tmp_path / "out"]
    said = tv(*words, "--dtype", "float32")
    assert said.code == 2
    assert f"--dtype would change nothing: the model is not loaded for {form}" in said.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--layers", 99], "resid_post of layer 99 does not exist"),
        (["--layers", 1, "--positions", 500], "no position 500"),
        (["--layers", 1, "--positions", "separator_1"], "no token at 'separator_1'"),
        (["--layers", 1, "--positions", "generated"], "'generated' lies past the prompt"),
        (["--layers", 1, "--n-examples", 25], "n_examples 25 are more than the 24 training pairs"),
        (["--layers", 1, "--train-shots", 50], "50 demonstrations of "),
        (["--layers", 1, "--memory", "999TB"], "memory '999TB' is more than there is: cpu has "),
    ],
)
def test_a_place_that_is_not_there_is_refused_before_anything_is_run(
    tv: Tv, on_both: list[object], tmp_path: Path, option: list[object], message: str
) -> None:
    words = ["compare", *on_both, "--methods", "zero-shot", "learned", "--no-report", *option]
    said = tv(*words, "--out", tmp_path / "run")
    assert (said.code, said.out) == (2, "")
    assert message in said.err.splitlines()[-1]
    assert "zero-shot: " not in said.err, "no method was run"
    said = tv("learn", *on_both, *option, "--out", tmp_path / "vector")
    assert said.code == 2
    assert message in said.err.splitlines()[-1]


@pytest.mark.parametrize("method", ["icl", "vanilla"])
def test_more_demonstrations_than_pairs_are_refused_before_anything_is_run(
    tv: Tv, on_both: list[object], tmp_path: Path, method: str
) -> None:
    words = ["compare", *on_both, "--methods", "zero-shot", method, "--shots", 25, "--no-report"]
    said = tv(*words, "--out", tmp_path / "run")
    assert (said.code, said.out) == (2, "")
    assert "25 demonstrations of " in said.err.splitlines()[-1]
    assert "zero-shot: " not in said.err, "no method was run"


def test_what_is_learned_from_fewer_pairs_than_demonstrations_starts_from_zero(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    words = ["learn", *on_both, "--shots", 25, "--steps", 2, "--layers", 1]
    said = tv(*words, "--out", tmp_path / "vector")
    assert said.code == 0, said.err
    assert "training is as by the recipe from-zero: 25 demonstrations of" in said.err


def test_a_strength_of_zero_and_demonstrations_that_nobody_reads_are_refused(
    tv: Tv, vector: Path
) -> None:
    said = tv("generate", "--vector", vector, "--input", "bak", "--strength", 0)
    assert (said.code, said.out) == (2, "")
    assert "--strength: 0 adds nothing of the vector" in said.err
    said = tv("explain", "--vector", vector, "--analyses", "lens", "key-heads", "--shots", 3)
    assert (said.code, said.out) == (2, "")
    assert "--shots would change nothing: no analysis of --analyses" in said.err


def test_a_limit_above_every_split_is_said(tv: Tv, vector: Path, tmp_path: Path) -> None:
    words = ["explain", "--vector", vector, "--analyses", "lens", "--no-report"]
    said = tv(*words, "--limit", 1000, "--out", tmp_path / "run")
    assert "limit 1000 is more than any split of backwards has" in said.err


@pytest.mark.parametrize(
    "option", [["--device-map", "auto"], ["--quantization", "4bit"], ["--revision", "main"]]
)
def test_a_random_model_takes_no_option_of_weights_that_are_read(
    tv: Tv, tmp_path: Path, option: list[str]
) -> None:
    words = ["learn", "--task", "antonym", "--model", "random", "--out", tmp_path / "vector"]
    said = tv(*words, *option)
    assert said.code == 2
    assert f"{option[0][2:].replace('-', '_')} '{option[1]}' says nothing to random" in said.err


def test_a_revision_of_what_lies_here_is_refused(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    said = tv("learn", *on_both, "--revision", "main", "--out", tmp_path / "vector")
    assert said.code == 2
    assert "revision 'main' is of a model on the hub" in said.err


@pytest.mark.parametrize("experiment", ["ltv-lens", "tvp-loss"])
def test_an_estimate_of_an_experiment_is_for_any_device(tv: Tv, experiment: str) -> None:
    words = ["estimate", "reproduce", experiment, "--preset", "smoke", "--device", "h100"]
    assert tv(*words).code == 0


def test_a_page_of_several_runs_replaces_no_file_that_is_none(tv: Tv, tmp_path: Path) -> None:
    words = ["--methods", "zero-shot", "--no-report", "--model", "random", "--task", "antonym"]
    sizes = ["--n-train", 4, "--n-validation", 2, "--n-test", 2]
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        assert tv("compare", *words, *sizes, "--out", run).code == 0
    kept = (runs[0] / "config.json").read_bytes()
    said = tv("report", *runs, "--out", runs[0] / "config.json")
    assert (said.code, said.out) == (2, "")
    assert "config.json is no name of a page" in said.err.splitlines()[-1]
    assert (runs[0] / "config.json").read_bytes() == kept
    assert tv("report", *runs, "--out", tmp_path / "both.html").code == 0


def test_a_vector_is_no_run(tv: Tv, vector: Path) -> None:
    said = tv("report", vector)
    assert said.code == 2
    assert "holds a vector, not a run; give the folder of a run" in said.err


def test_a_random_model_has_the_attention_that_is_asked_for() -> None:
    from taskvectors.models import load_model

    found = [load_model("random", attention=name) for name in ("eager", "sdpa")]
    assert [one.config._attn_implementation for one in found] == ["eager", "sdpa"]


@pytest.mark.parametrize("option", ["--prompt", "--input"])
def test_half_a_character_in_a_text_is_one_line(tv: Tv, vector: Path, option: str) -> None:
    said = tv("generate", "--vector", vector, "--max-new-tokens", 2, option, "coffee\udce9")
    assert said.code == 2
    assert "the character at place" in said.err


def test_every_name_of_a_flag_is_a_field_of_some_method() -> None:
    from taskvectors.methods import METHODS

    fields = {name for one in METHODS.values() for name in one.config.model_fields}
    assert {name for names in unused._READ_AS.values() for name in names} <= fields
    assert set(unused.PLACES) <= fields
