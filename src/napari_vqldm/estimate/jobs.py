"""How much memory and time a job takes, told before it starts.

Memory comes from the shapes of all arrays, time from the speed of the model: that of a `SelfTest` of this
machine, or, without one, guessed from the number of operations and said to be rough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from napari_vqldm.config import CameraConfig, Int3
from napari_vqldm.errors import ConfigError
from napari_vqldm.estimate.outline import AnyModel, Outline, outline_of
from napari_vqldm.estimate.parts import (
    Cost,
    camera_cost,
    comparison_cost,
    decoding_cost,
    encoding_cost,
    intensity_cost,
    noise_cost,
    preview_cost,
    redraw_cost,
    sampling_cost,
    spread_cost,
    together,
)
from napari_vqldm.estimate.result import Estimate, tell
from napari_vqldm.estimate.speed import Speed, speed_of
from napari_vqldm.memory import available_bytes
from napari_vqldm.sampling_plan import Sampling, check_sampling
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Float3, check_voxel_size

if TYPE_CHECKING:
    from napari_vqldm.coding import Precision
    from napari_vqldm.self_test import SelfTest


def estimate_generation(
    model: AnyModel,
    count: int = 1,
    shape: Int3 | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance_scale: float | None = None,
    camera: CameraConfig | None = None,
    batch: int | None = None,
    precision: Precision = "fp32",
    *,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.generate`.

    Parameters
    ----------
    model, count, shape, steps, sampler, guidance_scale, camera, batch, precision
        As in `generate`, with its defaults and errors.
    self_test : SelfTest, optional
        Of this model on this machine, device and number of threads. None: the time is rough.
    """
    if count < 1 or (batch is not None and batch < 1):
        raise ConfigError(f"expected count and batch of 1 or more, got {count} and {batch}")
    outline = outline_of(model)
    sampling = _sampling(outline, shape, steps, sampler, guidance_scale, camera, precision)
    speed = speed_of(outline, precision, self_test)
    parts = [sampling_cost(outline, sampling, count, speed, batch), _window_decoding(outline, precision, count, speed)]
    if camera is not None:
        parts.append(camera_cost(sampling.shape, speed) * count)
    return _estimate(outline, parts, 4 * count * math.prod(sampling.shape), speed)


def estimate_encoding(
    model: AnyModel,
    shape: Int3,
    voxel_size_um: Float3,
    max_voxels: int = MAX_VOXELS,
    *,
    is_intensity_given: bool = False,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.encode` of a stack (Z, Y, X) with this voxel size; see `estimate_reconstruction`."""
    outline = outline_of(model)
    speed = speed_of(outline, "fp32", self_test)
    parts = [encoding_cost(outline, shape, check_voxel_size(voxel_size_um), max_voxels, speed)]
    if not is_intensity_given:
        parts.append(intensity_cost(shape, speed))
    return _estimate(outline, parts, 0, speed)


def estimate_reconstruction(
    model: AnyModel,
    shape: Int3,
    voxel_size_um: Float3,
    max_voxels: int = MAX_VOXELS,
    *,
    frames: int = 1,
    is_intensity_given: bool = False,
    is_compared: bool = False,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.reconstruct`: intensity, voxel size, tiles with their halo, and the way back.

    Parameters
    ----------
    model : Model or Outline
        From `load`, or `Outline.of_header` before anything is loaded.
    shape, voxel_size_um : tuple
        Grid (Z, Y, X) and voxel size (z, y, x), um, of the stack.
    max_voxels : int
        As in `reconstruct`.
    frames : int
        So many stacks one after the other, whose results are all kept.
    is_intensity_given : bool
        No background and brightness have to be estimated.
    is_compared : bool
        Each result is compared with its stack (`napari_vqldm.compare`).
    self_test : SelfTest, optional
        Of this model on this machine. None: the time is rough.

    Returns
    -------
    Estimate

    Raises
    ------
    VolumeError
        If the voxel size is absurd.
    """
    outline = outline_of(model)
    speed = speed_of(outline, "fp32", self_test)
    sizes = check_voxel_size(voxel_size_um)
    parts = [cost(outline, shape, sizes, max_voxels, speed) * frames for cost in (encoding_cost, decoding_cost)]
    if not is_intensity_given:
        parts.append(intensity_cost(shape, speed) * frames)
    if is_compared:
        parts.append(comparison_cost(shape) * frames)
    return _estimate(outline, parts, 4 * (frames - 1) * math.prod(shape), speed)


def estimate_uncertainty(
    model: AnyModel,
    shape: Int3,
    voxel_size_um: Float3,
    draws: int = 8,
    kind: str = "noise",
    max_voxels: int = MAX_VOXELS,
    *,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.uncertainty`; the other parameters are as in `estimate_reconstruction`.

    Raises
    ------
    ConfigError
        If there are fewer than 2 draws or ``kind`` is unknown.
    """
    if draws < 2 or kind not in ("noise", "posterior"):
        raise ConfigError(f"expected 2 draws or more of kind noise or posterior, got {draws} and {kind!r}")
    outline = outline_of(model)
    speed = speed_of(outline, "fp32", self_test)
    sizes = check_voxel_size(voxel_size_um)
    sums, stack = 16 * math.prod(shape), 4 * math.prod(shape)
    encode = encoding_cost(outline, shape, sizes, max_voxels, speed)
    decode = decoding_cost(outline, shape, sizes, max_voxels, speed) * draws
    first, held = [intensity_cost(shape, speed)], sums
    if kind == "noise":
        first.append(noise_cost(shape))
        encode, held = together([redraw_cost(shape), encode]) * draws, sums + stack
    later = together([encode, decode, spread_cost(shape) * draws])
    return _estimate(outline, [*first, later.holding(held)], 0, speed)


def estimate_interpolation(
    model: AnyModel,
    frames: int,
    shape: Int3 | None = None,
    voxel_size_um: Float3 | None = None,
    *,
    max_voxels: int = MAX_VOXELS,
    is_kept: bool = True,
    steps: int | None = None,
    sampler: str | None = None,
    guidance_scale: float | None = None,
    precision: Precision = "fp32",
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.interpolate` with ``frames`` values of t.

    Parameters
    ----------
    model : Model or Outline
        From `load`, or `Outline.of_header` before anything is loaded.
    frames : int
        How many volumes.
    shape, voxel_size_um : tuple, optional
        Of the stacks behind two latents. None: between two seeds, each frame is sampled.
    max_voxels : int
        Between latents, as in `interpolate`.
    is_kept : bool
        Whether all volumes are kept; False where each is written to a file and let go.
    steps, sampler, guidance_scale, precision : optional
        Between seeds, as in `generate`.
    self_test : SelfTest, optional
        Of this model on this machine. None: the time is rough.

    Raises
    ------
    ConfigError
        If ``frames`` is below 1, one of shape and voxel size is missing, or an argument does not fit.
    """
    if frames < 1 or (shape is None) != (voxel_size_um is None):
        raise ConfigError(f"expected frames of 1 or more, and shape with voxel size or neither, got {frames}, {shape}")
    outline = outline_of(model)
    if shape is not None and voxel_size_um is not None:
        speed = speed_of(outline, "fp32", self_test)
        part = decoding_cost(outline, shape, check_voxel_size(voxel_size_um), max_voxels, speed) * frames
        return _estimate(outline, [part], 4 * (frames - 1) * math.prod(shape) * is_kept, speed)
    speed = speed_of(outline, precision, self_test)
    sampling = _sampling(outline, None, steps, sampler, guidance_scale, None, precision)
    parts = [sampling_cost(outline, sampling, frames, speed, 1), _window_decoding(outline, precision, frames, speed)]
    kept = frames if is_kept else 1
    return _estimate(outline, parts, 4 * kept * math.prod(outline.config.window), speed)


def estimate_previews(
    model: AnyModel, frames: int, shape: Int3, voxel_size_um: Float3, *, self_test: SelfTest | None = None
) -> Estimate:
    """Estimate rough pictures of frames between two latents, by a `LinearDecoder` that is fitted; all are kept.

    The parameters are as in `estimate_interpolation`.
    """
    outline = outline_of(model)
    speed = speed_of(outline, "fp32", self_test)
    part = preview_cost(outline, shape, check_voxel_size(voxel_size_um), speed) * frames
    return _estimate(outline, [part], 4 * (frames - 1) * math.prod(shape), speed)


def estimate_camera(model: AnyModel, shape: Int3, *, self_test: SelfTest | None = None) -> Estimate:
    """Estimate `napari_vqldm.record` of a noise-free volume (Z, Y, X); a wide extra blur takes longer."""
    outline = outline_of(model)
    speed = speed_of(outline, "fp32", self_test)
    return _estimate(outline, [camera_cost(shape, speed)], 0, speed)


def estimate_sequence(model: AnyModel, estimates: Sequence[Estimate]) -> Estimate:
    """Estimate jobs with one model that run one after the other: the time of all, the most memory of one.

    Results of earlier jobs, which wait meanwhile, are not counted.

    Raises
    ------
    ConfigError
        If there are no jobs.
    """
    if not estimates:
        raise ConfigError("expected one estimate or more, got none")
    return _told(
        outline_of(model),
        max(estimate.memory_bytes for estimate in estimates),
        max(estimate.main_memory_bytes for estimate in estimates),
        sum(estimate.seconds for estimate in estimates),
        all(estimate.is_measured for estimate in estimates),
    )


def _sampling(
    outline: Outline,
    shape: Int3 | None,
    steps: int | None,
    sampler: str | None,
    guidance_scale: float | None,
    camera: CameraConfig | None,
    precision: Precision,
) -> Sampling:
    return check_sampling(outline.config, outline.name, shape, steps, sampler, guidance_scale, camera, precision)


def _window_decoding(outline: Outline, precision: Precision, count: int, speed: Speed) -> Cost:
    """Decode ``count`` windows one after the other."""
    window = outline.config.window
    low, _ = outline.config.voxel_size_range_um
    return decoding_cost(outline, window, low, MAX_VOXELS, speed, precision) * count


def _estimate(outline: Outline, parts: Iterable[Cost], kept: int, speed: Speed) -> Estimate:
    """Sum up parts that run one after the other while ``kept`` bytes of results wait."""
    total, weights = together(parts).holding(kept), outline.weights_bytes
    if outline.kind == "cpu":
        needed = total.main_bytes + weights
        return _told(outline, needed, needed, total.seconds, speed.is_measured)
    return _told(outline, total.device_bytes + weights, total.main_bytes, total.seconds, speed.is_measured)


def _told(outline: Outline, needed: int, main_needed: int, seconds: float, is_measured: bool) -> Estimate:
    """Put numbers into sentences, beside the memory that is free now."""
    free, main_free = available_bytes(outline.device or "cpu"), available_bytes()
    return tell(outline, needed, main_needed, seconds, is_measured, free, main_free)
