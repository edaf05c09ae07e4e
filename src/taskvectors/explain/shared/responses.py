"""What a model makes of a vector: the change of the last residual stream.

Δ(x) is `resid_post` of the last block at the prompt's last token when x is added there at some
layer, minus the same in the plain run. Many x are branches of one trunk, so the prompts and the
layers below run once. The mean Jacobian of Δ is exact: sibling branches hold the same x, each
back-propagates one output coordinate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.models import LanguageModel
from taskvectors.models.tensors import in_double
from taskvectors.progress import track
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Shape, Trunk, prompts_that_fit, resolve_budget
from taskvectors.trunk.memory import work_bytes

TOKENS_PER_PASS = 1024
"""Enough that a block's matrix products run at full speed; more only takes memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """Δ of some vectors, over some queries."""

    mean: Float[Tensor, "sample d_model"]
    """Over queries, float32."""
    between_queries: float
    """Mean over samples and queries of the squared distance to the sample's mean."""

    @property
    def share_between_queries(self) -> float:
        """Share of the variance, over samples and queries, that lies between queries.

        No map that is the same for all queries can explain that part.
        """
        mean = self.mean.double()
        between_samples = float((mean - mean.mean(dim=0)).square().sum(dim=1).mean())
        return self.between_queries / (self.between_queries + between_samples)


@dataclass(frozen=True, kw_only=True, eq=False)
class Responses:
    """The part of a model above one layer, as a function of what is added at the last token."""

    trunk: Trunk
    layer: int
    memory: int | None = None

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        layer: int,
        memory: int | None = None,
    ) -> "Responses":
        """Run some queries once, up to the token that the first answer token follows."""
        asked = [replace(prompt, answer_ids=prompt.answer_ids[:1]) for prompt in prompts]
        return cls(trunk=Trunk.build(model, asked), layer=layer, memory=memory)

    def at(self, layer: int) -> "Responses":
        """The same queries, from another layer."""
        return replace(self, layer=layer)

    def changes(self, values: Float[Tensor, "sample d_model"]) -> Changes:
        """Δ of each value, averaged over the queries."""
        final = self.trunk.model.n_layers - 1
        plain = self.trunk.states(final).float()
        means, spread = [], 0.0
        with torch.no_grad():
            for part in self._parts(values, "responses", is_training=False):
                change = self._final(part).float() - plain
                means.append(change.mean(dim=0))
                spread += float(in_double(change - means[-1]).square().sum())
        count = len(values) * self.trunk.n_prompts
        return Changes(mean=torch.cat(means).cpu(), between_queries=spread / count)

    def mean_jacobian(self, at: Float[Tensor, " d_model"]) -> Float[Tensor, "d_out d_model"]:
        """∂Δ/∂x, averaged over the queries, exact.

        Args:
            at: Where: the vector itself.
        """
        width = self.trunk.model.d_model
        rows = []
        coordinates = torch.arange(width, device=self.trunk.model.device)
        for outputs in self._parts(coordinates, "Jacobian", is_training=True):
            copies = at.to(outputs.device).float().repeat(len(outputs), 1).requires_grad_(True)
            with torch.enable_grad():
                final = self._final(copies)
                own = final.gather(2, outputs.view(1, -1, 1).expand(len(final), -1, 1))
                (gradient,) = torch.autograd.grad(own.float().sum(), copies)
            rows.append(gradient / self.trunk.n_prompts)
        return torch.cat(rows).cpu()

    def _final(self, values: Tensor) -> Float[Tensor, "query sample d_model"]:
        """The last residual stream when each value is added, one branch for each."""
        branches = [[Edit(layer=self.layer, value=value)] for value in values.unbind()]
        return self.trunk.run(branches)[:, :, -1]

    def _parts(self, items: Tensor, description: str, *, is_training: bool) -> Iterator[Tensor]:
        """Items in as many parts as passes are needed."""
        shape = Shape(
            prefix=self.trunk.cut.tokens.prefix.shape[1],
            suffix=self.trunk.suffix,
            n_branches=1,
            is_training=is_training,
        )
        model, n_prompts = self.trunk.model, self.trunk.n_prompts
        budget = resolve_budget(self.memory, model.device)
        prompts_that_fit(model, shape, budget)  # raises where not even one fits
        fitting = budget // (work_bytes(model, shape) * n_prompts)
        size = max(1, min(fitting, TOKENS_PER_PASS // n_prompts))
        parts = torch.split(items, size)
        with track(description, len(parts), unit="pass") as progress:
            for part in parts:
                yield part
                progress.update()
