"""`taskvectors export`: a saved vector as a file of another system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a saved vector as a file of another system.

    A control vector (gguf, of repeng and llama.cpp) is added at every token after blocks 1 and up.
    A vector that acts elsewhere is refused, and one at other tokens needs --force.
    """

    vector: str
    """Folder of the vector."""
    format: Literal["gguf"] = "gguf"
    """Of the file."""
    out: str
    """The file; one that is there is replaced."""
    force: bool = False
    """Write a vector that acts at some tokens only, though it will act at all of them there."""
    output: Output

    def run(self) -> Result:
        """Write it."""
        from taskvectors.methods.shared.run_context import layer_name
        from taskvectors.vectors import TaskVector, write_gguf

        vector = TaskVector.load(self.vector)
        told = write_gguf(vector, self.out, force=self.force)
        path = Path(self.out).expanduser().absolute()
        data = {
            "vector": self.vector,
            "file": str(path),
            "format": self.format,
            "method": vector.origin.method,
            "task": vector.origin.task,
            "layers": [layer_name(layer) for layer in vector.layers],
            "positions": list(vector.positions),
            "is_equivalent": set(vector.positions) == {"all", "generated"},
            "notes": list(told),
        }
        return Result(data=data, shown=[*(f"Note: {note}." for note in told), f"It is {path}"])
