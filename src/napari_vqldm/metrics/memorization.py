"""Is a generated volume a copy? Best patch correlation with the training volumes, over shifts, flips and turns.

The number means nothing alone: two straight filaments always resemble each other. Compare with the same number for
simulated volumes that were never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.checks import check_finite

FloatArray = npt.NDArray[np.floating]
Int3 = tuple[int, int, int]

PATCH: Int3 = (16, 48, 48)  # voxels
COARSE: Int3 = (2, 4, 4)  # search grid of the first pass, voxels
FINE: Int3 = (2, 2, 2)  # search grid of the second pass, voxels
CANDIDATES = 16  # (training volume, orientation) pairs per patch that reach the second pass
MIN_SD = 0.02  # filament units: flatter patches and flatter places of a training volume are not compared
NUM_ORIENTATIONS = 16  # 4 lateral turns x lateral flip x axial flip
_CHUNK = {"cpu": 32}  # correlations per batched transform: stays in the cache of a processor
_LARGE_CHUNK = 1024  # accelerators want many at once


@dataclass(frozen=True)
class NearestPatches:
    """Best match of every query patch.

    Attributes
    ----------
    correlation : ndarray
        Best normalized cross-correlation, (Q, P), in [-1, 1]; NaN for patches without structure.
    training_index : ndarray
        Number of the training volume of that match, (Q, P), -1 for patches without structure.
    """

    correlation: npt.NDArray[np.float64]
    training_index: npt.NDArray[np.int64]

    @property
    def per_volume(self) -> npt.NDArray[np.float64]:
        """Mean over the patches of each query volume that have structure, volumes without any left out."""
        rows = [row[np.isfinite(row)] for row in self.correlation]
        return np.array([row.mean() for row in rows if row.size], np.float64)


def nearest_patches(
    queries: Sequence[FloatArray], training: Iterable[FloatArray], device: str | torch.device = "cpu"
) -> NearestPatches:
    """Best normalized cross-correlation of patches of ``queries`` with any place of any training volume.

    Parameters
    ----------
    queries : sequence of ndarray
        Volumes (Z, Y, X) of one shape, filament units, noise-free. Four patches of 16 x 48 x 48 voxels are taken from
        each: central in z, centered on the quarters in y and x (one patch where the volume is narrower than 96 voxels).
    training : iterable of ndarray
        Volumes of one shape, at least as large as a patch; read once, in order.
    device : str
        Where the transforms run.

    Returns
    -------
    NearestPatches

    Raises
    ------
    ShapeError
        If a set is empty, shapes differ within it, or a volume is smaller than a patch or no multiple of (2, 4, 4).
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    Searched: 4 lateral 90-degree turns x lateral flip x axial flip, all shifts at which the patch lies inside the
    training volume, all training volumes. Normalized cross-correlation by FFT (Lewis 1995, "Fast normalized
    cross-correlation"), means and variances by running sums.

    Approximated: the first pass runs on volumes averaged over (2, 4, 4) voxels after a light blur and keeps, for each
    patch, the 16 best pairs of training volume and orientation (their best shift). The second pass repeats the full
    search over shifts on these pairs with volumes averaged over (2, 2, 2), for patches cut at the 8 offsets of one
    voxel, so that a copy shifted by any whole number of voxels meets its original in register. Its best value is
    returned: a correlation at half the resolution, from below, since a pair outside the best 16 is not looked at again.
    """
    banks = [_as_batch(v) for v in queries]
    if not banks:
        raise ShapeError("expected at least one query volume, got none")
    shape = _common_shape(banks)
    starts = _patch_starts(shape)
    coarse_queries = [_orientations(_pool(_cut(_blur(v), s, (0, 0, 0)), COARSE)) for v in banks for s in starts]
    fine_training: list[Tensor] = []
    scores = _coarse_scores(torch.stack(coarse_queries), training, fine_training, torch.device(device))
    correlation = np.full((len(banks), len(starts)), np.nan)
    index = np.full((len(banks), len(starts)), -1, np.int64)
    for row in range(len(banks) * len(starts)):
        query, patch = divmod(row, len(starts))
        if float(_cut(banks[query], starts[patch], (0, 0, 0)).std()) < MIN_SD:
            continue
        order = scores[:, row].flatten().topk(min(CANDIDATES, scores[:, row].numel())).indices.tolist()
        matches = _fine_scores(banks[query], starts[patch], order, fine_training, torch.device(device))
        best = max(range(len(matches)), key=matches.__getitem__)
        correlation[query, patch] = matches[best]
        index[query, patch] = order[best] // NUM_ORIENTATIONS
    return NearestPatches(correlation, index)


def _coarse_scores(patches: Tensor, training: Iterable[FloatArray], fine: list[Tensor], device: torch.device) -> Tensor:
    """Best coarse correlation, (training volumes, query patches, orientations); fills ``fine`` for the second pass."""
    rows: list[Tensor] = []
    transformed: Tensor | None = None
    flat = patches.flatten(0, 1).to(device)  # (Q*P*16, z, y, x)
    for volume in training:
        batch = _as_batch(volume)
        coarse = _pool(_blur(batch.to(device)), COARSE)
        if transformed is None:
            transformed = _transform_patches(flat, coarse.shape)
        elif batch.shape[-3:] != tuple(n * f for n, f in zip(fine[0].shape, FINE, strict=True)):
            raise ShapeError(f"expected training volumes of one shape, got {tuple(batch.shape[-3:])} among others")
        fine.append(_pool(batch, FINE).half())
        rows.append(_best_correlation(transformed, coarse, flat.shape[-3:]).view(patches.shape[:2]).cpu())
    if not rows:
        raise ShapeError("expected at least one training volume, got none")
    return torch.stack(rows)


def _fine_scores(query: Tensor, start: Int3, order: list[int], fine: list[Tensor], device: torch.device) -> list[float]:
    """Best correlation of one patch with each candidate of the first pass at half the resolution."""
    offsets = [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    cuts = torch.stack([_orientations(_pool(_cut(query, start, o), FINE)) for o in offsets]).to(device)  # (8, 16, ...)
    scores = []
    for number in order:
        volume = fine[number // NUM_ORIENTATIONS].float().to(device)
        patches = cuts[:, number % NUM_ORIENTATIONS]
        transformed = _transform_patches(patches, volume.shape)
        scores.append(float(_best_correlation(transformed, volume, patches.shape[-3:]).max()))
    return scores


def _transform_patches(patches: Tensor, shape: Sequence[int]) -> Tensor:
    """Conjugate transforms of zero-mean, unit-norm patches (N, z, y, x), padded to the shape of a training volume."""
    if any(p > n for p, n in zip(patches.shape[-3:], shape, strict=True)):
        raise ShapeError(f"expected training volumes of at least {PATCH} voxels: a patch does not fit")
    result = []
    for chunk in torch.split(patches, _chunk(patches)):
        centered = chunk - chunk.mean(dim=(1, 2, 3), keepdim=True)
        unit = centered / centered.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
        result.append(torch.fft.rfftn(unit, s=list(shape), dim=(1, 2, 3)).conj().resolve_conj())
    return torch.cat(result)


def _best_correlation(transformed: Tensor, volume: Tensor, patch: Sequence[int]) -> Tensor:
    """Largest normalized cross-correlation (N,) of each patch over all shifts inside ``volume`` (z, y, x)."""
    places = [n - p + 1 for n, p in zip(volume.shape, patch, strict=True)]
    centered = volume - volume.mean()
    deviation = _window_deviation(centered, patch)
    # A patch never wraps around at these shifts: the circular correlation is the plain one there.
    inverse = torch.where(deviation > MIN_SD * math.sqrt(math.prod(patch)), 1.0 / deviation.clamp_min(1e-12), 0.0)
    spectrum = torch.fft.rfftn(centered)
    best = []
    for chunk in torch.split(transformed, _chunk(transformed)):
        correlation = torch.fft.irfftn(spectrum * chunk, s=list(volume.shape), dim=(1, 2, 3))
        best.append((correlation[:, : places[0], : places[1], : places[2]] * inverse).amax(dim=(1, 2, 3)))
    return torch.cat(best)


def _window_deviation(volume: Tensor, patch: Sequence[int]) -> Tensor:
    """Root of the sum of squared deviations from the mean in each window of the size of a patch."""
    moments = torch.stack([volume, volume * volume]).double()
    for axis, size in enumerate(patch, start=1):
        sums = torch.cumsum(moments, dim=axis)
        sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], dim=axis)
        moments = sums.narrow(axis, size, sums.shape[axis] - size) - sums.narrow(axis, 0, sums.shape[axis] - size)
    return (moments[1] - moments[0] ** 2 / math.prod(patch)).clamp_min(0.0).sqrt().float()


def _chunk(tensor: Tensor) -> int:
    return _CHUNK.get(tensor.device.type, _LARGE_CHUNK)


def _orientations(patch: Tensor) -> Tensor:
    """All 16 flips and lateral turns of a patch (z, y, x), stacked."""

    def all_of() -> Iterator[Tensor]:
        for turns in range(4):
            turned = torch.rot90(patch, turns, dims=(1, 2))
            for lateral in (turned, turned.flip(2)):
                yield lateral
                yield lateral.flip(0)

    return torch.stack(list(all_of()))


def _as_batch(volume: FloatArray) -> Tensor:
    values = np.ascontiguousarray(volume, dtype=np.float32)
    data = torch.as_tensor(values)
    if data.ndim != 3 or any(n < p for n, p in zip(data.shape, PATCH, strict=True)):
        raise ShapeError(f"expected volumes (Z, Y, X) of at least {PATCH} voxels, got {tuple(data.shape)}")
    if any(n % f for n, f in zip(data.shape, COARSE, strict=True)):
        raise ShapeError(f"expected volume sizes that are multiples of {COARSE}, got {tuple(data.shape)}: crop them")
    check_finite(values)
    return data


def _common_shape(volumes: Sequence[Tensor]) -> Int3:
    shapes = {tuple(v.shape) for v in volumes}
    if len(shapes) != 1:
        raise ShapeError(f"expected query volumes of one shape, got {sorted(shapes)}")
    z, y, x = shapes.pop()
    return z, y, x


def _patch_starts(shape: Int3) -> list[Int3]:
    """Corners of the fixed patches of a volume, multiples of (2, 4, 4) voxels."""

    def along(size: int, patch: int, step: int) -> list[int]:
        centers = (size / 4, 3 * size / 4) if size >= 2 * patch else (size / 2,)
        return [int((c - patch / 2) // step) * step for c in centers]

    z = int((shape[0] - PATCH[0]) / 2 // COARSE[0]) * COARSE[0]
    return [(z, y, x) for y in along(shape[1], PATCH[1], COARSE[1]) for x in along(shape[2], PATCH[2], COARSE[2])]


def _cut(volume: Tensor, start: Int3, offset: Int3) -> Tensor:
    """Patch at ``start + offset``, or ``start - offset`` where that would leave the volume."""
    ends = [n - p for n, p in zip(volume.shape, PATCH, strict=True)]
    z, y, x = (s + o if s + o <= end else max(s - o, 0) for s, o, end in zip(start, offset, ends, strict=True))
    return volume[z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]]


def _pool(volume: Tensor, factor: Int3) -> Tensor:
    return F.avg_pool3d(volume[None, None], factor, factor)[0, 0]


def _blur(volume: Tensor) -> Tensor:
    """Binomial blur (variance 1 voxel axially, 4 laterally): half a coarse voxel of shift must not hide a copy."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=volume.device) / 4
    data = volume[None, None]
    for axis, repeats in ((2, 2), (3, 8), (4, 8)):
        shape = [1, 1, 1, 1, 1]
        shape[axis] = 3
        padding = [0, 0, 0]
        padding[axis - 2] = 1
        for _ in range(repeats):
            spread = [p for axis_padding in reversed(padding) for p in (axis_padding, axis_padding)]
            data = F.conv3d(F.pad(data, spread, mode="replicate"), kernel.view(shape))
    return data[0, 0]
