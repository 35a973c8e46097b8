"""The unit of features: standard deviations over the extractor split of MT-Sim v1, standard tier.

Whitening by the set that is compared needs several hundred volumes; with fewer it measures that set's own accidents.
This one is fixed with the version of the extractor.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from napari_vqldm.errors import CheckpointError
from napari_vqldm.metrics.features import DATA
from napari_vqldm.metrics.frechet import Whitening, whitening

REGULARIZATION = 1e-2  # of the mean eigenvalue: directions in which simulated volumes hardly vary must not rule


def unit_file(version: str) -> Path:
    """Return the file of a version."""
    return DATA / f"{version}-unit.safetensors"


def measure_unit(features: np.ndarray) -> Whitening:
    """Return the unit that features (n, 64) of many simulated volumes define."""
    return whitening(features, REGULARIZATION)


def save_unit(unit: Whitening, path: Path) -> None:
    """Write a unit, float32."""
    save_file({"mean": unit.mean.astype(np.float32), "matrix": unit.matrix.astype(np.float32)}, path)


@lru_cache(maxsize=4)
def load_unit(version: str) -> Whitening:
    """Read the unit of a released version.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    path = unit_file(version)
    try:
        tensors = load_file(path)
        mean, matrix = tensors["mean"].astype(np.float64), tensors["matrix"].astype(np.float64)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot read the unit of the features ({error}): reinstall the package"
        ) from None
    return Whitening(mean, matrix)
