"""The verbs `residual` and `compare`: a reconstruction beside its input."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ShapeError, VqldmError
from napari_vqldm.files.provenance import describe_input, make_provenance
from napari_vqldm.metrics.distribution import Spectrum, lateral_spectrum
from napari_vqldm.metrics.fidelity import pearson, unit_range
from napari_vqldm.metrics.noise import NoiseEstimate, estimate_noise
from napari_vqldm.metrics.ssim import num_ssim3d_steps, ssim3d_steps
from napari_vqldm.volume import Volume, seal

_NUM_PARTS = 6  # steps beside those of SSIM, as `_parts` yields them


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a reconstruction differs from its input. Peak of every PSNR: the p0.1-p99.9 range of the input.

    Attributes
    ----------
    is_identical : bool
        Whether all voxels are equal.
    psnr_db : float or None
        See `napari_vqldm.metrics.fidelity.psnr_unit_range`; infinite for identical volumes.
    ssim : float or None
        See `napari_vqldm.metrics.ssim.ssim3d_unit_range`; 1 for identical volumes.
    pearson : float
        Correlation of all voxels; 1 for identical volumes, else 0 where one of them is constant. NaN from
        `not_compared`.
    mean_absolute_error : float
        Units of the input; NaN from `not_compared`.
    psnr_per_z_db : ndarray or None
        (Z,), PSNR of each plane with the range of the whole input; infinite where a plane is identical.
    spectrum, reconstruction_spectrum : Spectrum or None
        Radially averaged power over lateral frequency, cycles/um, of the input and of the reconstruction.
    noise : NoiseEstimate
        Noise found in the input.
    noise_ceiling_db : float or None
        PSNR that a perfect noise-free reconstruction would have against this input: the range over the estimated noise.
        A PSNR above it means that noise was copied.
    missing : dict
        Name of each number that is None to the reason.
    """

    is_identical: bool
    psnr_db: float | None
    ssim: float | None
    pearson: float
    mean_absolute_error: float
    psnr_per_z_db: npt.NDArray[np.float64] | None
    spectrum: Spectrum | None
    reconstruction_spectrum: Spectrum | None
    noise: NoiseEstimate
    noise_ceiling_db: float | None
    missing: dict[str, str]

    @property
    def is_measured(self) -> bool:
        """Whether the volumes were compared at all; False from `not_compared`."""
        return not np.isnan(self.mean_absolute_error)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, lists and text; infinite PSNR stays infinite."""
        spectra = {"spectrum": self.spectrum, "reconstruction_spectrum": self.reconstruction_spectrum}
        return {
            "is_identical": self.is_identical,
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "pearson": self.pearson,
            "mean_absolute_error": self.mean_absolute_error,
            "noise_ceiling_db": self.noise_ceiling_db,
            "noise_sd": self.noise.mean_sd if self.noise.is_measurable else None,
            "psnr_per_z_db": None if self.psnr_per_z_db is None else self.psnr_per_z_db.tolist(),
            **{
                name: None
                if spectrum is None
                else {"frequency_per_um": spectrum.frequency_per_um.tolist(), "power": spectrum.power.tolist()}
                for name, spectrum in spectra.items()
            },
            "missing": dict(self.missing),
        }


@dataclass(frozen=True, eq=False)
class ComparisonStep:
    """One step of ``total``; the last one holds the result."""

    index: int
    total: int
    result: Comparison | None


def residual(volume: Volume, reconstruction: Volume) -> Volume:
    """Subtract a reconstruction from its input.

    Parameters
    ----------
    volume, reconstruction : Volume
        The input and its reconstruction, on one grid and in the same units.

    Returns
    -------
    Volume
        ``volume - reconstruction``, units of ``volume``: positive where the reconstruction lacks signal.

    Raises
    ------
    ShapeError
        If shapes or voxel sizes differ.
    """
    _check_grids(volume, reconstruction)
    provenance = make_provenance(
        "residual",
        environment=describe_environment("cpu"),
        **describe_input(volume),
        **describe_input(reconstruction, "reconstruction"),
        name=volume.name,
    )
    data = volume.data - reconstruction.data
    return seal(Volume(data, volume.voxel_size_um, provenance, f"{volume.name}-residual"))


def compare(volume: Volume, reconstruction: Volume) -> Comparison:
    """Compare a reconstruction with its input.

    Parameters
    ----------
    volume, reconstruction : Volume
        The input and its reconstruction, on one grid and in the same units.

    Returns
    -------
    Comparison
        What cannot be told of these volumes is None there, with the reason in ``missing``.

    Raises
    ------
    ShapeError
        If shapes or voxel sizes differ.
    """
    result = None
    for step in compare_steps(volume, reconstruction):
        result = step.result
    if result is None:  # compare_steps ends with a result or raises
        raise VqldmError("expected a comparison, got none")
    return result


def compare_steps(volume: Volume, reconstruction: Volume) -> Iterator[ComparisonStep]:
    """Compare a reconstruction with its input in small steps: `compare` for callers that show progress or cancel.

    Beside both volumes it takes about 6 bytes a voxel, and up to 140 MiB for the noise, which is looked for in at most
    4 million voxels (or 8 planes, where these are more).

    Yields
    ------
    ComparisonStep
        `num_comparison_steps` of them, fewer where a number is not defined.

    Raises
    ------
    ShapeError
        If shapes or voxel sizes differ.
    """
    _check_grids(volume, reconstruction)
    total = num_comparison_steps(volume.shape)
    for index, result in enumerate(_parts(volume, reconstruction)):
        yield ComparisonStep(index if result is None else total - 1, total, result)


def num_comparison_steps(shape: Sequence[int]) -> int:
    """Return the ``total`` of `compare_steps` for volumes of this shape (Z, Y, X)."""
    return _NUM_PARTS + num_ssim3d_steps(shape)


def not_compared(reason: str) -> Comparison:
    """Return a comparison in which nothing was measured, with the reason for all numbers."""
    names = ("psnr_db", "ssim", "psnr_per_z_db", "spectrum", "reconstruction_spectrum", "noise_ceiling_db")
    return Comparison(
        is_identical=False,
        psnr_db=None,
        ssim=None,
        pearson=float("nan"),
        mean_absolute_error=float("nan"),
        psnr_per_z_db=None,
        spectrum=None,
        reconstruction_spectrum=None,
        noise=NoiseEstimate(0.0, 0.0, 0.0, reason),
        noise_ceiling_db=None,
        missing=dict.fromkeys(names, reason),
    )


def _parts(volume: Volume, reconstruction: Volume) -> Generator[Comparison | None, None, None]:
    """Measure one thing after the other, with a pause after each; the result comes last."""
    missing: dict[str, str] = {}

    def measured(names: tuple[str, ...], measure: Callable[[], Any]) -> Any:
        """Measure, or note under each of ``names`` why that is impossible."""
        try:
            return measure()
        except VqldmError as error:
            missing.update(dict.fromkeys(names, str(error)))
            return None

    a, b = volume.data, reconstruction.data
    is_identical = bool(np.array_equal(a, b))
    limits = measured(("psnr_db", "psnr_per_z_db"), lambda: unit_range(a))
    yield None
    squares, absolute = _errors_per_plane(a, b)
    yield None
    psnr: float | None
    ssim: float | None = None
    per_z: npt.NDArray[np.float64] | None
    if is_identical:  # also where the range of the input is nothing
        missing.clear()
        per_z, psnr, ssim = np.full(len(a), np.inf), float("inf"), 1.0
    else:
        per_z = None if limits is None else _decibel(squares, limits)
        psnr = None if limits is None else float(_decibel(squares.mean(keepdims=True), limits)[0])
        try:
            ssim = yield from ssim3d_steps(b, a)
        except VqldmError as error:
            missing["ssim"] = str(error)
    noise = estimate_noise(a)
    yield None
    if noise.reason is not None:
        missing["noise_ceiling_db"] = noise.reason
    elif limits is None:
        missing["noise_ceiling_db"] = "the input has no range"
    has_ceiling = noise.is_measurable and limits is not None
    correlation = 1.0 if is_identical else pearson(b, a)
    yield None
    spectrum = measured(("spectrum",), lambda: lateral_spectrum([a], volume.voxel_size_um))
    yield None
    other = measured(("reconstruction_spectrum",), lambda: lateral_spectrum([b], volume.voxel_size_um))
    yield Comparison(
        is_identical=is_identical,
        psnr_db=psnr,
        ssim=ssim,
        pearson=correlation,
        mean_absolute_error=float(absolute.mean()),
        psnr_per_z_db=per_z,
        spectrum=spectrum,
        reconstruction_spectrum=other,
        noise=noise,
        noise_ceiling_db=float(_decibel(np.array([noise.mean_variance]), limits)[0]) if has_ceiling else None,
        missing=missing,
    )


def _check_grids(volume: Volume, reconstruction: Volume) -> None:
    if volume.shape != reconstruction.shape:
        raise ShapeError(
            f"expected two volumes of one shape, got {volume.shape} and {reconstruction.shape} voxels: give the stack "
            "that was reconstructed, or crop both to one box"
        )
    if not np.allclose(volume.voxel_size_um, reconstruction.voxel_size_um, rtol=1e-3, atol=0.0):
        raise ShapeError(
            f"expected two volumes of one voxel size, got {volume.voxel_size_um} and {reconstruction.voxel_size_um} um "
            "(z, y, x): give the stack that was reconstructed"
        )


def _errors_per_plane(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean squared and mean absolute error of each plane, (Z,); one plane at a time in float64."""
    differences = (x.astype(np.float64) - y for x, y in zip(a, b, strict=True))
    errors = [(float(np.mean(d**2)), float(np.mean(np.abs(d)))) for d in differences]
    squares, absolute = np.array(errors).T
    return squares, absolute


def _decibel(squares: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """PSNR of mean squared errors; infinite where there is none."""
    low, high = limits
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(squares / (high - low) ** 2)
