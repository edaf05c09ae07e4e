"""The learner: a small transformers model, and the family of tasks it was trained on.

It is a plain causal language model of transformers, so whatever reads or edits language models
works on it, and `save_pretrained` and `from_pretrained` keep it. Real-valued tasks need no other
heads: their inputs are mixtures of the embedding's rows, one row per coordinate, and their
prediction is the logit of the output's coordinate. W_E is the read-in and W_U the read-out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import read_json, write_whole
from taskvectors.learners.families import FAMILIES, load_family
from taskvectors.learners.family import TaskFamily
from taskvectors.learners.hub import pull_learner, push_learner
from taskvectors.models import LanguageModel
from taskvectors.models.causal import CausalBody
from taskvectors.models.completeness import (
    check_files,
    check_finite,
    check_loaded,
    check_sizes,
)

ABOUT = "learner.json"
"""Beside the files of `save_pretrained`: family, settings and scores."""
TRAINED = Path(__file__).parent / "trained"
"""Learners that come with the package, a folder each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """A trained learner."""

    hf: Any
    """The transformers model."""
    family: TaskFamily
    family_source: str
    """The family's name, or the file that it is from."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained, and what it reached: plain data."""
    source: str = ""
    """The folder that it was loaded from."""

    @cached_property
    def body(self) -> CausalBody:
        """Its parts, to run it with."""
        return CausalBody.of(self.hf)

    def language_model(self) -> LanguageModel:
        """The learner for extraction, injection and every analysis; it is frozen by this."""
        return LanguageModel.wrap(self.hf, source=self.source or f"learner-{self.family_source}")

    def save(self, folder: Path | str) -> None:
        """Write it to a folder."""
        self.hf.save_pretrained(folder)
        self.save_about(folder)

    def save_about(self, folder: Path | str) -> None:
        """Write what is said of it alone, into a folder that has its weights."""
        family: Any = self.family
        about = {
            "family": self.family_source,
            "settings": family.model_dump(mode="json"),
            "about": dict(self.about),
        }
        write_whole(Path(folder) / ABOUT, json.dumps(about, indent=1) + "\n")

    def push_to_hub(
        self, repo: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload the learner with a card to the Hugging Face hub; see `push_learner`.

        Args:
            repo: `owner/name`; made if it is not there.
            private: Whether a new repository is private.
            token: Of the hub; the one that is logged in by default.

        Returns:
            Address of the repository.

        Raises:
            TaskVectorsError: The hub cannot be reached, or refuses it.
        """
        return push_learner(self, repo, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls, repo: str, family: str = "", *, revision: str | None = None, token: str | None = None
    ) -> "Learner":
        """Read a learner from the Hugging Face hub, or from a folder.

        Args:
            repo: `owner/name`, or a folder.
            family: As in `load`.
            revision: Commit, branch or tag; the main branch by default.
            token: Of the hub; the one that is logged in by default.

        Raises:
            DataError: It cannot be reached, or holds no learner; see `load`.
        """
        return cls.load(pull_learner(repo, revision=revision, token=token), family)

    @classmethod
    def load(cls, folder: Path | str, family: str = "") -> "Learner":
        """Read it from a folder.

        Args:
            folder: The folder, or the name of a learner that comes with the package.
            family: The Python file of its family, where that is not a registered one: a folder
                names no code to run.

        Raises:
            DataError: The folder holds no learner, or its family is in a file that was not given.
        """
        folder = Path(folder)
        if not is_learner(folder) and is_learner(TRAINED / folder):
            folder = TRAINED / folder
        if not is_learner(folder):
            names = ", ".join(sorted(path.name for path in TRAINED.iterdir()))
            raise DataError(
                f"{folder} holds no learner: it has no {ABOUT}; give a folder that "
                f"`taskvectors train` or Learner.save wrote, or one of {names}"
            )
        held: _Held = read_json(folder / ABOUT, _Held, _AGAIN)
        if not family and held.family not in FAMILIES:
            raise DataError(
                f"{folder} was trained on the family of tasks of {held.family}; give that file, "
                "if you trust it: --family FILE.py, or Learner.load(folder, family=FILE)"
            )
        settings = {name: value for name, value in held.settings.items() if name != "kind"}
        found = load_family(family or held.family, settings)
        return cls(
            hf=_read_model(folder, found),
            family=found,
            family_source=family or held.family,
            about=held.about,
            source=folder.name,
        )


class _Held(BaseModel):
    """`learner.json`."""

    family: str
    settings: dict[str, Any]
    about: dict[str, Any]


_AGAIN = "train the learner again, or copy its folder whole"


def _read_model(folder: Path, family: TaskFamily) -> Any:
    """The transformers model of a learner, every weight of it read."""
    from transformers import AutoModelForCausalLM

    try:
        check_files(folder)
        held = read_json(folder / "config.json", dict[str, Any], _AGAIN)
        check_sizes(held, folder.name, folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with their shapes
        )
    except TaskVectorsError:
        raise
    except Exception as error:  # what transformers raises depends on the folder's content
        said = str(error).partition("\n")[0]
        raise DataError(f"the model in {folder} cannot be loaded ({said}); {_AGAIN}") from error
    hf, info = loaded
    check_loaded(hf, info, folder.name)
    check_finite(hf, folder.name)
    if hf.config.vocab_size != family.d_vocab:
        raise DataError(
            f"the model in {folder} has {hf.config.vocab_size} tokens, and its family has "
            f"{family.d_vocab}; {_AGAIN}"
        )
    return hf


def is_learner(folder: Path | str) -> bool:
    """Whether a folder holds a learner."""
    return (Path(folder) / ABOUT).is_file()
