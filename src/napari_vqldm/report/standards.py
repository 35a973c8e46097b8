"""What is excellent, acceptable and poor: limits that were fixed before the models were scored.

Generated sets are judged by how clearly they are told from another draw of the reference, in standard deviations of
such draws. More volumes tell smaller differences: verdicts of different settings cannot be compared, the distances and
relative differences beside them can. Reconstructions are judged by absolute numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["excellent", "acceptable", "between", "poor", "too near", "unknown", "no verdict"]
RANKS: dict[Verdict, int] = {"excellent": 0, "acceptable": 1, "between": 2, "poor": 3, "too near": 3}

BLURRED, SCRAMBLED, REPEATED, NOISE = "blurred", "phases scrambled", "an eighth, repeated", "noise only"
KNOWN_BAD = (BLURRED, SCRAMBLED, REPEATED, NOISE)  # rows of sets that are wrong on purpose
NO_VERDICT = "does not tell the known-bad sets from real ones here"

TOO_NEAR_SDS = -4.0  # no other draw of the reference comes that near: too uniform a set, or copies of it


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
        if self.unit == "sd" and value < TOO_NEAR_SDS:
            return "too near"
        sign = 1.0 if self.lower_is_better else -1.0
        if sign * value <= sign * self.excellent:
            return "excellent"
        if sign * value <= sign * self.acceptable:
            return "acceptable"
        return "poor" if sign * value > sign * self.poor else "between"


def blind_numbers(verdicts: Mapping[str, Mapping[str, Verdict]], real_name: str) -> list[str]:
    """Return the numbers on which no known-bad set looks worse than another draw of the reference.

    A verdict on such a number means nothing: it would call a blurred, scrambled or empty set as good as a real one. One
    known-bad set that is told is enough to keep it. Rows without a verdict (``unknown``) do not count; where the real
    row has none, or no known-bad row, nothing is withheld.

    Parameters
    ----------
    verdicts : mapping
        By row, then by number.
    real_name : str
        The row of another draw of the reference.
    """
    bad = [verdicts[name] for name in KNOWN_BAD if name in verdicts]
    blind = []
    for number, real in verdicts.get(real_name, {}).items():
        ranks = [RANKS[row[number]] for row in bad if row[number] in RANKS]
        if ranks and real in RANKS and max(ranks) <= RANKS[real]:
            blind.append(number)
    return blind


def _told_apart(title: str, meaning: str) -> Standard:
    """How clearly a set is told from another draw of the reference, in standard deviations of such draws."""
    return Standard(title, "sd", 2.0, 5.0, 15.0, meaning)


GENERATION: dict[str, Standard] = {
    "frechet_sds": _told_apart("Frechet distance", "the whole look, by 64 learned features"),
    "kid_sds": _told_apart("kernel distance", "the same by another distance"),
    "coverage_sds": _told_apart("coverage", "share of the reference's variety that is found in the set"),
    "vendi_ratio_sds": _told_apart("variety (Vendi)", "effective number of different volumes"),
    "spectrum_lateral_db_sds": _told_apart("lateral spectrum", "sharpness and noise across the plane"),
    "spectrum_axial_db_sds": _told_apart("axial spectrum", "the same along z"),
    "intensity_w1_sds": _told_apart("intensity W1", "brightness of background, filaments and crossings"),
    "length_density_sds": _told_apart("length density", "how much filament there is"),
    "median_length_sds": _told_apart("median connected length", "how far filaments go on without a gap"),
    "curvature_sds": _told_apart("mean curvature", "how much filaments bend"),
    "morphology_frechet_sds": _told_apart("morphology", "eight filament measurements together, per volume"),
}

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
