"""`taskvectors generate`: what the model writes without a vector and with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from taskvectors.cli.arguments import Output, VectorModelChoice, default
from taskvectors.cli.hints import changed_flags
from taskvectors.cli.results import Result
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.api.generation import Generation, Writing
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
    backend: Literal["transformers", "llama.cpp"] = "transformers"
    """What runs the model; llama.cpp takes a .gguf file as it is, quantised."""
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Write twice."""
        from taskvectors.vectors import TaskVector

        asked = self._asked()
        if self.input is None:
            refuse(given(self, "template", "chat"), "--prompt is the whole prompt, as it is")
        if not self.sample:
            refuse(given(self, "temperature", "seed"), "without --sample nothing is drawn")
        refuse(given(self.model, "memory"), "one prompt is run at a time")
        vector = TaskVector.load(self.vector)
        if not self.strength:
            raise TaskVectorsError(
                f"--strength: {self.strength:g} adds nothing of the vector, so both texts would be "
                "the same; name another factor"
            )
        source, found = (
            self._in_llama_cpp(vector, asked)
            if self.backend == "llama.cpp"
            else self._in_transformers(vector, asked)
        )
        data = {
            "vector": self.vector,
            "model": source,
            "backend": self.backend,
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

    def _in_transformers(self, vector: "TaskVector", asked: "Writing") -> tuple[str, "Generation"]:
        from taskvectors.api.generation import written_by

        model = self.model.config_for(vector).load()
        return model.source, written_by(model, vector, asked)

    def _in_llama_cpp(self, vector: "TaskVector", asked: "Writing") -> tuple[str, "Generation"]:
        from taskvectors.api.llama_cpp import generate_in_llama_cpp, open_in_llama_cpp

        given = changed_flags(self.model, "model")
        if given or self.chat:
            flag = "chat" if self.chat else given[0]
            raise TaskVectorsError(
                f"--{flag.replace('_', '-')} says nothing to llama.cpp; leave it out, or leave out "
                "--backend llama.cpp"
            )
        model = open_in_llama_cpp(self.model.config_for(vector).source)
        return model.path.name, generate_in_llama_cpp(model, vector, asked)

    def _asked(self) -> "Writing":
        from taskvectors.api.generation import Writing

        return Writing(
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
