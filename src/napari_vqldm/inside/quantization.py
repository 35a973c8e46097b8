"""What quantization costs: how far every cell is moved to reach its code, and what that changes in the volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import need_codebook
from napari_vqldm.coding import Coding, encode_volume
from napari_vqldm.inside.cells import CellImage, cell_geometry
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.reconstruct import Latent, decode_steps, encode_steps
from napari_vqldm.resample import resample_to
from napari_vqldm.tiles import MAX_VOXELS, pad_to_multiple
from napari_vqldm.volume import Volume

_PARTS = 4  # encode, keep the vectors, decode the codes, decode the vectors


@dataclass(frozen=True, eq=False)
class QuantizationError:
    """What quantization changes in one stack.

    Attributes
    ----------
    distance : CellImage
        float32 (d, h, w): root mean square over the channels of the vector before minus the vector after quantization;
        1 is the standard deviation of a channel over the training volumes.
    snapped, unsnapped : Volume
        Reconstruction from the codes, and from the vectors that the encoder left; units and grid of the stack.
    difference : Volume
        ``snapped`` - ``unsnapped``.
    latent : Latent
        The codes.
    unquantized : ndarray
        float32 (C, d, h, w), standardised: the vectors before quantization.
    """

    distance: CellImage
    snapped: Volume
    unsnapped: Volume
    difference: Volume
    latent: Latent
    unquantized: npt.NDArray[np.float32]


@dataclass(frozen=True)
class QuantizationStep:
    """Progress of `quantization_steps`: one tile of one of four parts; the last step carries the result.

    ``total`` takes the parts to come for as long as the one at work.
    """

    index: int
    total: int
    result: QuantizationError | None


def quantization_error(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> QuantizationError:
    """Measure what quantization costs in a stack.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    volume, intensity, max_voxels
        As in `napari_vqldm.reconstruct.encode`.

    Returns
    -------
    QuantizationError

    Raises
    ------
    CheckpointError
        If the model has no codebook.
    VolumeError, ShapeError
        As in `napari_vqldm.reconstruct.encode`.
    """
    steps = quantization_steps(model, volume, intensity=intensity, max_voxels=max_voxels)
    return next(step.result for step in steps if step.result is not None)


def quantization_steps(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Iterator[QuantizationStep]:
    """Stepwise twin of `quantization_error`: one step per tile; close it to cancel."""
    need_codebook(model)
    return _steps(model, volume, intensity, max_voxels)


def _steps(
    model: Model, volume: Volume, intensity: IntensityScale | None, max_voxels: int
) -> Iterator[QuantizationStep]:
    done = 0

    def step(index: int, total: int, part: int, result: QuantizationError | None = None) -> QuantizationStep:
        return QuantizationStep(done + index, done + total * (_PARTS - part), result)

    latent = coding = snapped = None
    for coded in encode_steps(model, volume, intensity=intensity, max_voxels=max_voxels):
        latent = coded.latent
        yield step(coded.index, coded.total, 0)
    if latent is None:
        return
    done += coded.total
    for kept in encode_volume(
        model.space, _coded_grid(model, volume, latent), max_voxels=max_voxels, keep_unquantized=True
    ):
        coding = kept.result
        yield step(kept.index, kept.total, 1)
    if coding is None or coding.unquantized is None:
        return
    done += kept.total
    for decoded in decode_steps(model, latent, max_voxels=max_voxels):
        snapped = decoded.volume
        yield step(decoded.index, decoded.total, 2)
    done += decoded.total
    vectors = coding.unquantized[0].numpy()
    for decoded in decode_steps(model, replace(latent, codes=None, latent=vectors), max_voxels=max_voxels):
        result = None
        if decoded.volume is not None and snapped is not None:
            result = _result(model, latent, coding, vectors, snapped, decoded.volume)
        yield step(decoded.index, decoded.total, 3, result)


def _coded_grid(model: Model, volume: Volume, latent: Latent) -> torch.Tensor:
    """Return the stack (1, 1, Z, Y, X) as it was encoded: filament units, padded."""
    data = resample_to(latent.intensity.apply(volume.data), latent.coded_shape)
    padded, _ = pad_to_multiple(data, model.space.autoencoder.downsampling_factor)
    return torch.from_numpy(padded)[None, None]


def _result(
    model: Model,
    latent: Latent,
    coding: Coding,
    vectors: npt.NDArray[np.float32],
    snapped: Volume,
    unsnapped: Volume,
) -> QuantizationError:
    moved = vectors - coding.latent[0].numpy()
    distance = np.sqrt(np.square(moved).mean(axis=0)).astype(np.float32)
    geometry = cell_geometry(latent, model.space.autoencoder.downsampling_factor)
    return QuantizationError(
        CellImage(distance, *geometry, "quantization error"),
        snapped,
        unsnapped,
        Volume(snapped.data - unsnapped.data, snapped.voxel_size_um, {}, "snapped minus unsnapped"),
        latent,
        vectors,
    )
