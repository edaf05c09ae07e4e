"""`multi-head`: heads replaced by hand, and a search that finds what was planted.

Run with `pytest tests/methods/test_multi_head.py`.
"""

from itertools import islice
from typing import Any

import torch
from full_pass import full_logits

from taskvectors.methods.multi_head import MultiHead, multi_head, reinforce, replaced_heads
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.shared.head_means import head_means
from taskvectors.trunk import Edit

QUICK: dict[str, Any] = {"steps": 3, "batch_size": 4, "n_samples": 3, "check_every": 1}


def test_the_candidate_replaces_its_heads_at_the_last_token(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 3, 2))
    (one,) = multi_head(context, MultiHead(n_prompts=4, **QUICK))
    (score,) = score_candidates(context, "validation", [one])
    z = head_means(context, 4).z
    branch = one.branch(context.prompts("validation"))
    heads = [(edit.layer, edit.head) for edit in branch]
    assert {site.layer for site in one.sites} == {layer for layer, _ in heads}
    assert one.configuration == f"{len(heads)} heads replaced"
    by_hand = [
        Edit(layer=la, component="z", head=h, operation="replace", value=z[la, h])
        for la, h in heads
    ]
    for index, prompt in enumerate(context.prompts("validation")):
        with torch.no_grad():
            logits = full_logits(model, prompt, by_hand).log_softmax(dim=-1)
        tokens = torch.tensor(prompt.answer_ids)
        expected = logits[torch.arange(len(tokens)), tokens].mean()
        torch.testing.assert_close(score.log_probability[0, index], expected, atol=1e-3, rtol=1e-3)


def test_it_is_never_worse_on_validation_than_no_head_at_all(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    context = bench_of(tiny_model("gpt2"), mixed, sizes=(6, 4, 2))
    (one,) = multi_head(context, MultiHead(n_prompts=4, **QUICK))
    plain, found = score_candidates(context, "validation", [type(one)(method="plain"), one])
    merits = [
        (float(s.is_correct.double().mean()), float(s.log_probability.mean()))
        for s in (plain, found)
    ]
    assert merits[1] >= merits[0]


def test_the_search_finds_the_heads_that_lower_the_loss_and_leaves_the_others() -> None:
    """Planted: two heads lower the loss, two raise it, the rest only add noise."""
    noise = torch.Generator().manual_seed(1)
    effect = torch.zeros(3, 4)
    effect[0, 1], effect[2, 3] = -2.0, -1.0
    effect[1, 1], effect[2, 0] = 1.5, 1.0

    def losses_of(sets: torch.Tensor) -> torch.Tensor:
        return (sets.float() * effect).sum(dim=(1, 2)) + 0.1 * torch.randn(
            len(sets), generator=noise
        )

    config = MultiHead(n_samples=16)
    steps = reinforce(losses_of, (3, 4), config, torch.Generator().manual_seed(0))
    drawn = list(islice(steps, 80))
    probability = drawn[-1].probability
    assert probability[effect < 0].min() > 0.9
    assert probability[effect > 0].max() < 0.1
    assert drawn[-1].loss < drawn[0].loss - 1
    # the control: with losses that say nothing no head becomes sure
    silent = reinforce(
        lambda sets: torch.randn(len(sets), generator=noise),
        (3, 4),
        config,
        torch.Generator().manual_seed(0),
    )
    last = list(islice(silent, 80))[-1].probability
    assert not bool(((last > 0.9) & (effect < 0)).all(dim=None))
    assert float((last[effect < 0]).min()) < 0.9


def test_the_same_seed_finds_the_same_heads(tiny_model: Any, bench_of: Any) -> None:
    found = []
    for seed in (0, 0, 1):
        context = bench_of(tiny_model("llama"), seed=seed)
        (one,) = multi_head(context, MultiHead(n_prompts=4, **QUICK))
        found.append([point["loss"] for point in one.curve])
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_no_head_is_the_plain_run(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    none = torch.zeros(4, 4, dtype=torch.bool)
    assert replaced_heads(head_means(context, 4), none) == []
