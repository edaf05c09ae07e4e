"""Why it works: how a model uses a vector, one analysis a file.

An analysis is a pure function of a model, prompts and a vector; it returns a small frozen dataclass
with `to_frame()` and `figure()`, and refuses a vector for which its formula has no meaning.
`ANALYSES` is the one registry; a test walks it.
"""

from functools import partial

from taskvectors.explain.ablation import Ablation, ablate
from taskvectors.explain.attention import Attention, attention_of_heads
from taskvectors.explain.bijections import bijections
from taskvectors.explain.by_layer import at_each_layer
from taskvectors.explain.case import Analysis, Case, Result
from taskvectors.explain.composition import composition
from taskvectors.explain.frozen_paths import FrozenPaths, frozen_paths
from taskvectors.explain.geometry import geometry
from taskvectors.explain.head_outputs import Condition
from taskvectors.explain.head_overlap import HeadOverlap, head_overlap
from taskvectors.explain.interpolation import interpolation
from taskvectors.explain.key_heads import KeyHeads, key_heads
from taskvectors.explain.path_expansion import PathExpansion, path_expansion
from taskvectors.explain.propagation import propagation
from taskvectors.explain.reconstruction import Reconstruction, reconstruct
from taskvectors.explain.rotation import rotation
from taskvectors.explain.transfer import transfer
from taskvectors.explain.vector_lens import vector_lens

_LTV = "Yang et al. 2026, arXiv 2509.24169"


def _reconstruction(case: Case) -> Reconstruction:
    return reconstruct(
        case.model,
        case.vector,
        training=case.prompts("train"),
        validation=case.prompts("validation"),
        test=case.prompts("test"),
        seed=case.context.seed,
        memory=case.context.memory,
    )


def _path_expansion(case: Case) -> PathExpansion:
    return path_expansion(case.model, case.prompts("test"), case.vector)


def _frozen_paths(case: Case) -> FrozenPaths:
    return frozen_paths(
        case.model,
        case.prompts("test"),
        case.vector,
        seed=case.context.seed,
        memory=case.context.memory,
    )


def _key_heads(case: Case) -> KeyHeads:
    def find() -> KeyHeads:
        prompts = case.prompts("train")
        return key_heads(case.model, prompts, case.vector, memory=case.context.memory)

    return case.once("key heads", find)


def _head_overlap(case: Case) -> HeadOverlap:
    heads = _key_heads(case)
    references = {}
    if case.other is not None:
        references[f"another task: {case.other.context.task.name}"] = _key_heads(case.other).key
    for number, vector in enumerate(case.vectors):
        seed = vector.origin.seed
        label = f"{number + 1}: {vector.origin.label}" + ("" if seed is None else f", seed {seed}")
        made_of = vector.origin.settings.get("heads")
        if made_of:  # of a function vector
            references[f"heads that make up {label}"] = tuple((at, head) for at, head in made_of)
        elif vector is not case.vector and vector.origin.task == case.vector.origin.task:
            prompts = case.prompts("train")
            found = key_heads(case.model, prompts, vector, memory=case.context.memory)
            references[label] = found.key
    return head_overlap(heads.key, references, heads.ranked)


def _ablation(case: Case) -> Ablation:
    conditions = [
        Condition(
            name="vector",
            vector=case.vector,
            training=case.prompts("train"),
            test=case.prompts("test"),
        ),
        Condition(
            name="icl",
            vector=None,
            training=case.prompts("train", case.context.shots),
            test=case.prompts("test", case.context.shots),
        ),
    ]
    if case.other is not None:
        conditions.append(
            Condition(
                name="other-task",
                vector=case.other.vector,
                training=case.other.prompts("train"),
                test=case.other.prompts("test"),
            )
        )
    return ablate(
        case.model, _key_heads(case), conditions, seed=case.context.seed, memory=case.context.memory
    )


def _attention(case: Case) -> Attention:
    return attention_of_heads(
        case.model,
        case.vector,
        _key_heads(case),
        prompts=case.prompts("test"),
        shown=case.prompts("test", case.context.shots),
        seed=case.context.seed,
    )


ANALYSES: dict[str, Analysis] = {
    "ov-reconstruction": Analysis(
        run=partial(at_each_layer, "ov-reconstruction", _reconstruction),
        title="OV reconstruction",
        question="How much of the vector's work do the heads do that read it, and how much the "
        "MLPs?",
        source=_LTV,
    ),
    "path-expansion": Analysis(
        run=partial(at_each_layer, "path-expansion", _path_expansion),
        title="Path expansion",
        question="Along which paths does the vector reach the answer's logit?",
        source=f"Elhage et al. 2021, transformer-circuits.pub; after {_LTV}",
    ),
    "frozen-paths": Analysis(
        run=partial(at_each_layer, "frozen-paths", _frozen_paths),
        title="Frozen paths",
        question="What is lost when one path is held as it is without the vector?",
        source="Goldowsky-Dill et al. 2023, arXiv 2304.05969",
    ),
    "key-heads": Analysis(
        run=partial(at_each_layer, "key-heads", _key_heads),
        title="Key heads",
        question="Which heads does the vector work through, and where are they?",
        source=_LTV,
    ),
    "head-ablation": Analysis(
        run=partial(at_each_layer, "head-ablation", _ablation),
        title="Ablation of key heads",
        question="Does the vector stop working without its key heads, and does anything else?",
        source=_LTV,
    ),
    "head-overlap": Analysis(
        run=_head_overlap,
        title="Overlap of key heads",
        question="Are they the same heads for other tasks and other seeds?",
        source="Fisher's exact test",
    ),
    "attention": Analysis(
        run=partial(at_each_layer, "attention", _attention),
        title="Attention of key heads",
        question="Where do key heads look, against random heads?",
        source=_LTV,
    ),
    "lens": Analysis(
        run=vector_lens,
        title="Lens",
        question="Does the vector itself decode to the task's words?",
        source=_LTV,
    ),
    "propagation": Analysis(
        run=propagation,
        title="Linear propagation",
        question="Is what a vector becomes at the last block a linear map of it?",
        source=_LTV,
    ),
    "rotation": Analysis(
        run=rotation,
        title="Rotation and scaling",
        question="Does the way to the last block turn a vector into the labels, or stretch it?",
        source=_LTV,
    ),
    "geometry": Analysis(
        run=geometry,
        title="Geometry",
        question="Do vectors of one task lie together, and those of different tasks apart?",
        source=_LTV,
        needs="vectors",
    ),
    "transfer": Analysis(
        run=transfer,
        title="Transfer",
        question="What does a vector do in tasks that it was not made for?",
        source=_LTV,
        needs="vectors",
    ),
    "composition": Analysis(
        run=composition,
        title="Composition",
        question="Do two vectors together do both of their tasks?",
        source=_LTV,
        needs="vectors",
    ),
    "interpolation": Analysis(
        run=interpolation,
        title="Interpolation",
        question="What lies between the vectors of two tasks?",
        source=_LTV,
        needs="vectors",
    ),
    "bijections": Analysis(
        run=bijections,
        title="Bijections",
        question="Can one learned vector map both ways?",
        source="Dong et al. 2026, arXiv 2506.09048",
        needs="vectors",
    ),
}
"""Analyses by the name the command line uses, in the order of the report."""

__all__ = [
    "ANALYSES",
    "Ablation",
    "Analysis",
    "Attention",
    "Case",
    "Condition",
    "FrozenPaths",
    "HeadOverlap",
    "KeyHeads",
    "PathExpansion",
    "Reconstruction",
    "Result",
    "ablate",
    "attention_of_heads",
    "frozen_paths",
    "head_overlap",
    "key_heads",
    "path_expansion",
    "reconstruct",
]
