"""What the measures in frequency space share: the window and the weights of a half spectrum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def hann(size: int) -> npt.NDArray[np.float64]:
    """Hann window of ``size`` samples without its zeros, so that the first and last sample count a little."""
    window: npt.NDArray[np.float64] = np.hanning(size + 2)[1:-1]
    return window


def half_spectrum_weight(shape: tuple[int, ...], width: int) -> npt.NDArray[np.float64]:
    """How many frequencies each entry of a real transform stands for.

    Parameters
    ----------
    shape : tuple of int
        Of the half spectrum, (..., width // 2 + 1).
    width : int
        Samples along the last axis before the transform.

    Returns
    -------
    ndarray
        ``shape``: 2, but 1 in the first column and, for an even width, in the last: those are their own mirror images.
    """
    weight = np.full(shape, 2.0)
    weight[..., 0] = 1.0
    if width % 2 == 0:
        weight[..., -1] = 1.0
    return weight
