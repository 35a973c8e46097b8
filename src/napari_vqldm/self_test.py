"""Time a model on this machine: each of its pieces at the size at which it is used, within seconds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import Precision, encode_block, exact_math
from napari_vqldm.config import CameraConfig, Int3
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ConfigError
from napari_vqldm.generate import default_batch
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.peak_memory import PeakMemory
from napari_vqldm.preview import LinearDecoder, lift
from napari_vqldm.resample import resample_to
from napari_vqldm.simulate import render_camera

_BUDGET_S = 0.5  # per piece, after the warm-up; at least two repeats
_MOST_REPEATS = 5


@dataclass(frozen=True)
class SelfTest:
    """How fast a model is on one machine, device and number of threads; seconds are medians.

    Attributes
    ----------
    model, weights_sha256, precision : str
        What was timed, and in which precision the networks ran.
    device, device_name : str
        Where, and the name of that processor.
    threads : int
        Of the CPU.
    encode_seconds_per_voxel, decode_seconds_per_voxel : float
        Per volume voxel, at the trained window.
    denoiser_seconds : float or None
        One call for one volume; None without a denoiser.
    denoiser_batch : int
        Volumes at once that `generate` takes by default.
    denoiser_batch_seconds : float or None
        One call for so many.
    camera_seconds_per_voxel, intensity_seconds_per_voxel, resample_seconds_per_voxel : float
        Camera; estimate of background and brightness; one way to another voxel size, per voxel of both grids together.
    preview_seconds : float
        One window by a `LinearDecoder`.
    bf16_decode_seconds_per_voxel, bf16_denoiser_seconds : float or None
        The same in bf16; None where it does not work.
    peak_bytes : int or None
        Most memory that the test took at once, beyond what the process had; None where the system does not tell.
    """

    model: str
    weights_sha256: str
    precision: str
    device: str
    device_name: str
    threads: int
    encode_seconds_per_voxel: float
    decode_seconds_per_voxel: float
    denoiser_seconds: float | None
    denoiser_batch: int
    denoiser_batch_seconds: float | None
    camera_seconds_per_voxel: float
    intensity_seconds_per_voxel: float
    resample_seconds_per_voxel: float
    preview_seconds: float
    bf16_decode_seconds_per_voxel: float | None
    bf16_denoiser_seconds: float | None
    peak_bytes: int | None

    def lines(self) -> list[str]:
        """Return the result in sentences for a user."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        rows = [
            f"{self.model} on {self.device_name} ({self.device}, {threads}, {self.precision})",
            f"encode: {_rate(self.encode_seconds_per_voxel)}",
            f"decode: {_rate(self.decode_seconds_per_voxel)}",
        ]
        if self.denoiser_seconds is not None:
            rows.append(f"denoise: {_seconds(self.denoiser_seconds)} per step and volume")
        if self.denoiser_batch > 1 and self.denoiser_batch_seconds is not None:
            each = self.denoiser_batch_seconds / self.denoiser_batch
            rows.append(f"denoise {self.denoiser_batch} volumes at once: {_seconds(each)} per step and volume")
        rows += [
            f"preview: {_seconds(self.preview_seconds)} per volume",
            f"camera: {_rate(self.camera_seconds_per_voxel)}",
        ]
        rows.append(self._bf16_line())
        if self.peak_bytes is not None:
            rows.append(f"memory: {self.peak_bytes / 2**20:.0f} MiB for one window")
        return rows

    def _bf16_line(self) -> str:
        if self.bf16_decode_seconds_per_voxel is None:
            return "bf16: does not work here"
        pairs = [(self.decode_seconds_per_voxel, self.bf16_decode_seconds_per_voxel)]
        if self.denoiser_seconds is not None and self.bf16_denoiser_seconds is not None:
            pairs.append((self.denoiser_seconds, self.bf16_denoiser_seconds))
        names = ("decode", "denoise")
        told = (f"{name} takes {half / full:.2f} of the time" for name, (full, half) in zip(names, pairs, strict=False))
        return f"bf16 against {self.precision}: {', '.join(told)}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-compatible values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` described.

        Raises
        ------
        ConfigError
            If fields are missing or unknown: the record is of another version.
        """
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            odd = sorted(values.keys() ^ names)
            raise ConfigError(f"expected the record of a self-test of this version, {odd[0]!r} differs: run it again")
        return cls(**values)


@dataclass(frozen=True)
class SelfTestStep:
    """One piece, ``name``, is timed; ``result`` is set by the last step."""

    index: int
    total: int
    name: str
    result: SelfTest | None


def self_test(model: Model, precision: Precision = "fp32") -> SelfTest:
    """Time the pieces of a model: a warm-up and a few repeats each.

    Parameters
    ----------
    model : Model
        From `load`, on the device to be timed.
    precision : str
        ``"fp32"`` or ``"bf16"``, of denoiser and decoder; `reconstruct` and encoding are always in fp32.
    """
    return next(step.result for step in self_test_steps(model, precision) if step.result is not None)


def self_test_steps(model: Model, precision: Precision = "fp32") -> Iterator[SelfTestStep]:
    """Stepwise twin of `self_test`: one step per piece; close it to cancel."""
    pieces = _pieces(model, precision)
    seconds: dict[str, float | None] = {}
    peak: int | None = None
    for index, (name, run) in enumerate(pieces.items()):
        with PeakMemory(model.device) as memory:
            seconds[name] = _optional(run, model.device) if name.startswith("bf16") else _median(run, model.device)
        if memory.peak_bytes is not None:
            peak = max(peak or 0, memory.peak_bytes)
        is_last = index == len(pieces) - 1
        yield SelfTestStep(index, len(pieces), name, _result(model, precision, seconds, peak) if is_last else None)


def _pieces(model: Model, precision: Precision) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name, at the size of the trained window."""
    window, device = model.config.window, model.device
    grid = model.space.grid(window)
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(1, 1, *window, generator=generator).to(device)
    latent = torch.randn(1, model.space.autoencoder.latent_channels, *grid, generator=generator).to(device)
    stack = np.random.default_rng(0).normal(100.0, 5.0, window).astype(np.float32)
    camera, voxel_size = CameraConfig(), model.config.voxel_size_range_um[1]
    preview = _any_linear_decoder(model)

    def encode() -> object:
        with exact_math(device, "fp32"):
            return encode_block(model.space, volumes)

    def decode(chosen: Precision) -> object:
        with exact_math(device, chosen):
            return model.space.decode(latent)

    def denoise(chosen: Precision, batch: int) -> object:
        with exact_math(device, chosen):
            return _denoise(model, latent.expand(batch, -1, -1, -1, -1))

    pieces: dict[str, Callable[[], object]] = {"encode": encode, "decode": lambda: decode(precision)}
    batch = default_batch(device)
    if model.denoiser is not None:
        pieces["denoise"] = lambda: denoise(precision, 1)
        if batch > 1:
            pieces["denoise a batch"] = lambda: denoise(precision, batch)
    pieces["preview"] = lambda: preview.decode(latent[0])
    pieces["camera"] = lambda: render_camera(volumes, camera, voxel_size, [0])
    pieces["intensity"] = lambda: estimate_intensity(stack)
    pieces["resample"] = lambda: resample_to(stack, _larger(window))
    pieces["bf16 decode"] = lambda: decode("bf16")
    if model.denoiser is not None:
        pieces["bf16 denoise"] = lambda: denoise("bf16", 1)
    return pieces


def _result(model: Model, precision: Precision, seconds: Mapping[str, float | None], peak: int | None) -> SelfTest:
    environment = describe_environment(str(model.device))
    voxels = math.prod(model.config.window)

    def needed(name: str) -> float:
        value = seconds[name]
        if value is None:
            raise ConfigError(f"expected a time for {name!r}, got none: run the self-test again")
        return value

    half = seconds.get("bf16 decode")
    return SelfTest(
        model=model.name,
        weights_sha256=model.weights_sha256,
        precision=precision,
        device=str(model.device),
        device_name=str(environment["device_name"] or environment["processor"]),
        threads=torch.get_num_threads(),
        encode_seconds_per_voxel=needed("encode") / voxels,
        decode_seconds_per_voxel=needed("decode") / voxels,
        denoiser_seconds=seconds.get("denoise"),
        denoiser_batch=default_batch(model.device),
        denoiser_batch_seconds=seconds.get("denoise a batch", seconds.get("denoise")),
        camera_seconds_per_voxel=needed("camera") / voxels,
        intensity_seconds_per_voxel=needed("intensity") / voxels,
        resample_seconds_per_voxel=needed("resample") / (voxels + math.prod(_larger(model.config.window))),
        preview_seconds=needed("preview"),
        bf16_decode_seconds_per_voxel=None if half is None else half / voxels,
        bf16_denoiser_seconds=seconds.get("bf16 denoise"),
        peak_bytes=peak,
    )


def _denoise(model: Model, noisy: torch.Tensor) -> object:
    """Call the denoiser as sampling does, with a condition where the model has one."""
    condition = model.config.denoiser.condition if model.config.denoiser is not None else None
    vector = None if condition is None else torch.zeros(len(noisy), condition.width, device=model.device)
    t = torch.full((len(noisy),), 0.5, device=model.device)
    return None if model.denoiser is None else model.denoiser(noisy, t, vector)


def _any_linear_decoder(model: Model) -> LinearDecoder:
    """Return a linear decoder of the right size; its numbers do not change its speed, and are not fitted."""
    channels, factor = model.space.autoencoder.latent_channels, model.space.autoencoder.downsampling_factor
    features = len(lift(torch.zeros(channels, 1, 1, 1)))
    weight = torch.ones(math.prod(factor), features, 3, 3, 3, device=model.device)
    return LinearDecoder(weight, weight[:, 0, 0, 0, 0].clone(), channels, factor, math.nan)


def _larger(window: Int3) -> Int3:
    """Return a grid of a fifth more voxels per axis."""
    z, y, x = (n + max(1, n // 5) for n in window)
    return z, y, x


def _median(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run: the median after a warm-up."""
    _once(run, device)
    found: list[float] = []
    while len(found) < 2 or (sum(found) < _BUDGET_S and len(found) < _MOST_REPEATS):
        found.append(_once(run, device))
    return statistics.median_low(found)


def _optional(run: Callable[[], object], device: torch.device) -> float | None:
    """Seconds of a run that not every device can do."""
    try:
        return _median(run, device)
    except (RuntimeError, NotImplementedError, TypeError):
        return None


def _once(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - began


def _rate(seconds_per_voxel: float) -> str:
    return f"{1e-6 / seconds_per_voxel:.3g} million voxels per second"


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
