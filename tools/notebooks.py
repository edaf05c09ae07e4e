"""Runs the notebooks in `examples/` and writes what they show as pages of the site.

    python tools/notebooks.py            all, on the embedded model: some minutes
    python tools/notebooks.py --only a_learner_from_scratch

A notebook is a Python file with `# %%` cells, which Jupyter opens through jupytext. The cell that
is tagged `parameters` may be followed by other values.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.py"))
PAGES = ROOT / "docs" / "notebooks"
_LONGEST = 600
"""Seconds of a cell."""


def run(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> Any:
    """A notebook with its outputs.

    Args:
        path: The notebook.
        folder: Where it runs and writes.
        parameters: Values in place of those of the cell `parameters`.
    """
    notebook = jupytext.read(path)
    if parameters:
        tagged = [n for n, cell in enumerate(notebook.cells) if "tags" in cell.metadata]
        lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(lines))
    client = NotebookClient(
        notebook,
        timeout=_LONGEST,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def page(path: Path, notebook: Any) -> str:
    """A notebook as a page of the site, with its outputs where it has run."""
    has_run = any(cell.get("outputs") for cell in notebook.cells)
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        # not `python`: the blocks of a notebook run together, in a test of their own
        parts.append(f"```py\n{cell.source}\n```")
        parts += filter(None, map(_shown, cell.outputs))
    name = path.relative_to(ROOT).as_posix()
    how = "as it ran; `python tools/notebooks.py` repeats it" if has_run else "not run"
    parts.insert(1, f"*The notebook `{name}`, {how}.*")
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:
    """An output as Markdown: tables as HTML, text as text; charts need an open notebook."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if any("plotly" in kind for kind in data):
        return "*(an interactive chart)*"
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>|\n\s*", "", str(data["text/html"]), flags=re.S)
        return re.sub(r' (border="1"|class="dataframe"|style="[^"]*")', "", table)
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""


def main() -> None:
    """Run them and write the pages."""
    parser = argparse.ArgumentParser(description="Run the notebooks and write their pages.")
    parser.add_argument("--only", nargs="+", default=[path.stem for path in NOTEBOOKS])
    parser.add_argument("--parameters", type=json.loads, default={}, help="JSON, for a trial")
    parser.add_argument("--cells-alone", action="store_true", help="run nothing: no outputs")
    parser.add_argument("--out", type=Path, default=PAGES)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        if path.stem in asked.only:
            with TemporaryDirectory() as folder:
                done = (
                    jupytext.read(path)
                    if asked.cells_alone
                    else run(path, Path(folder), asked.parameters)
                )
            stem = path.stem.replace("_", "-")
            (asked.out / f"{stem}.md").write_text(page(path, done), encoding="utf-8")


if __name__ == "__main__":
    main()
