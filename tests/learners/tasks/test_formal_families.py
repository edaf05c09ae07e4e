"""GINC and RegBench as families: what batches hold, and what may not leak."""

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.learners import FAMILIES, load_family
from taskvectors.learners.family import HELD_OUT, CurriculumStage, TaskFamily
from taskvectors.learners.passes import both_losses, prompted_states
from taskvectors.learners.rows import measured_rows
from taskvectors.learners.tasks.shared.regbench_instances import legal_letters

SMALL = {
    "ginc": {"n_hmms": 40, "n_symbols": 12, "n_demonstrations": 4, "segment_length": 3},
    "regbench": {"n_train": 30, "n_test": 10, "strings": (3, 5), "segment_length": 4},
}
NAMES = list(SMALL)


@pytest.fixture(params=NAMES)
def family(request):
    return load_family(request.param, SMALL[request.param])


def delimiter_of(family):
    return 1 if family.kind == "ginc" else family.sizes.separator


def drawn(family, seeded, n=32, split="train", seed=0):
    generator = seeded(seed)
    tasks = family.draw_tasks(n, generator, split)
    return tasks, generator


def test_they_are_found_by_name(family):
    assert family.kind in FAMILIES
    assert isinstance(family, TaskFamily)


def test_a_batch_predicts_each_next_token(family, seeded):
    tasks, generator = drawn(family, seeded)
    batch = family.batch(tasks, generator, CurriculumStage())
    assert batch.inputs.shape == (32, family.n_positions(family.n_demonstrations))
    assert torch.equal(batch.targets, batch.inputs[:, 1:])
    assert torch.equal(batch.reads[0], torch.arange(batch.inputs.shape[1] - 1))
    assert int(batch.inputs.max()) < family.d_vocab


def test_sites_are_delimiters_after_a_demonstration(family, seeded):
    tasks, generator = drawn(family, seeded)
    batch = family.batch(tasks, generator, CurriculumStage())
    used = batch.query_weights[..., 0] > 0
    at_sites = batch.inputs.gather(1, batch.sites)
    assert (at_sites[used] == delimiter_of(family)).all()
    assert (batch.sites[used] > 0).all()
    n_delimiters = (batch.inputs == delimiter_of(family)).sum(dim=1)
    assert (used.sum(dim=1) <= n_delimiters).all()
    assert used.any()
    for row, ok in zip(batch.sites, used, strict=True):
        assert len(set(row[ok].tolist())) == int(ok.sum())  # none is taken twice


def test_queries_are_segments_of_the_same_task_that_their_sites_have_not_seen(family, seeded):
    tasks, generator = drawn(family, seeded, n=200)
    batch = family.batch(tasks, generator, CurriculumStage())
    used = batch.query_weights[..., 0] > 0
    assert (batch.queries[..., 0] == delimiter_of(family))[used].all()
    assert torch.equal(batch.queries[..., 1:], batch.query_targets[..., :-1])
    assert batch.query_reads == tuple(range(family.segment_length))
    assert batch.site_column == 0
    if family.kind == "regbench":
        automata = family.automata("cpu")
        whole = torch.cat([batch.queries, batch.query_targets[..., -1:]], dim=-1)
        each = tasks.repeat_interleave(whole.shape[1])
        legal = legal_letters(family.sizes, automata, each, whole.flatten(0, 1))[:, :-1]
        assert legal.gather(2, whole.flatten(0, 1)[:, 1:, None]).all()
    # of a document they are what follows the site, and of strings fresh ones
    following = batch.inputs[:, 1:].unfold(1, family.segment_length, 1)
    column = batch.sites.clamp(max=following.shape[1] - 1)
    rows = torch.arange(len(tasks))[:, None]
    agree = (following[rows, column] == batch.query_targets).all(dim=-1)
    assert agree[used].all() if family.kind == "ginc" else float(agree.float().mean()) < 0.5


def test_every_place_that_a_trial_reads_at_is_trained(family, seeded):
    tasks, generator = drawn(family, seeded)
    eval_batch = family.eval_batch(tasks, generator, family.n_demonstrations)
    batch = family.batch(tasks, generator, CurriculumStage())
    last = eval_batch.history.shape[1] + max(eval_batch.query_reads)
    assert batch.weights[batch.reads >= last].any()


def test_ginc_goes_on_with_the_value_at_the_delimiter(seeded):
    """Trials are windows of documents, so in-context learning can reach the optimum on them."""
    family = load_family("ginc", {"n_symbols": 40, "n_demonstrations": 12})
    tasks, generator = drawn(family, seeded, n=400)
    eval_batch = family.eval_batch(tasks, generator, 12)
    assert float(eval_batch.baselines["optimal"].mean()) < 0.02
    world = family.world("cpu")
    whole = torch.cat([eval_batch.history, eval_batch.queries], dim=1)
    value = torch.full(whole.shape, -1)
    for one in range(family.n_values):  # 40 symbols: most words tell their value
        own, others = world.memory[one, 1:], world.memory[torch.arange(2) != one, 1:]
        alone = own[~torch.isin(own, others)] + 1
        value[torch.isin(whole, alone)] = one
    before, after = value[:, :48], value[:, 48:]
    last = torch.where(before >= 0, torch.arange(48), -1).argmax(dim=1)
    known = before.gather(1, last[:, None])
    told = (after >= 0) & (known >= 0)
    assert float((after == known)[told].float().mean()) > 0.65


def test_a_curriculum_shortens_a_batch(family, seeded):
    tasks, generator = drawn(family, seeded)
    batch = family.batch(tasks, generator, CurriculumStage(n_demonstrations=2))
    assert batch.inputs.shape[1] == family.n_positions(2)
    assert batch.inputs.shape[1] < family.n_positions(family.n_demonstrations)


@pytest.mark.parametrize("shift", ["none", HELD_OUT])
def test_a_trial_is_a_history_a_delimiter_and_a_segment(family, seeded, shift):
    split = "test" if shift == HELD_OUT else "train"
    tasks, generator = drawn(family, seeded, split=split)
    eval_batch = family.eval_batch(tasks, generator, 3, shift=shift)
    assert eval_batch.history.shape[1] + eval_batch.queries.shape[1] <= family.n_positions(3)
    assert (eval_batch.queries[:, 0] == delimiter_of(family)).all()
    assert torch.equal(eval_batch.dummies[:, 0], eval_batch.queries[:, :1])
    assert eval_batch.site_column == 0
    assert eval_batch.query_reads == tuple(range(family.segment_length))
    assert set(eval_batch.baselines) >= {"without", "optimal"}
    for error in eval_batch.baselines.values():
        assert error.shape == eval_batch.weights.shape
    assert float(eval_batch.baselines["optimal"].mean()) < float(
        eval_batch.baselines["without"].mean()
    )


def test_demonstrations_bring_the_optimum_down(family, seeded):
    tasks, _ = drawn(family, seeded, n=200)
    few, many = (family.eval_batch(tasks, seeded(1), n).baselines for n in (1, 8))
    assert float(few["without"].mean()) > float(few["optimal"].mean())
    assert float(few["optimal"].mean()) >= float(many["optimal"].mean())
    assert float(many["optimal"].mean()) < 0.1


def test_what_is_held_out_is_never_trained_on(family, seeded):
    trained, _ = drawn(family, seeded, n=400)
    held_out, _ = drawn(family, seeded, n=400, split="test")
    assert not set(trained.tolist()) & set(held_out.tolist())


def test_the_wrong_targets_are_those_of_the_row_before(family, seeded):
    tasks, generator = drawn(family, seeded, n=40)
    eval_batch = family.eval_batch(tasks, generator, 3)
    if family.kind == "regbench":
        expected = legal_letters(
            family.sizes, family.automata("cpu"), tasks.roll(1), eval_batch.queries
        )
        assert torch.equal(eval_batch.wrong_targets, expected)
    same = tasks == tasks.roll(1)
    if family.kind == "regbench":
        assert torch.equal(eval_batch.wrong_targets[same], eval_batch.targets[same])
    assert not torch.equal(eval_batch.wrong_targets, eval_batch.targets)


def test_a_right_answer_has_no_error_and_a_wrong_one_has(family, seeded):
    tasks, generator = drawn(family, seeded)
    eval_batch = family.eval_batch(tasks, generator, 3)
    right = eval_batch.targets.float() if family.kind == "regbench" else None
    if right is None:
        right = torch.nn.functional.one_hot(eval_batch.targets, family.d_vocab).float()
    right = torch.nn.functional.pad(right, (0, family.d_vocab - right.shape[-1]))
    assert not family.errors(right, eval_batch.targets).any()
    bar = torch.nn.functional.one_hot(torch.tensor(family.d_vocab - 1), family.d_vocab).float()
    nothing = bar.expand(*eval_batch.weights.shape, -1)
    if family.kind == "regbench":
        assert (family.errors(nothing, eval_batch.targets) == 1).all()


def test_a_seed_fixes_tasks_and_draws(family, seeded):
    one, again = (
        family.eval_batch(drawn(family, seeded)[0], seeded(2), 3).queries for _ in range(2)
    )
    assert torch.equal(one, again)
    settings = SMALL[family.kind]
    other = load_family(family.kind, settings | {"task_seed": 1})
    tasks = torch.arange(6)
    assert not torch.equal(
        other.eval_batch(tasks, seeded(2), 3).history,
        family.eval_batch(tasks, seeded(2), 3).history,
    )


def test_probe_targets_tell_tasks_apart(family, seeded):
    tasks, _ = drawn(family, seeded)
    targets = family.probe_targets(tasks)
    assert len(targets) == len(tasks)
    assert len(torch.unique(targets, dim=0)) > 1


def test_the_published_corpus_is_shown_again_and_again(monkeypatch, seeded):
    from taskvectors.learners.tasks import ginc

    monkeypatch.setattr(ginc, "PUBLISHED_DOCUMENTS", (12, 60))
    ginc._corpus.cache_clear()
    family = load_family("ginc", SMALL["ginc"] | {"corpus": "published"})
    documents = ginc._corpus(family.sizes, 0, "cpu")
    tasks = documents.hmm[torch.randint(12, (40,), generator=seeded(0))]
    batch = family.batch(tasks, seeded(1), CurriculumStage())
    width = batch.inputs.shape[1]
    windows = documents.documents.unfold(1, width, 1)
    for task, row in zip(tasks, batch.inputs, strict=True):
        own = windows[documents.hmm == task].flatten(0, 1)
        assert (own == row).all(dim=1).any()
    ginc._corpus.cache_clear()


def test_published_instances_are_one_per_automaton(seeded):
    family = load_family("regbench", SMALL["regbench"] | {"corpus": "published"})
    tasks = torch.tensor([3, 4, 3])
    one, other = (family.batch(tasks, seeded(seed), CurriculumStage()) for seed in (1, 2))
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.inputs[0], one.inputs[2])
    assert not torch.equal(one.queries, other.queries)
    with pytest.raises(TaskVectorsError, match="fixed"):
        family.batch(tasks, seeded(1), CurriculumStage(n_demonstrations=2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"strings": (1, 4)}, "no separator"), ({"segment_length": 20}, "longer than any string")],
)
def test_settings_without_a_vector_are_refused(settings, said):
    with pytest.raises(TaskVectorsError, match=said):
        load_family("regbench", settings)


def test_a_state_put_into_its_own_sequence_gives_in_context_learning_exactly(
    family, seeded, tiny_learner
):
    learner = tiny_learner(family.kind, **SMALL[family.kind])
    tasks, generator = drawn(family, seeded, n=3)
    batch, body = family.batch(tasks, generator, CurriculumStage()), learner.body
    state, arguments = body.enter(body.embed(batch.inputs))
    below, plain = body.run(state, arguments, range(2)), body.run(state, arguments, range(3))
    for row in range(3):
        site = int(batch.sites[row, 0])
        one = batch.inputs[row : row + 1]
        again = prompted_states(body, one, below[row : row + 1, site], site, layer=1)
        torch.testing.assert_close(again[0], plain[row], rtol=0, atol=1e-5)


def test_the_tvp_loss_is_the_naive_one_at_every_position_of_a_segment(family, seeded, tiny_learner):
    learner = tiny_learner(family.kind, **SMALL[family.kind])
    tasks, generator = drawn(family, seeded, n=3)
    batch, body = family.batch(tasks, generator, CurriculumStage()), learner.body
    _, quick = both_losses(body, family, batch, (1,))
    for row in range(3):
        for number, site in enumerate(batch.sites[row].tolist()):
            if not batch.query_weights[row, number, 0]:
                assert not quick[row, number].any()
                continue
            state, arguments = body.enter(body.embed(batch.inputs[row : row + 1, : site + 1]))
            vector = body.run(state, arguments, range(2))[0, -1]
            query, arguments = body.enter(body.embed(batch.queries[row, number][None]))
            state = body.run(query, arguments, range(2)).clone()
            state[0, 0] = vector
            logits = body.logits(body.run(state, arguments, range(2, 3)))[0]
            loss = torch.nn.functional.cross_entropy(
                logits, batch.query_targets[row, number], reduction="none"
            )
            torch.testing.assert_close(quick[row, number], loss)


def test_a_learner_is_measured_as_a_curve_over_a_segment(family, tiny_learner):
    learner = tiny_learner(family.kind, **SMALL[family.kind])
    rows = measured_rows(learner, n_trials=16, seed=0)
    assert [row["layer"] for row in rows] == [0, 1, 2]
    for row in rows:
        for name in ("tvp_error_by_position", "icl_error_by_position"):
            assert len(row[name]) == family.segment_length
        # the first is read where the vector is put: after the last block it is the learner's own
        after_it = row["tvp_error_by_position"][1:]
        assert row["tvp_error"] == pytest.approx(sum(after_it) / len(after_it))
        assert row["tvp_error_averaged"] == row["tvp_error"]
        assert row["task_share"] is None
    assert rows[-1]["tvp_error_by_position"][0] == rows[-1]["icl_error_by_position"][0]
