"""A batch computed in equal parts, one after the other: the memory of one part, the gradient of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor

from napari_vqldm.training.trainable import TrainableStage

B = TypeVar("B")
AVERAGED = frozenset({"kl_channels"})  # means over the batch that are no scalars


def backward_in_parts(
    fabric: Fabric, stage: TrainableStage[B], module: _FabricModule, batch: B, step: int
) -> dict[str, Tensor]:
    """Compute terms and gradients of a batch in ``stage.config.accumulate`` parts; gradients of processes meet once.

    Returns
    -------
    dict
        Terms of the whole batch, see `merged`.
    """
    count = stage.config.accumulate
    if count == 1:
        terms = stage.losses(module, batch, step)
        fabric.backward(terms["loss"])
        return terms
    found = []
    parts = stage.split(batch, count)
    for i, part in enumerate(parts):
        with fabric.no_backward_sync(module, enabled=i < len(parts) - 1):
            terms = stage.losses(module, part, step)
            fabric.backward(terms["loss"] / count)
        found.append({name: tensor.detach() for name, tensor in terms.items()})
    return merged(found)


def merged(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the terms of a batch from those of its equal parts: means of scalars, the other terms one after another.

    Terms of `AVERAGED` are means as well.
    """
    return {
        name: torch.stack([part[name] for part in parts]).mean(dim=0)
        if first.ndim == 0 or name in AVERAGED
        else torch.cat([part[name] for part in parts])
        for name, first in parts[0].items()
    }
