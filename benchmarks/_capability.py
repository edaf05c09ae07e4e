"""What a model can do before and after a vector is put into it, by lm-eval on local tasks.

    python benchmarks/_capability.py VECTOR [--task capital] [--strengths 0 1] [--limit 50] [--json]

The vector's task is asked without demonstrations, with exact match. The others have nothing to do
with it, and are shown five demonstrations: opposites and sentiment as multiple choice, past tenses
with exact match. All yaml and data are made here, from built-in tasks; nothing is downloaded.
`strength` 0 is the model without the vector. `stderr` is lm-eval's, in accuracy.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from taskvectors import load_task
from taskvectors.export.lm_eval_model import register
from taskvectors.prompts import TEMPLATES
from taskvectors.tasks import Example, Task

N_SHOTS, N_CHOICES, BATCH = 5, 4, 16
OTHERS = {"antonym": "multiple_choice", "sentiment": "multiple_choice", "present-past": "exact"}

YAML = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
doc_to_text: "{{{{text}}}}"
"""
CHOICES = """output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - metric: acc
"""
EXACT = """output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 10
  do_sample: false
filter_list:
  - name: stripped
    filter:
      - function: remove_whitespace
      - function: take_first
metric_list:
  - metric: exact_match
"""


def main() -> None:
    """Make the tasks, run lm-eval at each strength, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vector", help="folder of the vector")
    parser.add_argument("--task", default="capital", help="its task")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0.0, 1.0])
    parser.add_argument("--limit", type=int, default=50, help="items of each task")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wanted = {asked.task: ("exact", 0)} | {
            name: (kind, N_SHOTS) for name, kind in OTHERS.items()
        }
        for name, (kind, shots) in wanted.items():
            write_task(Path(scratch), load_task(name), kind, shots, asked.limit)
        rows = list(measured(Path(scratch), asked.vector, asked.strengths, list(wanted)))
    if asked.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print("{task:14} strength {strength:3}  {accuracy:.3f} ± {stderr:.3f}  n={n}".format(**row))


def write_task(folder: Path, task: Task, kind: str, shots: int, limit: int) -> None:
    """A task's yaml and data: its test pairs, behind demonstrations of its training pairs."""
    template, draw = TEMPLATES["qa"], random.Random(0)
    shown = "".join(
        template.example.format(input=one.input, output=one.output) + template.separator
        for one in draw.sample(task.train, shots)
    )
    asks, _, _ = template.example.partition(" {output}")
    known = sorted({one.output for one in [*task.train, *task.test]})
    data, lines = folder / f"{task.name}.jsonl", []
    for one in task.test[:limit]:
        choices = choices_of(one, known, draw)
        about = {"text": shown + asks.format(input=one.input), "answer": one.output,
                 "choices": choices, "label": choices.index(one.output)}  # fmt: skip
        lines.append(json.dumps(about) + "\n")
    data.write_text("".join(lines), encoding="utf-8")
    about = YAML.format(name=f"local_{task.name}", data=data)
    (folder / f"{task.name}.yaml").write_text(about + (EXACT if kind == "exact" else CHOICES))


def choices_of(one: Example, known: Sequence[str], draw: random.Random) -> list[str]:
    """The answer among those of other pairs, in an order that says nothing."""
    others = [word for word in known if word not in (one.output, *one.also)]
    choices = [one.output, *draw.sample(others, min(N_CHOICES - 1, len(others)))]
    draw.shuffle(choices)
    return choices


def measured(
    folder: Path, vector: str, strengths: Sequence[float], tasks: Sequence[str]
) -> Iterator[dict[str, object]]:
    """A row per task and strength, as lm-eval finds it."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    register()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for strength in strengths:
        found = lm_eval.simple_evaluate(
            model="taskvectors", model_args=f"vector={vector},strength={strength},dtype=float32",
            tasks=[f"local_{name}" for name in tasks], task_manager=manager, batch_size=BATCH,
        )  # fmt: skip
        for name in tasks:
            one = found["results"][f"local_{name}"]
            metric = next(key for key in one if key.startswith(("acc,", "exact_match,")))
            yield {
                "task": name, "strength": strength, "metric": metric.partition(",")[0],
                "accuracy": one[metric], "stderr": one[metric.replace(",", "_stderr,")],
                "n": found["n-samples"][f"local_{name}"]["effective"],
            }  # fmt: skip


if __name__ == "__main__":
    main()
