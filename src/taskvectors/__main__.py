"""`python -m taskvectors`: the command line where its program is not on the path."""

from taskvectors.cli import run

run()
