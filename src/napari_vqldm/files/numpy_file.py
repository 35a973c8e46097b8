"""Read `.npy` arrays. They carry no voxel size and no axis names: the user states both."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from napari_vqldm.errors import FileError
from napari_vqldm.files.stack import Stack


def read_npy(path: Path) -> Stack:
    """Describe a `.npy` array: (Z, Y, X), or more axes in the order T, C, Z, Y, X with an explicit choice.

    Raises
    ------
    FileError
        If the file is truncated, no `.npy` file, or holds Python objects, which are never unpickled.
    """
    try:
        # Memory mapping checks the header against the file length before any memory is taken.
        data = np.lib.format.open_memmap(path, mode="r") if path.stat().st_size else None
    except (ValueError, EOFError, OSError, SyntaxError, OverflowError, TypeError, TokenError) as error:
        if "Python objects" in str(error):
            raise FileError(f"{path}: holds Python objects, which are never opened: save plain numbers") from None
        if "empty file" in str(error) or "requested size" in str(error):
            raise FileError(f"{path}: the array is empty") from None
        raise FileError(
            f"{path}: truncated or damaged .npy file: copy the file again, or save the array again with numpy.save"
        ) from error
    if data is None:
        raise FileError(f"{path}: the file is empty")
    if data.ndim < 2:
        raise FileError(f"{path}: expected a volume (Z, Y, X), got {data.ndim} axes of shape {data.shape}")
    # A last axis of 3 or 4 behind three others is color.
    colored = data.ndim > 3 and data.shape[-1] in (3, 4)
    axes = "Q" * (data.ndim - 3) + "YXS" if colored else "Q" * (data.ndim - 2) + "YX"
    return Stack(
        axes=axes, shape=data.shape, dtype=data.dtype, read=lambda index: np.array(data[index]), format="NumPy"
    )
