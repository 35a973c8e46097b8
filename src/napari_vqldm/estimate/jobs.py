"""How much memory and time a job takes, told before it starts.

Memory comes from the shapes of all arrays, time from the speed of the model: that of a `SelfTest` of this
machine, or, without one, guessed from the number of operations and said to be rough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import MAX_VOXELS, Precision
from napari_vqldm.config import CameraConfig, Int3
from napari_vqldm.errors import ConfigError
from napari_vqldm.estimate.parts import (
    Cost,
    camera_cost,
    decoding_cost,
    encoding_cost,
    intensity_cost,
    noise_cost,
    redraw_cost,
    sampling_cost,
    spread_cost,
    together,
)
from napari_vqldm.estimate.speed import Speed, speed_of
from napari_vqldm.generate import plan_sampling
from napari_vqldm.memory import available_bytes
from napari_vqldm.self_test import SelfTest
from napari_vqldm.volume import Float3, check_voxel_size


@dataclass(frozen=True)
class Estimate:
    """What a job takes beyond the loaded model and the volumes that exist before it.

    Attributes
    ----------
    memory_bytes : int
        Most memory at once on the device of the networks: main memory for the CPU.
    seconds : float
        Wall time on an otherwise idle machine.
    available_bytes : int or None
        Free memory of that device now; None where it is not known.
    main_memory_bytes : int
        Most main memory at once; equals ``memory_bytes`` on the CPU.
    available_main_bytes : int or None
        Free main memory now.
    is_measured : bool
        Whether the time comes from a self-test of this machine and is good within a factor of 2; else it is rough.
    lines : tuple of str
        The same in sentences for a user.
    """

    memory_bytes: int
    seconds: float
    available_bytes: int | None
    main_memory_bytes: int
    available_main_bytes: int | None
    is_measured: bool
    lines: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the memory is there; True where it is not known."""
        pairs = ((self.memory_bytes, self.available_bytes), (self.main_memory_bytes, self.available_main_bytes))
        return all(free is None or needed <= free for needed, free in pairs)


def estimate_generation(
    model: Model,
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
    sampling = plan_sampling(model, shape, steps, sampler, guidance_scale, camera, precision)
    speed = speed_of(model, precision, self_test)
    parts = [sampling_cost(model, sampling, count, speed, batch), _window_decoding(model, precision, count, speed)]
    if camera is not None:
        parts.append(camera_cost(sampling.shape, speed) * count)
    return _estimate(model, parts, 4 * count * math.prod(sampling.shape), speed)


def estimate_encoding(
    model: Model,
    shape: Int3,
    voxel_size_um: Float3,
    max_voxels: int = MAX_VOXELS,
    *,
    is_intensity_given: bool = False,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.encode` of a stack (Z, Y, X) with this voxel size; see `estimate_reconstruction`."""
    speed = speed_of(model, "fp32", self_test)
    parts = [encoding_cost(model, shape, check_voxel_size(voxel_size_um), max_voxels, speed)]
    if not is_intensity_given:
        parts.append(intensity_cost(shape, speed))
    return _estimate(model, parts, 0, speed)


def estimate_reconstruction(
    model: Model,
    shape: Int3,
    voxel_size_um: Float3,
    max_voxels: int = MAX_VOXELS,
    *,
    frames: int = 1,
    is_intensity_given: bool = False,
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.reconstruct`: intensity, voxel size, tiles with their halo, and the way back.

    Parameters
    ----------
    model : Model
        From `load`.
    shape, voxel_size_um : tuple
        Grid (Z, Y, X) and voxel size (z, y, x), um, of the stack.
    max_voxels : int
        As in `reconstruct`.
    frames : int
        So many stacks one after the other, whose results are all kept.
    is_intensity_given : bool
        No background and brightness have to be estimated.
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
    speed = speed_of(model, "fp32", self_test)
    sizes = check_voxel_size(voxel_size_um)
    parts = [cost(model, shape, sizes, max_voxels, speed) * frames for cost in (encoding_cost, decoding_cost)]
    if not is_intensity_given:
        parts.append(intensity_cost(shape, speed) * frames)
    return _estimate(model, parts, 4 * (frames - 1) * math.prod(shape), speed)


def estimate_uncertainty(
    model: Model,
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
    speed = speed_of(model, "fp32", self_test)
    sizes = check_voxel_size(voxel_size_um)
    sums, stack = 16 * math.prod(shape), 4 * math.prod(shape)
    encode = encoding_cost(model, shape, sizes, max_voxels, speed)
    decode = decoding_cost(model, shape, sizes, max_voxels, speed) * draws
    first, held = [intensity_cost(shape, speed)], sums
    if kind == "noise":
        first.append(noise_cost(shape))
        encode, held = together([redraw_cost(shape), encode]) * draws, sums + stack
    later = together([encode, decode, spread_cost(shape) * draws])
    return _estimate(model, [*first, later.holding(held)], 0, speed)


def estimate_interpolation(
    model: Model,
    frames: int,
    shape: Int3 | None = None,
    voxel_size_um: Float3 | None = None,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance_scale: float | None = None,
    precision: Precision = "fp32",
    self_test: SelfTest | None = None,
) -> Estimate:
    """Estimate `napari_vqldm.interpolate` with ``frames`` values of t.

    Parameters
    ----------
    model : Model
        From `load`.
    frames : int
        How many volumes; all are kept.
    shape, voxel_size_um : tuple, optional
        Of the stacks behind two latents. None: between two seeds, each frame is sampled.
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
    if shape is not None and voxel_size_um is not None:
        speed = speed_of(model, "fp32", self_test)
        part = decoding_cost(model, shape, check_voxel_size(voxel_size_um), MAX_VOXELS, speed) * frames
        return _estimate(model, [part], 4 * (frames - 1) * math.prod(shape), speed)
    speed = speed_of(model, precision, self_test)
    sampling = plan_sampling(model, None, steps, sampler, guidance_scale, None, precision)
    parts = [sampling_cost(model, sampling, frames, speed, 1), _window_decoding(model, precision, frames, speed)]
    return _estimate(model, parts, 4 * frames * math.prod(model.config.window), speed)


def estimate_camera(model: Model, shape: Int3, *, self_test: SelfTest | None = None) -> Estimate:
    """Estimate `napari_vqldm.record` of a noise-free volume (Z, Y, X); a wide extra blur takes longer."""
    speed = speed_of(model, "fp32", self_test)
    return _estimate(model, [camera_cost(shape, speed)], 0, speed)


def estimate_sequence(model: Model, estimates: Sequence[Estimate]) -> Estimate:
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
        model,
        max(estimate.memory_bytes for estimate in estimates),
        max(estimate.main_memory_bytes for estimate in estimates),
        sum(estimate.seconds for estimate in estimates),
        all(estimate.is_measured for estimate in estimates),
    )


def _window_decoding(model: Model, precision: Precision, count: int, speed: Speed) -> Cost:
    """Decode ``count`` windows one after the other."""
    window = model.config.window
    low, _ = model.config.voxel_size_range_um
    return decoding_cost(model, window, low, MAX_VOXELS, speed, precision) * count


def _estimate(model: Model, parts: Iterable[Cost], kept: int, speed: Speed) -> Estimate:
    """Sum up parts that run one after the other while ``kept`` bytes of results wait."""
    total = together(parts).holding(kept)
    needed = total.main_bytes if model.device.type == "cpu" else total.device_bytes
    return _told(model, needed, total.main_bytes, total.seconds, speed.is_measured)


def _told(model: Model, needed: int, main_needed: int, seconds: float, is_measured: bool) -> Estimate:
    """Put numbers into sentences, beside the memory that is free now."""
    free, main_free = available_bytes(str(model.device)), available_bytes()
    lines = [f"about {_duration(seconds)}, {_size(needed)} of memory{_free(free)}"]
    if model.device.type != "cpu":
        lines.append(f"and {_size(main_needed)} of main memory{_free(main_free)}")
    if not is_measured:
        lines.append("the time is rough: a self-test of the model makes it better")
    result = Estimate(needed, seconds, free, main_needed, main_free, is_measured, tuple(lines))
    if not result.fits:
        return Estimate(
            **{**vars(result), "lines": (*lines, "this does not fit: choose less, or close other programs")}
        )
    return result


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def _free(free: int | None) -> str:
    return "" if free is None else f" ({_size(free)} free)"
