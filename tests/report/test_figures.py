"""One description, two drawings."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from taskvectors.errors import TaskVectorsError
from taskvectors.report import comparison_figures as drawn_from_rows
from taskvectors.report import draw_matplotlib, draw_plotly, page_of
from taskvectors.report.comparison_figures import EMBED_PLACE
from taskvectors.report.html import alternative_text
from taskvectors.results import Record, comparison_rows
from taskvectors.results.figures import STYLES, Figure, Heatmap, ReferenceLine, Series, style_at

Compared = Callable[..., Record]


def accuracy_by_layer(record: Record) -> Figure | None:
    return drawn_from_rows.accuracy_by_layer(record, comparison_rows(record.frame))


def learning_curves(record: Record) -> Figure | None:
    return drawn_from_rows.learning_curves(record, comparison_rows(record.frame))


def validation_curves(record: Record) -> Figure | None:
    return drawn_from_rows.validation_curves(record, comparison_rows(record.frame))


SMALL = Figure(
    name="small",
    title="Costs $5 & <b>more</b>",
    x_label="Layer",
    y_label="Accuracy",
    series=(
        Series(
            label="with $a_b$",
            x=(0, 1, 2, 3),
            y=(0.1, None, 0.5, 0.7),
            low=(0.0, None, 0.4, 0.6),
            high=(0.2, None, 0.6, 0.8),
            open_at=(3,),
        ),
        Series(label="chosen", x=(2,), y=(0.55,), low=(0.5,), high=(0.7,), kind="point"),
    ),
    references=(ReferenceLine(label="level", y=0.3),),
    x_ticks=((0, "embed"), (1, "0"), (2, "1"), (3, "2")),
    shares=True,
)


def test_curves_show_validation_when_one_layer_alone_was_tested(
    compared: Compared,
) -> None:
    figure = accuracy_by_layer(compared())
    assert figure is not None
    curve, chosen = figure.series[:2]
    assert figure.y_label == "Accuracy on validation items"
    assert curve.label == "Learned vector, validation"
    assert curve.x == tuple(range(18))
    assert chosen.kind == "point"
    assert chosen.x == (9,)
    assert chosen.y == (0.75,)
    assert "test" in chosen.label
    assert curve.y[9] == pytest.approx(23 / 29)
    assert curve.low[9] == pytest.approx(0.6161, abs=1e-4)  # Wilson's interval of 23 of 29
    assert curve.high[9] == pytest.approx(0.9015, abs=1e-4)
    assert "Curves: validation items" in figure.caption


def test_curves_show_test_when_every_layer_was_tested(compared: Compared, row) -> None:
    rows = [
        row("learned", 0.1 * layer, layers=[layer], selected=layer == 4, ci_low=0.05, ci_high=0.5)
        for layer in range(5)
    ]
    figure = accuracy_by_layer(compared(rows=rows))
    assert figure is not None
    assert figure.y_label == "Accuracy on test items"
    assert figure.series[0].y == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4))
    assert figure.series[0].low == (0.05,) * 5


def test_the_band_is_that_of_the_strength_that_was_chosen(compared: Compared, row) -> None:
    """Seven strengths at each layer: the curve follows the one that validation chose there."""
    rows = [
        row("vanilla", 0.39 if strength == 4 else 0.0, layers=[layer], strength=strength,
            validation_accuracy=0.4 if strength == 4 else 0.0, ci_low=0.3 if strength == 4 else 0.0,
            ci_high=0.5 if strength == 4 else 0.04, selected=(layer, strength) == (1, 4))
        for layer in (0, 1)
        for strength in (1, 2, 4, 8)
    ]  # fmt: skip
    figure = accuracy_by_layer(compared(rows=rows))
    assert figure is not None
    curve = figure.series[0]
    assert curve.y == (0.39, 0.39)
    assert (curve.low, curve.high) == ((0.3, 0.3), (0.5, 0.5))


def test_reference_lines_say_which_split_they_show(compared: Compared, row) -> None:
    rows = compared()
    lines = accuracy_by_layer(rows).references
    assert [line.y for line in lines] == pytest.approx([21 / 29, 0.0])
    assert lines[0].label.startswith("Eight demonstrations, validation")
    sweep = [
        row("learned", layers=[layer], validation_accuracy=0.5, selected=layer == 1)
        for layer in (0, 1)
    ]
    tested = [row("icl", 0.7, selected=True, shots=8), *sweep]
    lines = accuracy_by_layer(compared(rows=tested)).references
    assert lines[0].y == 0.7
    assert lines[0].label.startswith("Eight demonstrations, test")


def test_layers_not_converged_are_hollow(compared: Compared) -> None:
    figure = accuracy_by_layer(compared())
    assert figure.series[0].open_at == (14, 15, 16, 17)
    assert "Hollow markers" in figure.caption
    symbols = next(
        trace for trace in draw_plotly(figure).data if trace.name == "Learned vector, validation"
    ).marker.symbol
    assert list(symbols) == ["circle"] * 14 + ["circle-open"] * 4


def test_the_embeddings_stand_left_of_layer_zero(compared: Compared, row) -> None:
    rows = [
        row("learned", layers=[layer], validation_accuracy=0.5, selected=layer == 0)
        for layer in ("embed", 0, 1)
    ]
    figure = accuracy_by_layer(compared(rows=rows))
    assert figure.series[0].x == (EMBED_PLACE, 0, 1)
    assert figure.x_ticks[0] == (EMBED_PLACE, "embed")


def test_ticks_thin_out_on_deep_models_and_leave_room_for_names(compared: Compared, row) -> None:
    rows = [
        row("learned", layers=[layer], validation_accuracy=0.5, selected=layer == 0)
        for layer in ("embed", *range(32))
    ]
    figure = accuracy_by_layer(compared(rows=rows))
    texts = [text for _, text in figure.x_ticks]
    assert texts == ["embed", *map(str, range(2, 32, 2))]


def test_seeds_are_drawn_as_mean_and_range(compared: Compared, row) -> None:
    rows = [
        row("learned", share, layers=[layer], seed=seed, selected=layer == 1)
        for seed, share in ((0, 0.4), (1, 0.6))
        for layer in (0, 1)
    ]
    figure = accuracy_by_layer(compared(rows=rows))
    assert figure.series[0].y == pytest.approx((0.5, 0.5))
    assert figure.series[0].low == (0.4, 0.4)
    assert figure.series[0].high == (0.6, 0.6)
    assert "the range over seeds" in figure.caption


def test_controls_failures_and_vectors_at_several_layers_are_no_curve(
    compared: Compared, row
) -> None:
    rows = [row("random", 0.1, layers=[layer], is_control=True) for layer in (0, 1)]
    rows += [row("learned", layers=[layer], error="out of memory") for layer in (0, 1)]
    rows += [row("joint", 0.5, layers=[layer, 5], selected=True) for layer in (0, 1)]
    assert accuracy_by_layer(compared(rows=rows)) is None


def test_learning_is_drawn_for_a_few_layers_with_the_chosen_one(compared: Compared) -> None:
    run = compared()
    figure = learning_curves(run)
    assert figure is not None
    labels = [series.label for series in figure.series]
    assert labels == ["Layer 0", "Layer 4", "Layer 9, chosen", "Layer 13", "Layer 17"]
    assert figure.series[0].x == tuple(range(0, 61, 5))
    assert "At most five layers" in figure.caption
    scores = validation_curves(run)
    assert scores is not None
    assert scores.series[0].x == (0, 20, 40, 60)


def test_the_log_of_controls_is_not_mixed_into_the_curves(compared: Compared) -> None:
    lines = [
        {"method": method, "step": step, "layer": 3, "loss": loss}
        for method, loss in (("learned", 1.0), ("shuffled-labels", 9.0))
        for step in (0, 1)
    ]
    figure = learning_curves(compared(curves=pd.DataFrame(lines)))
    assert figure is not None
    assert figure.series[0].y == (1.0, 1.0)


def test_a_run_without_metrics_has_no_learning_curve(compared: Compared) -> None:
    names = [figure.name for figure in page_of(compared(curves=pd.DataFrame())).figures()]
    assert names == ["accuracy-by-layer"]


@pytest.mark.parametrize("dark", [False, True])
def test_plotly_draws_every_series_and_line(dark: bool) -> None:
    drawn = draw_plotly(SMALL, dark=dark)
    names = [trace.name for trace in drawn.data if trace.showlegend is not False]
    assert names == ["level", "with $a_b$", "chosen"]
    curve = drawn.data[2]
    assert list(curve.y) == [0.1, None, 0.5, 0.7]
    assert curve.line.color == (STYLES[0].dark if dark else STYLES[0].light)
    point = drawn.data[3]
    assert point.error_y.array[0] == pytest.approx(0.15)
    assert point.error_y.arrayminus[0] == pytest.approx(0.05)
    assert list(drawn.layout.xaxis.ticktext) == ["embed", "0", "1", "2"]


def test_a_band_is_broken_where_a_value_is_missing() -> None:
    band = next(trace for trace in draw_plotly(SMALL).data if trace.fill == "toself")
    assert list(band.x) == [0, 0, None, 2, 3, 3, 2, None]
    assert list(band.y) == [0.2, 0.0, None, 0.6, 0.8, 0.6, 0.4, None]


def test_markup_in_a_label_is_text() -> None:
    figure = Figure(
        name="x",
        title="",
        x_label="<i>x</i>",
        y_label="y",
        series=(Series(label="<a href='javascript:1'>x</a>", x=(0,), y=(1,)),),
    )
    drawn = draw_plotly(figure)
    assert "<" not in drawn.data[0].name
    assert "<" not in drawn.layout.xaxis.title.text


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_matplotlib_writes_the_figure_to_a_file(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    path = draw_matplotlib(SMALL, tmp_path / f"figure.{ending}")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_figure_gives_the_same_file_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first = draw_matplotlib(SMALL, tmp_path / "a.svg").read_bytes()
    assert draw_matplotlib(SMALL, tmp_path / "b.svg").read_bytes() == first


@pytest.mark.parametrize("figure", ["curves", "heatmap"])
def test_a_long_title_is_broken_so_that_nothing_is_cut_off(tmp_path: Path, figure: str) -> None:
    pytest.importorskip("matplotlib")
    title = "What is recovered by the vector of each task, by layer, where others stand beside it"
    long = replace(SMALL if figure == "curves" else TABLE, title=title)
    drawn = draw_matplotlib(long, tmp_path / "long.svg").read_text()
    texts = re.findall(r"<!-- (.+?) -->", drawn)
    written = [text for text in texts if text in title]
    assert " ".join(written) == title
    assert max(map(len, written)) < 60 < len(title)


def test_names_that_would_run_into_each_other_are_slanted() -> None:
    places = ("last five tokens", "every other layer", "last token")
    ticks = tuple((float(x), f"{places[x % 3]}\nforward") for x in range(6))
    assert replace(SMALL, x_ticks=ticks).has_long_ticks
    assert not replace(SMALL, x_ticks=ticks[:4]).has_long_ticks


def test_an_unknown_ending_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(TaskVectorsError, match=r"ends in '\.docx', expected \.png"):
        draw_matplotlib(SMALL, tmp_path / "figure.docx")
    assert list(tmp_path.iterdir()) == []


def test_the_alternative_text_tells_what_the_chart_shows() -> None:
    text = alternative_text(SMALL)
    assert text.endswith("Accuracy against layer. Drawn: with $a_b$; chosen; level.")
    assert alternative_text(TABLE) == "Heads: score by layer and head."


def test_a_series_with_ends_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="2 places and 1 values of low"):
        Series(label="a", x=(0, 1), y=(1, 2), low=(0,))


def test_styles_differ_in_more_than_colour() -> None:
    assert len({style.dash for style in STYLES}) == len(STYLES)
    assert len({style.marker for style in STYLES}) == len(STYLES)
    first = [style_at(number) for number in range(10)]
    assert tuple(first[:5]) == STYLES
    assert len({style.marker for style in first}) == 10
    assert len({(style.light, style.dash) for style in first}) == 10
    assert style_at(10) == STYLES[0]


def test_every_marker_can_be_drawn(tmp_path: Path) -> None:
    series = tuple(
        Series(label=str(n), x=(float(n),), y=(0.5,), style=style_at(n), kind="point", open_at=(0,))
        for n in range(10)
    )
    figure = replace(SMALL, series=series, x_ticks=())
    draw_matplotlib(figure, tmp_path / "figure.svg")
    drawn = draw_plotly(figure).data
    symbols = {trace.marker.symbol for trace in drawn if trace.marker.symbol is not None}
    assert len(symbols) == 10


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_every_colour_stands_out_from_its_ground(ground: str) -> None:
    def luminance(color: str) -> float:
        parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    paper = luminance({"light": "#ffffff", "dark": "#1a1f26"}[ground])
    for style in STYLES:
        ink = luminance(getattr(style, ground))
        lighter, darker = max(ink, paper), min(ink, paper)
        assert (lighter + 0.05) / (darker + 0.05) >= 3  # WCAG 2.2, graphics


def test_reading_a_run_loads_no_drawing_library() -> None:
    code = (
        "import sys, taskvectors.report;"
        "print(sorted({'plotly', 'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


TABLE = Heatmap(
    name="table",
    title="Heads",
    x_label="Head",
    y_label="Layer",
    columns=("0", "1"),
    rows=("4", "5", "6"),
    values=((0.1, None), (0.4, -0.8), (0.0, 0.2)),
    value_label="score",
    scale="diverging",
    marked=((1, 1),),
    mark_label="key heads",
)


def test_a_heatmap_has_its_cells_where_the_description_has_them() -> None:
    (cells,) = draw_plotly(TABLE).data
    assert [list(row) for row in cells.z] == [[0.1, None], [0.4, -0.8], [0.0, 0.2]]
    assert (cells.zmin, cells.zmax) == (-0.8, 0.8)  # white is zero
    assert cells.customdata[1][1] == "5, 1"
    layout = draw_plotly(TABLE).layout
    assert layout.yaxis.autorange == "reversed"  # the first row is on top
    (frame,) = layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (0.5, 1.5, 0.5, 1.5)


def test_a_heatmap_as_a_file_writes_its_numbers_and_names(tmp_path: Path) -> None:
    text = draw_matplotlib(TABLE, tmp_path / "table.svg").read_text()
    assert text.startswith("<?xml")
    empty = replace(TABLE, values=((None, None),) * 3, marked=())
    assert draw_matplotlib(empty, tmp_path / "empty.png").stat().st_size > 1000


def test_a_heatmap_with_cells_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows and 2 columns"):
        replace(TABLE, values=((0.1, 0.2), (0.3,), (0.4, 0.5)))


def test_a_scale_never_has_one_value_only() -> None:
    flat = replace(TABLE, scale="sequential", values=((0.5, 0.5),) * 3)
    assert flat.ends == (0.5, 1.5)


def test_quotes_in_names_are_not_shown_as_codes() -> None:
    """plotly reads &lt; and &amp;, and not &quot;."""
    series = Series(label='a "<b>"', x=(0,), y=(1,))
    figure = Figure(name="f", title="t", x_label="x", y_label="y", series=(series,),
                    x_ticks=((0, '"'),))  # fmt: skip
    drawn = draw_plotly(figure).to_plotly_json()
    assert drawn["layout"]["xaxis"]["ticktext"] == ['"']
    assert 'a "&lt;b&gt;"' in {trace.get("name") for trace in drawn["data"]}
