"""Families: the contract over all of them, exact layouts, and the statistics of what is drawn."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.learners import (
    FAMILIES,
    Batch,
    CurriculumStage,
    EvalBatch,
    TaskFamily,
    load_family,
)
from taskvectors.learners.family import HELD_OUT, generator_for
from taskvectors.learners.regression import ORTHOGONAL, SHIFTS, ridge
from taskvectors.results.learners import IN_DISTRIBUTION

REGRESSIONS = ("linear", "sinusoidal")
PAIRS = (*REGRESSIONS, "offset")
FEATURES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "sinusoidal": torch.sin,
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return load_family(request.param)


# --- what every family keeps to


def test_a_batch_fits_the_model_it_is_for(
    family: TaskFamily, tiny_batch: Callable[..., Batch]
) -> None:
    batch = tiny_batch(family)
    n_columns = batch.inputs.shape[1]
    assert n_columns <= family.n_positions(family.n_demonstrations)
    if batch.inputs.dim() == 2:
        assert 0 <= int(batch.inputs.min()) <= int(batch.inputs.max()) < family.d_vocab
    else:
        assert batch.inputs.shape[2] == family.d_vocab
    assert int(batch.reads.max()) < n_columns
    assert int(batch.sites.max()) < n_columns
    assert min(batch.query_reads) >= batch.site_column
    logits = torch.zeros(*batch.reads.shape, family.d_vocab)
    assert family.losses(logits, batch.targets).shape == batch.reads.shape


def test_every_shift_gives_trials_that_can_be_scored(
    family: TaskFamily, tiny_eval_batch: Callable[..., EvalBatch]
) -> None:
    assert family.shifts[0] == IN_DISTRIBUTION
    for shift in family.shifts:
        eval_batch = tiny_eval_batch(family, shift=shift, n_dummies=2)
        # a vector that is read at a delimiter has seen no query, so there is one of it
        assert eval_batch.dummies.shape[1] == (1 if family.kind in ("ginc", "regbench") else 2)
        logits = torch.zeros(len(eval_batch.queries), len(eval_batch.query_reads), family.d_vocab)
        assert family.errors(logits, eval_batch.targets).shape == eval_batch.weights.shape
        assert set(eval_batch.baselines) >= {"without", "optimal"}
        assert all(one.shape == eval_batch.weights.shape for one in eval_batch.baselines.values())
    assert family.probe_targets(eval_batch.tasks).shape[0] == len(eval_batch.queries)


def test_the_same_generator_draws_the_same_and_another_something_else(
    family: TaskFamily, tiny_batch: Callable[..., Batch]
) -> None:
    first, again, other = (tiny_batch(family, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_a_family_of_ones_own_is_one_file(tmp_path: Path) -> None:
    from taskvectors.learners.tasks import linear

    file = tmp_path / "mine.py"
    file.write_text(
        Path(linear.__file__)
        .read_text()
        .replace('"linear"', '"mine"')
        .replace("FAMILIES.register(", "FAMILY = (")
    )
    mine = load_family(str(file), {"n_dims": 4})
    assert (mine.kind, mine.d_vocab) == ("mine", 7)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cubic", {}, "linear, offset"),
        ("no-such-file.py", {}, "there is no file"),
        ("linear", {"n_dims": 1}, "n_dims = 1"),
        ("offset", {"colour": 3}, "n_symbols"),
    ],
)
def test_what_is_no_family_is_an_error_that_says_what_there_is(
    name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(TaskVectorsError, match=said):
        load_family(name, settings)


def test_a_file_without_a_family_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(TaskVectorsError, match="names no FAMILY"):
        load_family(str(tmp_path / "empty.py"))


# --- layouts

Z, D = 11, 12  # the two tokens after eleven symbols
LAYOUTS = {
    "xy": ("x0 y0 x1 y1 x2", [0, 2, 4], None),
    "xzy": ("x0 z y0 x1 z y1 x2 z", [1, 4, 7], [4, 7]),
    "zxy": ("z x0 y0 z x1 y1 z x2", [1, 4, 7], [3, 6]),
    "xzyd": ("x0 z y0 d x1 z y1 d x2 z", [1, 5, 9], [5, 9]),
}


@pytest.mark.parametrize("form", LAYOUTS)
def test_an_offset_sequence_is_written_as_its_format_says(
    form: str, tiny_batch: Callable[..., Batch]
) -> None:
    family = load_family("offset", {"format": form, "n_demonstrations": 2})
    batch = tiny_batch(family, n=1)
    text, reads, sites = LAYOUTS[form]
    x = [int(batch.inputs[0, text.split().index(f"x{i}")]) for i in range(3)]
    offset = (int(batch.inputs[0, text.split().index("y0")]) - x[0]) % 11
    named = {"z": Z, "d": D} | {f"x{i}": v for i, v in enumerate(x)}
    named |= {f"y{i}": (v + offset) % 11 for i, v in enumerate(x)}
    assert batch.inputs[0].tolist() == [named[word] for word in text.split()]
    assert batch.reads[0].tolist() == reads
    assert batch.targets[0].tolist() == [(v + offset) % 11 for v in x]
    if sites is None:
        assert batch.sites.shape[1] == 0
        return
    assert batch.sites[0].tolist() == sites
    last = int(batch.queries[0, 1, 1 if form == "zxy" else 0])
    for number, query in enumerate((x[2], last)):
        tail = [Z, query] if form == "zxy" else [query, Z]
        assert batch.queries[0, number].tolist() == tail
        assert int(batch.query_targets[0, number, 0]) == (query + offset) % 11


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_sequence_is_written_in_coordinates(
    name: str, tiny_batch: Callable[..., Batch]
) -> None:
    family = load_family(name, {"n_dims": 2, "n_demonstrations": 4})
    rows = tiny_batch(family, n=1).inputs[0]
    assert bool((rows[0::3, 2:] == 0).all())  # x, and nothing else
    assert rows[1].tolist() == [0, 0, 0, 1, 0]  # z
    assert rows[2, [0, 1, 3, 4]].tolist() == [0, 0, 0, 0]  # y alone
    phi = FEATURES[name](rows[0:12:3, :2])
    y = rows[2:12:3, 2]
    w = torch.linalg.lstsq(phi, y.unsqueeze(1)).solution[:, 0]
    torch.testing.assert_close(phi @ w, y, rtol=1e-3, atol=1e-3)


def test_an_evaluation_batch_is_what_a_batch_ends_in(
    tiny_eval_batch: Callable[..., EvalBatch],
) -> None:
    family = load_family("offset", {"n_demonstrations": 3})
    eval_batch = tiny_eval_batch(family, n=16, n_dummies=2)
    x, y = eval_batch.history[:, 0::3], eval_batch.history[:, 2::3]
    assert torch.equal(y, (x + eval_batch.tasks.unsqueeze(1)) % 11)
    assert torch.equal(eval_batch.targets[:, 0], (eval_batch.queries[:, 0] + eval_batch.tasks) % 11)
    assert torch.equal(
        eval_batch.wrong_targets[1:, 0], (eval_batch.queries[1:, 0] + eval_batch.tasks[:-1]) % 11
    )
    shown = torch.cat([x, eval_batch.dummies[..., 0], eval_batch.queries[:, :1]], dim=1)
    assert all(len(set(row)) == len(row) for row in shown.tolist())


def test_a_curriculum_cuts_dimensions_and_demonstrations(
    tiny_batch: Callable[..., Batch],
) -> None:
    family = load_family("linear", {"n_dims": 4, "n_demonstrations": 9})
    batch = tiny_batch(family, n_demonstrations=2, n_dims=1)
    assert batch.inputs.shape[1] == family.n_positions(2)
    assert bool((batch.inputs[:, 0::3, 1:4] == 0).all())
    assert bool((batch.inputs[:, 0::3, 0] != 0).all())


# --- statistics


@pytest.mark.parametrize(("name", "variance"), [("linear", 1.0), ("sinusoidal", 0.43233)])
def test_outputs_have_the_published_variance(name: str, variance: float) -> None:
    family = load_family(name, {"n_dims": 3})
    generator = generator_for("cpu", 3)
    batch = family.batch(family.draw_tasks(20_000, generator), generator, CurriculumStage())
    assert float(batch.targets.square().mean()) == pytest.approx(3 * variance, rel=0.05)
    if name == "sinusoidal":
        assert variance == pytest.approx((1 - math.exp(-2)) / 2, rel=1e-4)


def test_offsets_are_even_and_held_out_ones_never_trained_on() -> None:
    family = load_family("offset", {"held_out": 0.3})
    train = family.draw_tasks(20_000, generator_for("cpu", 1))
    test = family.draw_tasks(2_000, generator_for("cpu", 1), "test")
    assert set(train.tolist()).isdisjoint(test.tolist())
    assert len(set(train.tolist())) == 8
    counts = torch.bincount(train, minlength=11)
    assert float(counts[counts > 0].float().std()) < 0.03 * 20_000


def test_without_held_out_offsets_there_is_no_such_shift() -> None:
    assert HELD_OUT not in load_family("offset", {"held_out": 0}).shifts


def pieces(eval_batch: EvalBatch, d: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        eval_batch.history[:, 0::3, :d],
        eval_batch.history[:, 2::3, d],
        eval_batch.queries[:, 0, :d],
    )


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_under_every_shift_the_optimum_knows_the_task(
    name: str, shift: str, tiny_eval_batch: Callable[..., EvalBatch]
) -> None:
    family = load_family(name, {"n_dims": 3, "n_demonstrations": 30})
    eval_batch = tiny_eval_batch(family, n=64, shift=shift)
    optimal, without = (float(eval_batch.baselines[key].mean()) for key in ("optimal", "without"))
    assert optimal < (0.25 * without if shift == "label-noise" else 1e-6 + 1e-3 * without)
    wrong = (eval_batch.targets - eval_batch.wrong_targets).square().mean()
    assert float(wrong) > 0.5 * float(eval_batch.targets.square().mean())


def test_shifted_inputs_are_what_their_names_say(tiny_eval_batch: Callable[..., EvalBatch]) -> None:
    family = load_family("linear", {"n_dims": 4, "n_demonstrations": 40})
    drawn = {s: pieces(tiny_eval_batch(family, n=400, shift=s), 4) for s in (*SHIFTS, ORTHOGONAL)}
    plain = float(drawn["none"][0].square().mean())
    x, _, query = drawn["orthants"]
    assert bool((x.sign() == x.sign()[:, :1]).all())
    assert not bool((query.sign() == x[:, 0].sign()).all(dim=1).all())
    values = torch.linalg.svdvals(drawn["half-subspace"][0])
    assert bool((values[:, 2:] < 1e-3).all())
    assert bool((values[:, 1] > 1).all())
    skewed = torch.linalg.eigvalsh(
        drawn["skewed"][0].transpose(1, 2) @ drawn["skewed"][0] / 40
    ).mean(dim=0)
    expected = 1 / torch.tensor([16.0, 9.0, 4.0, 1.0])
    torch.testing.assert_close(skewed, expected * 4 / expected.sum(), rtol=0.25, atol=0.05)
    assert float(drawn["x-triple"][0].square().mean()) == pytest.approx(9 * plain, rel=0.1)
    assert float(drawn["y-half"][1].square().mean()) == pytest.approx(1.0, rel=0.2)
    assert float(drawn["label-noise"][1].square().mean()) == pytest.approx(4.0, rel=0.2)
    x, _, query = drawn["query-shown"]
    assert bool((x == query.unsqueeze(1)).all(dim=2).any(dim=1).all())
    x, _, query = drawn[ORTHOGONAL]
    assert x.shape[1] == 3
    assert float((x @ query.unsqueeze(2)).abs().max()) < 1e-3
    torch.testing.assert_close(query.norm(dim=1), torch.full((400,), 2.0))


def test_ridge_is_the_posterior_mean_written_out() -> None:
    generator = generator_for("cpu", 5)
    phi, y, query = (
        torch.randn(*shape, generator=generator) for shape in ((6, 5, 3), (6, 5), (6, 3))
    )
    for penalty in (0.0, 0.7):
        found = ridge(phi, y, query, penalty=penalty)
        for row in range(6):
            inner = phi[row].T @ phi[row] + penalty * torch.eye(3)
            w = torch.linalg.solve(inner, phi[row].T @ y[row])
            assert float(found[row]) == pytest.approx(float(query[row] @ w), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["linear", "sinusoidal"])
def test_few_regression_tasks_are_the_same_ones_each_time(name: str) -> None:
    family = load_family(name, {"n_dims": 2, "n_demonstrations": 4, "n_train_tasks": 3})
    again = load_family(name, {"n_dims": 2, "n_demonstrations": 4, "n_train_tasks": 3})
    drawn = family.draw_tasks(200, torch.Generator().manual_seed(1))
    other = again.draw_tasks(200, torch.Generator().manual_seed(2))
    assert len(drawn.unique(dim=0)) == 3
    torch.testing.assert_close(drawn.unique(dim=0), other.unique(dim=0))
    fresh = family.draw_tasks(200, torch.Generator().manual_seed(1), "test")
    assert len(fresh.unique(dim=0)) == 200
    assert "held-out" in family.shifts
    assert "held-out" not in load_family(name, {}).shifts


def test_the_best_guess_without_demonstrations_is_the_mean_of_few_tasks() -> None:
    family = load_family("linear", {"n_dims": 2, "n_demonstrations": 4, "n_train_tasks": 1})
    generator = torch.Generator().manual_seed(0)
    trials = family.eval_batch(family.draw_tasks(16, generator), generator, 4)
    # of one task, the guess is right
    assert float(trials.baselines["without"].max()) < 1e-9
    assert float(trials.baselines["optimal"].max()) == 0
    new = family.eval_batch(
        family.draw_tasks(16, generator, "test"), generator, 4, shift="held-out"
    )
    assert float(new.baselines["without"].mean()) > 0.1


def test_few_offsets_are_of_those_not_held_out() -> None:
    every = load_family("offset", {})
    family = load_family("offset", {"n_train_tasks": 3})
    drawn = set(family.draw_tasks(100, torch.Generator().manual_seed(0)).tolist())
    assert len(drawn) == 3
    assert drawn <= set(every.draw_tasks(100, torch.Generator().manual_seed(0)).tolist())
    held_out = set(family.draw_tasks(100, torch.Generator().manual_seed(0), "test").tolist())
    assert not drawn & held_out
    with pytest.raises(TaskVectorsError, match="give as many at most"):
        load_family("offset", {"n_train_tasks": 11})
