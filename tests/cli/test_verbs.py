"""Every verb on a small random model and a small task, from words to JSON.

Run with `pytest tests/cli/test_verbs.py`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors import TaskVector
from taskvectors.evaluate import evaluate
from taskvectors.methods import METHODS
from taskvectors.models import load_model
from taskvectors.results import read_run
from taskvectors.results.evaluation import evaluation_rows
from taskvectors.tasks import HUB_PRESETS, builtin_tasks, load_task

ROOT = Path(__file__).parents[2]
Tv = Callable[..., Any]
QUICK = ["--steps", 2]


# --- what there is


def test_tasks_lists_every_task_with_its_source(tv: Tv) -> None:
    rows = tv("tasks", "--json").json["rows"]
    assert [row["name"] for row in rows] == [
        *builtin_tasks(),
        *(f"hub:{name}" for name in HUB_PRESETS),
    ]
    assert all(row["description"] and row["source"] and row["license"] for row in rows)
    lines = [line.split() for line in tv("tasks").out.splitlines()]
    names = [line[0] for line in lines if line]
    assert [row["name"] for row in rows if names.count(row["name"]) != 1] == []


def test_methods_lists_methods_and_controls_with_their_source(tv: Tv) -> None:
    rows = tv("methods", "--json").json["rows"]
    found = {row["name"]: row for row in rows}
    assert {name for name, row in found.items() if not row["is_control"]} == set(METHODS)
    assert found["random"]["is_control"]
    assert "2509.24169" in found["learned"]["source"]
    assert all(row["summary"] and row["source"] for row in rows)
    assert "learned" in tv("methods").out


# --- making vectors


def test_learn_saves_one_vector_at_both_layers(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    sites = ["--layers", "embed", 2, "--positions", -1, "query_first"]
    folder = tmp_path / "some" / "vector"
    said = tv("learn", *on_both, *QUICK, *sites, "--out", folder, "--seed", 3, "--json")
    assert said.code == 0, said.err
    data, vector = said.json, TaskVector.load(folder)
    assert vector.layers == (-1, 2)
    assert vector.positions == (-1, "query_first")
    assert (vector.origin.method, vector.origin.task, vector.origin.seed) == (
        *("learned", "backwards", 3),
    )
    assert (data["layers"], data["positions"]) == (["embed", 2], [-1, "query_first"])
    assert (data["vector"], data["method"]) == (str(folder), "learned")
    assert data["parameters"] == vector.values.numel() == 4 * 32
    assert data["norm"] == pytest.approx(vector.norm())
    assert 0 <= data["validation_accuracy"] <= 1


def test_learn_without_layers_saves_the_best_of_all_layers(
    tv: Tv, on_both: list[object], own_data_folder: Path
) -> None:
    said = tv("learn", *on_both, *QUICK, "--json")
    assert said.code == 0, said.err
    (layer,) = said.json["layers"]
    assert 0 <= layer < 4
    (folder,) = (own_data_folder / "taskvectors" / "vectors").iterdir()
    assert said.json["vector"] == str(folder)
    assert TaskVector.load(folder).layers == (layer,)


def test_learn_at_each_layer_saves_the_best_of_those(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    layers = ["--each-layer", "--layers", 0, 3]
    said = tv("learn", *on_both, *QUICK, *layers, "--out", tmp_path / "v", "--json")
    assert said.code == 0, said.err
    assert said.json["layers"] in ([0], [3])


def test_learn_does_what_its_flags_say(tv: Tv, on_both: list[object], tmp_path: Path) -> None:
    def values(name: str, *words: object) -> torch.Tensor:
        said = tv("learn", *on_both, "--layers", 1, *words, "--out", tmp_path / name)
        assert said.code == 0, said.err
        return TaskVector.load(tmp_path / name).values

    def recipe(scale: float) -> Path:
        path = tmp_path / f"{scale}.yaml"
        text = "initialisation: normal\nrate: absolute\nweight_decay: 0\nsteps: 50"
        path.write_text(f"{text}\nscale: {scale}\nlearning_rate: 1e-12\n")
        return path

    still = ["--steps", 1, "--recipe"]
    one = values("one", *still, recipe(0.5))
    assert one.std().item() == pytest.approx(0.5, rel=0.4)
    assert torch.allclose(values("two", *still, recipe(1.0)), 2 * one, atol=1e-5)
    assert not torch.allclose(values("seed", *still, recipe(0.5), "--seed", 1), one)


def test_a_vector_is_not_learned_where_it_cannot_be_saved(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    said = tv("learn", *on_both, *QUICK, "--out", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "holds something else than a vector" in said.err


def test_extract_saves_a_vector_of_the_layers_named(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    place = ["--layers", 1, 2, "--shots", 2, "--out", tmp_path / "v"]
    said = tv("extract", *on_both, *place, "--strengths", 1, "--json")
    assert said.code == 0, said.err
    once = TaskVector.load(tmp_path / "v")
    assert said.json["layers"] == [1, 2]
    assert said.json["method"] == once.origin.method == "vanilla"
    assert tv("extract", *on_both, *place, "--strengths", 3).code == 0
    assert torch.allclose(TaskVector.load(tmp_path / "v").values, 3 * once.values)


@pytest.mark.parametrize(
    ("method", "flag"), [("learned-heads", "--layers"), ("hendel", "--strengths")]
)
def test_extract_refuses_a_flag_that_means_nothing_to_the_method(
    tv: Tv, on_both: list[object], tmp_path: Path, method: str, flag: str
) -> None:
    said = tv("extract", *on_both, "--method", method, flag, 1, "--out", tmp_path / "v")
    assert said.code == 2
    assert f"{flag}: {method} leaves no choice of {flag[2:]}" in said.err


def test_learn_distils_from_the_eight_shot_run(
    tv: Tv, on_both: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's prompts have demonstrations although those that are trained on have none."""
    from taskvectors.methods.training.teacher import Teacher

    seen: list[tuple[int, int]] = []
    of = Teacher.of

    def watching(context: Any, prompts: Any, shown: Any, share: float) -> Any:
        seen.append((len(prompts[0].demonstrations), len(shown[0].demonstrations)))
        return of(context, prompts, shown, share)

    monkeypatch.setattr(Teacher, "of", watching)
    words = ["learn", *on_both, *QUICK, "--layers", 1, "--distillation", 1.0]
    for number, more in enumerate(([], ["--shots", 2, "--train-shots", 1])):
        said = tv(*words, *more, "--out", tmp_path / str(number))
        assert said.code == 0, said.err
    assert seen == [(0, 8), (1, 2)]


def test_extract_makes_a_function_vector(tv: Tv, on_both: list[object], tmp_path: Path) -> None:
    place = ["--layers", 1, "--shots", 2, "--strengths", 1, "--out", tmp_path / "v"]
    said = tv("extract", *on_both, "--method", "function-vector", *place)
    assert said.code == 0, said.err
    vector = TaskVector.load(tmp_path / "v")
    assert len(vector.origin.settings["heads"]) == 10
    assert vector.layers == (1,)


@pytest.mark.slow
def test_a_process_of_its_own_says_what_it_does_and_nothing_else(
    on_both: list[object], tmp_path: Path
) -> None:
    words = ["learn", *on_both, *QUICK, "--layers", 1, "--out", tmp_path / "v", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from taskvectors.cli import main; sys.exit(main())"]
        + [str(word) for word in words],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == [1]
    said = done.stderr.splitlines()
    assert [re.sub(r"^\[ *\d+ s\] ", "", line) for line in said] == [
        f"Loading the model '{on_both[1]}'",
        "learned on 24 training pairs of backwards",
    ]


# --- using them


def test_evaluate_measures_what_the_library_measures(
    tv: Tv, on_both: list[object], vector: Path, task_file: Path, model_folder: Any
) -> None:
    said = tv("evaluate", *on_both, "--vector", vector, "--strengths", -1, 0, 0.5, 1, "--json")
    assert said.code == 0, said.err
    data = said.json
    assert (data["task"], data["split"], data["seed"]) == ("backwards", "test", 1)
    assert [row["strength"] for row in data["rows"]] == [0, -1, 0.5, 1]
    assert [row["method"] for row in data["rows"]] == ["zero-shot", *["learned"] * 3]
    assert [row["layers"] for row in data["rows"]] == [[], *[[1, 2]] * 3]
    model = load_model(str(model_folder("llama")), dtype="float32")
    task = load_task(str(task_file), seed=1, n_train=24, n_validation=8, n_test=16)
    loaded = TaskVector.load(vector)
    for row in data["rows"]:
        expected = evaluate(model, task.test, loaded, strength=row["strength"])
        assert row["n"] == expected.n == 16
        assert row["answer_logprob"] == pytest.approx(expected.answer_logprob, abs=1e-4)
        assert row["accuracy"] == expected.accuracy
    probabilities = [row["answer_logprob"] for row in data["rows"]]
    assert len(set(probabilities)) == 4


def test_evaluate_keeps_what_it_found_when_asked_to(
    tv: Tv, on_both: list[object], vector: Path, tmp_path: Path
) -> None:
    words = ["evaluate", *on_both, "--vector", vector, "--side-effects", "--strengths", -1, 1]
    plain = tv(*words, "--json").json
    assert "folder" not in plain
    kept = tv(*words, "--out", tmp_path / "run", "--json").json
    assert kept["rows"] == plain["rows"]
    record = read_run(tmp_path / "run")
    assert (record.kind, record.metadata["split"]) == ("evaluate", "test")
    assert evaluation_rows(record.frame) == plain["rows"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "of the answers are right without the vector" in page
    (tmp_path / "run" / "report.html").unlink()
    said = tv("report", tmp_path / "run", "--json")
    assert said.code == 0, said.err
    assert Path(said.json["report"]).read_text(encoding="utf-8") == page
    other = tv(*words, "--split", "validation", "--out", tmp_path / "run")
    assert (other.code, "other settings (split)" in other.err) == (2, True)


def test_evaluate_shows_side_effects_when_asked(
    tv: Tv, on_both: list[object], vector: Path
) -> None:
    words = ["evaluate", *on_both, "--vector", vector, "--side-effects"]
    plain, edited = tv(*words, "--json").json["rows"]
    assert "kl" not in plain
    assert edited["kl"] > 0
    assert edited["perplexity"] != edited["perplexity_plain"] > 1
    out = tv(*words).out.replace("\xa0", " ")
    assert "KL elsewhere" in out
    assert f"(plain {edited['perplexity_plain']:.1f})" in out


def test_evaluate_on_demonstrations_names_the_plain_run_so(
    tv: Tv, on_both: list[object], vector: Path
) -> None:
    rows = tv("evaluate", *on_both, "--vector", vector, "--shots", 2, "--json").json["rows"]
    assert [(row["method"], row["shots"]) for row in rows] == [("icl", 2), ("learned", 2)]


def test_a_vector_alone_is_measured_on_the_pairs_that_were_held_out(
    tv: Tv, on_both: list[object], vector: Path
) -> None:
    alone = tv("evaluate", "--vector", vector, "--dtype", "float32", "--json")
    assert alone.code == 0, alone.err
    named = tv("evaluate", *on_both, "--seed", 1, "--vector", vector, "--json")
    assert alone.json == named.json
    assert alone.json["rows"][0]["n"] == 16


def test_pairs_that_the_vector_was_trained_on_are_refused_unless_allowed(
    tv: Tv, vector: Path
) -> None:
    for words in (["--split", "train"], ["--seed", 2], ["--n-test", 12, "--seed", 3]):
        asked = ["evaluate", "--vector", vector, "--dtype", "float32", *words]
        refused = tv(*asked)
        assert refused.code == 2
        assert "the learned vector of backwards was trained on" in refused.err
        assert "--allow-overlap" in refused.err
        assert tv(*asked, "--allow-overlap").code == 0


def test_a_task_that_has_changed_since_is_refused(
    tv: Tv, on_model: list[object], task_file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own pairs.json"
    pairs = json.loads(task_file.read_text())
    own.write_text(json.dumps(pairs))
    sizes = ["--n-train", 24, "--n-validation", 8, "--n-test", 16]
    made = ["learn", *on_model, "--task", own, *sizes, "--steps", 1, "--layers", 1]
    assert tv(*made, "--out", tmp_path / "v").code == 0
    asked = ["evaluate", "--vector", tmp_path / "v", "--dtype", "float32"]
    assert tv(*asked).code == 0
    for pair in pairs:
        pair["output"] += "x"
    own.write_text(json.dumps(pairs))
    said = tv(*asked)
    assert said.code == 2
    assert "have changed since the learned vector of own pairs was made" in said.err
    assert "training and validation and test pairs" in said.err
    own.unlink()
    assert tv(*asked).code == 2


def test_the_hint_that_learn_prints_runs_as_it_is(
    on_both: list[object], tv: Tv, tmp_path: Path
) -> None:
    folder = tmp_path / "my 'best' vectors" / "one"
    said = tv("learn", *on_both, "--steps", 1, "--layers", 1, "--out", folder)
    (line,) = [line for line in said.out.splitlines() if "taskvectors evaluate" in line]
    command = line.partition(": ")[2]
    assert "--dtype float32" in command
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "learned" in done.stdout


def test_generate_uses_the_vectors_own_model(tv: Tv, on_model: list[object], vector: Path) -> None:
    words = ["generate", "--vector", vector, "--input", "bak", "--dtype", "float32", "--json"]
    assert tv(*words).json == tv(*words, *on_model).json


def test_generate_writes_without_the_vector_and_with_it(
    tv: Tv, on_model: list[object], vector: Path, model_folder: Any
) -> None:
    words = ["generate", *on_model, "--vector", vector, "--max-new-tokens", 3]
    strong = ["--strength", 20]
    by_input = tv(*words, *strong, "--input", "bak", "--json")
    assert by_input.code == 0, by_input.err
    by_prompt = tv(*words, *strong, "--prompt", r"Q: bak\nA:", "--json")
    assert by_input.json == by_prompt.json
    data = by_input.json
    assert data["prompt"] == "Q: bak\nA:"
    plain, edited = data["rows"]
    assert plain["completion"] != edited["completion"]
    assert (plain["method"], edited["method"]) == ("zero-shot", "learned")
    model = load_model(str(model_folder("llama")), dtype="float32")
    tokens = model.tokenizer("Q: bak\nA:", return_tensors="pt")["input_ids"]
    out = model.hf.generate(input_ids=tokens, max_new_tokens=3, do_sample=False)
    assert model.tokenizer.decode(out[0, tokens.shape[1] :]) == plain["completion"]
    nothing = tv(*words, "--strength", 0, "--input", "bak", "--json")
    assert (nothing.code, nothing.out) == (2, "")
    assert "--strength: 0 adds nothing of the vector" in nothing.err


def test_generate_draws_by_seed_and_leaves_the_random_state_alone(
    tv: Tv, on_model: list[object], vector: Path
) -> None:
    words = ["generate", *on_model, "--vector", vector, "--prompt", "Q:", "--sample", "--json"]
    before = torch.random.get_rng_state()
    zero, again, one = (tv(*words, "--seed", seed).json["rows"] for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert zero == again
    assert zero != one


@pytest.mark.parametrize("words", [[], ["--prompt", "Q:", "--input", "x"]])
def test_generate_takes_one_kind_of_prompt(tv: Tv, words: list[str]) -> None:
    said = tv("generate", "--vector", "nowhere", *words)
    assert said.code == 2
    assert said.err == "error: give a prompt either as --prompt or as --input, and not both\n"


# --- errors of the user


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learn", "--task", "capitals"], "no task is called 'capitals'; did you mean capital"),
        (["learn", "--task", "FILE", "--model", "x.gguf"], "there is no GGUF file 'x.gguf'"),
        (["learn", "--task", "FILE", "--layers", "last"], "--layers: 'last' is not a layer"),
        (["compare", "--task", "FILE", "--shots", "0"], "--shots: Input should be greater"),
        (["compare", "--task", "FILE", "--methods"], "--methods: give at least one"),
        (["evaluate", "--task", "FILE", "--vector", "none"], "none is not a vector"),
        (["generate", "--input", "x", "--vector", "none"], "none is not a vector"),
        (["report", "none"], "none/config.json does not exist"),
    ],
)
def test_an_error_of_the_user_is_one_line(
    tv: Tv, words: list[str], message: str, task_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    said = tv(*(str(task_file) if word == "FILE" else word for word in words))
    assert (said.code, said.out) == (2, "")
    *progress, last = said.err.splitlines()
    assert last.startswith(f"error: {message}")
    assert all(line.startswith("[") for line in progress)


def test_a_vector_of_another_model_is_an_error_that_says_how_they_differ(
    tv: Tv, vector: Path, model_folder: Any, task_file: Path
) -> None:
    other = ["--model", model_folder("gpt2"), "--dtype", "float32"]
    said = tv("evaluate", *other, "--task", task_file, "--vector", vector)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "family (llama against gpt2)" in said.err


# --- comparisons


def test_compare_keeps_a_run_and_prints_its_rows(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["compare", *on_both, *QUICK, "--shots", 2, "--out", run]
    said = tv(*words, "--json")
    assert said.code == 0, said.err
    data = said.json
    assert (data["task"], data["family"], data["template"]) == ("backwards", "llama", "qa")
    assert (data["n_train"], data["n_test"], data["seed"]) == (24, 16, 0)
    chosen = [row["method"] for row in data["rows"] if row["selected"]]
    assert chosen == ["zero-shot", "icl", "vanilla", "learned", "majority", "random"]
    assert [row["layers"] for row in data["rows"] if row["method"] == "learned"] == [
        *([layer] for layer in range(4)),
    ]
    assert data["folder"] == str(run)
    assert data["report"] == str(run / "report.html")
    assert Path(data["report"]).is_file()
    assert json.loads((run / "config.json").read_text())["task"] == "backwards"

    again = tv(*words)  # goes on, that is: shows what is there
    assert again.code == 0, again.err
    assert "learned: finished before" in again.err
    table = [line.split() for line in again.out.splitlines()]
    shown = [
        line[0] for line in table if line and line[0] in {row["method"] for row in data["rows"]}
    ]
    assert shown == chosen
    assert f"The report is {run / 'report.html'}" in again.out.splitlines()

    other = tv(*words, "--shots", 3)
    assert (other.code, other.out) == (2, "")
    assert "holds a run with other settings (shots)" in other.err


def test_compare_at_each_layer_chooses_one_and_at_both_has_one(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    words = ["compare", *on_both, *QUICK, "--methods", "learned", "--layers", 0, 2, "--no-report"]
    both = tv(*words, "--out", tmp_path / "both", "--json").json["rows"]
    each = tv(*words, "--out", tmp_path / "each", "--each-layer", "--json").json["rows"]
    assert [row["layers"] for row in both if row["method"] == "learned"] == [[0, 2]]
    learned = [row for row in each if row["method"] == "learned"]
    assert [row["layers"] for row in learned] == [[0], [2]]
    assert sum(row["selected"] for row in learned) == 1


def test_a_comparison_in_which_nothing_could_be_run_is_an_error(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    words = ["compare", *on_both, "--methods", "bitfit", "--steps", 2, "--controls"]
    said = tv(*words, "--out", tmp_path / "run", "--no-report", "--json")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].startswith("error: nothing could be run: ")
    assert "bitfit has no meaning" in said.err.splitlines()[-1]


def test_what_could_not_be_run_is_said_and_the_rest_is_shown(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    methods = ["zero-shot", "bitfit", "learned", "vanilla"]
    words = ["--methods", *methods, "--shots", 2, "--layers", 1, "--controls", "--no-report"]
    run = ["--strengths", 2, "--steps", 2, "--out", tmp_path / "run"]
    said = tv("compare", *on_both, *words, *run)
    assert said.code == 0
    assert "warning: --strengths says nothing to learned" in said.err
    assert "warning: bitfit could not be run: " in said.err
    assert "failed: " in said.out
    assert "zero-shot" in said.out


def test_compare_over_seeds_shows_the_rows_that_pool_them(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    words = ["--methods", "zero-shot", "icl", "--controls", "--shots", 2, "--seeds", 0, 1]
    run = ["compare", *on_both, *words, "--out", tmp_path / "run", "--no-report"]
    said = tv(*run, "--json")
    assert said.code == 0, said.err
    assert said.json["report"] is None
    assert [(row["method"], row["seed"], row["n"]) for row in said.json["rows"]] == [
        *(("zero-shot", 0, 16), ("icl", 0, 16), ("zero-shot", 1, 16), ("icl", 1, 16)),
        *(("zero-shot", None, 32), ("icl", None, 32)),
    ]
    lines = [line.split() for line in tv(*run).out.splitlines() if line.startswith(" zero-shot")]
    assert len(lines) == 1
    assert lines[0][1] == "all"


def test_report_writes_the_report_of_a_run(tv: Tv, on_both: list[object], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["compare", *on_both, "--methods", "zero-shot", "icl", "--controls", "--shots", 2]
    assert tv(*words, "--out", run, "--no-report").code == 0
    assert not (run / "report.html").exists()
    said = tv("report", run, "--json")
    assert said.json == {
        "folder": str(run),
        "report": str(run / "report.html"),
        "figures": [],
        "markdown": None,
        "latex": None,
    }
    assert (run / "report.html").read_text().startswith("<!")
    assert tv("report", run).out == f"The report is {run / 'report.html'}\n"
    said = tv("report", run, "--markdown", "--latex", "--json")
    assert said.json["markdown"] == str(run / "report.md")
    assert "| Zero-shot |" in (run / "report.md").read_text()
    assert r"\toprule" in (run / "tables.tex").read_text()


def test_report_shows_runs_side_by_side(tv: Tv, on_both: list[object], tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for seed, run in enumerate(runs):
        words = ["compare", *on_both, "--methods", "zero-shot", "--controls", "--seed", seed]
        assert tv(*words, "--out", run, "--no-report").code == 0
    said = tv("report", *runs, "--json")
    assert said.json["report"] == str(runs[0] / "compared.html")
    assert tv("report", *runs, "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").is_file()
    assert "one run" in tv("report", *runs, "--latex").err
    assert "leave it out" in tv("report", runs[0], "--out", "page.html").err
    assert "folder of a run" in tv("report").err


def test_demo_does_the_main_job_on_any_model(
    tv: Tv, model_folder: Any, task_file: Path, tmp_path: Path
) -> None:
    place = ["--model", model_folder("llama"), "--task", task_file, "--out", tmp_path / "run"]
    said = tv("demo", *place, "--steps", 2)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[-1] == f"The report is {tmp_path / 'run' / 'report.html'}"
    rows = [line.split() for line in lines if line.startswith(" ") and line.strip()]
    headings = ("method", "control")
    names = [row[0] for row in rows if row[0] not in headings and row[0].strip("─")]
    assert names == ["zero-shot", "icl", "vanilla", "learned", "majority", "random"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["command"] == ["taskvectors", "demo", *map(str, place), "--steps", "2"]
    assert "examples" in said.out
    assert "time" in said.out
    assert all(line.startswith("[") for line in said.err.splitlines())
    for stage in ("Loading the model", "zero-shot:", "icl:", "vanilla:", "learned:", "Writing"):
        assert stage in said.err, stage


def test_columns_labels_and_blanks_of_a_file_are_told_on_the_command_line(
    tv: Tv, on_model: list[object], tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("text;y\n" + "".join(f"w{n} ;{n % 2}\n" for n in range(40)), encoding="utf-8")
    sizes = ["--n-train", 12, "--n-validation", 6, "--n-test", 8]
    columns = ["--input-column", "text", "--output-column", "y", "--strip"]
    words = ["--labels", "0=cold", "1=warm"]
    place = [*on_model, "--task", file, *sizes]
    said = tv("compare", *place, "--methods", "zero-shot", "--out", tmp_path / "run", "--json")
    assert said.code == 2
    assert "--input-column" in said.err
    for run in ("compare", "learn"):
        rest = ["--methods", "zero-shot"] if run == "compare" else [*QUICK, "--layers", 1]
        folder = tmp_path / run
        said = tv(run, *place, *columns, *words, *rest, "--out", folder, "--json")
        assert said.code == 0, said.err
    assert TaskVector.load(tmp_path / "learn").origin.request.labels == {"0": "cold", "1": "warm"}
    found = tv("evaluate", "--vector", tmp_path / "learn", "--json")  # the vector knows the rest
    assert found.code == 0, found.err
    assert found.json["rows"][0]["n"] == 8
    assert found.json["rows"][0]["label_accuracy"] is not None
    for wrong in (["cold"], ["0="], ["0=cold", "0=warm"]):
        said = tv("compare", *place, *columns, "--labels", *wrong, "--out", tmp_path / "no")
        assert (said.code, "--labels" in said.err) == (2, True), said.err
