"""A vector as files of other systems, each in the form that its own reader takes.

Most systems add at every token. Only a vector at the positions `all` and `generated` is the same
there; any other is refused, not changed.
"""

from collections.abc import Callable
from pathlib import Path

from taskvectors.export.checkpoint import write_checkpoint
from taskvectors.export.lm_eval import write_lm_eval
from taskvectors.export.peft_adapter import write_peft
from taskvectors.export.vllm_lens import write_vllm_lens
from taskvectors.models import LanguageModel
from taskvectors.vectors import TaskVector

FORMATS: dict[str, Callable[[TaskVector, LanguageModel, Path], tuple[str, ...]]] = {
    "checkpoint": write_checkpoint,
    "peft": write_peft,
    "lm-eval": write_lm_eval,
}
"""What writes a form that needs the model, by the name that the command line uses."""

__all__ = [
    "FORMATS",
    "write_checkpoint",
    "write_lm_eval",
    "write_peft",
    "write_vllm_lens",
]
