"""Ridge filter: how much a voxel looks like the middle of a bright line, in units of one filament."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_vqldm.metrics.checks import check_finite

Float3 = tuple[float, float, float]

# Standard deviations of the image of a filament at the nominal optics (confocal, NA 1.4): FWHM / 2.355.
LINE_AXIAL_UM = 0.20
LINE_LATERAL_UM = 0.09


def ridge_response(
    volume: npt.NDArray[np.floating], voxel_size_um: Float3, *, axial_um: float, lateral_um: float
) -> npt.NDArray[np.float32]:
    """Negative middle eigenvalue of the scaled Hessian of the smoothed volume; 1 on an isolated in-plane filament.

    Parameters
    ----------
    volume : ndarray
        (Z, Y, X), filament units. A constant background does not matter.
    voxel_size_um : tuple of float
        (z, y, x).
    axial_um, lateral_um : float
        Standard deviations of the smoothing, micrometres.

    Returns
    -------
    ndarray
        float32, (Z, Y, X), 0 where the volume does not bend down in at least two directions.

    Raises
    ------
    ShapeError
        If there is no voxel.
    VolumeError
        If a voxel is not finite.

    Notes
    -----
    A line bends down in both directions across it, a sheet in one only: the middle eigenvalue tells them apart
    (Sato et al. 1998, doi:10.1016/S1361-8415(98)80009-1). Derivatives are multiplied by the expected width of a
    smoothed line per axis, so that the axially longer point spread function does not make filaments look like sheets.
    """
    sigma = [um / size for um, size in zip((axial_um, lateral_um, lateral_um), voxel_size_um, strict=True)]
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        data = np.asarray(volume, np.float32)
    check_finite(data)
    smooth = torch.from_numpy(ndimage.gaussian_filter(data, sigma, mode="nearest", truncate=3.5))
    # Width of the smoothed line per axis, voxels: the unit of length in which its Hessian is isotropic.
    width = (
        math.hypot(LINE_AXIAL_UM, axial_um) / voxel_size_um[0],
        math.hypot(LINE_LATERAL_UM, lateral_um) / voxel_size_um[1],
        math.hypot(LINE_LATERAL_UM, lateral_um) / voxel_size_um[2],
    )
    padded = F.pad(smooth[None, None], (1,) * 6, mode="replicate")[0, 0]

    def shifted(z: int, y: int, x: int) -> Tensor:
        d, h, w = smooth.shape
        return padded[1 + z : 1 + z + d, 1 + y : 1 + y + h, 1 + x : 1 + x + w]

    unit = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    diagonal = [
        (shifted(*u) + shifted(*(-c for c in u)) - 2 * smooth) * width[axis] ** 2 for axis, u in enumerate(unit)
    ]
    response = torch.zeros_like(smooth)
    # Two eigenvalues below zero need a trace below zero or one large positive eigenvalue; the latter is no line.
    bright = sum(diagonal) < 0
    entries = [d[bright] for d in diagonal]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        plus = [a + b for a, b in zip(unit[first], unit[second], strict=True)]
        minus = [a - b for a, b in zip(unit[first], unit[second], strict=True)]
        mixed = (shifted(*plus) + shifted(*(-c for c in plus)) - shifted(*minus) - shifted(*(-c for c in minus))) * (
            0.25 * width[first] * width[second]
        )
        entries.append(mixed[bright])
    response[bright] = (-_middle_eigenvalue(*entries)).clamp_min(0.0)
    # Peak of a unit-peak in-plane line after smoothing; a scaled Gaussian ridge bends by exactly its own height.
    peak = (LINE_AXIAL_UM / math.hypot(LINE_AXIAL_UM, axial_um)) * (
        LINE_LATERAL_UM / math.hypot(LINE_LATERAL_UM, lateral_um)
    )
    result: npt.NDArray[np.float32] = (response / peak).numpy()
    return result


def _middle_eigenvalue(a: Tensor, b: Tensor, c: Tensor, ab: Tensor, ac: Tensor, bc: Tensor) -> Tensor:
    """Middle eigenvalue of symmetric 3x3 matrices with diagonal a, b, c (Smith 1961, doi:10.1145/355578.366316)."""
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    spread = ((a * a + b * b + c * c + 2 * (ab * ab + ac * ac + bc * bc)) / 6).clamp_min(1e-20).sqrt()
    determinant = a * (b * c - bc * bc) - ab * (ab * c - bc * ac) + ac * (ab * bc - b * ac)
    angle = torch.acos((determinant / (2 * spread**3)).clamp(-1.0, 1.0)) / 3
    # Eigenvalues are mean + 2 spread cos(angle + 2 pi k / 3) with angle in [0, pi/3]; k = 2 is the middle one.
    return mean + 2 * spread * torch.cos(angle - 2 * math.pi / 3)
