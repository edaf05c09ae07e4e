"""Pages of docs/results from a folder that `taskvectors reproduce all` has filled.

    taskvectors reproduce all --preset cpu --out repro
    python tools/reproduction.py repro --write docs/results

Three pages: how long each experiment took beside its estimate, and the tables and figures of both
papers' experiments; figures lie beside them as SVG. What is not finished is named, not left out.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskvectors.experiments.catalog import EXPERIMENTS
from taskvectors.report import read_experiment, write_figures, write_markdown
from taskvectors.report.wording import duration

FOLDER = "reproduction"
"""Of the figures, beside the pages."""
MOST_ROWS = 62
"""Of a table, with its two lines of headings."""
PAGES = {"vectors": "on a language model", "learners": "on learners from scratch"}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that ended."""

    name: str
    folder: Path
    config: dict[str, Any]

    @property
    def page(self) -> str:
        """Which of the two pages it stands on."""
        return "vectors" if EXPERIMENTS[self.name].has_models else "learners"


def finished_in(folder: Path) -> list[Finished]:
    """Runs in the order of the catalogue."""
    found = []
    for name in EXPERIMENTS:
        path = folder / name / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if "seconds" in config:
            found.append(Finished(name=name, folder=folder / name, config=config))
    return found


def section(one: Finished, figures: Path) -> str:
    """The tables of a run, a level below the page, its figures copied to a folder."""
    run = read_experiment(one.folder)
    write_figures(run, ("svg", "png"))
    text = write_markdown(run).read_text(encoding="utf-8")
    figures.mkdir(parents=True, exist_ok=True)

    def placed(match: re.Match[str]) -> str:
        source = one.folder / "figures" / f"{match[1]}.svg"
        name = f"{one.name}-{re.sub('[^A-Za-z0-9-]+', '-', match[1])}.svg"
        shutil.copyfile(source, figures / name)
        return f"]({FOLDER}/{name})"

    text = re.sub(r"\]\(figures/([^)]+)\.png\)", placed, text)
    text = re.sub(r"(?:^\|.*\n)+", shortened, text, flags=re.MULTILINE)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE).replace("## ", f"## `{one.name}`: ", 1)


def shortened(table: re.Match[str]) -> str:
    """A table as it is, or its first rows and how many more there are."""
    lines = table[0].splitlines()
    if len(lines) <= MOST_ROWS:
        return table[0]
    left_out = f"{len(lines) - MOST_ROWS} more rows are in the run's `results.parquet`."
    return "\n".join([*lines[:MOST_ROWS], "", left_out, ""])


def times(runs: Sequence[Finished], model: str) -> Iterator[str]:
    """A row for each experiment of the catalogue."""
    by_name = {one.name: one for one in runs}
    yield "| experiment | page | groups | could not be run | took | estimated |"
    yield "|---|---|--:|--:|--:|--:|"
    for name, experiment in EXPERIMENTS.items():
        if name not in by_name:
            yield f"| `{name}` | - | - | - | not finished | - |"
            continue
        one = by_name[name]
        known = one.config["estimate"]
        estimate = "-" if known is None else plain(known["seconds"])
        anchor = re.sub(r"[^\w\- ]", "", f"{name}: {experiment.title}").lower().replace(" ", "-")
        yield (
            f"| `{name}` | [{experiment.title}](reproduction-{one.page}.md#{anchor}) "
            f"| {one.config['groups']} | {one.config['groups_failed']} "
            f"| {plain(one.config['seconds'])} | {estimate} |"
        )
    took = sum(one.config["seconds"] for one in runs)
    estimates = [one.config["estimate"] for one in runs if one.config["estimate"] is not None]
    estimated = sum(one["seconds"] for one in estimates)
    yield f"| all | {model} | | | {plain(took)} | {plain(estimated)} |"


def plain(seconds: float) -> str:
    """A time with common spaces."""
    return duration(seconds).replace("\N{NO-BREAK SPACE}", " ")


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--write", type=Path, required=True, help="folder of the pages")
    given = parser.parse_args()
    runs = finished_in(given.runs)
    for page, where in PAGES.items():
        parts = [
            f"# Every experiment {where}",
            "Made by `python tools/reproduction.py repro --write docs/results`; what held and what "
            "did not stands in [the overview](reproduction.md).",
            *(section(one, given.write / FOLDER) for one in runs if one.page == page),
        ]
        text = "\n\n".join(part.strip() for part in parts) + "\n"
        (given.write / f"reproduction-{page}.md").write_text(text, encoding="utf-8")
    models = sorted({model for one in runs for model in one.config["models"]})
    table = "\n".join(times(runs, ", ".join(models)))
    overview = given.write / "reproduction.md"
    before = (
        overview.read_text(encoding="utf-8") if overview.is_file() else "# Reproduced by name\n"
    )
    kept = before.partition("\n## Times\n")[0].rstrip()
    overview.write_text(f"{kept}\n\n## Times\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
