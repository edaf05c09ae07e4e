"""The project says of itself what is true: tree, names, version, sizes, sources, lazy imports.

Run with `pytest tests/test_house.py`.
"""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskvectors as tv

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "taskvectors"
LONGEST_FILE = 400
HEAVY = ("torch", "transformers")
# A folder that only one machine has (home, temporary, mounted), but no part of a web address.
PRIVATE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|tmp|mnt|srv|work|Users)/|[A-Z]:\\Users\\")
TEXT_FILES = (".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".json", ".html", ".css", ".js", "")


def in_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def visible(folder: Path) -> Iterator[Path]:
    """What is in a folder, without what git leaves out."""
    left_out = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    for path in sorted(folder.iterdir()):
        if path.name not in left_out | {".git"} and path.suffix != ".egg-info":
            yield path


def all_files(folder: Path) -> Iterator[Path]:
    for path in visible(folder):
        if path.is_dir():
            yield from all_files(path)
        else:
            yield path


# --- the README's tree


def readme_tree() -> tuple[set[str], set[str]]:
    """Names in the README's tree: in src/taskvectors, and folders beside src."""
    tree = re.search(
        r"^```\n(src/taskvectors/\n.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert tree is not None, "README.md has no block that begins with src/taskvectors/"
    lines = tree[1].splitlines()[1:]
    inside = {line.split()[0] for line in lines if line.startswith("  ")}
    beside = {line.split()[0] for line in lines if not line.startswith(" ")}
    return inside, beside


def named(path: Path) -> str:
    return f"{path.name}/" if path.is_dir() else path.name


def test_the_readme_tree_names_everything_in_the_package_and_nothing_else() -> None:
    inside, _ = readme_tree()
    assert inside == {named(path) for path in visible(PACKAGE)}


def test_the_readme_tree_names_all_folders_of_the_project_and_nothing_else() -> None:
    _, beside = readme_tree()
    folders = {named(path) for path in visible(ROOT) if path.is_dir()}
    assert beside == {name for name in folders if not name.startswith(".")} - {"src/"}


def test_each_line_of_the_readme_tree_says_what_the_thing_is_for() -> None:
    text = (ROOT / "README.md").read_text()
    for name in set().union(*readme_tree()):
        assert re.search(rf"^ *{re.escape(name)}  +\w", text, re.M), name


# --- public names


@pytest.mark.parametrize("name", tv.__all__)
def test_a_public_name_is_what_its_folder_says(name: str) -> None:
    home = importlib.import_module(tv._HOMES[name])
    assert getattr(tv, name) is getattr(home, name)
    assert name in dir(tv)


def test_type_checkers_are_told_the_same_names_from_the_same_folders() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == tv._HOMES


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'learnt'"):
        tv.learnt  # noqa: B018


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("first", ["import taskvectors.evaluate", "tv.evaluate", "tv.learn"])
def test_evaluate_is_the_function_whatever_was_imported_before(first: str) -> None:
    code = (
        f"import taskvectors as tv\n{first}\n"
        "import taskvectors.evaluate\nfrom taskvectors import evaluate\n"
        "import sys, types\n"
        "assert isinstance(tv.evaluate, types.FunctionType), tv.evaluate\n"
        "assert evaluate is tv.evaluate\n"
        "assert evaluate is sys.modules['taskvectors.evaluate'].evaluate\n"
    )
    in_fresh_process(code)


# --- what an import costs

LOADED = f"print([name for name in {HEAVY!r} if name in sys.modules])"


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    assert in_fresh_process(f"import sys, taskvectors; {LOADED}") == "[]\n"


def test_torch_would_be_seen_if_it_were_loaded() -> None:
    assert "torch" in in_fresh_process(f"import sys, taskvectors.models; {LOADED}")


@pytest.mark.parametrize("folder", ["tasks", "prompts", "errors"])
def test_tasks_and_prompts_load_neither_torch_nor_transformers(folder: str) -> None:
    assert in_fresh_process(f"import sys, taskvectors.{folder}; {LOADED}") == "[]\n"


def help_text(*verb: str) -> str:
    """What `taskvectors [VERB] --help` prints, and as its last line what it has loaded."""
    code = (
        "import sys\nfrom taskvectors.cli import main\n"
        f"sys.argv = ['taskvectors', *{verb!r}, '--help']\n"
        "try:\n    status = main()\nexcept SystemExit as stop:\n    status = stop.code\n"
        f"assert status in (0, None), status\n{LOADED}"
    )
    return in_fresh_process(code)


@pytest.mark.parametrize("verb", [(), ("demo",), ("compare",), ("learn",), ("reproduce",)])
def test_help_loads_neither_torch_nor_transformers(verb: tuple[str, ...]) -> None:
    assert help_text(*verb).splitlines()[-1] == "[]"


def documented_commands() -> set[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    return {
        found[1] for line in lines if (found := re.match(r"(?:\$ )?taskvectors ([a-z]+)\b", line))
    }


def test_verbs_that_the_documentation_uses_are_in_the_help() -> None:
    words = set(re.findall(r"[a-z]+", help_text()))
    assert documented_commands()
    assert documented_commands() <= words


def test_the_version_is_one_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", tv.__version__)
    assert re.search(
        rf"^version: {re.escape(tv.__version__)}$", (ROOT / "CITATION.cff").read_text(), re.M
    )
    assert f"\n## [{tv.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# --- files


def test_no_source_file_is_too_long() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_file_holds_two_versions_of_a_merge() -> None:
    marks = tuple(7 * sign + " " for sign in "<>")
    found = [
        str(path.relative_to(ROOT))
        for path in all_files(ROOT)
        if path.suffix in TEXT_FILES
        and any(line.startswith(marks) for line in path.read_text(encoding="utf-8").splitlines())
    ]
    assert found == []


def lines_with_private_paths(text: str) -> list[str]:
    return [line.strip()[:120] for line in text.splitlines() if PRIVATE_PATH.search(line)]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in all_files(ROOT)
        if path.suffix in TEXT_FILES
        and (lines := lines_with_private_paths(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize("folder", ["home", "tmp", "Users"])
def test_a_path_of_one_machine_would_be_seen(folder: str) -> None:
    assert lines_with_private_paths(f'open("/{folder}/someone/data.json")')
    assert not lines_with_private_paths(f"https://example.org/{folder}/page, ./{folder}/x")


def test_packages_that_task_data_comes_from_are_named_as_third_party() -> None:
    third_party = (ROOT / "THIRD_PARTY.md").read_text()
    pyproject = (ROOT / "pyproject.toml").read_text()
    sources = [json.loads(path.read_text())["source"] for path in PACKAGE.glob("tasks/data/*.json")]
    packages = {found for text in sources for found in re.findall(r"([a-z]+) (\d[\d.]+\d)", text)}
    assert {name for name, _ in packages} >= {"babel", "countryinfo"}
    for name, version in packages:
        assert f"| [{name}](" in third_party, name
        assert f'"{name}=={version}"' in pyproject, f"{name} {version}"


def test_the_papers_that_methods_are_taken_from_can_be_cited() -> None:
    known = (ROOT / "CITATION.cff").read_text()
    papers = set()
    for page in (ROOT / "docs" / "methods").glob("*.md"):
        source = page.read_text().partition("## Source")[2].partition("\n## ")[0]
        papers |= set(re.findall(r"arxiv\.org/abs/[\d.]*\d", source))
    assert len(papers) > 15
    assert {paper for paper in papers if f"{paper}\n" not in known} == set()
