"""What we hold: the task vector as a value, its arithmetic, save and load, and `inject`."""

from taskvectors.vectors.company import check_unseen, task_of
from taskvectors.vectors.everywhere import (
    acts_everywhere,
    directions_everywhere,
    directions_of,
    everywhere,
    on_the_prompt,
)
from taskvectors.vectors.function_vectors import read_function_vector
from taskvectors.vectors.gguf import read_gguf, write_gguf
from taskvectors.vectors.injection import inject
from taskvectors.vectors.origin import VectorOrigin
from taskvectors.vectors.site import Site, sites_at
from taskvectors.vectors.storage import as_vector
from taskvectors.vectors.task_vector import TaskVector

__all__ = [
    "Site",
    "TaskVector",
    "VectorOrigin",
    "acts_everywhere",
    "as_vector",
    "check_unseen",
    "directions_everywhere",
    "directions_of",
    "everywhere",
    "inject",
    "on_the_prompt",
    "read_function_vector",
    "read_gguf",
    "sites_at",
    "task_of",
    "write_gguf",
]
