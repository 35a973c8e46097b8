"""Memory and time of a job before it starts: `jobs` sums up `parts`, made of `footprint` and `speed` of networks."""

from napari_vqldm.estimate.jobs import (
    Estimate,
    estimate_camera,
    estimate_encoding,
    estimate_generation,
    estimate_interpolation,
    estimate_reconstruction,
    estimate_sequence,
    estimate_uncertainty,
)

__all__ = [
    "Estimate",
    "estimate_camera",
    "estimate_encoding",
    "estimate_generation",
    "estimate_interpolation",
    "estimate_reconstruction",
    "estimate_sequence",
    "estimate_uncertainty",
]
