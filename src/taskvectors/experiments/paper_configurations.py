"""Named ways to run a method: where its vector goes, and how many pairs it sees.

`paper` is the six configurations of the main table of arXiv 2509.24169, in our numbering of layers:
its layer l is the input of block l, which is what leaves block l - 1; its 0 is `embed`, and its 32
of 32 the output of the last block. A last one is that of arXiv 2505.18752, appendix J, by the same
authors: function vectors of a tenth of all heads at 3/8 of the depth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskvectors.methods import Candidate
from taskvectors.methods.shared.layers import LayerName, layer_name
from taskvectors.trunk import Position

STRIDES = (4, 2)
"""Of the paper's several layers: its text and its table differ, so both are run."""
LAST_FIVE = (-5, -4, -3, -2, -1)


@dataclass(frozen=True, kw_only=True)
class PaperConfiguration:
    """Where a vector goes, and on which prompts it is made and used."""

    name: str
    layers: tuple[LayerName, ...]
    positions: tuple[Position, ...] = (-1,)
    trained_shots: int = 0
    """Demonstrations in the prompts of training; extracted vectors know nothing of it."""
    shots: int = 0
    """Demonstrations in the prompts that it is used on."""
    kind: str = ""
    """The one method it is for; all by default."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the method's config."""

    def has_meaning_for(self, config: Any) -> bool:
        """Whether a method has a site to choose (and prompts to be trained on, where it matters).

        A vector that is extracted comes from demonstrations either way, so it takes part in one of
        the two few-shot presets.
        """
        fields = type(config).model_fields
        is_trained = "train_shots" in fields
        if self.kind not in ("", config.kind):
            return False
        return {"layers", "positions"} <= set(fields) and (is_trained or not self.trained_shots)

    def config_for(self, config: Any) -> Any:
        """A method's config at these places."""
        about: dict[str, Any] = {
            "layers": self.layers,
            "each_layer": False,
            "positions": self.positions,
            **self.settings,
        }
        if "train_shots" in type(config).model_fields:
            about["train_shots"] = self.trained_shots
        known = {name: about[name] for name in about if name in type(config).model_fields}
        return type(config).model_validate(config.model_dump() | known)

    def described(self, candidate: Candidate) -> str:
        """The configuration of a candidate's row."""
        return ", ".join(text for text in (self.name, candidate.configuration) if text)


def paper_configurations(n_layers: int, shots: int) -> tuple[PaperConfiguration, ...]:
    """The paper's configurations for a model of some depth.

    Args:
        n_layers: Blocks of the model; the paper's layer 16 of 32 is the middle one.
        shots: Demonstrations of the few-shot rows.
    """
    middle = (layer_name(n_layers // 2 - 1),)
    several = {
        stride: tuple(layer_name(input_of - 1) for input_of in range(0, n_layers + 1, stride))
        for stride in STRIDES
    }
    by_stride = tuple(
        preset
        for stride, layers in several.items()
        for preset in (
            PaperConfiguration(name=f"layers 0, {stride}, ...", layers=layers),
            PaperConfiguration(
                name=f"layers 0, {stride}, ... at positions -5 to -1",
                # what is added after the last block before the last token reaches no answer
                layers=tuple(layer for layer in layers if layer != layer_name(n_layers - 1)),
                positions=LAST_FIVE,
            ),
        )
    )
    return (
        PaperConfiguration(name="last token, middle layer", layers=middle),
        PaperConfiguration(name="position 4", layers=middle, positions=(4,)),
        PaperConfiguration(name="positions -5 to -1", layers=middle, positions=LAST_FIVE),
        *by_stride,
        PaperConfiguration(name=f"on {shots} shots", layers=middle, shots=shots),
        PaperConfiguration(
            name=f"on {shots} shots, trained on {shots} shots",
            layers=middle,
            trained_shots=shots,
            shots=shots,
        ),
        PaperConfiguration(
            name="a tenth of the heads, 3/8 of the depth",
            layers=(layer_name(max(0, round(n_layers * 3 / 8) - 1)),),
            kind="function-vector",
            settings={"n_heads": (0.1,), "n_prompts": 50},
        ),
    )


def doublings(n_train: int) -> Iterator[int]:
    """4, 8, 16, ... pairs, below all of them.

    Example:
        >>> list(doublings(40))
        [4, 8, 16, 32]
    """
    n = 4
    while n < n_train:
        yield n
        n *= 2
