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

from taskvectors.errors import DataError
from taskvectors.learners.families import FAMILIES, load_family
from taskvectors.learners.family import TaskFamily
from taskvectors.models import LanguageModel
from taskvectors.models.causal import CausalBody

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
        folder = Path(folder)
        self.hf.save_pretrained(folder)
        family: Any = self.family
        about = {
            "family": self.family_source,
            "settings": family.model_dump(mode="json"),
            "about": dict(self.about),
        }
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")

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
        from transformers import AutoModelForCausalLM

        folder = Path(folder)
        if not is_learner(folder) and is_learner(TRAINED / folder):
            folder = TRAINED / folder
        if not is_learner(folder):
            names = ", ".join(sorted(path.name for path in TRAINED.iterdir()))
            raise DataError(
                f"{folder} holds no learner: it has no {ABOUT}; give a folder that "
                f"`taskvectors train` or Learner.save wrote, or one of {names}"
            )
        held = json.loads((folder / ABOUT).read_text())
        settings = {name: value for name, value in held["settings"].items() if name != "kind"}
        if not family and held["family"] not in FAMILIES:
            raise DataError(
                f"{folder} was trained on the family of tasks of {held['family']}; give that file, "
                "if you trust it: --family FILE.py, or Learner.load(folder, family=FILE)"
            )
        return cls(
            hf=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            family=load_family(family or held["family"], settings),
            family_source=family or held["family"],
            about=held["about"],
            source=folder.name,
        )


def is_learner(folder: Path | str) -> bool:
    """Whether a folder holds a learner."""
    return (Path(folder) / ABOUT).is_file()
