"""What a run keeps of its methods, and what its page cites.

Run with `pytest tests/experiments/test_works.py`.
"""

from taskvectors.experiments.works import about_methods
from taskvectors.methods import METHODS
from taskvectors.methods.controls import CONTROLS
from taskvectors.report import page_of
from taskvectors.results import ComparisonRow, Record, frame_of


def test_the_page_of_a_run_cites_every_paper_of_every_method_it_used() -> None:
    rows = [
        ComparisonRow(method=name, configuration="", layers=[], positions=[], strength=None,
                      shots=0, seed=0, selected=True, is_control=name in CONTROLS, accuracy=0.5)
        for name in (*METHODS, *CONTROLS)
    ]  # fmt: skip
    tidy = [one.as_row(model="m", task="t") for row in rows for one in row.measurements()]
    metadata = {"model": "m", "task": "t", "methods": about_methods(row.method for row in rows)}
    page = page_of(Record(kind="compare", metadata=metadata, frame=frame_of(tidy)))
    (works,) = (table for table in page.tables() if table.name == "works")
    cited = dict(works.texts)
    for method in METHODS.values():
        for paper in method.papers:
            assert paper.address in cited[method.title]
            assert paper.title in cited[method.title]
    assert set(cited) == {method.title for method in METHODS.values() if method.papers}
    controls = next(table for table in page.tables() if table.name == "controls")
    said = {row[0]: row[controls.headings.index("what it is")] for row in controls.texts}
    assert said == {control.title: control.summary for control in CONTROLS.values()}


def test_a_name_without_a_row_keeps_its_name() -> None:
    assert about_methods(["learned", "mine", "learned"]).keys() == {"learned"}
