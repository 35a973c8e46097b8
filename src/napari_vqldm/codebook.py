"""Which codes a `vq-ldm` uses on a set of volumes, over filament cells and background cells apart.

Most of a volume is background: counted together, a codebook that spends three codes on filaments looks healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from einops import reduce

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent
from napari_vqldm.errors import CheckpointError, ConfigError, ShapeError
from napari_vqldm.files import read_volume
from napari_vqldm.files.streaming import Read, Source, Worked, each_volume
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
    """One volume is counted, or cannot be; ``usage`` is the running sum over all volumes so far.

    ``total`` counts the volumes as far as known, ``name`` is that of the volume or its file, ``problem`` says in one
    line why a file was left out, and is empty otherwise.
    """

    index: int
    total: int
    usage: CodebookUsage
    name: str = ""
    problem: str = ""


def codebook_usage(
    model: Model, volumes: Iterable[Source], clean: Iterable[Volume] | None = None, *, read: Read = read_volume
) -> CodebookUsage:
    """Count the codes of a set of volumes.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    volumes : iterable of Volume or path
        At least one. Files are read when their turn comes, a generator is drawn one by one: memory does not grow with
        their number. A file that cannot be read or coded is left out, `codebook_steps` says why.
    clean : iterable of Volume, optional
        Their noise-free counterparts in filament units, on the same grids: they tell filament cells. None: the
        reconstruction does.
    read : callable
        Reads one path.

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
    FileError
        If not one file can be used.
    """
    usage = no_usage(model)
    for step in codebook_steps(model, volumes, clean, read=read):
        usage = step.usage
    return usage


def codebook_steps(
    model: Model, volumes: Iterable[Source], clean: Iterable[Volume] | None = None, *, read: Read = read_volume
) -> Iterator[CodebookStep]:
    """Stepwise twin of `codebook_usage`: one step per volume; close it to cancel."""
    need_codebook(model)
    if isinstance(volumes, Sequence) and (clean is None or isinstance(clean, Sequence)):
        _check(volumes, clean)  # what is known before the work is refused before it
    truth_of = None if clean is None else _drawer(clean)

    def usage_of(index: int, volume: Volume) -> CodebookUsage:
        return _usage_of(model, volume, None if truth_of is None else truth_of(index))

    return _sum(no_usage(model), each_volume(volumes, usage_of, read))


def need_codebook(model: Model) -> None:
    """Refuse a model without codebook."""
    if model.config.family != "vq-ldm":
        raise CheckpointError(f"model {model.name} is an {model.config.family} and has no codebook: use a vq-ldm")


def no_usage(model: Model) -> CodebookUsage:
    """Return counts of zero for every code of a model, to start a sum with."""
    nothing = np.zeros((0, 0, 0), np.int32)
    return count_codes(nothing, nothing > 0, model.space.quantizer.codebook.shape[0])


def count_codes(codes: npt.NDArray[np.int32], is_filament: npt.NDArray[np.bool_], codebook_size: int) -> CodebookUsage:
    """Count code indices (d, h, w) over cells that hold a filament and cells that do not."""
    parts = (CodeUsage.of(codes[cells], codebook_size) for cells in (is_filament, ~is_filament))
    return CodebookUsage(*parts)


def filament_cells(truth: npt.NDArray[np.float32], factor: Int3) -> npt.NDArray[np.bool_]:
    """Tell which cells (d, h, w) hold a filament.

    Parameters
    ----------
    truth : ndarray
        Noise-free volume (Z, Y, X) in filament units, or a reconstruction, on the padded grid that was coded.
    factor : tuple of int
        Voxels (z, y, x) of a cell.
    """
    z, y, x = factor
    brightest = reduce(truth, "(d z) (h y) (w x) -> d h w", "max", z=z, y=y, x=x)
    return np.asarray(brightest > FILAMENT_THRESHOLD)


def _check(volumes: Sequence[Source], clean: Sequence[Volume] | None) -> None:
    if not volumes or (clean is not None and len(clean) != len(volumes)):
        raise ConfigError(
            f"expected at least one volume and as many clean ones, got {len(volumes)} and "
            f"{len(clean) if clean is not None else 0}"
        )
    for volume, truth in zip(volumes, clean or (), strict=False):
        if isinstance(volume, Volume):
            _check_grid(volume, truth)


def _check_grid(volume: Volume, clean: Volume) -> None:
    if clean.shape != volume.shape:
        raise ShapeError(f"expected a clean volume of {volume.shape} voxels, got {clean.shape}")


def _drawer(clean: Iterable[Volume]) -> Callable[[int], Volume]:
    """Return a function that draws from ``clean`` up to a number: the twins of files left out are passed over."""
    numbered = enumerate(clean)

    def draw(index: int) -> Volume:
        found = next((volume for number, volume in numbered if number == index), None)
        if found is None:
            raise ConfigError(f"expected at least one volume and as many clean ones, got none for volume {index}")
        return found

    return draw


def _sum(usage: CodebookUsage, counted: Iterator[Worked[CodebookUsage]]) -> Iterator[CodebookStep]:
    for one in counted:
        usage = usage if one.result is None else usage + one.result
        yield CodebookStep(one.index, one.total, usage, one.name, one.problem)


def _usage_of(model: Model, volume: Volume, clean: Volume | None) -> CodebookUsage:
    """Count the codes of one volume."""
    if clean is not None:
        _check_grid(volume, clean)
    latent = encode(model, volume)
    factor = model.space.autoencoder.downsampling_factor
    truth = _decoded(model, latent) if clean is None else _on_coded_grid(clean, latent, factor)
    codes = latent.codes if latent.codes is not None else np.zeros(latent.grid, np.int32)
    return count_codes(codes, filament_cells(truth, factor), model.space.quantizer.codebook.shape[0])


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
