"""The model `taskvectors` of lm-eval: any vector, at any position, on lm-eval's own tasks.

lm-eval scores context and continuation in one call, so the last token of the call is not the last
one of the prompt. Here positions count in the context, and what follows it is the answer.
"""

import functools
import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from taskvectors.errors import PromptTooLongError, require_package
from taskvectors.models import load_model
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.vectors import TaskVector, inject, on_the_prompt

NAME = "taskvectors"


@functools.cache
def register() -> type[Any]:
    """Make lm-eval know the model `taskvectors`: `--model taskvectors --model_args vector=FOLDER`.

    Returns:
        Its class. Arguments: `vector` (a folder), `pretrained` (the vector's own model by default),
        `strength`, `dtype`, and what lm-eval's `hf` takes.

    Raises:
        TaskVectorsError: lm-eval is not installed.

    Source: `lm_eval/models/huggingface.py` of lm-eval 0.4.13, which does all but the passes. We
        differ: contexts are scored one by one, and one that is too long is an error.
    """
    require_package("lm_eval", "lm-eval", "lm-eval's tasks")
    from lm_eval.api.registry import register_model
    from lm_eval.models.huggingface import HFLM

    @register_model(NAME)
    class VectorModel(HFLM):  # type: ignore[misc, unused-ignore]
        """A frozen model with a vector in it."""

        def __init__(
            self,
            vector: str,
            pretrained: str = "",
            strength: float = 1.0,
            dtype: str = "auto",
            **options: Any,
        ) -> None:
            self.vector = TaskVector.load(vector) * float(strength)
            origin = self.vector.origin
            self.edited = load_model(pretrained or origin.location or origin.model, dtype=dtype)
            self.vector.check_model(self.edited)
            # over a large vocabulary, the logits of a long context are most of the work
            known = inspect.signature(self.edited.hf.forward).parameters
            self.keeps_some = "logits_to_keep" in known
            super().__init__(pretrained=self.edited.hf, tokenizer=self.edited.tokenizer, **options)

        def _loglikelihood_tokens(
            self,
            requests: Sequence[tuple[Any, list[int], list[int]]],
            disable_tqdm: bool = False,  # noqa: ARG002
            override_bs: int | None = None,  # noqa: ARG002
        ) -> list[tuple[float, bool]]:
            found = []
            for asked, context, continuation in requests:
                answer = self._scored(context, continuation)
                if asked is not None:
                    self.cache_hook.add_partial("loglikelihood", asked, answer)
                found.append(answer)
            return found

        def _scored(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
            ids = [*context, *continuation]
            if len(ids) - 1 > self.max_length:
                raise PromptTooLongError(
                    f"a document has {len(ids)} tokens with its answer, and the model takes "
                    f"{self.max_length}; leave it out, or show fewer examples"
                )
            acts = _in_one_call(self.vector, n_read=len(continuation) - 1)
            tokens = torch.tensor([ids[:-1]], device=self.device)
            prompts = [_prompt(context, continuation)]
            edited = nullcontext() if acts is None else inject(self.edited, acts, prompts=prompts)
            keep = {"logits_to_keep": len(continuation)} if self.keeps_some else {}
            with torch.inference_mode(), edited:
                logits = self.edited.hf(input_ids=tokens, **keep).logits
            log_p = logits[0, -len(continuation) :].float().log_softmax(dim=1)
            targets = torch.tensor(continuation, device=log_p.device)
            total = log_p.gather(1, targets[:, None]).sum()
            return float(total), bool((log_p.argmax(dim=1) == targets).all())

        def _model_generate(self, context: Any, *given: Any, **options: Any) -> Any:
            with inject(self.edited, self.vector):
                return super()._model_generate(context, *given, **options)

    return VectorModel


def _in_one_call(vector: TaskVector, *, n_read: int) -> TaskVector | None:
    """A vector as a call with prompt and answer sees it: generated tokens are the answer's.

    Args:
        vector: The vector.
        n_read: Tokens of the answer that the call reads.
    """
    if n_read == 0:
        return on_the_prompt(vector)
    named = {site.place for site in vector.sites}
    rows, sites = [], []
    for row, site in enumerate(vector.sites):
        moved = replace(site, position="answer") if site.position == "generated" else site
        if moved is site or moved.place not in named:
            rows.append(row)
            sites.append(moved)
    return replace(vector, values=vector.values[rows], sites=tuple(sites))


def _prompt(context: Sequence[int], continuation: Sequence[int]) -> Prompt:
    return Prompt(
        token_ids=tuple(context),
        answer_ids=tuple(continuation),
        spans={"query": (0, len(context))},
        query=Example(input="a document", output="?"),
        demonstrations=(),
        text="",
    )
