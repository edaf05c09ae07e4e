"""Cutting prompts where the first edit is: tokens before it, and tokens from it on.

Everything here is integers. A prompt's suffix runs from its earliest edited position to the token
that predicts the last token of its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvectors.errors import PositionError
from taskvectors.models.recording import CutTokens
from taskvectors.prompts import Prompt, resolve_positions
from taskvectors.prompts.prompt import PAST_THE_PROMPT
from taskvectors.trunk.edits import Position


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Suffix columns of some positions, per prompt."""

    index: Int[Tensor, "prompt position"]
    present: Bool[Tensor, "prompt position"] | None
    """False where a prompt has fewer such positions than another (a name can mean several); None if
    all are there. An absent entry repeats the prompt's first one, or is column 0 without any."""
    has_empty: bool = False
    """Whether some prompt has none at all."""
    repeated: int | None = None
    """A prompt in which two of the positions are one token, if there is one."""

    def check_distinct(self, positions: tuple[Position, ...]) -> None:
        """Raise if two of the positions are one token of a prompt: a value for each is no value.

        Raises:
            PositionError: They are.
        """
        if self.repeated is not None:
            raise PositionError(
                f"two of the positions {', '.join(map(str, positions))} are one token of prompt "
                f"{self.repeated}, which an edit would replace twice; name each token once"
            )

    def select(self, rows: Int[Tensor, " row"] | None) -> "Columns":
        """Those of a mini-batch."""
        if rows is None:
            return self
        present = None if self.present is None else self.present.index_select(0, rows)
        index = self.index.index_select(0, rows)
        return Columns(index=index, present=present, has_empty=self.has_empty)


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptSplit:
    """Prompts, cut."""

    prompts: tuple[Prompt, ...]
    tokens: CutTokens
    starts: tuple[int, ...]
    """The position in each prompt at which its suffix begins."""
    first_reads: tuple[int, ...]
    """The suffix column of each prompt's last token, which predicts the first token of its
    answer."""
    answers: tuple[tuple[int, ...], ...]

    @property
    def n_answer(self) -> int:
        """Tokens of the longest answer."""
        return max(len(answer) for answer in self.answers)

    def columns(self, positions: tuple[Position, ...]) -> Columns:
        """Suffix columns of some positions.

        Raises:
            PositionError: A prompt has no such position.
            ValueError: A position lies before the cut.
        """
        rows = [
            [place - start for name in positions for place in _places(prompt, name)]
            for prompt, start in zip(self.prompts, self.starts, strict=True)
        ]
        if min(min(row, default=0) for row in rows) < 0:
            raise ValueError(f"positions {positions} lie before the cut of this trunk")
        longest = max(map(len, rows))
        repeated = next((i for i, row in enumerate(rows) if len({*row}) < len(row)), None)
        device = self.tokens.suffix.device
        filled = [row + (row or [0])[:1] * (longest - len(row)) for row in rows]
        index = torch.tensor(filled, dtype=torch.long, device=device).view(len(rows), longest)
        if all(len(row) == longest for row in rows):
            return Columns(index=index, present=None, repeated=repeated)
        counts = torch.tensor([len(row) for row in rows], device=device)
        present = torch.arange(longest, device=device) < counts.unsqueeze(1)
        has_empty = min(map(len, rows)) == 0
        return Columns(index=index, present=present, has_empty=has_empty, repeated=repeated)


def suffix_start(prompt: Prompt, positions: Sequence[Position]) -> int:
    """Where a prompt's suffix begins: its earliest position of some, or its last token."""
    within = [name for name in positions if name not in PAST_THE_PROMPT]
    return min((len(prompt.token_ids) - 1, *resolve_positions(prompt, within)))


def _places(prompt: Prompt, position: Position) -> Sequence[int]:
    """Tokens of a prompt, or of its answer, which stands for what would be generated.

    The last token of an answer is never read, so it has no place.
    """
    if position in PAST_THE_PROMPT:
        length = len(prompt.token_ids)
        return range(length, length + len(prompt.answer_ids) - 1)
    return resolve_positions(prompt, (position,))


def cut_prompts(
    prompts: Sequence[Prompt], positions: Sequence[Position], *, device: torch.device
) -> PromptSplit:
    """Cut prompts before the earliest of some positions (the last token where there are none)."""
    starts, prefixes, suffixes, first_reads = [], [], [], []
    for prompt in prompts:
        last = len(prompt.token_ids) - 1
        start = suffix_start(prompt, positions)
        tokens = prompt.token_ids + prompt.answer_ids[:-1]
        starts.append(start)
        prefixes.append(tokens[:start])
        suffixes.append(tokens[start:])
        first_reads.append(last - start)
    n_prefix, n_suffix = max(map(len, prefixes)), max(map(len, suffixes))
    return PromptSplit(
        prompts=tuple(prompts),
        tokens=CutTokens(
            prefix=torch.tensor(
                [(0,) * (n_prefix - len(row)) + row for row in prefixes],
                dtype=torch.long,
                device=device,
            ).view(len(prompts), n_prefix),
            prefix_lengths=torch.tensor([len(row) for row in prefixes], device=device),
            suffix=torch.tensor(
                [row + (0,) * (n_suffix - len(row)) for row in suffixes], device=device
            ),
            suffix_lengths=torch.tensor([len(row) for row in suffixes], device=device),
        ),
        starts=tuple(starts),
        first_reads=tuple(first_reads),
        answers=tuple(prompt.answer_ids for prompt in prompts),
    )
