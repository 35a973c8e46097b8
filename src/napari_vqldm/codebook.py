"""Which codes a `vq-ldm` uses on a set of volumes, over filament cells and background cells apart.

Most of a volume is background: counted together, a codebook that spends three codes on filaments looks healthy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from einops import reduce

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent
from napari_vqldm.errors import CheckpointError, ConfigError, ShapeError
from napari_vqldm.quantizers import CodeUsage
from napari_vqldm.reconstruct import Latent, encode, latent_tensor
from napari_vqldm.resample import resample_to
from napari_vqldm.tiles import pad_to_multiple
from napari_vqldm.volume import Int3, Volume

# A latent cell is a filament cell when its brightest voxel exceeds this, in units of one filament's peak.
FILAMENT_THRESHOLD = 0.3


@dataclass(frozen=True)
class CodebookUsage:
    """Counts (K,) per code, over cells that hold a filament and cells that do not."""

    filament: CodeUsage
    background: CodeUsage

    @property
    def everywhere(self) -> CodeUsage:
        """Both together."""
        return self.filament + self.background

    def __add__(self, other: CodebookUsage) -> CodebookUsage:
        return CodebookUsage(self.filament + other.filament, self.background + other.background)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return cells, codes used, dead codes and perplexity of each part, JSON-compatible."""
        parts = {"filament": self.filament, "background": self.background, "everywhere": self.everywhere}
        return {
            name: {
                "cells": usage.total,
                "codes_used": len(usage.counts) - usage.dead_codes,
                "dead_codes": usage.dead_codes,
                "perplexity": usage.perplexity,
            }
            for name, usage in parts.items()
        }


@dataclass(frozen=True)
class CodebookStep:
    """One volume is counted; ``usage`` is the running sum over all volumes so far."""

    index: int
    total: int
    usage: CodebookUsage


def codebook_usage(model: Model, volumes: Sequence[Volume], clean: Sequence[Volume] | None = None) -> CodebookUsage:
    """Count the codes of a set of volumes.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    volumes : sequence of Volume
        At least one.
    clean : sequence of Volume, optional
        Their noise-free counterparts in filament units, on the same grids: they tell filament cells. None: the
        reconstruction does.

    Returns
    -------
    CodebookUsage
        Sums over all volumes.

    Raises
    ------
    CheckpointError
        If the model has no codebook.
    ConfigError
        If there is no volume, or not one clean volume for each.
    ShapeError
        If a clean volume has another grid than its volume.
    """
    return list(codebook_steps(model, volumes, clean))[-1].usage


def codebook_steps(
    model: Model, volumes: Sequence[Volume], clean: Sequence[Volume] | None = None
) -> Iterator[CodebookStep]:
    """Stepwise twin of `codebook_usage`: one step per volume; close it to cancel."""
    if model.config.family != "vq-ldm":
        raise CheckpointError(f"model {model.name} is an {model.config.family} and has no codebook: use a vq-ldm")
    if not volumes or (clean is not None and len(clean) != len(volumes)):
        raise ConfigError(
            f"expected at least one volume and as many clean ones, got {len(volumes)} and "
            f"{len(clean) if clean is not None else 0}"
        )
    for i, volume in enumerate(volumes):
        if clean is not None and clean[i].shape != volume.shape:
            raise ShapeError(f"expected a clean volume of {volume.shape} voxels, got {clean[i].shape}")
    return _count(model, volumes, clean)


def _count(model: Model, volumes: Sequence[Volume], clean: Sequence[Volume] | None) -> Iterator[CodebookStep]:
    size = model.space.quantizer.codebook.shape[0]
    usage = CodebookUsage(CodeUsage.of(np.zeros(0, np.int64), size), CodeUsage.of(np.zeros(0, np.int64), size))
    factor = model.space.autoencoder.downsampling_factor
    for index, volume in enumerate(volumes):
        latent = encode(model, volume)
        truth = _decoded(model, latent) if clean is None else _on_coded_grid(clean[index], latent, factor)
        is_filament = _block_max(truth, factor) > FILAMENT_THRESHOLD
        codes = latent.codes if latent.codes is not None else np.zeros(latent.grid, np.int32)
        usage = usage + CodebookUsage(CodeUsage.of(codes[is_filament], size), CodeUsage.of(codes[~is_filament], size))
        yield CodebookStep(index, len(volumes), usage)


def _decoded(model: Model, latent: Latent) -> npt.NDArray[np.float32]:
    """Return the reconstruction in filament units on the padded, coded grid."""
    result = torch.empty(0)
    for step in decode_latent(model.space, latent_tensor(model, latent)):
        result = step.result[0, 0] if step.result is not None else result
    return np.asarray(result.numpy(), np.float32)


def _on_coded_grid(clean: Volume, latent: Latent, factor: Int3) -> npt.NDArray[np.float32]:
    """Bring a clean volume to the padded grid that its noisy twin was coded on."""
    padded, _ = pad_to_multiple(resample_to(clean.data, latent.coded_shape), factor)
    return np.asarray(padded, np.float32)


def _block_max(data: npt.NDArray[np.float32], factor: Int3) -> npt.NDArray[np.float32]:
    z, y, x = factor
    return np.asarray(reduce(data, "(d z) (h y) (w x) -> d h w", "max", z=z, y=y, x=x))
