"""Light that is not of the filaments in focus: haze, bleaching along z, vignetting.

The clean image is the filaments alone under even light; it is what models learn. The camera is shown
``light * (clean + haze)`` and adds its constant background.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import Float3, Int3
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.cell import Cell
from napari_vqldm.simulate.filaments import FloatArray

EDGE_UM = 0.5  # half-width over which haze falls at membrane and nucleus: it comes from planes above and below, too
_WAVES = 384  # their sum is Gaussian to a few parts in a thousand (excess kurtosis -1.5 / waves)


def smooth_field(
    shape: Int3, voxel_size_um: Float3, correlation_um: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw a Gaussian random field of mean 0 and variance 1.

    A sum of plane waves with Gaussian wave vectors (spectral representation, Shinozuka and Jan, J. Sound Vib. 25, 111,
    1972) is a function of position in um: another voxel size or shape shows the same field, and nothing wraps around.

    Parameters
    ----------
    shape : tuple of int
        Voxels (z, y, x).
    voxel_size_um : tuple of float
        (z, y, x), um.
    correlation_um : float
        The correlation at distance d is exp(-(d / correlation_um)^2).
    rng : Generator
        Source of wave vectors and phases.

    Returns
    -------
    ndarray
        float32 of ``shape``. Mean and variance are those of the ensemble: one window holds few correlation lengths.
    """
    vectors = rng.standard_normal((3, _WAVES)) * (np.sqrt(2.0) / correlation_um)  # 1/um
    phases = rng.uniform(0.0, 2.0 * np.pi, _WAVES)
    z, y, x = (
        np.exp(1j * np.outer((np.arange(n) + 0.5) * size, k)).astype(np.complex64)
        for n, size, k in zip(shape, voxel_size_um, vectors, strict=True)
    )
    z *= (np.sqrt(2.0 / _WAVES) * np.exp(1j * phases)).astype(np.complex64)
    columns = (z[:, None] * y).reshape(-1, _WAVES)  # (z * y, waves)
    # Real part of the product, as two real products.
    field = columns.real @ x.real.T - columns.imag @ x.imag.T
    return np.asarray(field.reshape(shape), dtype=np.float32)


def cytosol(
    cell: Cell | None, shape: Int3, voxel_size_um: Float3, nucleus: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the part of the haze that is left (z, y, x), 0 outside the cell, and how far a voxel is cytosol."""
    if cell is None:
        everywhere = np.ones(shape, dtype=np.float32)
        return everywhere, everywhere
    axes = [(np.arange(n) + 0.5) * size for n, size in zip(shape, voxel_size_um, strict=True)]
    points: FloatArray = np.stack([axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij")])

    def soft(distance: FloatArray) -> npt.NDArray[np.float32]:
        """0 well inside (distance below 0), 1 well outside."""
        outside = 0.5 + 0.5 * np.tanh(distance / EDGE_UM)
        return np.asarray(outside.reshape(shape), dtype=np.float32)

    inside = 1.0 - soft(cell.membrane.distance(points)[0])
    if cell.nucleus is None:
        return inside, inside
    beyond_nucleus = soft(cell.nucleus.distance(points)[0])
    return inside * (nucleus + (1.0 - nucleus) * beyond_nucleus), inside * beyond_nucleus


def haze(
    shape: Int3,
    voxel_size_um: Float3,
    level: float,
    correlation_um: float,
    contrast: float,
    rng: np.random.Generator,
    *,
    cell: Cell | None = None,
    nucleus: float = 1.0,
) -> npt.NDArray[np.float32]:
    """Draw free tubulin and out-of-focus light: log-normal, smooth, never below 0.

    Parameters
    ----------
    shape, voxel_size_um : tuple
        Voxels (z, y, x) and their size, um.
    level : float
        Mean over the cytosol in the window (over the window without a cell), in units of the filament peak; exact.
    correlation_um : float
        Of the logarithm of the field, see `smooth_field`.
    contrast : float
        Standard deviation over mean of the ensemble.
    rng : Generator
        Source of the field.
    cell : Cell, optional
        Its membrane ends the haze, its nucleus dims it.
    nucleus : float
        Part of the level that is left in the nucleus.

    Returns
    -------
    ndarray
        float32 of ``shape``, in units of the filament peak.
    """
    spread = np.float32(np.sqrt(np.log1p(contrast**2)))
    field = np.exp(spread * smooth_field(shape, voxel_size_um, correlation_um, rng))
    left, where = cytosol(cell, shape, voxel_size_um, nucleus)
    weight = float(where.mean(dtype=np.float64))
    if weight < 1e-6:  # no cytosol in sight: there is no mean to scale to
        return np.zeros(shape, dtype=np.float32)
    mean = float((field * where).mean(dtype=np.float64)) / weight
    return np.asarray(left * field * np.float32(level / mean), dtype=np.float32)


def light(shape: Int3, bleaching: float, vignetting: float) -> npt.NDArray[np.float32]:
    """Return the relative brightness (z, y, x) under bleaching and uneven illumination; 1 in the middle of plane 0.

    Parameters
    ----------
    shape : tuple of int
        Voxels (z, y, x); plane 0 is recorded first.
    bleaching : float
        Share lost from the first plane to the last, linear in z.
    vignetting : float
        Share lost from the axis to the lateral corners of the outermost voxels, quadratic in the distance in voxels.

    Raises
    ------
    ConfigError
        If a share is not in [0, 1).
    """
    for name, share in (("bleaching", bleaching), ("vignetting", vignetting)):
        if not 0.0 <= share < 1.0:
            raise ConfigError(f"{name}: expected a share from 0 to below 1, got {share}")
    z, y, x = (np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1) for n in shape)
    half_y, half_x = shape[1] - 1, shape[2] - 1
    corner = max(half_y**2 + half_x**2, 1)
    across = 1.0 - vignetting * ((half_y * y[:, None]) ** 2 + (half_x * x) ** 2) / corner
    along = 1.0 - bleaching * 0.5 * (z + 1.0)
    return np.asarray(along[:, None, None] * across, dtype=np.float32)
