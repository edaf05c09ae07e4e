"""The documentation runs: every command and every block of Python of every page, at a small size.

A page runs from top to bottom in a folder of its own, on a random model that is narrow, and as deep
as the embedded one. Only what `SMALL` and `small_python` say is changed. A comment above a block
may mark it: `<!-- slow: reason -->` runs it in the slow tier only, `<!-- skip: reason -->` not at
all, and a test lists what is skipped.

Run with `pytest tests/test_docs.py`.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipes import from_zero

from taskvectors.cli import main
from taskvectors.cli.parsing import VERBS, parse
from taskvectors.errors import TaskVectorsError
from taskvectors.registry import EXPERIMENTS, METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")))
N_LAYERS = 18
"""Of the small model, so that the layers that the pages name are there."""

SIZES = {"--n-train": "12", "--n-validation": "4", "--n-test": "4"}
SMALL: dict[str, dict[str, str]] = {
    "compare": {**SIZES, "--model": "MODEL", "--steps": "2", "--shots": "2"},
    "learn": {**SIZES, "--model": "MODEL", "--steps": "2"},
    "extract": {**SIZES, "--model": "MODEL", "--shots": "2"},
    "evaluate": {"--trials": "16"},
    "generate": {"--max-new-tokens": "2"},
    "explain": {"--limit": "4", "--shots": "2", "--other-vector": "none"},
    "train": {"--steps": "4", "--icl-steps": "2", "--trials": "16", "--batch-size": "4"},
    "reproduce": {"--preset": "smoke"},
    "estimate": {"--model": "MODEL", "--device": "h100"},
}
"""Options of a verb that take these values, whatever the page has."""
ONLY_WHERE_GIVEN = {"--trials", "--max-new-tokens", "--shots"}
"""Of these, options that are changed but never added."""
SKIPPED_REASONS = {
    "README.md": 1,
    "docs/start.md": 1,
    "docs/how-to/index.md": 1,
    "docs/how-to/export.md": 2,
    "docs/how-to/own-data.md": 1,
    "docs/how-to/own-model.md": 1,
    "docs/how-to/play.md": 2,
    "docs/how-to/reproduce.md": 2,
    "docs/other-systems.md": 2,
    "docs/results/paper-a.md": 1,
    "docs/results/paper-b.md": 1,
}
"""How many blocks of a page cannot run here: downloads, clusters, installations."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: `console`, `python`, or that of a file.
        text: What stands between the fences.
        title: Name of the file that it is, or nothing.
        mark: `slow`, `skip` or nothing.
        reason: What the mark is for.
    """

    language: str
    text: str
    title: str
    mark: str
    reason: str

    @property
    def commands(self) -> list[str]:
        """Lines behind a prompt, joined where they go on."""
        lines = re.findall(r"^[$>] (.*)$", self.text, re.M)
        return [line for line in lines if line.strip()]


_FENCE = re.compile(
    r"(?:<!-- (?P<mark>slow|skip): (?P<reason>[^\n]+?) -->\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.M | re.S,
)


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(**{name: value or "" for name, value in found.groupdict().items()})
        for found in _FENCE.finditer(text)
    ]


def is_run(block: Block) -> bool:
    return block.mark != "skip" and (block.language in ("console", "python") or bool(block.title))


PAGES_THAT_RUN = [page for page in PAGES if any(is_run(block) for block in blocks_of(page))]
PAGES_THAT_ARE_SLOW = [
    page for page in PAGES if any(block.mark == "slow" for block in blocks_of(page))
]


def words_of(line: str) -> list[str]:
    """The words of a command behind the program's name, without its comment."""
    return shlex.split(line, comments=True)[1:]


def small(words: list[str], model: str) -> list[str]:
    """A command of the documentation at a small size.

    Args:
        words: Verb and options.
        model: Folder of the small model.
    """
    changed = list(words)
    if "--list" in words:  # nothing is run
        return changed
    for option, fixed in SMALL.get(words[0], {}).items():
        value = model if fixed == "MODEL" else fixed
        if option in changed:
            if words[0] != "estimate":  # which is cheap at any size
                changed[changed.index(option) + 1] = value
        elif option not in ONLY_WHERE_GIVEN:
            changed += [option, value]
    return changed


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory, fresh_model: Any, tokenizer: Any) -> Path:
    """A random model of 18 narrow layers, as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("models") / "my-model"
    fresh_model("llama", num_hidden_layers=N_LAYERS).hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def small_python(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python of the pages sees a small model, few pairs and steps; what it registers goes again."""
    import taskvectors as tv

    known = [(registry, set(registry)) for registry in (METHODS, EXPERIMENTS)]
    load_model, load_task, learn = tv.load_model, tv.load_task, tv.learn
    sizes = {"n_train": 12, "n_validation": 4, "n_test": 4}

    def small_load(source: Any = "embedded", *more: Any, **options: Any) -> Any:
        return load_model(str(small_model) if isinstance(source, str) else source, *more, **options)

    monkeypatch.setattr(tv, "load_model", small_load)
    monkeypatch.setattr(tv, "load_task", lambda *about, **more: load_task(*about, **sizes | more))
    monkeypatch.setattr(
        tv, "learn", lambda *a, **k: learn(*a, **{"recipe": from_zero(steps=2)} | k)
    )
    yield
    for registry, names in known:
        for name in set(registry) - names:
            registry.unregister(name)


def run_page(page: str, model: Path, folder: Path, *, with_slow: bool) -> int:
    """Run a page's blocks in a folder; how many commands and blocks of Python there were.

    With slow ones it ends with the last of them: what comes then runs without them, too.
    """
    n_run = 0
    (folder / "my-model").symlink_to(model)
    blocks = list(filter(is_run, blocks_of(page)))
    if with_slow:
        blocks = blocks[: max(n for n, one in enumerate(blocks, 1) if one.mark == "slow")]
    for block in blocks:
        if block.mark == "slow" and not with_slow:
            continue
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, page, "exec"), {})
            n_run += 1
        for line in block.commands if block.language == "console" else ():
            assert line.startswith("taskvectors "), f"{page}: mark what cannot run here: {line}"
            assert main(small(words_of(line), str(model))) == 0, f"{page}: {line}"
            n_run += 1
    return n_run


@pytest.mark.usefixtures("small_python")
@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_what_a_page_shows_runs(
    page: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, small_model, tmp_path, with_slow=False)


@pytest.mark.slow(small_models=True)
@pytest.mark.usefixtures("small_python")
@pytest.mark.parametrize("page", PAGES_THAT_ARE_SLOW)
def test_what_a_page_shows_runs_with_what_takes_longer(
    page: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, small_model, tmp_path, with_slow=True)


def test_what_cannot_run_here_is_listed_with_its_reason() -> None:
    skipped = {page: [b for b in blocks_of(page) if b.mark == "skip"] for page in PAGES}
    assert {page: len(blocks) for page, blocks in skipped.items() if blocks} == SKIPPED_REASONS
    assert all(block.reason for blocks in skipped.values() for block in blocks)


def test_a_command_that_fails_is_seen(small_model: Path, tmp_path: Path) -> None:
    assert main(small(["evaluate", "--vector", str(tmp_path / "none")], str(small_model))) == 2


@pytest.mark.parametrize("page", PAGES)
def test_no_command_of_ours_stands_in_a_block_that_is_not_run(page: str) -> None:
    for block in blocks_of(page):
        if block.language != "console":
            assert not re.search(r"^\$? ?(taskvectors [a-z]|make [a-z])", block.text, re.M)


# --- commands that cannot run here, and those in sentences


def commands_to_type(page: str) -> list[str]:
    """Commands of ours in a page's skipped blocks and sentences."""
    lines = [line for block in blocks_of(page) for line in block.commands]
    text = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return [
        line for line in dict.fromkeys(lines) if re.match(r"(taskvectors|make|python) \S", line)
    ]


PLACEHOLDERS = {"VERB", "V", "M", "L", "L4", "RUN", "RUN1", "FOLDER", "MODEL", "NAME", "..."}


def is_known(words: list[str]) -> bool:
    """Whether verb and options exist; a sentence may leave out what does not matter in it."""
    try:
        return parse(words) is not None
    except TaskVectorsError as error:
        return str(error).startswith("Missing")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_can_be_typed(page: str) -> None:
    for line in commands_to_type(page):
        program, *words = shlex.split(line, comments=True)
        if program == "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
            assert words[0] in targets, line
        elif program == "python":
            assert words == ["-m", "taskvectors"] or (ROOT / words[0]).is_file(), line
        elif PLACEHOLDERS.isdisjoint(words) and len(words) > 1:
            assert is_known(words), line


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_shown_on_a_page(verb: str) -> None:
    assert any(f"taskvectors {verb}" in (ROOT / page).read_text() for page in PAGES)


# --- the site


def pages_in(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from pages_in(value)
    elif isinstance(nav, list):
        for item in nav:
            yield from pages_in(item)


def test_the_contents_of_the_site_are_its_pages() -> None:
    listed = list(pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors_of(there.read_text(encoding="utf-8")), target


def test_the_first_page_of_the_site_is_the_readme_with_links_of_the_site() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    pytest.importorskip("griffe")
    try:
        from docs_site import first_page
    finally:
        sys.path.remove(str(ROOT / "tools"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = first_page(readme)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) > 10
    assert all((DOCS / link.partition("#")[0]).exists() for link in links)
    assert "CHANGELOG.md" not in text
    assert len(text) > len(readme) / 2


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_page_says_what_its_row_says(name: str) -> None:
    method = METHODS[name]
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {method.title}: `{name}`\n")
    assert method.fails in " ".join(page.partition("\n## When it fails\n")[2].split())
    index = (DOCS / "methods" / "index.md").read_text(encoding="utf-8")
    assert f"\n| [`{name}`]({name}.md) | {method.summary} |" in index


def test_families_of_tasks_are_in_the_table_of_the_page_about_learners() -> None:
    from taskvectors.learners import FAMILIES

    page = (DOCS / "learners.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \| .*\|$", page, re.M))
    assert {name: rows[name] for name in FAMILIES} == {
        name: family.summary for name, family in FAMILIES.items()
    }


def test_pictures_are_few_and_each_is_shown() -> None:
    pictures = {path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.*")
                if path.suffix in (".png", ".svg")}  # fmt: skip
    shown = {
        (path.parent / target).resolve().relative_to(ROOT).as_posix()
        for path in map(ROOT.joinpath, PAGES)
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    assert shown == pictures
    assert len(pictures) <= 12


def test_data_of_the_results_are_tidy_rows() -> None:
    import pandas as pd

    from taskvectors.results import COLUMNS

    files = sorted((DOCS / "results" / "data").glob("*.csv"))
    assert files
    for path in files:
        rows = pd.read_csv(path)
        assert list(rows.columns) == list(COLUMNS), path.name
        assert rows["measure"].notna().all(), path.name
        assert pd.to_numeric(rows["value"], errors="raise").notna().any(), path.name
