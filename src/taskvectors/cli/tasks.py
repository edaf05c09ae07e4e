"""`taskvectors tasks`: what there is to do."""

from dataclasses import asdict, dataclass

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result, Table


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The built-in tasks and the named hub data sets, one line each, with their source."""

    output: Output

    def run(self) -> Result:
        """List them."""
        from taskvectors.tasks import HUB_PRESETS, builtin_tasks, describe_builtin

        rows = [asdict(describe_builtin(name)) for name in builtin_tasks()]
        rows += [
            {
                "name": f"hub:{name}",
                "description": preset.description,
                "template": preset.template,
                "source": preset.source,
                "license": preset.license,
                "n": None,
            }
            for name, preset in HUB_PRESETS.items()
        ]
        table = Table(
            headings=("task", "pairs", "what it is", "source"),
            rows=[
                (
                    row["name"],
                    "" if row["n"] is None else str(row["n"]),
                    row["description"],
                    row["source"].partition("@")[0],  # without the commit
                )
                for row in rows
            ],
            numbers=frozenset({"pairs"}),
        )
        more = "A file of pairs is a task by its path; a hub data set as hub:OWNER/NAME."
        return Result(data={"rows": rows}, shown=[table, more])
