"""Do traced filaments lie where the true ones are? Centre-line precision, recall and F1, and clDice of masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.polylines import check_lines, pieces_between
from napari_vqldm.metrics.thinning import thin

Float3 = tuple[float, float, float]
BoolArray = npt.NDArray[np.bool_]

TOLERANCE_UM: Float3 = (0.4, 0.2, 0.2)  # half-axes (z, y, x)
STEP_UM = 0.05


@dataclass(frozen=True)
class CentreLineAgreement:
    """Lengths of two sets of filaments and the shares that lie near the other set.

    Attributes
    ----------
    precision : float
        Share of the traced length within tolerance of a true centre line; 0 where nothing was traced.
    recall : float
        Share of the true length within tolerance of a traced line; 0 where there is none.
    traced_um, true_um : float
        Summed lengths.
    """

    precision: float
    recall: float
    traced_um: float
    true_um: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there was nothing to trace and nothing was traced."""
        if self.traced_um == self.true_um == 0.0:
            return 1.0
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total > 0.0 else 0.0


def centre_line_agreement(
    traced: Iterable[npt.ArrayLike], true: Iterable[npt.ArrayLike], tolerance_um: Float3 = TOLERANCE_UM
) -> CentreLineAgreement:
    """Centre-line precision and recall at a tolerance of 0.2 um laterally and 0.4 um axially.

    Parameters
    ----------
    traced, true : iterable of array-like
        Polylines (n, 3), micrometres (z, y, x) from the corner of the volume.
    tolerance_um : tuple of float
        Half-axes (z, y, x) of the ellipsoid within which a point counts as found.

    Returns
    -------
    CentreLineAgreement

    Raises
    ------
    ShapeError
        If a polyline is not (n, 3).
    VolumeError
        If a tolerance is not above 0.

    Notes
    -----
    Both sets are cut into pieces of 0.05 um; each stands for its length at its middle. Bias: a point is not assigned to
    one filament, so one traced line can find two true ones that are closer than the tolerance, and doubled or
    fragmented traces cost nothing: read length density and median length beside it. The tolerance is about the full
    width of a filament at NA 1.4; chance agreement of unrelated lines is about their density
    times the cross-section of the ellipsoid, 0.07 at 0.3 um/um3.
    """
    scale = np.asarray(tolerance_um, np.float64)
    if scale.shape != (3,) or not (scale > 0).all():
        raise VolumeError(f"expected three tolerances above 0 um (z, y, x), got {tolerance_um}")
    (a, a_um), (b, b_um) = (pieces_between(check_lines(lines), STEP_UM) for lines in (traced, true))
    shares = [0.0, 0.0]
    if len(a) and len(b):
        for k, (points, weights, others) in enumerate(((a, a_um, b), (b, b_um, a))):
            distance, _ = cKDTree(others / scale).query(points / scale, distance_upper_bound=1.0 + 1e-9)
            shares[k] = float(weights[np.isfinite(distance)].sum() / weights.sum())
    return CentreLineAgreement(shares[0], shares[1], float(a_um.sum()), float(b_um.sum()))


@dataclass(frozen=True)
class ClDice:
    """Topology-aware overlap of two masks: ``precision`` and ``sensitivity`` of skeletons in the other mask."""

    precision: float
    sensitivity: float
    value: float


def cl_dice(mask: BoolArray, true: BoolArray) -> ClDice:
    """Centre-line Dice of two masks.

    Parameters
    ----------
    mask, true : ndarray
        bool, (Z, Y, X): for example `filament_mask` of a reconstruction and `foreground.tube_mask` of the true
        centre lines.

    Returns
    -------
    ClDice
        In [0, 1]; 1 where both masks are empty, 0 where one is.

    Raises
    ------
    ShapeError
        If the masks are not 3D, not boolean or differ in shape.

    Notes
    -----
    Precision |skel(mask) in true| / |skel(mask)|, sensitivity |skel(true) in mask| / |skel(true)|, and their harmonic
    mean (Shit et al. 2021, arXiv:2003.07311, Eq. 1-2). Skeletons are hard, from `thin` along the ridges of the distance
    to the background. Counted in voxels: a filament across voxels has more of them per um than one along an axis. Bias:
    the tolerance is the width of the masks, so that a wide tube forgives more.
    """
    a, b = np.asarray(mask), np.asarray(true)
    if a.ndim != 3 or a.shape != b.shape or a.dtype != np.bool_ or b.dtype != np.bool_:
        raise ShapeError(
            f"expected two boolean masks (Z, Y, X) of one shape, got {a.shape} {a.dtype} and {b.shape} {b.dtype}"
        )
    if not a.any() or not b.any():
        same = 1.0 if not a.any() and not b.any() else 0.0
        return ClDice(same, same, same)
    precision, sensitivity = float(b[_skeleton(a)].mean()), float(a[_skeleton(b)].mean())
    total = precision + sensitivity
    return ClDice(precision, sensitivity, 2.0 * precision * sensitivity / total if total > 0.0 else 0.0)


def _skeleton(mask: BoolArray) -> BoolArray:
    """Lines one voxel wide in the middle of a mask."""
    # Beyond the border nothing is known: a filament that leaves the volume is as thick there as before.
    depth = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    return thin(mask, depth)
