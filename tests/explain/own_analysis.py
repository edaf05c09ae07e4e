"""An analysis of a user's own, and what every registered analysis promises."""

import dataclasses

import pandas as pd

from taskvectors.explain import Analysis, Case, Columns, Line, Result, in_lines
from taskvectors.results.figures import Figure, Series


@dataclasses.dataclass(frozen=True)
class Norms:
    """The length of each vector of a case."""

    lengths: tuple[float, ...]

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"place": range(len(self.lengths)), "length": self.lengths})

    def figure(self) -> Figure:
        points = Series(label="length", x=tuple(range(len(self.lengths))), y=self.lengths)
        return Figure(name="", title="Norms", x_label="Vector", y_label="Length", series=(points,))


OWN = Analysis(
    name="own-norms",
    title="Norms of my own",
    question="How long are the vectors?",
    citation="Nobody et al. 2030, arXiv 3001.00001",
    find=lambda case: Norms(tuple(vector.norm() for vector in case.vectors)),
    columns=Columns(keys=("place",), measures={"length": None}),
    works=lambda sizes: [sizes.branches("reading", sizes.prompts("test"), 1)],
    caption="Lengths over all sites, a sentence that is nowhere else.",
    summary=in_lines(Line(label="length", of={"place": 0}, value="length"), shares=False),
)


def check_contract(analysis: Analysis, case: Case) -> None:
    """What a registered analysis promises: its table is what it says, its figure has a caption."""
    found = analysis.run(case)
    assert isinstance(found, Result)
    frame, columns = found.to_frame(), analysis.columns
    ends = [end for pair in columns.measures.values() if pair for end in pair]
    named = {*columns.keys, *columns.measures, *columns.constants, *ends}
    assert named <= set(frame.columns)
    keys = [key for key in (*columns.keys, "measure", "task", "shots") if key in frame]
    assert not frame.duplicated(subset=keys).any()
    for name in columns.constants:
        assert frame[name].nunique() == 1
    figure = analysis.figure(found)
    assert figure.name == analysis.name
    assert figure.caption.startswith(analysis.caption)
    assert analysis.summarise(frame)
    assert analysis.question.endswith("?")
