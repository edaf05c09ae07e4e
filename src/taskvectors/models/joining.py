"""Recordings of consecutive prompts, made in several passes, as one."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from taskvectors.models.recording import LayerRecord, Recording


def join_recordings(parts: Sequence[Recording]) -> Recording:
    """Recordings of consecutive prompts as one."""
    if len(parts) == 1:
        return parts[0]
    layers = [_join_layers([part.layers[i] for part in parts]) for i in range(len(parts[0].layers))]
    return Recording(
        layers=layers,
        final=torch.cat([part.final for part in parts]),
        sites={key: torch.cat([part.sites[key] for part in parts]) for key in parts[0].sites},
        model=parts[0].model,
    )


def _join_layers(layers: Sequence[LayerRecord]) -> LayerRecord:
    sizes = [layer.entered.shape[0] for layer in layers]
    join = partial(_join, sizes)
    masks = [layer.mask for layer in layers]
    if any(mask is not None for mask in masks):
        shape = next(mask.shape[1:] for mask in masks if mask is not None)
        masks = [
            layers[i].entered.new_zeros((sizes[i], *shape), dtype=torch.float32) if m is None else m
            for i, m in enumerate(masks)
        ]
    return LayerRecord(
        entered=torch.cat([layer.entered for layer in layers]),
        keys=join([layer.keys for layer in layers]),  # type: ignore[arg-type]
        values=join([layer.values for layer in layers]),  # type: ignore[arg-type]
        mask=join(masks),  # type: ignore[arg-type]
        arguments={
            name: join([layer.arguments[name] for layer in layers]) for name in layers[0].arguments
        },
    )


def _join(sizes: Sequence[int], values: Sequence[object]) -> object:
    """Values of consecutive prompts as one, where there is an entry per prompt."""
    first = values[0]
    if isinstance(first, tuple):
        parts = range(len(first))
        return tuple(_join(sizes, [value[i] for value in values]) for i in parts)  # type: ignore[index]
    per_prompt = all(
        isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == size
        for value, size in zip(values, sizes, strict=True)
    )
    return torch.cat(values) if per_prompt else first  # type: ignore[arg-type]
