"""One block's attention at the last token as a linear map: patterns and norm scales of one run."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.models import LanguageModel
from taskvectors.models.heads import Circuits, attention_scale, output_bias
from taskvectors.models.norms import linear_part


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenAttention:
    """Attention of the last token to itself, with everything but its values held as in a run."""

    circuits: Circuits
    norm: nn.Module | None
    entered: Float[Tensor, "prompt d_model"]
    """`resid_pre` of the run."""
    before: Float[Tensor, "prompt d_model"]
    """W_O z plus bias, before a norm on attention's output."""
    scale: Float[Tensor, "prompt d_model"]
    """Of that norm; ones where there is none."""
    own_weight: Float[Tensor, "prompt head 1"]
    """c_NN: attention from the last token to itself."""

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        layer: int,
        entered: Float[Tensor, "prompt d_model"],
        z: Float[Tensor, "prompt head d_head"],
        pattern: Float[Tensor, "prompt head key"],
    ) -> "FrozenAttention":
        """What a run held in a block at the last token, whose own key is the last one."""
        circuits = Circuits.of(model, layer)
        before = circuits.written(z) + output_bias(model, layer)
        return cls(
            circuits=circuits,
            norm=model.attention_norm(layer),
            entered=entered,
            before=before,
            scale=attention_scale(model, layer, before),
            own_weight=pattern[..., -1:],
        )

    def carried(self, parts: Float[Tensor, "... prompt d_model"]) -> Tensor:
        """c_NN W_OV D of some parts of the residual stream: one OV hop."""
        return self.own(linear_part(self.norm, self.entered, parts))

    def own(self, read: Float[Tensor, "... prompt d_model"]) -> Tensor:
        """What the last token's own values write, of what attention reads."""
        return self.written(self.own_weight * self.circuits.values(read))

    def written(self, z: Float[Tensor, "... prompt head d_head"]) -> Tensor:
        """What heads' outputs write to the residual stream, biases apart."""
        return self.circuits.written(z) * self.scale
