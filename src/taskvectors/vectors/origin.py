"""Where a vector comes from, and whether it belongs to a model.

Everything here is plain data that goes to JSON as it is. A vector only means something in the
residual stream it was made for, so its origin keeps a fingerprint of that model's weights.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from pydantic import ConfigDict

from taskvectors._version import __version__
from taskvectors.models import LanguageModel
from taskvectors.tasks import Task, TaskRequest, hash_of_pairs, hashes_of_pairs

RELATIVE_TOLERANCE = 1e-2
"""How far sampled weights may differ: the same ones agree in float32 and in bfloat16's 8 bits."""
_ROUNDING = 2e-6
"""Samples are rounded to 6 decimals."""

_HASHES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@cache  # each reading parses a file, and every injection asks
def _version(package: str) -> str:
    return version(package)


def _versions() -> dict[str, str]:
    return {"taskvectors": __version__} | {
        name: _version(name) for name in ("torch", "transformers")
    }


@dataclass(frozen=True, kw_only=True)
class VectorOrigin:
    """How a vector was made. What is not known is empty."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    method: str = ""
    """Name of the method."""
    model: str = ""
    """What the model was loaded from."""
    location: str = ""
    """What `load_model` takes to load it again; empty where it was loaded elsewhere."""
    revision: str = ""
    """Commit or hash of its weights."""
    weights_note: str = ""
    """What is special about them, e.g. that they were de-quantised."""
    family: str = ""
    """`model_type` of the model's config."""
    n_layers: int | None = None
    """Blocks of the model."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """Of the model's weights: shapes and sampled values."""
    tokenizer: str = ""
    """Name or class of the tokenizer."""
    tokenizer_hash: str = ""
    """Of its vocabulary and chat template."""
    dtype: str = ""
    """Type of the residual stream in which the vector was made."""
    template: str = ""
    task: str = ""
    request: TaskRequest | None = None
    """What the task was loaded from; None where its pairs came from memory."""
    split_hashes: dict[str, str] = field(default_factory=dict)
    """A hash of the pairs of each split, in their order."""
    trained_pairs: tuple[str, ...] = ()
    """A short hash of each training pair, so that overlap can be told from them alone."""
    seed: int | None = None
    """Of split, demonstrations and initialisation."""
    split_sizes: dict[str, int] = field(default_factory=dict)
    """Pairs in each split."""
    chat: bool | None = None
    """Whether prompts went through the tokenizer's chat template."""
    shots: int | None = None
    """Demonstrations in the prompts that it was made from."""
    used_shots: int | None = None
    """Demonstrations in the prompts that it acts on."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's further choices."""
    versions: dict[str, str] = field(default_factory=_versions)
    scores: dict[str, Any] = field(default_factory=dict)
    """What it reached, by measure."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of_model(cls, model: LanguageModel, **about: Any) -> "VectorOrigin":
        """An origin with everything that a model says about itself.

        Args:
            model: The model that the vector is for.
            about: The other fields.
        """
        tokenizer = model.tokenizer
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        return cls(
            tokenizer="" if tokenizer is None else name,
            tokenizer_hash="" if tokenizer is None else tokenizer_hash(tokenizer),
            dtype=str(model.dtype).removeprefix("torch."),
            **about,
        ).moved_to(model)

    def moved_to(self, model: LanguageModel) -> "VectorOrigin":
        """The same origin with another model's weights in it."""
        return replace(
            self,
            model=model.source,
            location=model.location,
            revision=model.revision,
            weights_note=model.weights_note,
            family=model.model_type,
            n_layers=model.n_layers,
            fingerprint=model.fingerprint,
        )

    def made_on(self, task: Task) -> "VectorOrigin":
        """The same origin with the task, its splits and their hashes."""
        splits = {"train": task.train, "validation": task.validation, "test": task.test}
        return replace(
            self,
            task=task.name,
            request=task.request,
            split_sizes={name: len(pairs) for name, pairs in splits.items()},
            split_hashes={name: hash_of_pairs(pairs) for name, pairs in splits.items()},
            trained_pairs=hashes_of_pairs(task.train),
        )

    @property
    def label(self) -> str:
        """The vector in a few words."""
        # function-vector and state-vector say it themselves
        named = f"the {self.method.removesuffix('-vector')} vector" if self.method else "the vector"
        return f"{named} of {self.task}" if self.task else named

    def changed(self, note: str) -> "VectorOrigin":
        """The origin of a vector made out of this one; scores no longer hold."""
        return replace(self, scores={}, notes=(*self.notes, note))

    def combined(self, other: "VectorOrigin") -> "VectorOrigin":
        """The origin of the sum of two vectors: what both say, and what either says joined by +."""

        def joined(name: str) -> str:
            either = (getattr(self, name), getattr(other, name))
            return " + ".join(filter(None, dict.fromkeys(either)))

        def shared(name: str, otherwise: Any) -> Any:
            return getattr(self, name) if getattr(self, name) == getattr(other, name) else otherwise

        home = self if self.fingerprint else other
        return replace(
            home,
            method=joined("method"),
            task=joined("task"),
            template=joined("template"),
            seed=shared("seed", None),
            request=shared("request", None),
            split_hashes=shared("split_hashes", {}),
            trained_pairs=tuple(dict.fromkeys((*self.trained_pairs, *other.trained_pairs))),
            split_sizes=shared("split_sizes", {}),
            chat=shared("chat", None),
            shots=shared("shots", None),
            used_shots=shared("used_shots", None),
            settings=shared("settings", {}),
            versions=_versions(),
            scores={},
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of a tokenizer's vocabulary and chat template; computed once per tokenizer."""
    if tokenizer not in _HASHES:
        digest = hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode())
        digest.update(repr(getattr(tokenizer, "chat_template", None)).encode())
        _HASHES[tokenizer] = digest.hexdigest()
    return _HASHES[tokenizer]


def model_differences(one: VectorOrigin, other: VectorOrigin) -> list[str]:
    """How the models of two origins differ; what one of them does not know is not compared."""
    differences = []
    if None not in (one.n_layers, other.n_layers) and one.n_layers != other.n_layers:
        differences.append(f"depth ({one.n_layers} against {other.n_layers} layers)")
    if one.family and other.family and one.family != other.family:
        differences.append(f"family ({one.family} against {other.family})")
    if not differences and one.fingerprint and other.fingerprint:
        found = weights_difference(one.fingerprint, other.fingerprint)
        differences += [f"weights ({found})"] if found else []
    return differences


def weights_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What tells two fingerprints apart, in words; empty where they are of the same weights."""
    if one["is_quantized"] == other["is_quantized"] and one["shapes"] != other["shapes"]:
        return "their shapes differ"
    common = sorted(one["samples"].keys() & other["samples"].keys())
    if not common:
        return "one of the two is quantised, and no weight is left to compare"
    for name in common:
        if not _agree(one["samples"][name], other["samples"][name]):
            return f"values of {name} differ"
    return ""


def _agree(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=_ROUNDING)
        for a, b in zip(one, other, strict=True)
    )
