"""The task vector: a value over a few sites of a model, with its arithmetic.

One vector per site, and one operation for all of them: added to what the model computes there, put
in its place, or what it is rotated towards. It knows where it comes from and refuses a model it was
not made for.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from os import PathLike
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError, VectorMismatchError
from taskvectors.format import ABSENT, html_table
from taskvectors.models import Component, LanguageModel
from taskvectors.models.sites import width_of
from taskvectors.trunk.edits import Edit, Operation, Position
from taskvectors.vectors.origin import VectorOrigin, model_differences
from taskvectors.vectors.site import Site

logger = logging.getLogger(__name__)

_ONE_TOKEN = ("last", "query_first", "query_last")
"""Names that mean one token in every prompt."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskVector:
    """One vector for each of a few sites.

    `+`, `-` and multiplication by a number make new vectors; where two have different sites, the
    sum has those of both.

    Raises:
        TaskVectorsError: The values are not all finite.
        ValueError: Sites and values do not fit together.
    """

    values: Float[Tensor, "site d_model"]
    """In units of what the model computes there; float32 on the CPU unless moved by `to`."""
    sites: tuple[Site, ...]
    operation: Operation = "add"
    origin: VectorOrigin = field(default_factory=VectorOrigin)

    def __post_init__(self) -> None:
        if not self.sites or len(self.sites) != len(self.values):
            raise ValueError(f"{len(self.sites)} sites were given for {len(self.values)} values")
        if len({site.place for site in self.sites}) != len(self.sites):
            raise ValueError(f"a site is named twice: {_listed(self.sites)}")
        if self.operation not in get_args(Operation):
            raise ValueError(f"operation {self.operation!r} is none of {get_args(Operation)}")
        if self.values.requires_grad or self.values.dtype == torch.float64:
            raise ValueError("the values of a vector are float32 and need no gradient")
        if not bool(torch.isfinite(self.values).all()):
            raise TaskVectorsError(
                f"the values of {self.origin.label} are not all finite; if it was learned, lower "
                "the learning rate"
            )

    def __repr__(self) -> str:
        return (
            f"TaskVector({self.origin.label}: {self.operation} at layers {list(self.layers)}, "
            f"positions {list(self.positions)}; d_model {self.d_model}, norm {self.norm():.3g})"
        )

    def _repr_html_(self) -> str:
        origin = self.origin
        about = {
            "model": origin.model or ABSENT,
            "operation": self.operation,
            "sites": ", ".join(map(str, self.sites)),
            "d_model": self.d_model,
            "norm": self.norm(),
            **{f"{name}": value for name, value in origin.scores.items()},
            "notes": "; ".join(origin.notes) or ABSENT,
        }
        return html_table(origin.label, (), list(about.items()))

    @property
    def layers(self) -> tuple[int, ...]:
        """Its layers, each once."""
        return tuple(dict.fromkeys(site.layer for site in self.sites))

    @property
    def positions(self) -> tuple[Position, ...]:
        """Its positions, each once."""
        return tuple(dict.fromkeys(site.position for site in self.sites))

    @property
    def d_model(self) -> int:
        """Width of its values."""
        return self.values.shape[1]

    def norm(self) -> float:
        """Euclidean length over all sites."""
        return float(self.values.double().norm())

    def cosine(self, other: "TaskVector") -> float:
        """Cosine of the angle to another vector at the same sites.

        Raises:
            VectorMismatchError: The two have other sites, widths, operations or models.
            TaskVectorsError: One of them is zero.
        """
        self._check_company(other)
        mine, theirs = self._by_place(), other._by_place()
        if mine.keys() != theirs.keys():
            raise VectorMismatchError(
                "cosine needs two vectors at the same sites; these have "
                f"{_listed(self.sites)}, and {_listed(other.sites)}"
            )
        left = self.values.double().cpu().flatten()
        right = torch.stack([theirs[place][1] for place in mine]).double().cpu().flatten()
        if not (left.any() and right.any()):
            raise TaskVectorsError("a vector of zeros has no direction, so no cosine")
        return float((left / left.norm()) @ (right / right.norm()))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "TaskVector":
        """The same vector elsewhere, or in another type."""
        return replace(self, values=self.values.to(device=device, dtype=dtype))

    def random_like(self, generator: torch.Generator) -> "TaskVector":
        """The control: a random direction of the same norm at each site."""
        noise = torch.randn(self.values.shape, generator=generator, device=generator.device)
        noise = noise.to(self.values.device)
        norms = self.values.float().norm(dim=1, keepdim=True)
        values = noise / noise.norm(dim=1, keepdim=True) * norms
        origin = self.origin.changed(f"random directions with the norms of {self.origin.label}")
        return replace(
            self, values=values.to(self.values.dtype), origin=replace(origin, method="random")
        )

    def __add__(self, other: "TaskVector") -> "TaskVector":
        if not isinstance(other, TaskVector):
            return NotImplemented
        self._check_company(other)
        dtype = torch.promote_types(self.values.dtype, other.values.dtype)
        merged = self._by_place()
        for place, (site, value) in other._by_place().items():
            moved = value.to(self.values.device)
            merged[place] = (site, merged[place][1] + moved if place in merged else moved)
        return replace(
            self,
            values=torch.stack([value.to(dtype) for _, value in merged.values()]),
            sites=tuple(site for site, _ in merged.values()),
            origin=self.origin.combined(other.origin),
        )

    def __sub__(self, other: "TaskVector") -> "TaskVector":
        return self + -other if isinstance(other, TaskVector) else NotImplemented

    def __mul__(self, scale: float) -> "TaskVector":
        if not isinstance(scale, Real):
            return NotImplemented
        origin = self.origin.changed(f"{float(scale):g} times {self.origin.label}")
        return replace(self, values=self.values * float(scale), origin=origin)

    __rmul__ = __mul__

    def __neg__(self) -> "TaskVector":
        return self * -1.0

    def edits(self, strength: float = 1.0) -> tuple[Edit, ...]:
        """The vector as edits of the trunk, one per layer and component.

        Positions that are one token each share an edit; a name that can mean several tokens has
        an edit of its own, so that each of them gets the value.

        Raises:
            TaskVectorsError: The strength is not finite or makes a value that is not, or is other
                than 1 for a vector that replaces.
        """
        scaled = self.values * strength
        if not bool(torch.isfinite(scaled).all()):
            raise TaskVectorsError(
                f"strength {strength:g} times {self.origin.label} is not finite; give a finite "
                "number whose product with the vector fits float32"
            )
        if strength != 1 and self.operation == "replace":
            raise TaskVectorsError(
                f"strength {strength:g} has no meaning for a vector that replaces what is there; "
                "use 1, or multiply the vector itself"
            )
        groups: dict[tuple[int, Component, Position | None], list[int]] = {}
        for row, site in enumerate(self.sites):
            is_one = isinstance(site.position, int) or site.position in _ONE_TOKEN
            group = (site.layer, site.component, None if is_one else site.position)
            groups.setdefault(group, []).append(row)
        return tuple(
            Edit(
                layer=layer,
                component=component,
                positions=tuple(self.sites[row].position for row in rows),
                operation=self.operation,
                value=scaled[rows],
            )
            for (layer, component, _), rows in groups.items()
        )

    def check_model(self, model: LanguageModel) -> None:
        """Raise unless the vector was made for this model; what it does not know is not compared.

        Raises:
            VectorMismatchError: Width, depth, family or weights differ; the message says which.
        """
        shape = self._shape_differences(model)
        differences = shape or model_differences(self.origin, VectorOrigin().moved_to(model))
        if not differences:
            return
        made_for = self.origin.model or "another model"
        forced = "" if shape else " To use it all the same: vector.for_model(model, force=True)."
        raise VectorMismatchError(
            f"{self.origin.label} was made for {made_for} and does not fit {model.source}; they "
            f"differ in {', '.join(differences)}. Use it with the model it was made for, or make "
            f"one for this model.{forced}"
        )

    def for_model(self, model: LanguageModel, *, force: bool = False) -> "TaskVector":
        """The vector, checked against a model; with `force`, as if it had been made for it.

        Args:
            model: The model it is to be used with.
            force: Accept another family or other weights, where width and depth are the same.

        Raises:
            VectorMismatchError: It does not fit.
        """
        try:
            self.check_model(model)
        except VectorMismatchError:
            if not force or self._shape_differences(model):
                raise
        else:
            return self
        note = f"made for {self.origin.model}, used with {model.source} by force"
        logger.warning("%s: %s", self.origin.label, note)
        return replace(self, origin=self.origin.changed(note).moved_to(model))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the vector to a folder, whole or not at all; a vector that is there is replaced.

        Raises:
            DataError: The folder is there and is not a vector.
        """
        from taskvectors.vectors.storage import save_vector

        save_vector(self, folder)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "TaskVector":
        """Read a vector from its folder, from a run's folder, or from a `.gguf` file.

        Raises:
            DataError: There is none, or it is damaged.
        """
        from taskvectors.vectors.storage import load_vector

        return load_vector(folder)

    def push_to_hub(
        self,
        repo: str,
        *,
        measures: Any = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Upload the vector with a card to the Hugging Face hub; paths of this machine stay here.

        Args:
            repo: `owner/name`; made if it is not there.
            measures: What `tv.evaluate` found on pairs that were held out, for the card.
            private: Whether a new repository is private.
            token: Of the hub; the one that is logged in by default.

        Returns:
            Address of the repository.

        Raises:
            TaskVectorsError: The hub cannot be reached, or refuses it.
        """
        from taskvectors.vectors.hub import push_vector

        found = None if measures is None else asdict(measures)
        return push_vector(self, repo, measures=found, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls, repo: str, *, revision: str | None = None, token: str | None = None
    ) -> "TaskVector":
        """A vector of the Hugging Face hub, or of a folder.

        Args:
            repo: `owner/name`, or a folder.
            revision: Commit, branch or tag; the main branch by default.
            token: Of the hub; the one that is logged in by default.

        Raises:
            DataError: There is none, or it cannot be reached.
        """
        from taskvectors.vectors.hub import pull_vector

        return pull_vector(repo, revision=revision, token=token)

    def _by_place(self) -> dict[tuple[int, Component, Position], tuple[Site, Tensor]]:
        rows = zip(self.sites, self.values, strict=True)
        return {site.place: (site, value) for site, value in rows}

    def _check_company(self, other: "TaskVector") -> None:
        """Raise unless two vectors may stand in one expression."""
        differences = []
        if self.d_model != other.d_model:
            differences.append(f"width ({self.d_model} against {other.d_model})")
        if self.operation != other.operation:
            differences.append(f"operation ({self.operation} against {other.operation})")
        differences += model_differences(self.origin, other.origin)
        if differences:
            raise VectorMismatchError(
                f"{self.origin.label} and {other.origin.label} do not go together; they differ in "
                f"{', '.join(differences)}. Combine vectors of one model and one operation."
            )

    def _shape_differences(self, model: LanguageModel) -> list[str]:
        differences = []
        inside = [site for site in self.sites if site.layer < model.n_layers]
        widths = {width_of(model, site.layer, site.component) for site in inside}
        if widths - {self.d_model}:
            differences.append(f"width ({self.d_model} against {max(widths)})")
        made_for = self.origin.n_layers
        if max(self.layers) >= model.n_layers or made_for not in (None, model.n_layers):
            own = f"layer {max(self.layers)}" if made_for is None else f"{made_for} layers"
            differences.append(f"depth ({own} against {model.n_layers} layers)")
        return differences


def _listed(sites: Sequence[Site]) -> str:
    return ", ".join(map(str, sites))
