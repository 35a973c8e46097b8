"""What is excellent, acceptable and poor: limits that were fixed before the models were scored.

Each limit is on a ratio to what another draw of the reference scores, or on a relative error, so that it does not
depend on how many volumes were compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["excellent", "acceptable", "between", "poor", "unknown"]


@dataclass(frozen=True)
class Standard:
    """Limits of one number. ``lower_is_better`` or not; values between acceptable and poor are called ``between``."""

    title: str
    unit: str
    excellent: float
    acceptable: float
    poor: float
    meaning: str

    @property
    def lower_is_better(self) -> bool:
        """Whether small values are good."""
        return self.excellent <= self.poor

    def judge(self, value: float | None) -> Verdict:
        """Say what a value is worth."""
        if value is None or value != value:  # NaN
            return "unknown"
        sign = 1.0 if self.lower_is_better else -1.0
        if sign * value <= sign * self.excellent:
            return "excellent"
        if sign * value <= sign * self.acceptable:
            return "acceptable"
        return "poor" if sign * value > sign * self.poor else "between"


GENERATION: dict[str, Standard] = {
    "frechet_floors": Standard(
        "Frechet distance / floor", "floors", 1.5, 4.0, 10.0,
        "Distance of the whole look, by 64 learned features; 1 is what another set of simulated volumes scores.",
    ),
    "kid_sds": Standard(
        "kernel distance / spread of real", "sd", 1.0, 3.0, 10.0,
        "The same by another distance that few volumes do not bias, over its spread among simulated sets.",
    ),
    "coverage_ratio": Standard(
        "coverage / real", "", 0.95, 0.80, 0.60,
        "Share of the reference's variety that is found in the set; low when kinds of scenes are missing.",
    ),
    "spectrum_lateral_floors": Standard(
        "lateral spectrum / floor", "floors", 1.5, 3.0, 8.0,
        "Sharpness and noise across the plane: blur and too much noise both raise it.",
    ),
    "spectrum_axial_floors": Standard(
        "axial spectrum / floor", "floors", 1.5, 3.0, 8.0, "The same along z."
    ),
    "intensity_w1_floors": Standard(
        "intensity W1 / floor", "floors", 1.5, 3.0, 8.0, "Brightness of background, filaments and crossings."
    ),
    "length_density_error": Standard(
        "length density, relative error", "", 0.05, 0.10, 0.25, "How much filament there is."
    ),
    "median_length_error": Standard(
        "median connected length, relative error", "", 0.05, 0.15, 0.30, "How far filaments go on without a gap."
    ),
    "curvature_error": Standard("mean curvature, relative error", "", 0.05, 0.15, 0.30, "How much filaments bend."),
    "morphology_floors": Standard(
        "Frechet distance of morphology / floor", "floors", 1.5, 3.0, 10.0,
        "Eight filament measurements together, per volume.",
    ),
    "vendi_ratio": Standard(
        "variety (Vendi) / real", "", 0.95, 0.85, 0.70, "Effective number of different volumes; low when they repeat."
    ),
}  # fmt: skip

RECONSTRUCTION: dict[str, Standard] = {
    "psnr_clean_above_gaussian_db": Standard(
        "PSNR to the noise-free truth, above a Gaussian filter", "dB", 3.6, 0.6, -0.9,
        "How near the truth, compared with the best simple smoothing. 0: no better than that.",
    ),
    "noise_gap_db": Standard(
        "PSNR to the input minus the noise ceiling", "dB", 0.3, 1.0, 3.0,
        "Absolute value. Far below 0: detail is lost. Above 0: noise is copied.",
    ),
    "ssim": Standard("SSIM 3D to the truth", "", 0.985, 0.96, 0.95, "Local structure."),
    "ms_ssim": Standard("MS-SSIM 3D to the truth", "", 0.995, 0.98, 0.96, "Structure over three scales."),
    "cutoff_lateral": Standard("lateral resolution kept", "", 1.0, 0.85, 0.70, "FRC cut-off over that of the input."),
    "cutoff_axial": Standard("axial resolution kept", "", 1.0, 0.85, 0.70, "FSC cut-off over that of the input."),
    "f1_ratio": Standard(
        "centre-line F1 / that of the truth's image", "", 0.95, 0.88, 0.75, "What a tracer finds in it."
    ),
}  # fmt: skip
