"""`taskvectors train`: small in-context learners from scratch, with and without the TVP-loss."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import Output, TrackerChoice, checked, default
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for
from taskvectors.cli.names import FamilyName
from taskvectors.cli.reports import shown_learners
from taskvectors.cli.results import Result
from taskvectors.cli.typed import command_line
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.learners import VariantsConfig

_OF_THE_SHAPE = {"layers": "n_layers", "width": "d_model", "heads": "n_heads", "body": "body"}
_OF_TRAINING = {
    "steps": "steps",
    "icl_steps": "tvp_from",
    "tvp_weight": "tvp_weight",
    "stop_gradient": "stop_gradient",
    "sites_per_sequence": "sites_per_sequence",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "precision": "precision",
}
_OF_THE_VARIANTS = {"seeds": "seeds", "trials": "n_trials", "equal_flops": "equal_flops",
                    "shifts": "with_shifts"}  # fmt: skip
_OF_TVP = ("tvp_weight", "stop_gradient", "sites_per_sequence", "equal_flops")
_preset = default("the preset's")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a small learner from scratch, with and without the TVP-loss, and measure it.

    A preset trains a vanilla learner and one in which a task vector is formed at a layer, both from
    the same start. A run that was cut off goes on when it is given the same --out.
    """

    task: FamilyName
    """A family of tasks, or a Python file that names one."""
    preset: str = "cpu"
    """Settings to start from: `cpu` is small, `paper` has published sizes, for a GPU."""
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Fields of the family, such as n_symbols=11, n_dims=3, n_demonstrations=10 or format=zxy."""
    tvp_layer: Annotated[
        tuple[str, ...],
        arg(metavar="LAYER|none ...", help_behavior_hint="(default: the preset's)"),
    ] = ()
    """Layers, from 0, at which a vector is to be formed, each a variant; 0+2 forms one at both,
    none is vanilla."""
    layers: Annotated[int | None, _preset] = None
    """Blocks of the model."""
    width: Annotated[int | None, _preset] = None
    """Width of its residual stream."""
    heads: Annotated[int | None, _preset] = None
    """Attention heads per block."""
    body: Annotated[Literal["gpt2", "llama"] | None, _preset] = None
    """Learned absolute positions, or rotary ones."""
    steps: Annotated[int | None, _preset] = None
    """All training steps."""
    icl_steps: Annotated[int | None, _preset] = None
    """The first of them, on the in-context loss alone."""
    tvp_weight: Annotated[float | None, _preset] = None
    """Weight of the TVP-loss."""
    stop_gradient: Annotated[bool | None, _preset] = None
    """Do not let the TVP-loss change how the vector is made."""
    sites_per_sequence: Annotated[int | None, _preset] = None
    """Most positions of a sequence that a step puts into the TVP-loss."""
    batch_size: Annotated[int | None, _preset] = None
    """Sequences per step."""
    learning_rate: Annotated[float | None, _preset] = None
    """Learning rate of AdamW."""
    precision: Annotated[Literal["float32", "bfloat16"] | None, _preset] = None
    """Type of the matrix products."""
    seeds: Annotated[
        tuple[int, ...], arg(aliases=["--seed"], help_behavior_hint="(default: the preset's)")
    ] = ()
    """Seeds of weights and sequences; each trains all variants."""
    trials: Annotated[int | None, _preset] = None
    """Questions that results are on."""
    shifts: Annotated[bool | None, _preset] = None
    """Measure out of distribution, too."""
    equal_flops: Annotated[bool | None, _preset] = None
    """Train vanilla with as many floating-point operations as the TVP-loss takes, too."""
    compile: bool = False
    """Compile the training step; pays off in long runs, and on a GPU."""
    device: Annotated[str | None, default("the first GPU, else the CPU")] = None
    """Where to train, such as cpu or cuda:1."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    tracking: TrackerChoice
    output: Output

    def run(self) -> Result:
        """Train them and measure them."""
        from taskvectors.learners.devices import Devices
        from taskvectors.learners.variants import train_variants

        config = self.config()
        folder = folder_for(self.out, "runs", "train", Path(self.task).stem)
        if self.dry_run:
            return would_run(
                "train",
                folder,
                family=config.task,
                tvp_layers=["none" if layer is None else layer for layer in config.tvp_layers],
                steps=config.training.steps,
                seeds=config.seeds,
            )
        record = train_variants(
            config,
            folder,
            command=command_line(),
            devices=Devices(self.device, compile=self.compile),
            tracker=self.tracking.tracker,
        )
        about = {
            "folder": str(folder),
            "task": config.task,
            "settings": config.settings,
            "training": config.training.model_dump(mode="json"),
        }
        return shown_learners(record, about)

    def config(self) -> "VariantsConfig":
        """The same for the library."""
        from taskvectors.learners import variants_config

        changed = [self._given(names) for names in FLAGS_WITH_FIELDS]
        changes = {name: value for some in changed for name, value in some.items()}
        if self.tvp_layer:
            changes["tvp_layers"] = tuple(map(_layer, self.tvp_layer))
        changes["settings"] = settings = dict(map(_setting, self.set))
        if len(settings) < len(self.set):
            raise TaskVectorsError("--set: a field has two values; give it once")
        config = checked(variants_config, task=str(self.task), preset=self.preset, **changes)
        if set(config.tvp_layers) == {None}:
            refuse(given(self, *_OF_TVP), "--tvp-layer none trains without the TVP-loss")
        return config

    def _given(self, names: dict[str, str]) -> dict[str, Any]:
        """Flags that were given, under the names that a config has for them."""
        values = {field: getattr(self, flag) for flag, field in names.items()}
        return {field: value for field, value in values.items() if value not in (None, ())}


def _layer(word: str) -> int | tuple[int, ...] | None:
    if word == "none":
        return None
    places = word.split("+")
    if not all(re.fullmatch("0|[1-9][0-9]{0,5}", place) for place in places):
        raise TaskVectorsError(
            f"--tvp-layer: {word!r} is no layer; give numbers from 0, several at once as 0+2, or "
            "none for a vanilla learner"
        )
    return int(word) if len(places) == 1 else tuple(map(int, places))


def _setting(word: str) -> tuple[str, Any]:
    """NAME=VALUE with the value as JSON where it is that, else as a word."""
    import json

    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise TaskVectorsError(f"--set: {word!r} is not NAME=VALUE, such as n_symbols=11")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


FLAGS_WITH_FIELDS: Sequence[dict[str, str]] = (_OF_THE_SHAPE, _OF_TRAINING, _OF_THE_VARIANTS)
"""Flags and the fields of configs that they change; a test compares the two."""
