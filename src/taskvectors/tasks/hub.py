"""Data sets of the Hugging Face hub, with presets for the ones that the papers use.

A preset names a data set without a loading script at a fixed commit, how its columns become an
input, and the word for each of its numeric labels. Nothing is downloaded before a hub source is
asked for by name, and a local folder of the same layout stands in for the hub.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

from taskvectors.errors import DataError
from taskvectors.tasks.columns import SPLITS, Columns, examples
from taskvectors.tasks.formats import numbered
from taskvectors.tasks.task import Example, TaskData

PREFIX = "hub:"
_HIDDEN = -1  # the label of a row whose label is withheld, or that annotators did not agree on


@dataclass(frozen=True, kw_only=True)
class HubPreset:
    """How one data set of the hub becomes a task.

    Attributes:
        description: One sentence.
        repository: Data set on the hub.
        configuration: Its configuration, where it has several.
        revision: Commit that is read.
        text: Format string over columns that makes the input.
        label_column: Column of the numeric label.
        labels: The word for label 0, 1, ...
        template: Name of the prompt template.
        license: As the data set's page states it.
    """

    description: str
    repository: str
    configuration: str | None = None
    revision: str
    text: str
    label_column: str = "label"
    labels: tuple[str, ...]
    template: str
    license: str

    @property
    def columns(self) -> list[str]:
        """The columns that the preset reads."""
        fields = (field for _, field, _, _ in Formatter().parse(self.text) if field)
        return [*fields, self.label_column]

    @property
    def source(self) -> str:
        """The data set, its configuration and its commit, in one string."""
        parts = [self.repository, *([self.configuration] if self.configuration else [])]
        return f"{PREFIX}{'/'.join(parts)}@{self.revision}"


# Words and prompts are those of arXiv 2505.18752, table 2, which has no AG News: its words are the
# data set's own in lower case ("technology" for "Sci/Tech", which does not read as a word).
HUB_PRESETS: Mapping[str, HubPreset] = {
    "sst2": HubPreset(
        description="Tell the sentiment of a sentence from a film review.",
        repository="stanfordnlp/sst2",
        revision="8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        text="{sentence}",
        labels=("negative", "positive"),
        template="sentiment",
        license="unknown (none stated)",
    ),
    "trec": HubPreset(
        description="Tell what kind of answer a question asks for.",
        repository="CogComp/trec",
        # a commit of the hub's own Parquet conversion: the main branch is a loading script
        revision="65752bf53af25bc935a0dce92fb5b6c930728450",
        text="{text}",
        label_column="coarse_label",
        labels=("abbreviation", "entity", "description", "human", "location", "number"),
        template="question-type",
        license="unknown (none stated)",
    ),
    "snli": HubPreset(
        description="Tell whether a sentence follows from another, contradicts it, or neither.",
        repository="stanfordnlp/snli",
        configuration="plain_text",
        revision="cdb5c3d5eed6ead6e5a341c8e56e669bb666725b",
        text="{premise} ? The answer {hypothesis}",
        labels=("true", "maybe", "false"),
        template="nli",
        license="CC-BY-SA-4.0",
    ),
    "rte": HubPreset(
        description="Tell whether a sentence follows from another.",
        repository="nyu-mll/glue",
        configuration="rte",
        revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
        text="{sentence1} ? The answer {sentence2}",
        labels=("true", "false"),
        template="nli",
        license="unknown (none stated)",
    ),
    "subj": HubPreset(
        description="Tell whether a sentence states a fact or an opinion.",
        repository="SetFit/subj",
        revision="f3c1162e678417f664d76b21864fdb87b0615fcf",
        text="{text}",
        labels=("objective", "subjective"),
        template="type",
        license="unknown (none stated)",
    ),
    "agnews": HubPreset(
        description="Tell the section of a newspaper that a story belongs to.",
        repository="fancyzhx/ag_news",
        revision="eb185aade064a813bc0b7f42de02595523103ca4",
        text="{text}",
        labels=("world", "sports", "business", "technology"),
        template="type",
        license="unknown (academic use)",
    ),
}


def read_hub(source: str, columns: Columns | None = None) -> TaskData:
    """The pairs of a hub data set, by its own splits.

    Blanks around a text are removed. A split whose labels are all withheld is left out, and so are
    single rows without a label; the notes count them.

    Args:
        source: `hub:` and a preset or `owner/name`, possibly with `@` and a local folder (preset)
            or a revision (data set).
        columns: Which columns of a data set are read; a preset has its own.

    Returns:
        The pairs under those of `train`, `validation`, `test` that have labels.

    Raises:
        DataError: No such preset or data set, columns that are not there, or labels without a word.
    """
    name, _, after = source.removeprefix(PREFIX).partition("@")
    columns = columns or Columns()
    if name in HUB_PRESETS:
        if not columns.is_default:
            raise DataError(
                f"{source} is a preset with columns and words of its own; leave out what names or "
                "changes columns, or name the data set as hub:owner/name"
            )
        return _read_preset(name, HUB_PRESETS[name], Path(after).expanduser() if after else None)
    if "/" not in name:
        raise DataError(
            f"no hub preset is called {name!r}; there are: {', '.join(HUB_PRESETS)}; another data "
            "set is named hub:owner/name"
        )
    used = [columns.input, columns.output]
    loaded, notes, names = _load(name, None, after or None, used)
    if names and not columns.labels:
        columns = replace(columns, labels={str(number): word for number, word in enumerate(names)})
        notes.append(f"the data set names its labels: {', '.join(names)}")
    splits: dict[str, tuple[Example, ...]] = {}
    for split, rows in loaded.items():
        read, said = examples(numbered(rows), f"{source}, {split}", columns)
        splits[split] = read["train"]
        notes += [f"{split}: {note}" for note in said]
    return TaskData(
        name=name.rpartition("/")[2],
        description="",
        template="qa",
        source=source if after else f"{source} (newest revision)",
        license="see the data set's page",
        splits=splits,
        notes=tuple(notes),
    )


def _read_preset(name: str, preset: HubPreset, folder: Path | None) -> TaskData:
    if folder is None:
        where, configuration, revision = preset.repository, preset.configuration, preset.revision
        loaded, notes, _ = _load(where, configuration, revision, preset.columns)
    else:
        loaded, notes, _ = _load(_local(folder, preset.configuration), None, None, preset.columns)
    source = f"{PREFIX}{name}@{folder}" if folder else preset.source
    splits: dict[str, tuple[Example, ...]] = {}
    for split, rows in loaded.items():
        labelled = [n for n, row in enumerate(rows) if row[preset.label_column] != _HIDDEN]
        if len(labelled) < len(rows):
            hidden = len(rows) - len(labelled)
            notes.append(f"{split} split: {hidden} of {len(rows)} rows have no label, left out")
        if labelled:
            splits[split] = tuple(
                _pair(preset, rows[n], f"{source}, {split}", n + 1) for n in labelled
            )
    if "train" not in splits:
        raise DataError(f"{source}: no row of the train split has a label")
    return TaskData(
        name=name,
        description=preset.description,
        template=preset.template,
        source=source,
        license=preset.license,
        splits=splits,
        notes=tuple(notes),
    )


def _pair(preset: HubPreset, row: Mapping[str, Any], origin: str, number: int) -> Example:
    label = row[preset.label_column]
    if not isinstance(label, int) or not 0 <= label < len(preset.labels):
        raise DataError(
            f"{origin}, row {number}: label {label!r} has no word; labels 0, 1, ... stand for "
            f"{', '.join(preset.labels)}"
        )
    text = preset.text.format(**row).strip()
    if not text:
        raise DataError(f"{origin}, row {number}: the text is empty")
    return Example(input=text, output=preset.labels[label])


def _local(folder: Path, configuration: str | None) -> str:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    inner = folder / configuration if configuration else folder
    return str(inner if inner.is_dir() else folder)


def _load(
    repository: str, configuration: str | None, revision: str | None, columns: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[str], list[str]]:
    """Rows by split without blanks around strings, what was left out, and the last column's names.

    The names are those of its classes; empty where it is no class label.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{repository}: hub data sets need the datasets package; install it with pip install "
            '"taskvectors[data]"'
        ) from error
    try:
        loaded = datasets.load_dataset(repository, configuration, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{repository}: the data set cannot be loaded: {reason}") from error
    if "train" not in loaded:
        raise DataError(f"{repository}: no train split; its splits are: {', '.join(loaded)}")
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in (split for split in SPLITS if split in loaded):
        missing = [column for column in columns if column not in loaded[split].column_names]
        if missing:
            found = ", ".join(loaded[split].column_names)
            raise DataError(
                f"{repository}, {split}: no column {missing[0]!r}; the columns are: {found}"
            )
        rows[split] = [_stripped(row) for row in loaded[split].select_columns(columns).to_list()]
    others = [split for split in loaded if split not in SPLITS]
    names = getattr(loaded["train"].features[columns[-1]], "names", None) or []
    return rows, [f"splits left out: {', '.join(others)}"] if others else [], list(names)


def _stripped(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
