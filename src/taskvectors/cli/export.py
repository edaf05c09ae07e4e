"""`taskvectors export`: a saved vector as a file of another system."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taskvectors.cli.arguments import Output, VectorModelChoice
from taskvectors.cli.results import Result
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a saved vector as a file of another system.

    gguf: a control vector of llama.cpp and repeng. checkpoint: the model with the vector in its
    biases. peft: an adapter. vllm-lens: a request to vLLM. lm-eval: for its model `steered`. All
    but vllm-lens add at every token, so a vector at other tokens is refused.
    """

    vector: str
    """Folder of the vector."""
    format: Literal["gguf", "checkpoint", "peft", "vllm-lens", "lm-eval"] = "gguf"
    """Of which system."""
    out: str
    """The file, of which one that is there is replaced; a new folder for checkpoint and peft."""
    force: bool = False
    """Write a vector that acts at some tokens only, though it will act at all of them there."""
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Write it."""
        from taskvectors.methods.shared.layers import layer_name
        from taskvectors.vectors import TaskVector, acts_everywhere

        vector = TaskVector.load(self.vector)
        path = Path(self.out).expanduser().absolute()
        if self.force and self.format == "vllm-lens":
            raise TaskVectorsError("--force: vllm-lens adds where the vector does; leave it out")
        told = self._written(vector, path)
        data = {
            "vector": self.vector,
            "file": str(path),
            "format": self.format,
            "method": vector.origin.method,
            "task": vector.origin.task,
            "layers": [layer_name(layer) for layer in vector.layers],
            "positions": list(vector.positions),
            "is_equivalent": self.format == "vllm-lens" or acts_everywhere(vector),
            "notes": list(told),
        }
        return Result(data=data, shown=[*(f"Note: {note}." for note in told), f"It is {path}"])

    def _written(self, vector: "TaskVector", path: Path) -> tuple[str, ...]:
        from taskvectors.export import FORMATS, write_vllm_lens
        from taskvectors.vectors import acts_everywhere, everywhere, write_gguf

        if self.format in ("gguf", "vllm-lens"):
            refuse(given(self.model), f"the model is not loaded for {self.format}")
        if self.format == "gguf":
            return write_gguf(vector, path, force=self.force)
        if self.format == "vllm-lens":
            return write_vllm_lens(vector, path)
        refuse(given(self.model, "memory"), "nothing is run")
        model = self.model.config_for(vector).load()
        if not self.force or acts_everywhere(vector):
            return FORMATS[self.format](vector, model, path)
        told = FORMATS[self.format](everywhere(vector), model, path)
        return ("it acts at every token there, which the vector does not: measure it anew", *told)
