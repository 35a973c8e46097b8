"""What every volume must be before it is measured: voxels, and all of them finite.

One NaN makes some numbers NaN, leaves others 0 and lets the tracer find filaments that are not there: no measure takes
it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError, VolumeError

FloatArray = npt.NDArray[np.floating]


def check_finite(values: FloatArray, name: str = "volume") -> None:
    """Refuse a volume without voxels, or with NaN or infinity in one of them.

    Parameters
    ----------
    values : ndarray
        Any shape and unit.
    name : str
        What the message calls it.

    Raises
    ------
    ShapeError
        If there is no voxel.
    VolumeError
        If a voxel is NaN or infinite.
    """
    array = np.asarray(values)
    if not array.size:
        raise ShapeError(f"{name}: expected at least one voxel, got shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        raise VolumeError(
            f"{name}: expected finite intensities, got NaN or infinity in {array.size - int(finite.sum())} of "
            f"{array.size} voxels: repair them or crop them away"
        )


def check_pair(volume: FloatArray, reference: FloatArray) -> None:
    """Refuse two volumes that cannot be compared voxel by voxel.

    Raises
    ------
    ShapeError
        If the shapes differ or there is no voxel.
    VolumeError
        If a voxel of either is NaN or infinite.
    """
    if np.shape(volume) != np.shape(reference):
        raise ShapeError(
            f"expected two volumes of one shape, got {np.shape(volume)} and {np.shape(reference)}: crop or resample one"
        )
    check_finite(volume)
    check_finite(reference, "reference")
