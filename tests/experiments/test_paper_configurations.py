"""The paper's configurations, and accuracy by number of pairs.

Run with `pytest tests/experiments/test_paper_configurations.py`.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from experiments.wide import rows_in
from recipes import from_zero

from taskvectors.experiments import compare
from taskvectors.experiments.paper_configurations import doublings, paper_configurations
from taskvectors.methods import RunContext
from taskvectors.methods.function_vector import FunctionVector
from taskvectors.methods.icl import InContext
from taskvectors.methods.learned import Learned
from taskvectors.methods.lora import Lora
from taskvectors.methods.prompt_tuning import PromptTuning
from taskvectors.methods.vanilla import Vanilla
from taskvectors.methods.zero_shot import ZeroShot
from taskvectors.tasks import load_task
from taskvectors.vectors import TaskVector

RECIPE = from_zero(steps=2, batch_size=8, learning_rate=0.4, check_every=1)
METHODS = (
    ZeroShot(),
    InContext(),
    Vanilla(strengths=(1.0, 3.0), n_prompts=4),
    Learned(recipe=RECIPE),
    PromptTuning(sizes=("matched",), steps=1, check_every=1, learning_rates=(0.01,)),
)


OF_ALL = [preset for preset in paper_configurations(4, 2) if not preset.kind]


@pytest.fixture(scope="module")
def placed(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    config = asked(configurations="paper", methods=METHODS, n_shown=0, template="qa")
    return rows_in(compare(config, tmp_path_factory.mktemp("runs") / "placed"))


def rows_of(rows: list[dict[str, Any]], method: str, preset: str | None) -> list[dict[str, Any]]:
    return [row for row in rows if row["method"] == method and row["preset"] == preset]


def test_the_papers_layers_are_inputs_of_blocks() -> None:
    by_name = {preset.name: preset for preset in paper_configurations(32, 8)}
    # six, of which two in two strides and one trained in two ways; and one of the sister paper
    assert len(by_name) == 10
    assert by_name["last token, middle layer"].layers == (15,)  # its 16
    assert by_name["position 4"].positions == (4,)
    assert by_name["positions -5 to -1"].positions == (-5, -4, -3, -2, -1)
    assert by_name["layers 0, 4, ..."].layers == ("embed", 3, 7, 11, 15, 19, 23, 27, 31)
    assert by_name["layers 0, 2, ..."].layers[:4] == ("embed", 1, 3, 5)
    both = by_name["layers 0, 4, ... at positions -5 to -1"]
    assert (both.layers, both.positions) == (
        by_name["layers 0, 4, ..."].layers[:-1],  # nothing carries it on from there
        by_name["positions -5 to -1"].positions,
    )
    stacked = [preset for preset in by_name.values() if preset.shots == 8]
    assert [preset.trained_shots for preset in stacked] == [0, 8]
    tenth = by_name["a tenth of the heads, 3/8 of the depth"]
    assert tenth.layers == (11,)  # the input of block 12 of 32
    assert [kind for kind in (Vanilla(), FunctionVector()) if tenth.has_meaning_for(kind)] == [
        FunctionVector()
    ]
    assert tenth.config_for(FunctionVector()).n_heads == (0.1,)
    # where blocks are not a multiple of the stride, no input is the last one's output
    assert paper_configurations(18, 8)[3].layers == ("embed", 3, 7, 11, 15)


def test_a_method_with_sites_has_rows_at_those_of_each_configuration(
    placed: list[dict[str, Any]],
) -> None:
    for method in ("vanilla", "learned"):
        for preset in OF_ALL:
            rows = rows_of(placed, method, preset.name)
            if method == "vanilla" and preset.trained_shots:
                (row,) = rows
                assert "has no meaning for vanilla: its vector is read off few-shot" in row["error"]
                continue
            assert rows
            for row in rows:
                assert row["error"] is None
                assert row["layers"] == list(preset.layers)
                assert row["positions"] == list(preset.positions)
                assert row["shots"] == preset.shots
                assert row["configuration"].startswith(preset.name)
            assert [row["preset_selected"] for row in rows].count(True) == 1
            assert rows[0]["strength"] == 1
        chosen = [row for row in placed if row["method"] == method and row["selected"]]
        assert len(chosen) == 1


def test_methods_without_a_site_say_so_and_keep_their_own_row(
    placed: list[dict[str, Any]],
) -> None:
    (own,) = rows_of(placed, "prompt-tuning", None)
    assert own["accuracy"] is not None
    for preset in OF_ALL:
        (row,) = rows_of(placed, "prompt-tuning", preset.name)
        assert row["accuracy"] is None
        assert "has no meaning for prompt-tuning: it has no layer" in row["error"]
    for plain in ("zero-shot", "icl"):
        assert [row["preset"] for row in placed if row["method"] == plain] == [None]


def test_extracted_vectors_are_read_at_the_last_token_and_are_the_layers_own(
    asked: Any, tmp_path: Path
) -> None:
    from taskvectors.methods.vanilla import vanilla

    config = asked()
    task = load_task(config.task, seed=0, n_train=12, n_validation=6, n_test=8)
    context = RunContext(model=config.model.load(), task=task, template="arrow", shots=2)
    base = Vanilla(strengths=(1.0,), n_prompts=4)
    preset = next(p for p in paper_configurations(4, 2) if p.name.startswith("layers 0, 2, ... at"))
    (one,) = vanilla(context, preset.config_for(base))
    alone = {
        layer: vanilla(context, base.model_copy(update={"layers": (layer,)}))[0].vector
        for layer in ("embed", 1)
    }
    assert isinstance(one.vector, TaskVector)
    for site, value in zip(one.vector.sites, one.vector.values, strict=True):
        expected = alone["embed" if site.layer == -1 else site.layer]
        assert value.tolist() == expected.values[0].tolist()


def test_a_vector_trained_without_demonstrations_is_trained_once_for_both_uses(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["taskvectors.methods.learned"]  # its function has the same name
    asked_for: list[Any] = []
    train = module.train_vectors

    def counted(context: Any, units: Any, *rest: Any) -> Any:
        asked_for.append((tuple(units), rest[1]))
        return train(context, units, *rest)

    monkeypatch.setattr(module, "train_vectors", counted)
    config = asked(
        configurations="paper",
        methods=(Learned(recipe=RECIPE),),
        controls=(),
        n_shown=0,
        template="qa",
    )
    compare(config, tmp_path / "run")
    assert len(asked_for) == len(set(asked_for)) == 8


# --- by number of pairs


def test_pairs_double_until_there_are_no_more() -> None:
    assert list(doublings(300)) == [4, 8, 16, 32, 64, 128, 256]
    assert list(doublings(8)) == [4]
    assert list(doublings(4)) == []


@pytest.mark.slow(small_models=True)
def test_each_method_is_run_on_fewer_pairs(asked: Any, tmp_path: Path) -> None:
    config = asked(by_examples=True, methods=METHODS[:4], seeds=(0, 1), controls=(), n_shown=0)
    rows = rows_in(compare(config, tmp_path / "run"))
    assert not any(row["error"] for row in rows)
    assert {row["preset"] for row in rows if row["method"] == "zero-shot"} == {None}
    for method in ("icl", "vanilla", "learned"):
        for n in (4, 8):
            found = rows_of(rows, method, f"{n} training pairs")
            assert not any(row["selected"] for row in found)
            per_seed = [row for row in found if row["seed"] == 0]
            assert [row["preset_selected"] for row in per_seed].count(True) == 1
            assert {row["seed"] for row in found} == {0, 1, None}
            assert all(row["difference_to_icl"] is not None for row in found)
            if method != "icl":
                assert {row["examples"] for row in found} == {n}
    again = rows_in(compare(config, tmp_path / "run"))
    assert again == rows


def test_a_chosen_adapter_is_kept_with_the_run(asked: Any, tmp_path: Path) -> None:
    lora = Lora(sizes=("matched",), steps=1, check_every=1, learning_rates=(0.01,))
    config = asked(methods=(ZeroShot(), lora), controls=())
    compare(config, tmp_path / "run")
    (kept,) = (tmp_path / "run" / "adapters").iterdir()
    assert (kept / "adapter_config.json").exists()
    assert (kept / "adapter_model.safetensors").exists()
