"""What is shown: tasks as input/output pairs, split into pairs to learn, to choose and to test on.

A task comes from one of three places that all end in the same value: the built-in data files, a
user's own file, or a data set of the Hugging Face hub. This folder deals in strings only; how a
pair becomes tokens is the business of `taskvectors.prompts`.
"""

from taskvectors.tasks.builtin import TaskSummary, builtin_tasks, describe_builtin
from taskvectors.tasks.hub import HUB_PRESETS, HubPreset
from taskvectors.tasks.load import as_examples, as_task, load_task
from taskvectors.tasks.request import TaskRequest, hash_of_pairs, hashes_of_pairs
from taskvectors.tasks.task import Example, Task

__all__ = [
    "HUB_PRESETS",
    "Example",
    "HubPreset",
    "Task",
    "TaskRequest",
    "TaskSummary",
    "as_examples",
    "as_task",
    "builtin_tasks",
    "describe_builtin",
    "hash_of_pairs",
    "hashes_of_pairs",
    "load_task",
]
