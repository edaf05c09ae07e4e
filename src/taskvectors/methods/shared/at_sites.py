"""Where vectors go: what the configs of methods share that leave a choice of it."""

from pydantic import BaseModel, ConfigDict

from taskvectors.methods.shared.layers import Layers, Positions, layer_groups
from taskvectors.models import LanguageModel


class AtLayers(BaseModel):
    """A method whose vectors are at layers of the user's choice."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    layers: Layers = None
    """Layers of one vector, together; one vector for each layer of the model by default."""
    each_layer: bool = False
    """One vector for each of `layers`, in place of one at all of them."""

    def groups(self, model: LanguageModel) -> list[list[int]]:
        """The layers of each vector, as numbers.

        Raises:
            UnsupportedModelError: The model has no such layer.
        """
        return layer_groups(model, self.layers, each_layer=self.each_layer)

    def joins(self, model: LanguageModel) -> tuple[int, ...]:
        """The block after which the branch of each vector joins."""
        return tuple(map(min, self.groups(model)))


class AtSites(AtLayers):
    """A method whose vectors are at layers and positions of the user's choice."""

    positions: Positions = (-1,)
    """Token positions that it acts at, each with its own part of the vector."""
