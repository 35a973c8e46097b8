"""`Volume`: a 3D image block that knows the size of its voxels and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import VOXEL_SIZE_RANGE_UM
from napari_vqldm.errors import ConfigError, ShapeError, VolumeError

Float3 = tuple[float, float, float]
Int3 = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """One image block, (Z, Y, X).

    Attributes
    ----------
    data : ndarray
        float32, (Z, Y, X), at least 2 voxels per axis, all finite. Intensities are in the units of the source.
    voxel_size_um : tuple of float
        Voxel size (z, y, x) in micrometres.
    provenance : mapping
        JSON-compatible record of where the data come from; empty when unknown.
    name : str
        Short name for files and layers.

    Raises
    ------
    ShapeError
        If ``data`` is not 3D or an axis is shorter than 2 voxels.
    VolumeError
        If ``data`` holds NaN or infinite values or ``voxel_size_um`` is absurd.
    """

    data: npt.NDArray[np.float32]
    voxel_size_um: Float3
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "volume"

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3:
            raise ShapeError(f"expected a volume with 3 axes (Z, Y, X), got {data.ndim} axes of shape {data.shape}")
        if min(data.shape) < 2:
            raise ShapeError(
                f"expected at least 2 voxels per axis, got shape {data.shape}: this is a 2D image; "
                "open the whole z stack"
            )
        if data.dtype.kind not in "uifb":
            raise VolumeError(f"expected real numbers, got {data.dtype}: take the magnitude or one channel first")
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(data, dtype=np.float32)
        if not np.isfinite(data).all():
            bad = int(data.size - np.isfinite(data).sum())
            raise VolumeError(
                f"expected finite intensities, got {bad} NaN, infinite or float32-overflowing voxels: repair them first"
            )
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "voxel_size_um", check_voxel_size(self.voxel_size_um))

    @property
    def shape(self) -> Int3:
        """Number of voxels (Z, Y, X)."""
        z, y, x = self.data.shape
        return z, y, x

    @property
    def extent_um(self) -> Float3:
        """Edge lengths (z, y, x) in micrometres."""
        z, y, x = (n * s for n, s in zip(self.shape, self.voxel_size_um, strict=True))
        return z, y, x

    def with_data(self, data: npt.NDArray[Any], **changes: Any) -> Volume:
        """Return a copy with other voxels and, where given, other fields."""
        return replace(self, data=data, **changes)


def hash_voxels(volume: Volume) -> str:
    """SHA-256 over shape, voxel size and voxels (float32, little-endian): what a record names a volume by.

    Name and provenance do not count. A round trip through OME-TIFF or OME-Zarr keeps it.
    """
    digest = hashlib.sha256(f"{volume.shape}{volume.voxel_size_um!r}".encode())
    digest.update(np.ascontiguousarray(volume.data, dtype="<f4").data)
    return digest.hexdigest()


def seal(volume: Volume) -> Volume:
    """Return the volume with ``voxels_sha256`` in its record: voxels that are changed later can be told from these."""
    return replace(volume, provenance={**volume.provenance, "voxels_sha256": hash_voxels(volume)})


def check_voxel_size(voxel_size_um: object) -> Float3:
    """Return ``voxel_size_um`` as three floats (z, y, x), or raise `VolumeError` saying what is wrong."""
    try:
        values = tuple(float(v) for v in voxel_size_um)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        values = ()
    low, high = VOXEL_SIZE_RANGE_UM
    if len(values) != 3 or not all(np.isfinite(v) and low <= v <= high for v in values):
        raise VolumeError(
            f"expected a voxel size of three numbers (z, y, x) between {low} and {high} micrometres, "
            f"got {voxel_size_um!r}: give --voxel-size Z Y X"
        )
    return values[0], values[1], values[2]


def check_blur(blur_um: float, shape: Int3, voxel_size_um: Float3) -> None:
    """Refuse a blur before the camera that is wider than the volume: it leaves nothing to see and takes much memory.

    Parameters
    ----------
    blur_um : float
        Standard deviation, um.
    shape : tuple of int
        Voxels (Z, Y, X).
    voxel_size_um : tuple of float
        (z, y, x), the largest that a volume of the request may have.

    Raises
    ------
    ConfigError
        If ``blur_um`` exceeds the shortest edge of the volume.
    """
    edges = [n * size for n, size in zip(shape, voxel_size_um, strict=True)]
    if not blur_um <= min(edges):
        raise ConfigError(
            f"--blur {blur_um:g}: wider than the volume, at most {' x '.join(f'{edge:.3g}' for edge in edges)} um "
            "(z, y, x): give the blur's sigma in micrometres, at most the shortest edge"
        )
