"""Runs the notebooks in `examples/` and writes what they show as pages of the site.

    python tools/notebooks.py            all, on the embedded model: some minutes
    python tools/notebooks.py --only a_learner_from_scratch

A notebook is a Python file with `# %%` cells, which Jupyter opens through jupytext. The cell that
is tagged `parameters` may be followed by other values.
"""

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

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


def page(path: Path, notebook: Any, images: Path | None = None) -> str:
    """A notebook as a page of the site, with its outputs where it has run.

    Args:
        path: The notebook.
        notebook: Its cells.
        images: Folder that charts are drawn into, by a headless Chromium; they are left out by
            default, and where there is none.
    """
    has_run = any(cell.get("outputs") for cell in notebook.cells)
    parts, n_charts = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        # not `python`: the blocks of a notebook run together, in a test of their own
        parts.append(f"```py\n{cell.source}\n```")
        for output in cell.outputs:
            chart = next((v for k, v in output.get("data", {}).items() if "plotly" in k), None)
            if chart is None:
                parts.append(_shown(output))
            elif images is None or not shutil.which("chromedriver"):
                parts.append("*(an interactive chart)*")
            else:
                n_charts += 1
                place = images / f"{path.stem.replace('_', '-')}-{n_charts}.svg"
                place.write_text(svg_of(chart), encoding="utf-8")
                title = re.sub("<.*?>", "", chart["layout"].get("title", {}).get("text", "chart"))
                parts.append(f"![{title}](../images/{place.name})")
    parts = list(filter(None, parts))
    name = path.relative_to(ROOT).as_posix()
    how = "as it ran; `python tools/notebooks.py` repeats it" if has_run else "not run"
    parts.insert(1, f"*The notebook `{name}`, {how}.*")
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:
    """An output as Markdown: tables as HTML, text as text."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", str(data["text/html"]), flags=re.S)
        table = re.sub(r">\s+<", "><", table).strip().replace("\n", "<br>")
        return re.sub(r' (border="1"|class="dataframe"|style="[^"]*")', "", table)
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""


def svg_of(chart: Mapping[str, Any]) -> str:
    """A plotly chart as an SVG file, drawn by plotly itself in a headless Chromium."""
    from plotly.offline import get_plotlyjs
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.execute_script(get_plotlyjs())
        found: str = driver.execute_async_script(
            "const [chart, done] = arguments;"
            "Plotly.toImage(chart, {format: 'svg', width: 800, height: 420}).then(done);",
            {"data": chart["data"], "layout": chart["layout"]},
        )
    finally:
        driver.quit()
    return unquote(found.partition(",")[2]) + "\n"


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
            images = asked.out.parent / "images"
            images.mkdir(exist_ok=True)
            (asked.out / f"{stem}.md").write_text(page(path, done, images), encoding="utf-8")


if __name__ == "__main__":
    main()
