"""Generate volumes: noise to latent to volume, and through a camera if one is asked for.

A model returns the noise-free expectation in units of one filament's peak. Photons, read noise and offset belong to the
camera, which renders after sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import Precision, decode_latent, exact_math
from napari_vqldm.conditions import Conditions, check_conditions, draw_conditions
from napari_vqldm.config import CameraConfig, Int3
from napari_vqldm.diffusion import SampleStep
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import CheckpointError, ConfigError
from napari_vqldm.files.provenance import make_provenance
from napari_vqldm.memory import trim_heap
from napari_vqldm.models.build import AnyDenoiser
from napari_vqldm.record import expose, generated_noise_seed
from napari_vqldm.sampling import StepNoise, initial_noise, sample_latents, step_noise
from napari_vqldm.sampling_plan import Sampling, batch_on, check_sampling, stage_one_alone
from napari_vqldm.simulate.draws import check_seed
from napari_vqldm.volume import Volume, seal


@dataclass(frozen=True)
class GenerationStep:
    """Progress of `generate_steps`.

    Attributes
    ----------
    index, total : int
        This step (from 0) of all denoising steps and decodings of the request.
    volume_index : int
        Index, within the seed, of the first volume that this step works on.
    preview : ndarray or None
        (C, d, h, w), standardised estimate of that volume's clean latent; None once it is decoded.
    volumes : list of Volume or None
        Finished by this step.
    """

    index: int
    total: int
    volume_index: int
    preview: npt.NDArray[np.float32] | None
    volumes: list[Volume] | None


@dataclass(frozen=True)
class Start:
    """What one volume is made from: identity, initial noise (C, d, h, w), that of stochastic steps, conditions."""

    seed: int
    index: int
    noise: Tensor
    step_noise: StepNoise
    conditions: Conditions


def generate(
    model: Model,
    count: int = 1,
    shape: Int3 | None = None,
    seed: int = 0,
    steps: int | None = None,
    sampler: str | None = None,
    condition: Mapping[str, float | str] | None = None,
    guidance_scale: float | None = None,
    camera: CameraConfig | None = None,
    batch: int | None = None,
    start: int = 0,
    precision: Precision = "fp32",
) -> list[Volume]:
    """Generate volumes.

    Volume ``i`` of a seed has the same initial noise and conditions whatever the batch, the count or the start.

    Parameters
    ----------
    model : Model
        From `load`; needs a denoiser.
    count : int
        How many volumes.
    shape : tuple of int, optional
        Voxels (Z, Y, X); the center of the trained window is returned when smaller. None: the window.
    seed : int
        From 0 to 2**64 - 1.
    steps, sampler : optional
        Number of steps and ``euler``, ``heun``, ``dpmpp_2m``, ``dpmpp_2m_sde`` (flow), ``ddim``, ``ddpm``, ``dpmpp_2m``
        (epsilon, v). None: the checkpoint's.
    condition : mapping, optional
        Name to value; see `allowed_conditions`. The others are drawn per volume from the training distribution.
    guidance_scale : float, optional
        1 is no guidance. None: the checkpoint's.
    camera : CameraConfig, optional
        Record the volumes with it: camera counts. None: the noise-free expectation, 1 = peak of one filament.
    batch : int, optional
        Volumes at once. None: 1 on the CPU, 8 on a GPU.
    start : int
        Index of the first volume.
    precision : str
        ``"fp32"`` or ``"bf16"``.

    Returns
    -------
    list of Volume
        With the voxel size of their condition and full provenance.

    Raises
    ------
    ShapeError
        If ``shape`` is larger than the trained window or has an axis below 2.
    ConditionError
        If a condition is unknown or outside its trained range.
    ConfigError
        If another argument is out of range, the camera's blur is wider than a volume, or a camera is asked of a model
        that learned noisy stacks.
    CheckpointError
        If the model has no denoiser.
    """
    request = generate_steps(
        model, count, shape, seed, steps, sampler, condition, guidance_scale, camera, batch, start, precision
    )
    return [volume for step in request for volume in step.volumes or ()]


def generate_steps(
    model: Model,
    count: int = 1,
    shape: Int3 | None = None,
    seed: int = 0,
    steps: int | None = None,
    sampler: str | None = None,
    condition: Mapping[str, float | str] | None = None,
    guidance_scale: float | None = None,
    camera: CameraConfig | None = None,
    batch: int | None = None,
    start: int = 0,
    precision: Precision = "fp32",
) -> Iterator[GenerationStep]:
    """Stepwise twin of `generate`: yields after every denoising step and every volume; close it to cancel.

    The request is checked before the first step.
    """
    if count < 1 or start < 0 or seed < 0 or (batch is not None and batch < 1):
        raise ConfigError(
            f"expected count and batch of 1 or more, seed and start of 0 or more, got count {count}, "
            f"batch {batch}, seed {seed}, start {start}"
        )
    check_seed(seed)
    sampling = plan_sampling(model, shape, steps, sampler, guidance_scale, camera, precision)
    given = check_conditions(model.config, condition)
    size = batch or default_batch(model.device)
    indices = range(start, start + count)
    batches = [indices[i : i + size] for i in range(0, count, size)]
    return _generate(model, sampling, seed, batches, given)


def plan_sampling(
    model: Model,
    shape: Int3 | None,
    steps: int | None,
    sampler: str | None,
    guidance_scale: float | None,
    camera: CameraConfig | None,
    precision: Precision,
) -> Sampling:
    """Check a request against the model and fill in the checkpoint's defaults; errors as in `generate`."""
    denoiser_of(model)
    return check_sampling(model.config, model.name, shape, steps, sampler, guidance_scale, camera, precision)


def default_batch(device: torch.device) -> int:
    """Return how many volumes are generated at once unless told: 1 on the CPU, 8 on a GPU."""
    return batch_on(device.type)


def draw_start(model: Model, seed: int, index: int, given: Mapping[str, float | str] | None = None) -> Start:
    """Return the initial noise and the conditions of volume ``index`` of ``seed``; both depend on nothing else."""
    grid = model.space.grid(model.config.window)
    shape = (model.space.autoencoder.latent_channels, *grid)
    noise, later = initial_noise(seed, index, shape), step_noise(seed, index, shape)
    return Start(seed, index, noise, later, draw_conditions(model.config, seed, index, given))


def sample_starts(model: Model, starts: Sequence[Start], sampling: Sampling) -> Iterator[SampleStep]:
    """Walk from the noise of one batch of volumes to their latents."""
    noise = torch.stack([start.noise for start in starts]).to(model.device)
    vectors = [start.conditions.vector for start in starts if start.conditions.vector is not None]
    steps = sample_latents(
        denoiser_of(model),
        model.process,
        noise,
        steps=sampling.steps,
        sampler=sampling.sampler,
        condition=torch.stack(vectors).to(model.device) if vectors else None,
        guidance_scale=sampling.guidance_scale,
        step_noises=[start.step_noise for start in starts],
    )
    while True:
        with exact_math(model.device, sampling.precision):
            step = next(steps, None)
        if step is None:
            return
        trim_heap()
        yield step


def decode_start(
    model: Model,
    latent: Tensor,
    start: Start,
    sampling: Sampling,
    provenance: Mapping[str, Any],
    name: str,
    requantize: bool | None = None,
) -> Volume:
    """Turn one sampled latent (C, d, h, w) into a volume: decode, crop, record with the camera."""
    requantize = model.config.diffusion.requantize if requantize is None else requantize
    decoded = latent.new_empty(0)
    for step in decode_latent(model.space, latent[None], requantize=requantize, precision=sampling.precision):
        decoded = step.result if step.result is not None else decoded
    for axis, (size, wanted) in enumerate(zip(model.config.window, sampling.shape, strict=True)):
        decoded = decoded.narrow(2 + axis, (size - wanted) // 2, wanted)
    clean = decoded.contiguous()
    voxel_size = start.conditions.voxel_size_um
    if sampling.camera is not None:
        clean = expose(clean, sampling.camera, voxel_size, generated_noise_seed(start.seed, start.index))
    return seal(Volume(clean[0, 0].numpy(), voxel_size, provenance, name))


def model_record(model: Model) -> dict[str, str]:
    """Return the model's identity for provenance, and whether its volumes are noise-free (``target`` clean)."""
    config = model.config
    return {
        "model": model.name,
        "family": config.family,
        "weights_sha256": model.weights_sha256,
        "target": config.target,
    }


def denoiser_of(model: Model) -> AnyDenoiser:
    """Return the denoiser, or say that the checkpoint has none."""
    if model.denoiser is None:
        raise CheckpointError(stage_one_alone(model.name))
    return model.denoiser


def _generate(
    model: Model, sampling: Sampling, seed: int, batches: Sequence[range], given: Mapping[str, float | str]
) -> Iterator[GenerationStep]:
    total = sum(sampling.steps + len(indices) for indices in batches)
    done = 0
    for indices in batches:
        starts = [draw_start(model, seed, index, given) for index in indices]
        latents = torch.stack([start.noise for start in starts])
        for step in sample_starts(model, starts, sampling):
            latents = step.latent
            preview = step.clean_estimate[0].float().cpu().numpy()
            yield GenerationStep(done, total, indices[0], preview, None)
            done += 1
        for start, latent in zip(starts, latents, strict=True):
            provenance = make_provenance(
                "generate",
                environment=describe_environment(str(model.device)),
                **model_record(model),
                seed=seed,
                index=start.index,
                shape=list(sampling.shape),
                condition=dict(given) or None,
                conditions=dict(start.conditions.values),
                batch={"start": indices[0], "size": len(indices)},
                **sampling.to_dict(),
            )
            name = f"{model.name}-seed{seed}-{start.index:03d}"
            volume = decode_start(model, latent, start, sampling, provenance, name)
            yield GenerationStep(done, total, start.index, None, [volume])
            done += 1
