"""Time until the embedded model, once converted, is ready to score; and what it cannot go below.

    python benchmarks/load.py [--json]

The floor is made of what any program has to do that runs this model by transformers: import torch,
transformers and the model's class; read the vocabulary by `tokenizers`; map the weights and, where
they are held in another type, convert them. `ratio` is processor time over that of the floor.
"""

import time
from collections.abc import Callable

from _command_line import arguments, show


def main() -> None:
    """Measure each part once, in the order in which imports happen, and print."""
    parser = arguments(__doc__)
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []

    def timed(part: str, work: Callable[[], object]) -> float:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        took = time.process_time() - processor
        rows.append({"part": part, "seconds": time.perf_counter() - wall, "processor_s": took})
        return took

    def import_torch() -> None:
        import torch  # noqa: F401

    def import_transformers() -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def import_class() -> None:
        import transformers.models.gemma3.modeling_gemma3  # noqa: F401

    imports = sum(
        timed(part, work)
        for part, work in (
            ("import torch", import_torch),
            ("import transformers", import_transformers),
            ("import the model's class", import_class),
        )
    )
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from taskvectors.models import load_model
    from taskvectors.models.options import resolve_dtype
    from taskvectors.models.sources import find_files

    folder = find_files("embedded", None).path
    dtype = resolve_dtype("auto", None)

    def weights() -> None:
        with torch.no_grad():
            for value in load_file(f"{folder}/model.safetensors").values():
                value.to(dtype)

    floor = imports
    floor += timed(
        "vocabulary, by tokenizers", lambda: Tokenizer.from_file(f"{folder}/tokenizer.json")
    )
    floor += timed("weights, mapped and converted", weights)
    whole = imports + timed("load_model", load_model)
    for part, took in (("floor", floor), ("whole", whole)):
        rows.append({"part": part, "processor_s": took, "ratio": took / floor})
    show(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
