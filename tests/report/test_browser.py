"""The report as a reader meets it, in headless Chromium.

Needs a browser; see `chromium.py`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium

from taskvectors.report import page_html, page_of, side_by_side
from taskvectors.results import Columns, Record, frame_of
from taskvectors.results.drawing import curves, layer_of
from taskvectors.results.evaluation import evaluation_measurements
from taskvectors.results.figures import Figure, Heatmap, Series
from taskvectors.results.learners import Finding, of_shifts, of_variants

pytestmark = pytest.mark.slow

ABSENT = "\N{EN DASH}"
WIDTHS = {"desktop": 1280, "phone": 390}
KINDS = (
    "report", "experiment", "explained", "compared", "experiments", "explanations", "learners",
    "evaluation",
)  # fmt: skip
LONG = "averylongwordwithoutanyspace" * 8


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that records its console."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory,
    compared: Callable[..., Record],
    reproduced: Callable[..., Record],
    explained: Callable[..., Record],
) -> dict[str, Path]:
    """A page of every kind, with words in them that are wider than a phone."""
    folder = tmp_path_factory.mktemp("pages")
    long = {"description": LONG, "notes": [LONG], "command": f"taskvectors compare {LONG}"}
    about = {"title": LONG, "what_the_paper_did": LONG, "preset": LONG, "asked": {LONG: LONG}}
    experiment = reproduced(config=about, warnings=(LONG,))
    heads = [{"layer": i // 4, "head": i % 4, "score": i / 7, "removed": -i / 9, "rank": 12 - i,
              "is_key": i == 11, "n": 5} for i in range(12)]  # fmt: skip
    columns = Columns(
        keys=("layer", "head", "rank", "is_key"), measures={"score": None, "removed": None}
    )
    names = ("attention sink", "last position", "query", "demonstrations", "template")
    curve = Figure(
        name="key-heads",
        title="Heads",
        x_label="x",
        y_label="y",
        series=(Series(label="one", x=(0, 1, 2, 3, 4), y=(0.5, 0.2, 0.4, 0.1, 0.3)),),
        x_ticks=tuple((float(x), name) for x, name in enumerate(names)),
    )
    cells = Heatmap(  # as many as a wide screen has room for numbers in, and a phone has not
        name="transfer",
        title="Cells",
        x_label="x",
        y_label="y",
        columns=tuple(map(str, range(10))),
        rows=tuple(map(str, range(4))),
        values=tuple(tuple((10 * row + column) / 80 for column in range(10)) for row in range(4)),
        value_label="share",
        scale="sequential",
        shares=True,
    )
    analyses = explained(
        {"key-heads": (heads, curve), "transfer": (heads, cells)},
        {"key-heads": columns, "transfer": columns},
    )
    made = {
        "learners": page_of(_learners()),
        "evaluation": page_of(_evaluation()),
        "report": page_of(compared(config=long)),
        "experiment": page_of(experiment),
        "explained": page_of(analyses),
        "compared": side_by_side([compared(config=long), compared()]),
        "experiments": side_by_side([experiment, reproduced()]),
        "explanations": side_by_side([analyses, analyses]),
    }
    for name, page in made.items():
        (folder / f"{name}.html").write_text(page_html(page), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def _learners() -> Record:
    """Two learners with what every table of their page has."""
    errors = dict.fromkeys(("icl_error", "zero_shot_error", "base_error", "tvp_error"), 0.25)
    row = errors | {"n": 64, "n_demonstrations": 6, "seed": 0, "optimal_error": 0.0}
    rows = [
        row | {"variant": name, "tvp_layer": at, "layer": layer, "near_optimal": True,
               "recovery": layer / 4, "recovery_low": 0.1, "recovery_high": 0.9}
        for name, at in ((LONG, None), ("tvp-1", 1)) for layer in range(4)
    ]  # fmt: skip
    shifts = [
        row | {"variant": "tvp-1", "tvp_layer": 1, "shift": shift, "icl_standard_error": 0.1,
               "tvp_error": [0.5, 0.4]}
        for shift in ("none", LONG)
    ]  # fmt: skip
    trend = {"shift": "none", "correlation": -1.0, "p_value": 0.3, "smallest_p_value": 0.3}
    finding = Finding(rows=rows, shifts=shifts, trends=[trend | {"n_layers": 3, "n_seeds": 1}])
    tidy = [*of_variants("gpt2", finding), *of_shifts("gpt2", finding)]
    frame = frame_of(one.as_row(task="offset") for one in tidy)
    by_layer = curves(
        frame[frame["shift"].isna()].assign(place=lambda rows: rows["layers"].map(layer_of)),
        "recovery", "Recovery", x="place", y="recovery", labels=("Layer", "Recovery", "method"),
    )  # fmt: skip
    about = {"task": "offset", "model": "gpt2", "command": ["taskvectors", "train", LONG]}
    return Record(kind="train", metadata=about, frame=frame, figures=tuple(by_layer))


def _evaluation() -> Record:
    """A vector at several strengths, and what it does elsewhere."""
    rows = [
        {"method": "learned" if at else "zero-shot", "layers": [3], "positions": [-1], "shots": 0,
         "strength": at, "accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 79, "kl": 0.1,
         "first_token_accuracy": 0.5, "in_label_set": 0.9, "answer_logprob": -3.25,
         "perplexity": 31.5, "perplexity_plain": 30.5}
        for at in (0.0, -1.0, 1.0)
    ]  # fmt: skip
    frame = frame_of(one.as_row() for row in rows for one in evaluation_measurements(row))
    about = {"task": LONG, "model": "m", "split": "test", "vector": LONG}
    return Record(kind="evaluate", metadata=about, frame=frame)


@pytest.fixture(scope="module")
def report(pages: dict[str, Path]) -> Path:
    """The usual page of a comparison."""
    return pages["report"]


def show(browser: Any, report: Path, width: int, scheme: str = "light") -> None:
    """Open the page on a screen of a width, and forget what the console said before."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get_log("browser")
    browser.get(report.as_uri())
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = 1")


def column(browser: Any, name: str) -> list[str]:
    """The texts of one column of the full table, from top to bottom."""
    return browser.execute_script(
        """
        const table = document.querySelector("table[data-table=rows]");
        const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
        const index = names.indexOf(arguments[0]);
        return [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
        """,
        name,
    )


def click_on(browser: Any, name: str) -> str:
    """Click on a column's name; the order that the table then states."""
    button = browser.find_element(
        "xpath", f"//table[@data-table='rows']//button[normalize-space(.)='{name}']"
    )
    place = "{block: 'center', inline: 'center', behavior: 'instant'}"
    browser.execute_script(f"arguments[0].scrollIntoView({place})", button)
    button.click()
    return button.find_element("xpath", "..").get_attribute("aria-sort")


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("page", KINDS)
def test_a_page_opens_silently_as_wide_as_the_screen_with_its_charts_drawn(
    browser: Any, pages: dict[str, Path], page: str, screen: str
) -> None:
    show(browser, pages[page], WIDTHS[screen])
    assert browser.get_log("browser") == []
    inner, wide = browser.execute_script(
        "return [window.innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == WIDTHS[screen]
    assert wide <= inner
    charts = browser.execute_script(
        """
        return [...document.querySelectorAll("[data-figure]")].map((chart) => [
          chart.querySelectorAll("svg .scatterlayer .trace, svg .heatmaplayer .hm").length,
          chart.querySelector("svg.main-svg").getBoundingClientRect().width,
          chart.getBoundingClientRect().width,
        ]);
        """
    )
    assert charts
    assert all(drawn > 0 and 0 < width <= room for drawn, width, room in charts)


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("page", KINDS)
def test_names_below_an_axis_do_not_run_into_each_other(
    browser: Any, pages: dict[str, Path], page: str, screen: str
) -> None:
    show(browser, pages[page], WIDTHS[screen])
    overlapping = browser.execute_script(
        """
        const found = [];
        for (const chart of document.querySelectorAll("[data-figure]")) {
          const ticks = [...chart.querySelectorAll(".xtick text")];
          const turned = /rotate\\((?!0[,)])/;
          const slanted = ticks.some((tick) => turned.test(tick.getAttribute("transform") ?? ""));
          const boxes = ticks.map((tick) => tick.getBoundingClientRect());
          boxes.sort((a, b) => a.left - b.left);
          boxes.forEach((box, i) => {
            if (!slanted && i && box.left < boxes[i - 1].right) found.push(ticks[i].textContent);
          });
          const written = [...chart.querySelectorAll(".heatmap-label text")];
          const places = written.map((text) => text.getBoundingClientRect());
          places.forEach((one, i) => places.slice(0, i).forEach((other) => {
            const aside = Math.min(one.right, other.right) - Math.max(one.left, other.left);
            const above = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
            if (aside > 1 && above > 1) found.push(written[i].textContent);
          }));
        }
        return found;
        """
    )
    assert overlapping == []


def test_cells_have_their_numbers_where_there_is_room(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    count = """
        const drawn = document.querySelectorAll(".heatmaplayer image").length;
        return drawn ? document.querySelectorAll(".heatmap-label text").length : -1;
    """
    for screen, expected in {"desktop": 40, "phone": 0}.items():
        show(browser, pages["explained"], WIDTHS[screen])

        def is_drawn(_: Any, expected: int = expected) -> bool:
            return bool(browser.execute_script(count) == expected)

        # charts are drawn anew when what they lie in is opened
        WebDriverWait(browser, 30).until(is_drawn, f"not {expected} numbers on a {screen}")


@pytest.mark.parametrize("page", KINDS)
def test_every_table_of_a_page_sorts(browser: Any, pages: dict[str, Path], page: str) -> None:
    show(browser, pages[page], WIDTHS["desktop"])
    found = browser.execute_script(
        """
        const sorted = (table) => [...table.tHead.rows[0].cells].map((header, column) => {
          if (!header.querySelector("button")) return true;
          header.querySelector("button").click();
          const values = [...table.tBodies[0].rows]
            .map((row) => row.cells[column]?.dataset.sort ?? "").filter((text) => text !== "");
          const numbers = values.map(Number);
          return header.getAttribute("aria-sort") === "ascending" && (
            numbers.some(Number.isNaN) || numbers.every((n, i) => i === 0 || numbers[i - 1] <= n)
          );
        });
        return [...document.querySelectorAll("table")].map(sorted);
        """
    )
    assert found
    assert all(columns and all(columns) for columns in found)


def test_the_table_can_be_read(browser: Any, report: Path) -> None:
    show(browser, report, WIDTHS["desktop"])
    row = browser.find_element("css selector", "table[data-table=methods] tr.strong")
    text = row.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Learned vector" in text
    assert "75.0 %" in text
    assert f"[64.3{ABSENT}85.7 %]" in text
    assert row.is_displayed()


def test_the_main_table_fits_a_desktop_without_scrolling(browser: Any, report: Path) -> None:
    show(browser, report, WIDTHS["desktop"])
    inside, box = browser.execute_script(
        "const box = document.querySelector('table[data-table=methods]').parentElement;"
        "return [box.scrollWidth, box.clientWidth]"
    )
    assert inside <= box


@pytest.mark.parametrize("screen", WIDTHS)
def test_the_charts_are_drawn(browser: Any, report: Path, screen: str) -> None:
    show(browser, report, WIDTHS[screen])
    charts = browser.execute_script(
        """
        return [...document.querySelectorAll("[data-figure]")].map((chart) => ({
          name: Number(chart.dataset.figure),
          lines: chart.querySelectorAll("svg .scatterlayer .trace path.js-line").length,
          points: chart.querySelectorAll("svg .scatterlayer .trace .points path").length,
          bars: chart.querySelectorAll("svg .scatterlayer .errorbar").length,
          width: chart.querySelector("svg.main-svg").getBoundingClientRect().width,
          room: chart.getBoundingClientRect().width,
        }));
        """
    )
    drawn = {chart["name"]: chart for chart in charts}
    assert set(drawn) == {0, 1, 2}
    layers = drawn[0]
    assert layers["lines"] >= 4  # two methods, two reference lines
    assert layers["points"] == 2 * 18 + 2
    assert layers["bars"] == 2
    assert drawn[1]["lines"] == 5
    assert all(0 < chart["width"] <= chart["room"] for chart in charts)


def test_charts_follow_the_colour_scheme(browser: Any, report: Path) -> None:
    def stroke() -> str:
        return browser.execute_script(
            "return getComputedStyle(document.querySelector("
            "'[data-figure=\"1\"] .scatterlayer path.js-line')).stroke"
        )

    show(browser, report, WIDTHS["desktop"], scheme="dark")
    assert stroke() == "rgb(86, 180, 233)"
    ground = browser.execute_script(
        "return getComputedStyle(document.documentElement).backgroundColor"
    )
    assert ground == "rgb(18, 22, 27)"
    media = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for _ in range(100):  # the page hears of the change a moment later
        if stroke() == "rgb(0, 114, 178)":
            break
        time.sleep(0.05)
    assert stroke() == "rgb(0, 114, 178)"


def test_a_click_sorts_the_full_table(browser: Any, report: Path) -> None:
    show(browser, report, WIDTHS["desktop"])
    before = column(browser, "accuracy")
    numbers = sorted(float(text) for text in before if text != ABSENT)
    missing = [ABSENT] * before.count(ABSENT)

    assert click_on(browser, "accuracy") == "ascending"
    assert column(browser, "accuracy") == [f"{number:.3f}" for number in numbers] + missing
    assert click_on(browser, "accuracy") == "descending"
    assert column(browser, "accuracy") == [f"{number:.3f}" for number in numbers[::-1]] + missing
    assert click_on(browser, "accuracy") == "none"
    assert column(browser, "accuracy") == before


def test_layers_sort_as_numbers(browser: Any, report: Path) -> None:
    show(browser, report, WIDTHS["desktop"])
    click_on(browser, "layers")
    layers = [int(text) for text in column(browser, "layers") if text != ABSENT]
    assert layers == sorted(layers)
    assert layers[-1] == 17
    assert click_on(browser, "method") == "ascending"
    states = browser.execute_script(
        "return [...document.querySelectorAll('table[data-table=rows] th[aria-sort]')]"
        ".map((cell) => cell.getAttribute('aria-sort')).filter((order) => order !== 'none')"
    )
    assert states == ["ascending"]


def test_the_contents_lead_to_their_sections(browser: Any, report: Path) -> None:
    show(browser, report, WIDTHS["desktop"])
    targets = browser.execute_script(
        "return [...document.querySelectorAll('nav a')]"
        ".map((link) => document.querySelector(link.getAttribute('href'))?.tagName)"
    )
    assert len(targets) == 9
    assert set(targets) == {"SECTION"}
