"""MicroMS3IM of volumes, plane by plane, with the optional package microssim."""

from __future__ import annotations

from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO

import numpy as np

from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_pair
from napari_vqldm.metrics.fidelity import FloatArray
from napari_vqldm.metrics.ssim import MS_WEIGHTS

MIN_SIDE = 41  # three scales of its 11 voxel window need more than 10 * (3 - 1)^2 voxels


def micro_ms3im_slice_mean(volume: FloatArray, reference: FloatArray) -> float:
    """Mean over planes of MicroMS3IM, the multi-scale similarity that ignores offset and gain.

    Parameters
    ----------
    volume, reference : ndarray
        (Z, Y, X), at least 41 voxels along y and x.

    Returns
    -------
    float
        At most 1; planes in which the reference is constant are left out.

    Raises
    ------
    ConfigError
        If microssim is not installed.
    ShapeError
        If the shapes differ or the planes are too small.
    VolumeError
        If a voxel is not finite or no plane of the reference has contrast.

    Notes
    -----
    Background (3rd percentile), maximum and scale factor are fitted once on all planes of the pair, then each plane is
    scored at three scales with weights 0.3, 0.3, 0.4 instead of the package's five, which need planes of 161 voxels.
    Source: Ashesh, Deschamps and Jug 2024, arXiv:2408.08747. Bias: a reconstruction with the wrong gain or offset is
    not punished, and planes are judged one by one, so that errors along z go unseen.
    """
    check_pair(volume, reference)
    shape = np.shape(reference)
    if len(shape) != 3 or min(shape[1:]) < MIN_SIDE:
        raise ShapeError(
            f"expected volumes (Z, Y, X) with planes of at least {MIN_SIDE} x {MIN_SIDE} voxels, got shape {shape}"
        )
    try:
        metric = import_module("microssim").MicroMS3IM()
    except ImportError:
        raise ConfigError("MicroMS3IM needs the package microssim: pip install microssim") from None
    predicted, truth = np.asarray(volume, np.float64), np.asarray(reference, np.float64)
    if np.ptp(truth) == 0.0:
        raise VolumeError("expected a reference that is not constant: such a volume has no structure to compare")
    # The package draws a progress bar per fit, and takes roots of variances that rounding has made negative.
    with redirect_stderr(StringIO()), np.errstate(invalid="ignore"):
        metric.fit(truth, predicted)
        scores = [
            float(metric.score(t, p, betas=MS_WEIGHTS))
            for t, p in zip(truth, predicted, strict=True)
            if np.ptp(t) > 0.0
        ]
    return float(np.mean(scores))
