"""What a comparison is asked for."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from taskvectors.methods import MethodConfig
from taskvectors.methods.icl import InContext
from taskvectors.methods.learned import Learned
from taskvectors.methods.vanilla import Vanilla
from taskvectors.methods.zero_shot import ZeroShot
from taskvectors.models import LanguageModel, load_model
from taskvectors.registry import CONTROLS
from taskvectors.tasks import Task, load_task


def _known(name: str) -> str:
    if name not in CONTROLS:
        raise ValueError(f"there is no control {name!r}; there are {', '.join(CONTROLS)}")
    return name


ControlName = Annotated[str, AfterValidator(_known)]
"""The name of a registered control."""


class ModelConfig(BaseModel):
    """Which model, and how it is loaded; see `load_model`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    source: str = "embedded"
    """`embedded`, a hub id, a local folder, or a .gguf file."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type to compute in; `auto` is bfloat16 where the processor has it."""
    device: str | None = None
    """Where the model goes."""
    device_map: str | None = None
    """Spread over devices as accelerate does."""
    attention: str | None = None
    """transformers' attention implementation."""
    quantization: Literal["4bit", "8bit"] | None = None
    """Load in fewer bits through bitsandbytes."""
    revision: str | None = None
    """Commit or branch of a hub model."""
    trust_remote_code: bool = False
    """Run the code that comes with the model; it can do anything."""

    def load(self) -> LanguageModel:
        """Load it."""
        return load_model(**self.model_dump())


Loader = Callable[[ModelConfig], LanguageModel]
"""What gives the model of a config: `ModelConfig.load`, or something that keeps what it loaded."""


class CompareConfig(BaseModel):
    """Methods side by side on one task."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    model: ModelConfig = ModelConfig()
    """The model."""
    task: str = "capital"
    """A built-in task, a file of pairs, or a hub data set."""
    input_column: str = "input"
    """Column of a file or a hub data set with what is asked."""
    output_column: str = "output"
    """Column with the answer."""
    labels: dict[str, str] = {}
    """The word for each value of the output column."""
    strip: bool = False
    """Whether blanks at the ends of texts are removed."""
    template: str | None = None
    """Prompt template; the task's own by default."""
    shots: int = Field(default=8, ge=1)
    """Demonstrations in a few-shot prompt."""
    n_train: int = Field(default=300, ge=1)
    """Training pairs."""
    n_validation: int = Field(default=100, ge=1)
    """Validation pairs."""
    n_test: int = Field(default=200, ge=1)
    """Test pairs."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of split, demonstrations and initialisation."""
    methods: tuple[MethodConfig, ...] = (ZeroShot(), InContext(), Vanilla(), Learned())
    """What is compared."""
    configurations: Literal["own", "paper"] = "own"
    """Where vectors go: as each method's config says, or in the paper's configurations."""
    by_examples: bool = False
    """Also run each method on 4, 8, 16, ... of the training pairs."""
    controls: tuple[ControlName, ...] = ("majority", "random")
    """Baselines that must score lower than a vector."""
    test_dtype: Literal["same", "float32"] = "same"
    """Type to score the test split in; figures that are published are in float32."""
    memory: str | None = None
    """Memory to use, such as 4GB."""
    end_of_answer: bool = False
    """Whether the token after a right answer has to end it."""
    chat: bool = False
    """Whether prompts go through the tokenizer's chat template."""
    n_shown: int = Field(default=12, ge=0)
    """Test items whose generated answers are kept."""

    def load_task(self, seed: int) -> Task:
        """The task on one seed.

        Raises:
            DataError: It cannot be loaded.
        """
        return load_task(
            self.task,
            seed=seed,
            n_train=self.n_train,
            n_validation=self.n_validation,
            n_test=self.n_test,
            input_column=self.input_column,
            output_column=self.output_column,
            labels=self.labels,
            strip=self.strip,
        )
