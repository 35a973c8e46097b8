"""A request for volumes, checked against a model and completed with its defaults. No torch: estimates need it, too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_vqldm.config import SAMPLERS_OF, CameraConfig, Int3, ModelConfig
from napari_vqldm.errors import CheckpointError, ConfigError, ShapeError
from napari_vqldm.volume import check_blur

if TYPE_CHECKING:
    from napari_vqldm.coding import Precision

_GPU_BATCH = 8


@dataclass(frozen=True)
class Sampling:
    """A checked request: how to sample, and what to do with the result."""

    shape: Int3
    steps: int
    sampler: str
    guidance_scale: float
    camera: CameraConfig | None
    precision: Precision

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON-compatible values for provenance."""
        camera = None if self.camera is None else self.camera.model_dump(mode="json")
        return {
            "steps": self.steps,
            "sampler": self.sampler,
            "guidance_scale": self.guidance_scale,
            "camera": camera,
            "precision": self.precision,
        }


def check_sampling(
    config: ModelConfig,
    name: str,
    shape: Int3 | None,
    steps: int | None,
    sampler: str | None,
    guidance_scale: float | None,
    camera: CameraConfig | None,
    precision: Precision,
) -> Sampling:
    """Check a request against the configuration of the model ``name``, and fill in its defaults.

    Raises
    ------
    CheckpointError
        If the model has no denoiser.
    ShapeError
        If the shape exceeds the trained window.
    ConfigError
        If an argument does not fit the model.
    """
    if config.denoiser is None:
        raise CheckpointError(stage_one_alone(name))
    window = config.window
    shape = window if shape is None else shape
    if len(shape) != 3 or any(not 2 <= n <= w for n, w in zip(shape, window, strict=True)):
        raise ShapeError(
            f"expected a shape from (2, 2, 2) to the trained window {window}, got {tuple(shape)}: "
            "generate several volumes instead of a larger one"
        )
    guidance_scale = config.diffusion.guidance_scale if guidance_scale is None else guidance_scale
    if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
        raise ConfigError(f"expected a guidance_scale of 0 or more, got {guidance_scale}")
    if camera is not None and config.target == "input":
        raise ConfigError(
            f"model {name} learned noisy stacks, so its volumes hold camera noise already: generate without a camera"
        )
    if camera is not None:
        check_blur(camera.blur_um, shape, config.voxel_size_range_um[1])
    steps = config.diffusion.steps if steps is None else steps
    sampler = config.diffusion.sampler if sampler is None else sampler
    fitting = SAMPLERS_OF[config.diffusion.objective]
    highest = 10_000 if config.diffusion.objective == "flow" else config.diffusion.num_train_timesteps
    if sampler not in fitting:
        raise ConfigError(f"sampler {sampler!r} does not fit this model: use {' or '.join(fitting)}")
    if not 1 <= steps <= highest:
        raise ConfigError(f"expected 1 to {highest} steps, got {steps}")
    return Sampling(shape, steps, sampler, float(guidance_scale), camera, precision)


def stage_one_alone(name: str) -> str:
    """Say that a checkpoint has no denoiser."""
    return f"model {name} is stage 1 alone and cannot generate: train its denoiser, or use it to reconstruct"


def batch_on(device: str) -> int:
    """Return how many volumes are generated at once unless told, on a device: 1 on the CPU, 8 on a GPU."""
    return 1 if device == "cpu" else _GPU_BATCH
