import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from taskvectors.errors import DataError
from taskvectors.prompts import TEMPLATES
from taskvectors.tasks import HUB_PRESETS, load_task
from taskvectors.tasks.columns import Columns as TaskColumns
from taskvectors.tasks.hub import read_hub

Columns = dict[str, list[Any]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def rows(name: str, n: int, start: int = 0, hidden: bool = False) -> Columns:
    """Columns of a preset's data set; label by turns, or withheld."""
    preset = HUB_PRESETS[name]
    texts = {
        column: [f"{column} {i} " for i in range(start, start + n)]
        for column in preset.columns
        if column != preset.label_column
    }
    labels = [-1 if hidden else i % len(preset.labels) for i in range(start, start + n)]
    return {**texts, preset.label_column: labels, "idx": list(range(n))}


def write_folder(folder: Path, splits: dict[str, Columns]) -> Path:
    """A folder as the hub lays data sets out."""
    folder.mkdir(parents=True)
    for split, columns in splits.items():
        table = datasets.Dataset.from_dict(columns)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("name", HUB_PRESETS)
def test_every_preset_reads_a_local_folder_of_its_layout(name: str, tmp_path: Path) -> None:
    preset = HUB_PRESETS[name]
    inner = Path("repository") / (preset.configuration or "")
    splits = {"train": rows(name, 60), "test": rows(name, 20, start=100)}
    write_folder(tmp_path / inner, splits)
    task = load_task(f"hub:{name}@{tmp_path / 'repository'}", n_train=12, n_validation=6, n_test=12)
    assert (len(task.train), len(task.validation), len(task.test)) == (12, 6, 12)
    assert set(task.labels) == set(preset.labels)
    assert task.name == name
    assert task.template in TEMPLATES
    assert all(int(pair.input.split()[1]) >= 100 for pair in task.test)
    for pair in (*task.train, *task.validation, *task.test):
        number = int(pair.input.split()[1])
        assert pair.output == preset.labels[number % len(preset.labels)]


def test_two_texts_are_joined_as_in_the_paper_without_blanks_around(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "rte", {"train": rows("rte", 10)})
    pair = read_hub(f"hub:rte@{folder}").splits["train"][3]
    assert pair.input == "sentence1 3 ? The answer sentence2 3"
    assert pair.output == "false"
    filled = TEMPLATES["nli"].fill(pair)
    assert filled == "The question is: sentence1 3 ? The answer sentence2 3 false"


def test_validation_is_the_test_split_where_test_labels_are_hidden(tmp_path: Path) -> None:
    splits = {
        "train": rows("sst2", 60),
        "validation": rows("sst2", 20, start=100),
        "test": rows("sst2", 20, start=200, hidden=True),
    }
    folder = write_folder(tmp_path / "sst2", splits)
    task = load_task(f"hub:sst2@{folder}", n_train=12, n_validation=6, n_test=20)
    assert {int(pair.input.split()[1]) for pair in task.test} == set(range(100, 120))
    assert all(int(pair.input.split()[1]) < 60 for pair in task.validation)
    assert "test split: 20 of 20 rows have no label, left out" in task.notes


def test_own_validation_and_test_splits_are_used(tmp_path: Path) -> None:
    splits = {
        "train": rows("snli", 30),
        "validation": rows("snli", 12, start=100),
        "test": rows("snli", 12, start=200),
    }
    folder = write_folder(tmp_path / "snli", splits)
    task = load_task(f"hub:snli@{folder}", n_train=12, n_validation=6, n_test=12)
    assert all(100 <= int(pair.input.split()[1]) < 200 for pair in task.validation)
    assert all(int(pair.input.split()[1]) >= 200 for pair in task.test)


def test_single_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    columns = rows("snli", 20)
    columns["label"][4] = -1
    folder = write_folder(tmp_path / "snli", {"train": columns})
    data = read_hub(f"hub:snli@{folder}")
    assert len(data.splits["train"]) == 19
    assert data.notes == ("train split: 1 of 20 rows have no label, left out",)


def test_braces_in_a_text_are_text(tmp_path: Path) -> None:
    columns = rows("sst2", 10)
    columns["sentence"][0] = "a {sentence} {0}"
    folder = write_folder(tmp_path / "sst2", {"train": columns})
    assert read_hub(f"hub:sst2@{folder}").splits["train"][0].input == "a {sentence} {0}"


def changed(column: str, row: int, value: object) -> Columns:
    columns = rows("sst2", 10)
    columns[column][row] = value
    return columns


BAD = [
    ({"train": changed("label", 2, 2)}, r"train, row 3: label 2 has no word; .*negative, positive"),
    ({"train": changed("label", 2, None)}, "train, row 3: label None has no word"),
    ({"train": changed("sentence", 2, " ")}, "train, row 3: the text is empty"),
    ({"train": {"text": ["a"], "label": [0]}}, "train: no column 'sentence'; .* text, label"),
    ({"train": rows("sst2", 10, hidden=True)}, "no row of the train split has a label"),
    ({"test": rows("sst2", 10)}, "no train split; its splits are: test"),
]


@pytest.mark.parametrize(("splits", "reason"), BAD)
def test_a_data_set_that_does_not_fit_its_preset_is_an_error(
    splits: dict[str, Columns], reason: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "sst2", splits)
    with pytest.raises(DataError, match=reason):
        read_hub(f"hub:sst2@{folder}")


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_hub(f"hub:sst2@{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the data set cannot be loaded"):
        read_hub(f"hub:sst2@{tmp_path / 'empty'}")


class Hub:
    """Stands in for the hub, and remembers what it was asked for."""

    def __init__(self, **splits: Columns) -> None:
        self.splits = splits
        self.asked: tuple[object, ...] = ()

    def __call__(self, repository: str, name: str | None, revision: str | None) -> Any:
        self.asked = (repository, name, revision)
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_dict(columns) for split, columns in self.splits.items()}
        )


@pytest.mark.parametrize("name", HUB_PRESETS)
def test_a_preset_asks_the_hub_for_its_pinned_commit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(train=rows(name, 30))
    monkeypatch.setattr(datasets, "load_dataset", hub)
    data = read_hub(f"hub:{name}")
    preset = HUB_PRESETS[name]
    assert hub.asked == (preset.repository, preset.configuration, preset.revision)
    assert len(preset.revision) == 40
    assert preset.revision in data.source
    assert preset.repository in data.source


def test_another_data_set_needs_columns_input_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(train={"input": [" a "], "output": ["b"], "id": [1]}, extra={"x": [1]})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    data = read_hub("hub:someone/words@v1")
    assert hub.asked == ("someone/words", None, "v1")
    assert (data.splits["train"][0].input, data.name) == ("a", "words")
    assert data.notes == ("splits left out: extra",)
    hub.splits = {"train": {"text": ["a"], "output": ["b"]}}
    with pytest.raises(DataError, match="train: no column 'input'; the columns are: text, output"):
        read_hub("hub:someone/words")


def test_a_data_set_that_the_hub_does_not_give_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"a/b: the data set cannot be loaded: .* supported$"):
        read_hub("hub:a/b")


def test_without_the_datasets_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"taskvectors\[data\]"):
        read_hub("hub:sst2")


def test_class_names_of_a_data_set_are_the_words_of_its_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "fine"])}
    )
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    loaded = datasets.DatasetDict({"train": table})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    data = read_hub("hub:me/mine", TaskColumns(input="text", output="label"))
    assert [pair.output for pair in data.splits["train"]] == ["fine", "bad"]
    assert "the data set names its labels: bad, fine" in data.notes


def test_a_preset_takes_no_columns() -> None:
    with pytest.raises(DataError, match="preset with columns"):
        read_hub("hub:sst2", TaskColumns(input="text"))
