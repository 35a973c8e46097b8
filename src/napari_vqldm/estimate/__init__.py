"""Memory and time of a job before it starts: `jobs` sums up `parts`, made of `footprint` and `speed` of networks.

Nothing here brings torch: the header of a checkpoint is enough (`Outline`).
"""

from napari_vqldm.estimate.jobs import (
    estimate_camera,
    estimate_encoding,
    estimate_generation,
    estimate_interpolation,
    estimate_previews,
    estimate_reconstruction,
    estimate_sequence,
    estimate_uncertainty,
)
from napari_vqldm.estimate.outline import AnyModel, Outline
from napari_vqldm.estimate.result import Estimate

__all__ = [
    "AnyModel",
    "Estimate",
    "Outline",
    "estimate_camera",
    "estimate_encoding",
    "estimate_generation",
    "estimate_interpolation",
    "estimate_previews",
    "estimate_reconstruction",
    "estimate_sequence",
    "estimate_uncertainty",
]
