"""The code map of a stack: which code stands where, and which cells hold a filament."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import CodebookUsage, count_codes, filament_cells, need_codebook
from napari_vqldm.coding import decode_latent
from napari_vqldm.errors import ShapeError
from napari_vqldm.inside.cells import CellImage, cell_geometry, padded_cells
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.reconstruct import Latent, encode_steps, latent_tensor
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Float3, Volume


@dataclass(frozen=True, eq=False)
class CodeMap:
    """The codes of one stack, with their place in it.

    Attributes
    ----------
    codes : ndarray
        int32 (d, h, w), code indices from 0.
    is_filament : ndarray
        bool (d, h, w): the reconstruction exceeds 0.3 of a filament's peak in the cell.
    is_padded : ndarray
        bool (d, h, w): a part of the cell lies beyond the stack, which was continued there by reflection.
    cell_size_um, translate_um : tuple of float
        As in `napari_vqldm.inside.cells.CellImage`.
    usage : CodebookUsage
        Counts of every code, all cells counted.
    latent : Latent
        What the codes belong to: model, grids, intensity, name of the stack.
    """

    codes: npt.NDArray[np.int32]
    is_filament: npt.NDArray[np.bool_]
    is_padded: npt.NDArray[np.bool_]
    cell_size_um: Float3
    translate_um: Float3
    usage: CodebookUsage
    latent: Latent


@dataclass(frozen=True)
class CodeMapStep:
    """Progress of `code_map_steps`: one tile; the last step carries the whole result.

    The number of tiles to decode is known when encoding is done; until then ``total`` counts as many again.
    """

    index: int
    total: int
    result: CodeMap | None


def code_map(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> CodeMap:
    """Find the code of every latent cell of a stack.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    volume, intensity, max_voxels
        As in `napari_vqldm.reconstruct.encode`.

    Returns
    -------
    CodeMap
        Its ``usage`` is what `napari_vqldm.codebook.codebook_usage` counts.

    Raises
    ------
    CheckpointError
        If the model has no codebook.
    VolumeError, ShapeError
        As in `napari_vqldm.reconstruct.encode`.
    """
    steps = code_map_steps(model, volume, intensity=intensity, max_voxels=max_voxels)
    return next(step.result for step in steps if step.result is not None)


def code_map_steps(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Iterator[CodeMapStep]:
    """Stepwise twin of `code_map`: one step per tile; close it to cancel."""
    need_codebook(model)
    return _steps(model, volume, intensity, max_voxels)


def _steps(model: Model, volume: Volume, intensity: IntensityScale | None, max_voxels: int) -> Iterator[CodeMapStep]:
    done, latent = 0, None
    for coded in encode_steps(model, volume, intensity=intensity, max_voxels=max_voxels):
        done, latent = coded.index + 1, coded.latent
        yield CodeMapStep(coded.index, 2 * coded.total, None)
    if latent is None:
        return
    for step in decode_latent(model.space, latent_tensor(model, latent), max_voxels=max_voxels):
        result = None if step.result is None else _map(model, latent, step.result[0, 0].numpy())
        yield CodeMapStep(done + step.index, done + step.total, result)


def _map(model: Model, latent: Latent, decoded: npt.NDArray[np.float32]) -> CodeMap:
    if latent.codes is None:
        raise ShapeError("expected code indices, got a latent without: encode the volume again")
    factor = model.space.autoencoder.downsampling_factor
    is_filament = filament_cells(decoded, factor)
    usage = count_codes(latent.codes, is_filament, model.space.quantizer.codebook.shape[0])
    return CodeMap(
        latent.codes, is_filament, padded_cells(latent, factor), *cell_geometry(latent, factor), usage, latent
    )


def channel_images(model: Model, latent: Latent) -> list[CellImage]:
    """Return every channel of a latent as an image over its stack.

    Parameters
    ----------
    model : Model
        Of either family; the latent belongs to it.
    latent : Latent
        From `napari_vqldm.reconstruct.encode`.

    Returns
    -------
    list of CellImage
        float32, standardised: 0 is the mean of a channel over the training volumes, 1 its standard deviation.

    Raises
    ------
    CheckpointError, ShapeError
        If the latent belongs to other weights, or contradicts itself.
    """
    geometry = cell_geometry(latent, model.space.autoencoder.downsampling_factor)
    tensor = latent_tensor(model, latent)[0].float().cpu().numpy()
    return [CellImage(np.asarray(data), *geometry, f"channel {number}") for number, data in enumerate(tensor)]
