"""Do vectors change all queries alike, and do they prefer the answers they were trained on?

    python tools/late_layers.py --layers 9 11 13 16 --runs RUNS/late
    python tools/constant_share.py RUNS/late-vectors [--model embedded] [--write FILE.csv]

Of each vector that `late_layers.py` kept, on the test queries of its task and seed, from the change
Δ of the logits before an answer's first token, less its mean over the vocabulary:

- `constant_share`: ‖mean of Δ over queries‖² / mean of ‖Δ‖²; 1 where every query is changed alike,
  as by a bias on the logits;
- `preference`: how much more Δ lifts the first tokens of training answers than those of test
  answers, in logits, over all queries but each one's own answer; tokens that are both are left out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from evidence import write_rows
from late_layers import EXTRACTED, SIZES
from torch import Tensor

from taskvectors.experiments.config import ModelConfig
from taskvectors.methods import RunContext
from taskvectors.models import LanguageModel
from taskvectors.prompts import with_first_tokens
from taskvectors.results import Measurement, frame_of
from taskvectors.tasks import load_task
from taskvectors.trunk import Trunk
from taskvectors.vectors import TaskVector


def constant_share(change: Tensor) -> float:
    """Of changes `[query, d_vocab]`, the share of their squared length that is their mean's."""
    return float(change.mean(dim=0).square().sum() / change.square().sum(dim=1).mean())


def preference(change: Tensor, own: Tensor, trained: Tensor, tested: Tensor) -> float | None:
    """How much more changes `[query, d_vocab]` lift one set of tokens than another.

    Args:
        change: Changes of the logits.
        own: Each query's answer, `[query]`: it does not count there.
        trained: Tokens of training answers alone.
        tested: Tokens of test answers alone.

    Returns:
        None where one of the sets is empty: the splits share their labels.
    """
    if not len(trained) or not len(tested):
        return None
    others = tested != own.unsqueeze(1)
    lift = change[:, tested]
    on_tested = (lift * others).sum() / others.sum()
    return float(change[:, trained].mean() - on_tested)


def changes(
    model: LanguageModel, context: RunContext, vectors: list[TaskVector]
) -> Iterator[Tensor]:
    """Δ `[query, d_vocab]` of each vector."""
    prompts = with_first_tokens(context.prompts("test"))
    trunk = Trunk.build(model, prompts, positions=(-1,))
    batch = trunk.batch()
    plain = None
    with torch.no_grad():
        for edits in ([], *(vector.edits() for vector in vectors)):
            states = trunk.answer_states(trunk.run([edits], batch), batch)[:, 0]
            logits = model.logits(states).float()
            logits = logits - logits.mean(dim=1, keepdim=True)
            if plain is None:
                plain = logits
            else:
                yield logits - plain


def rows_of(model: LanguageModel, name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of all vectors of one task and seed."""
    task, _, seed = folder.name.rpartition("-")
    data = load_task(task, seed=int(seed), **SIZES)
    context = RunContext(model=model, task=data, seed=int(seed))
    first = {
        split: [prompt.answer_ids[0] for prompt in context.prompts(split)]
        for split in ("train", "test")
    }
    own = torch.tensor(first["test"])
    trained, tested = (
        torch.tensor(sorted(set(first[one]) - set(first[other])), dtype=torch.long)
        for one, other in (("train", "test"), ("test", "train"))
    )
    kept = sorted(folder.iterdir())
    vectors = [TaskVector.load(path) for path in kept]
    for path, change in zip(kept, changes(model, context, vectors), strict=True):
        recipe, _, layer = path.name.rpartition("-")
        values = {
            "constant_share": constant_share(change),
            "preference": preference(change, own, trained, tested),
        }
        for measure, value in values.items():
            if value is not None:
                made = Measurement(
                    measure=measure,
                    value=value,
                    method=EXTRACTED if recipe == EXTRACTED else "learned",
                    configuration=recipe,
                    layers=[int(layer)],
                )
                yield made.as_row(experiment="late-layers", model=name, task=task, seed=int(seed))


def main() -> None:
    """Measure every vector of some folders, and write the rows and their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", nargs="+", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--write", type=Path, default=Path("docs/results/data/constant-share.csv"))
    asked = parser.parse_args()
    model = ModelConfig(source=asked.model).load()
    name = Path(asked.model).stem
    rows = [
        row
        for folder in asked.vectors
        for one in sorted(folder.iterdir())
        for row in rows_of(model, name, one)
    ]
    write_rows([frame_of(rows)], asked.write)


if __name__ == "__main__":
    main()
