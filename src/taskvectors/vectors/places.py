"""From positions to columns: where the tokens of each row lie in one call of a model.

A row holds padding, one prompt, possibly its answer (teacher forcing), and, where nothing is
cached, tokens that were generated. Positions count the prompt's tokens alone. All of this is
integers on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvectors.errors import PositionError, TaskVectorsError
from taskvectors.models.calls import ONE_PROMPT_A_ROW, Call
from taskvectors.prompts import Prompt, resolve_positions
from taskvectors.trunk.edits import Position

WITHOUT_PROMPTS = ("last", "all", "generated")
"""Names that need no knowledge of the prompts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Some tokens of a call."""

    rows: Int[Tensor, " token"]
    columns: Int[Tensor, " token"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What each column of a call is."""

    n_rows: int
    n_columns: int
    n_generated: int
    """How many of the columns, the last ones, are generated tokens."""
    starts: Int[Tensor, " row"] | None
    """Column of each prompt's first token; None where the call holds no prompts."""
    lengths: Int[Tensor, " row"] | None
    """Tokens of each prompt."""
    ends: Int[Tensor, " row"] | None
    """The column after each row's last token, its answer included."""
    prompts: Sequence[Prompt] | None
    """The prompts by row, where they are known."""

    def find(self, position: Position, rows: Int[Tensor, " row"]) -> Places:
        """The tokens that a position means in some rows; none where the call does not reach it.

        Raises:
            PositionError: A prompt is too short.
        """
        if position == "generated":
            is_there = torch.arange(self.n_columns) >= self.n_columns - self.n_generated
            return _where(is_there.expand(len(rows), -1), rows)
        if self.starts is None or self.lengths is None or self.ends is None:
            return Places(rows=rows[:0], columns=rows[:0])
        starts, lengths, ends = self.starts[rows], self.lengths[rows], self.ends[rows]
        if position == "last":
            position = -1
        if isinstance(position, int):
            self._check_lengths(position, rows)
            columns = starts + position + (lengths if position < 0 else 0)
            return Places(rows=rows, columns=columns)
        if position in ("all", "answer"):
            column = torch.arange(self.n_columns).unsqueeze(0)
            border = (starts + lengths).unsqueeze(1)
            if position == "all":
                return _where((column >= starts.unsqueeze(1)) & (column < border), rows)
            return _where((column >= border) & (column < ends.unsqueeze(1)), rows)
        return self._named(position, rows)

    def _named(self, position: str, rows: Tensor) -> Places:
        assert self.prompts is not None, "names were checked when the injection began"
        assert self.starts is not None
        found = [
            (row, int(self.starts[row]) + index)
            for row in rows.tolist()
            for index in resolve_positions(self.prompts[row], (position,))
        ]
        table = torch.tensor(found, dtype=torch.long).view(-1, 2)
        return Places(rows=table[:, 0], columns=table[:, 1])

    def _check_lengths(self, position: int, rows: Tensor) -> None:
        assert self.lengths is not None
        needed = position + 1 if position >= 0 else -position
        short = rows[self.lengths[rows] < needed]
        if len(short):
            length = int(self.lengths[short[0]])
            raise PositionError(
                f"the prompt of row {int(short[0])} has {length} tokens and no position "
                f"{position}; give one from {-length} to {length - 1}, or longer prompts"
            )


def generated_only(n_rows: int) -> Layout:
    """The layout of a step of generation: one new token per row."""
    return Layout(
        n_rows=n_rows,
        n_columns=1,
        n_generated=1,
        starts=None,
        lengths=None,
        ends=None,
        prompts=None,
    )


def with_generated(layout: Layout, n_columns: int) -> Layout:
    """The layout of the same prompts, followed by generated tokens up to a number of columns."""
    return replace(layout, n_columns=n_columns, n_generated=n_columns - layout.n_columns)


def read_layout(call: Call, prompts: Sequence[Prompt] | None) -> Layout:
    """The layout of a call that begins with its prompts.

    Args:
        call: The call; its cache is empty.
        prompts: The prompts, one per row, where they are known; what follows one is its answer.

    Raises:
        TaskVectorsError: A row is not one padded prompt, or not the one that was given.
    """
    visible = torch.ones(call.n_rows, call.n_columns, dtype=torch.bool)
    if call.mask is not None:
        visible = call.mask.cpu()
    numbers = visible.sum(dim=1)
    starts = visible.int().argmax(dim=1)
    column = torch.arange(call.n_columns)
    together = (column >= starts[:, None]) & (column < (starts + numbers)[:, None])
    broken = (together != visible).any(dim=1) | (numbers == 0)
    if bool(broken.any()):
        raise TaskVectorsError(
            f"the attention mask of row {int(broken.int().argmax())} is not one run of tokens. "
            f"{ONE_PROMPT_A_ROW}"
        )
    _check_not_packed(call, visible)
    layout = Layout(
        n_rows=call.n_rows,
        n_columns=call.n_columns,
        n_generated=0,
        starts=starts,
        lengths=numbers,
        ends=starts + numbers,
        prompts=prompts,
    )
    if prompts is None:
        return layout
    _check_prompts(call, layout, prompts)
    return replace(layout, lengths=torch.tensor([len(prompt.token_ids) for prompt in prompts]))


def _check_not_packed(call: Call, visible: Bool[Tensor, "row column"]) -> None:
    """Packed rows say so by position ids that start again."""
    if call.position_ids is None:
        return
    steps = call.position_ids.cpu().diff(dim=1).expand(call.n_rows, -1)
    broken = ((steps != 1) & visible[:, 1:] & visible[:, :-1]).any(dim=1)
    if bool(broken.any()):
        raise TaskVectorsError(
            f"the position ids of row {int(broken.int().argmax())} do not count its tokens one by "
            f"one. {ONE_PROMPT_A_ROW}"
        )


def _check_prompts(call: Call, layout: Layout, prompts: Sequence[Prompt]) -> None:
    assert layout.starts is not None
    assert layout.lengths is not None
    token_ids = None if call.token_ids is None else call.token_ids.tolist()
    places = zip(layout.starts.tolist(), layout.lengths.tolist(), prompts, strict=True)
    for row, (start, number, prompt) in enumerate(places):
        length = len(prompt.token_ids)
        if number < length:
            raise TaskVectorsError(
                f"row {row} has {number} tokens and {prompt} has {length}; give the model whole "
                "prompts, in one piece, and `prompts` in the order of the rows"
            )
        if token_ids is None:
            continue
        if tuple(token_ids[row][start : start + length]) != prompt.token_ids:
            raise TaskVectorsError(
                f"the tokens of row {row} are not those of {prompt}; give the model "
                "`prompt.token_ids`, and `prompts` in the order of the rows"
            )


def _where(is_there: Bool[Tensor, "row column"], rows: Tensor) -> Places:
    row, column = is_there.nonzero(as_tuple=True)
    return Places(rows=rows[row], columns=column)
