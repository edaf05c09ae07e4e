"""In-context n-grams with back-off: the baseline that reads only the sequence itself.

Counts are taken over the strings seen so far in one sequence. A context gives the letters that have
followed it the share of its occurrences; what is left goes to the letters that have not, in
proportion to the next shorter context.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def backoff_predictor(
    tokens: Int[Tensor, "batch pos"], n_letters: int, restart: int, order: int = 3
) -> Float[Tensor, "batch pos letter"]:
    """Probabilities of the next letter after each token.

    Args:
        tokens: Letters and, between strings, `restart`; other tokens are padding.
        n_letters: Letters are the tokens below this.
        restart: The token between strings.
        order: Longest n-gram.

    Source: Akyürek et al. (2024), https://arxiv.org/abs/2401.12973, as its released code computes
        the 3-gram baseline. We differ in that rows are normalised where every known letter has
        followed the context, and uniform before the first letter.
    """
    device, batch = tokens.device, len(tokens)
    rows = torch.arange(batch, device=device)
    blank = n_letters  # what stands before a string; it is counted as a context, never predicted
    base = n_letters + 1
    counts = [torch.zeros(batch, base**n, device=device) for n in range(1, order + 1)]
    context = torch.full((batch, order), blank, device=device)  # its last entry is the newest
    _count(counts, rows, context, torch.ones(batch, dtype=torch.bool, device=device), True)
    predicted = []
    for token in tokens.unbind(dim=1):
        is_letter, is_restart = token < n_letters, token == restart
        moved = torch.cat([context[:, 1:], token[:, None]], dim=1)
        context = torch.where(is_letter[:, None], moved, context)
        context = torch.where(is_restart[:, None], blank, context)
        _count(counts, rows, context, is_letter, False)
        _count(counts, rows, context, is_restart, True)
        predicted.append(_predict(counts, rows, context, n_letters))
    return torch.stack(predicted, dim=1)


def _count(
    counts: list[Tensor], rows: Tensor, context: Tensor, which: Tensor, begins: bool
) -> None:
    """Count the n-grams that end in the newest entry, or those of the blanks before a string."""
    order = len(counts)
    base = counts[0].shape[1]
    for n, table in enumerate(counts, start=1):
        place = _place(context[:, order - n :], base)
        times = order - n if begins else 1  # order - 1 blanks hold order - n n-grams of blanks
        table[rows, place] += which * times


def _place(gram: Int[Tensor, "batch n"], base: int) -> Int[Tensor, " batch"]:
    place = torch.zeros_like(gram[:, 0])
    for column in gram.unbind(dim=1):
        place = place * base + column
    return place


def _predict(
    counts: list[Tensor], rows: Tensor, context: Tensor, n_letters: int
) -> Float[Tensor, "batch letter"]:
    """From the shortest context to the longest."""
    order, base = len(counts), n_letters + 1
    lower = counts[0][:, :n_letters] / counts[0].sum(dim=1, keepdim=True).clamp(min=1)
    for n in range(2, order + 1):
        place = _place(context[:, order - n + 1 :], base)
        table = counts[n - 1].view(len(rows), -1, base)
        follow = table[rows, place, :n_letters]
        own = follow / counts[n - 2][rows, place][:, None].clamp(min=1)
        rest = (1 - own.sum(dim=1, keepdim=True)).clamp(min=0)
        unseen = lower * (follow == 0)
        share = unseen / unseen.sum(dim=1, keepdim=True).clamp(min=torch.finfo(lower.dtype).tiny)
        lower = own + rest * share
    total = lower.sum(dim=1, keepdim=True)
    return torch.where(total > 0, lower / total.clamp(min=1e-30), 1 / n_letters)
