"""A vector on the Hugging Face hub: the files it has on disk, and a card that says what it is.

What is pushed names no place of the machine that made it: paths of files are left out, or cut to
their last name.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.vectors.storage import CONFIG, VALUES, load_vector, save_vector
from taskvectors.vectors.task_vector import TaskVector

_CARD = "README.md"
_EMBEDDED = "embedded"
_EMBEDDED_LICENSE = "gemma"


def push_vector(
    vector: TaskVector,
    repo: str,
    *,
    measures: Mapping[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload a vector with its card; a repository that is not there is made.

    Args:
        vector: The vector.
        repo: `owner/name`.
        measures: What it reached on pairs that it has not seen, as `asdict(tv.evaluate(...))`.
        private: Whether a new repository is private.
        token: Of the hub; the one that is logged in by default.

    Returns:
        Address of the repository.

    Raises:
        TaskVectorsError: The hub cannot be reached, or refuses it.
    """
    shown = portable(vector)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "vector"
        save_vector(shown, folder)
        card = card_of(shown, repo, measures)
        return push_folder(
            folder, repo, card, message=vector.origin.label, private=private, token=token
        )


def push_folder(
    folder: Path, repo: str, card: str, *, message: str, private: bool | None, token: str | None
) -> str:
    """Upload a folder with its card; a repository that is not there is made.

    Args:
        folder: The folder; the card is written into it.
        repo: `owner/name`.
        card: Its README.
        message: Of the commit.
        private: Whether a new repository is private.
        token: Of the hub; the one that is logged in by default.

    Returns:
        Address of the repository.

    Raises:
        TaskVectorsError: The hub cannot be reached, or refuses it.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    (folder / _CARD).write_text(card, encoding="utf-8")
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # what the client raises depends on the network and the hub
        raise TaskVectorsError(
            f"{repo} cannot be pushed to the hub: {_gist(error)} See that the name is "
            "owner/name, that you are logged in (hf auth login) and may write there."
        ) from error
    return str(address)


def pull_vector(repo: str, *, revision: str | None = None, token: str | None = None) -> TaskVector:
    """A vector of the hub, or of a folder.

    Args:
        repo: `owner/name`, or a folder that `save` wrote.
        revision: Commit, branch or tag; the main branch by default.
        token: Of the hub; the one that is logged in by default.

    Raises:
        DataError: There is no such repository, it holds no vector, or it cannot be reached.
    """
    return load_vector(pull_folder(repo, (VALUES, CONFIG), revision=revision, token=token))


def pull_folder(
    repo: str, files: Sequence[str], *, revision: str | None, token: str | None
) -> Path:
    """Some files of a repository of the hub, in a folder; one that is a folder is taken as it is.

    Args:
        repo: `owner/name`, or a folder.
        files: Their names.
        revision: Commit, branch or tag; the main branch by default.
        token: Of the hub; the one that is logged in by default.

    Raises:
        DataError: There is no such repository, or it cannot be reached.
    """
    if Path(repo).expanduser().is_dir():
        return Path(repo).expanduser()
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repo, revision=revision, token=token, allow_patterns=list(files))
    except Exception as error:  # as above
        raise DataError(
            f"{repo} cannot be read from the hub: {_gist(error)} Give owner/name of a repository "
            "that push_to_hub made, or a folder."
        ) from error
    return Path(folder)


def portable(vector: TaskVector) -> TaskVector:
    """The vector without paths of this machine in its origin, and a note of what was left out."""
    origin = vector.origin
    dropped: dict[str, Any] = {}
    if origin.request is not None and _is_path(origin.request.source):
        dropped["request"] = None
    if _is_path(origin.location):
        dropped["location"] = ""
    fields = {
        name: without_paths(value) for name, value in asdict(origin).items() if name != "request"
    }
    kept = {name: value for name, value in fields.items() if value != asdict(origin)[name]}
    if "notes" in kept:
        kept["notes"] = tuple(kept["notes"])
    told = []
    if "request" in dropped:
        told.append(f"the file of the task {origin.task} is not part of this; name it with --task")
    if "location" in dropped:
        told.append(
            f"made for a local copy of {without_paths(origin.model)}; name the model with --model"
        )
    changed = kept | dropped
    notes = (*changed.get("notes", origin.notes), *told)
    return replace(vector, origin=replace(origin, **changed | {"notes": notes}))


def card_of(vector: TaskVector, repo: str, measures: Mapping[str, Any] | None = None) -> str:
    """The card: what it is, of which model, what it reached, how to use it.

    Args:
        vector: The vector, as it is pushed.
        repo: `owner/name`.
        measures: What it reached on pairs that it has not seen.
    """
    origin = vector.origin
    model = "google/gemma-3-270m" if origin.model == _EMBEDDED else origin.location
    head = {
        "library_name": "taskvectors",
        "tags": ["task-vectors", "activation-steering"],
        **({"base_model": model} if model.count("/") == 1 else {}),
        **({"license": _EMBEDDED_LICENSE} if origin.model == _EMBEDDED else {}),
    }
    rows = {
        "model": f"{origin.model}{f' at {origin.revision}' if origin.revision else ''}",
        "weights": origin.weights_note,
        "method": origin.method,
        "task": origin.task,
        "template": origin.template,
        "operation": vector.operation,
        "sites": ", ".join(map(str, vector.sites)),
        "numbers": f"{vector.values.numel()} of float32, norm {vector.norm():.4g}",
        "made with": ", ".join(f"{name} {value}" for name, value in origin.versions.items()),
        "notes": "; ".join(origin.notes),
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value)
    return f"""---
{json.dumps(head, indent=2)}
---

# {origin.label}

A task vector: {vector.operation} it to the residual stream of the frozen model, and the model does
the task without demonstrations.

| | |
|---|---|
{table}

## What it reached

{_scores(origin.scores, measures)}

## Use

```python
import taskvectors as tv

vector = tv.TaskVector.from_pretrained({json.dumps(repo)})
model = tv.load_model({json.dumps(_EMBEDDED if origin.model == _EMBEDDED else model or "MODEL")})
print(tv.generate(model, vector, input="...").edited)
```

It refuses a model that it was not made for.

## Licence

The vector means something only in {origin.model or "its model"}; whatever its licence and terms say
of works made with it holds here, too.
"""


def _scores(scores: Mapping[str, Any], measures: Mapping[str, Any] | None) -> str:
    lines = []
    if measures is not None:
        lines.append(
            f"- accuracy {measures['accuracy']:.3f} [{measures['ci_low']:.3f}, "
            f"{measures['ci_high']:.3f}] on {measures['n']} pairs that were held out (95 % Wilson "
            "interval)"
        )
    lines += [
        f"- {name.replace('_', ' ')}: {value:.4g} (used to choose, so it is too high)"
        for name, value in scores.items()
        if isinstance(value, int | float)
    ]
    return "\n".join(lines) or "Nothing was measured; `taskvectors evaluate` does it."


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", "\\n")


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def without_paths(value: Any) -> Any:
    """A value in which absolute paths are their last names."""
    if isinstance(value, str):
        is_windows = PureWindowsPath(value).drive != ""
        kind = PureWindowsPath if is_windows else PurePosixPath
        return kind(value).name if _is_path(value) else value
    if isinstance(value, Mapping):
        return {name: without_paths(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_paths(one) for one in value)
    return value


def _gist(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".") + "."
