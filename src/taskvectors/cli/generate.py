"""`taskvectors generate`: what the model writes without a vector and with it."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from taskvectors.cli.arguments import Output, VectorModelChoice, default
from taskvectors.cli.results import Result
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.models import LanguageModel
    from taskvectors.prompts import Prompt
    from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True)
class Generate:
    r"""Let the model go on with a prompt, without a saved vector and with it.

    Give the prompt as it is (--prompt "Q: France\nA:"), or what is asked (--input France), which is
    put into the vector's template.
    """

    vector: str
    """Folder of the vector, or of a run that has one."""
    prompt: Annotated[str | None, default("none")] = None
    r"""The whole prompt; \n stands for a new line."""
    input: Annotated[str | None, default("none")] = None
    """What is asked, in the vector's template."""
    template: Annotated[str | None, default("the vector's")] = None
    """Template for --input."""
    chat: bool = False
    """Put --input into the tokenizer's chat template, as for a vector that was made so."""
    strength: float = 1.0
    """Factor of the vector."""
    max_new_tokens: int = 20
    """Most tokens to write."""
    sample: bool = False
    """Draw each token, in place of the most probable one."""
    temperature: float = 1.0
    """How evenly --sample draws; towards 0 only the most probable token is left."""
    seed: int = 0
    """Seed of what --sample draws."""
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Write twice."""
        if (self.prompt is None) == (self.input is None):
            raise TaskVectorsError("give a prompt either as --prompt or as --input, and not both")
        if self.max_new_tokens < 1 or self.temperature <= 0:
            raise TaskVectorsError("--max-new-tokens and --temperature have to be positive")
        from taskvectors.models.calls import check_context
        from taskvectors.vectors import TaskVector

        vector = TaskVector.load(self.vector)
        model = self.model.config_for(vector).load()
        text, ids, prompt = self._prompt(model, vector)
        check_context(model, len(ids), self.max_new_tokens)
        plain = self._written(model, ids)
        edited = self._written(model, ids, vector, prompt)
        rows = [
            {"method": "zero-shot", "strength": 0.0, "completion": plain},
            {"method": vector.origin.method, "strength": self.strength, "completion": edited},
        ]
        data = {"vector": self.vector, "model": model.source, "prompt": text, "rows": rows}
        return Result(
            data=data, shown=["Without the vector:", text + plain, "", "With it:", text + edited]
        )

    def _prompt(
        self, model: "LanguageModel", vector: "TaskVector"
    ) -> tuple[str, tuple[int, ...], "Prompt | None"]:
        """The prompt as text and tokens, and with its places where it comes from a template."""
        if self.prompt is not None:
            text = self.prompt.replace("\\n", "\n")
            ids = tuple(model.tokenizer(text)["input_ids"])
            if not ids:
                raise TaskVectorsError("--prompt is empty; give some text to go on with")
            return text, ids, None
        from taskvectors.prompts import build_prompts
        from taskvectors.tasks import Example

        assert self.input is not None
        (prompt,) = build_prompts(
            model.tokenizer,
            self.template or vector.origin.template or "qa",
            [Example(input=self.input, output="?")],  # a prompt ends before its answer
            max_tokens=model.context_length,
            chat=self.chat or bool(vector.origin.chat),
        )
        return prompt.text, prompt.token_ids, prompt

    def _written(
        self,
        model: "LanguageModel",
        ids: tuple[int, ...],
        vector: "TaskVector | None" = None,
        prompt: "Prompt | None" = None,
    ) -> str:
        """What the model goes on with."""
        import torch

        from taskvectors.vectors import inject

        tokens = torch.tensor([ids], device=model.device)
        options: dict[str, Any] = {"do_sample": self.sample, "pad_token_id": _padding(model)}
        if self.sample:
            options["temperature"] = self.temperature
        around: Any = nullcontext()
        if vector is not None:
            prompts = None if prompt is None else [prompt]
            around = inject(model, vector, strength=self.strength, prompts=prompts)
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode(), around:
            torch.manual_seed(self.seed)
            out = model.hf.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=self.max_new_tokens,
                **options,
            )
        return str(model.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))


def _padding(model: "LanguageModel") -> int:
    """A token that generate may fill up with: one row needs none, but generate asks."""
    pad = model.tokenizer.pad_token_id
    return int(model.tokenizer.eos_token_id or 0) if pad is None else int(pad)
