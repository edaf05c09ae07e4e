"""Commands that the help of each verb ends with; a test parses every one."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("demo", "demo --task antonym --steps 30"),
    "tasks": ("tasks", "tasks --json"),
    "methods": ("methods",),
    "families": ("families", "families --json"),
    "compare": (
        "compare --task capital --layers 5 9 --each-layer --out runs/capital",
        "compare --task my-pairs.csv --methods icl learned --seeds 0 1 2",
    ),
    "learn": (
        "learn --task capital --layers 9 --out capital-l9",
        "learn --task my-pairs.csv --model path/to/model",
    ),
    "extract": ("extract --task capital --method function-vector --out capital-fv",),
    "evaluate": (
        "evaluate --vector capital-l9",
        "evaluate --vector capital-l9 --strengths 0.5 1 2 --side-effects",
    ),
    "generate": (
        "generate --vector capital-l9 --input Peru",
        "generate --vector capital-l9 --prompt 'Q: Peru\\nA:' --strength 2",
        "generate --vector capital-l9 --input Peru --backend llama.cpp --model model.gguf",
    ),
    "play": ("play --open", "play --vectors capital-l9 --port 8000"),
    "explain": (
        "explain --vector capital-l9 --out runs/why",
        "explain --vector capital-l9 --analyses lens key-heads",
    ),
    "train": ("train --task offset", "train --task linear --tvp-layer none 1 2 --steps 2000"),
    "reproduce": ("reproduce --list", "reproduce ltv-layer-sweep --preset smoke"),
    "estimate": ("estimate compare --task capital", "estimate learn --task capital --device h100"),
    "report": ("report runs/capital --open", "report runs/one runs/two"),
    "export": (
        "export --vector everywhere --format gguf --out everywhere.gguf",
        "export --vector everywhere --format peft --out adapter",
    ),
    "runs": ("runs", "runs my-runs --json"),
    "vectors": ("vectors", "vectors my-vectors"),
}
"""By verb: the words after the program's name."""
FIRST_EXAMPLES = ("demo", *(EXAMPLES[verb][0] for verb in ("compare", "learn", "evaluate")))
"""What the help of the program itself ends with."""
