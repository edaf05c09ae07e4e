"""`taskvectors generate`: what the model writes without a vector and with it."""

from dataclasses import dataclass
from typing import Annotated

from taskvectors.cli.arguments import Output, VectorModelChoice, default
from taskvectors.cli.results import Result


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
        from taskvectors.api.generation import check_asked, generate
        from taskvectors.vectors import TaskVector

        check_asked(self.prompt, self.input, self.max_new_tokens, self.temperature)
        vector = TaskVector.load(self.vector)
        model = self.model.config_for(vector).load()
        found = generate(
            model,
            vector,
            prompt=None if self.prompt is None else self.prompt.replace("\\n", "\n"),
            input=self.input,
            template=self.template,
            chat=self.chat,
            strength=self.strength,
            max_new_tokens=self.max_new_tokens,
            sample=self.sample,
            temperature=self.temperature,
            seed=self.seed,
        )
        data = {
            "vector": self.vector,
            "model": model.source,
            "prompt": found.prompt,
            "rows": found.rows(),
        }
        return Result(
            data=data,
            shown=[
                *("Without the vector:", found.prompt + found.plain),
                *("", "With it:", found.prompt + str(found.edited)),
            ],
        )
