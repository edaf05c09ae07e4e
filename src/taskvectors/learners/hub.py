"""A learner on the Hugging Face hub: the files it has on disk, and a card that says what it is."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.vectors.hub import pull_folder, push_folder, without_paths

if TYPE_CHECKING:
    from taskvectors.learners.model import Learner

FILES = ("learner.json", "config.json", "generation_config.json", "model.safetensors")


def push_learner(
    learner: "Learner", repo: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Upload a learner with its card; paths of this machine are cut to their last name.

    Args:
        learner: The learner.
        repo: `owner/name`; made if it is not there.
        private: Whether a new repository is private.
        token: Of the hub; the one that is logged in by default.

    Returns:
        Address of the repository.

    Raises:
        TaskVectorsError: The hub cannot be reached, or refuses it.
    """
    shown = replace(
        learner,
        about=without_paths(dict(learner.about)),
        family_source=without_paths(learner.family_source),
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "learner"
        shown.save(folder)
        message = f"a learner of {shown.family_source}"
        card = card_of(shown, repo)
        return push_folder(folder, repo, card, message=message, private=private, token=token)


def pull_learner(repo: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """A folder with a learner of the hub, to be loaded.

    Args:
        repo: `owner/name`, or a folder that `save` wrote.
        revision: Commit, branch or tag; the main branch by default.
        token: Of the hub; the one that is logged in by default.

    Raises:
        DataError: There is no such repository, or it cannot be reached.
    """
    return pull_folder(repo, FILES, revision=revision, token=token)


_NOTHING = "Nothing is noted; `taskvectors.learners.measure` measures it."
_SCORES = """

Errors are the family's own. Recovery is the share of what demonstrations gain that the vector alone
gives. In brackets: 95 % intervals."""


def _score(score: Mapping[str, Any]) -> str:
    low, high, n = (score.get(name) for name in ("low", "high", "n"))
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{score['value']:.3f}{interval}" + (f" on {n} questions" if n else "")


def card_of(learner: "Learner", repo: str) -> str:
    """The card: what it was trained on and how, what it reached, how to use it.

    Args:
        learner: The learner, as it is pushed.
        repo: `owner/name`.
    """
    family: Any = learner.family
    config, training = learner.hf.config, learner.about.get("training", {})
    numbers = sum(weight.numel() for weight in learner.hf.parameters())
    head = {"library_name": "taskvectors", "tags": ["in-context-learning", "task-vectors"]}
    rows = {
        "family of tasks": learner.family_source,
        "its settings": json.dumps(family.model_dump(mode="json")),
        "body": f"{config.model_type}, {config.num_hidden_layers} blocks of width "
        f"{config.hidden_size}, {numbers:,} weights in float32",
        "a vector was asked for at layer": training.get("tvp_layer"),
        "steps": training.get("steps"),
        "seed": training.get("seed"),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None)
    reached = learner.about.get("scores", {})
    scores = "\n".join(f"- {name}: {_score(score)}" for name, score in reached.items())
    scores += _SCORES if scores else ""
    return f"""---
{json.dumps(head, indent=2)}
---

# A learner of {learner.family_source}

A small transformer that was trained from scratch to learn tasks of one family in its context.

| | |
|---|---|
{table}

## What it reached

{scores or _NOTHING}

## Use

```python
from taskvectors.learners import Learner

learner = Learner.from_pretrained({json.dumps(repo)})
model = learner.language_model()  # for extraction, injection and every analysis
```
"""
