"""Features of many volumes, one after another, on the device of the extractor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from napari_vqldm.coding import exact_math
from napari_vqldm.metrics.features import FeatureExtractor
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array

GPU_BATCH = 32  # windows at once


def featured(
    volumes: Iterable[Array], extractor: FeatureExtractor, at_once: int | None = None
) -> Iterator[tuple[Array, npt.NDArray[np.float32]]]:
    """Yield every window (32, 128, 128) with its features (64,), as they leave the network.

    ``at_once`` volumes are read ahead; where it is not given, 1 on the CPU, so that no bit depends on the neighbours,
    and 32 on a GPU, in true float32: its features are those of the CPU up to rounding.
    """
    size = at_once or (1 if extractor.device.type == "cpu" else GPU_BATCH)
    source = iter(volumes)
    while batch := list(islice(source, size)):
        with exact_math(extractor.device, "fp32"):
            rows = extractor(batch, VOXEL_SIZE_UM)
        yield from zip(batch, rows, strict=True)
