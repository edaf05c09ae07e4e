"""How experiments that put methods side by side are run, and what that takes."""

from collections.abc import Callable, Sequence
from typing import Any

from taskvectors.costs import Cost
from taskvectors.experiments.compare import compare
from taskvectors.experiments.config import CompareConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import GroupResult, Preset, RunUnit, WorkDir
from taskvectors.methods.icl import InContext
from taskvectors.methods.zero_shot import ZeroShot
from taskvectors.models import LanguageModel

BASE = (ZeroShot(), InContext())
"""What every method is compared with."""


def compared(
    unit: RunUnit, preset: Preset, work_dir: WorkDir, methods: Sequence[Any], **about: Any
) -> GroupResult:
    """A comparison on a group's model, task and seed."""
    config = asked(unit, preset, methods, **about)
    return GroupResult(record=compare(config, work_dir.folder / "compare", load=work_dir.load))


def comparing(
    methods: Callable[[LanguageModel, Preset], Sequence[Any]], **about: Any
) -> dict[str, Any]:
    """How an experiment that compares methods is run, and what that takes.

    Args:
        methods: Configs of the methods, for a model at some preset.
        about: Fields of the comparison's config.
    """

    def run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
        assert unit.model is not None
        return compared(unit, preset, work_dir, methods(work_dir.load(unit.model), preset), **about)

    def estimate(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
        assert unit.model is not None
        configs = methods(estimator.model(unit.model), preset)
        return estimator.comparison(asked(unit, preset, configs, **about))

    return {"run": run, "estimate": estimate}


def asked(unit: RunUnit, preset: Preset, methods: Sequence[Any], **about: Any) -> CompareConfig:
    """The comparison of some methods on a group's model, task and seed."""
    assert unit.model is not None
    # a second copy in float32 has room beside a model whose type was left open
    is_open = unit.model.dtype == "auto" and unit.model.quantization is None
    return CompareConfig(
        model=unit.model,
        task=unit.task,
        shots=preset.shots,
        n_train=preset.n_train,
        n_validation=preset.n_validation,
        n_test=preset.n_test,
        seeds=(unit.seed,),
        methods=tuple(methods),
        test_dtype="float32" if is_open else "same",
        memory=preset.memory,
        n_shown=0,
        **{"controls": ("majority", "random")} | about,
    )


def middle_of(model: LanguageModel) -> tuple[int, ...]:
    """The paper's middle layer."""
    return (model.n_layers // 2 - 1,)
