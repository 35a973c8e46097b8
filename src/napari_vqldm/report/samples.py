"""Samples of a model, asked for what a simulated set holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.condition_ranges import allowed_conditions
from napari_vqldm.conditions import check_conditions
from napari_vqldm.errors import ConfigError
from napari_vqldm.generate import Start, decode_start, draw_start, plan_sampling, sample_starts
from napari_vqldm.report.folders import LEAST_OF_WINDOW, windows_of
from napari_vqldm.report.sets import VOXEL_SIZE_UM, WINDOW, Array
from napari_vqldm.sampling_plan import Sampling

GPU_BATCH = 16  # volumes sampled at once


def check_window(model: Model) -> None:
    """Refuse a model whose window is too small to be compared.

    Raises
    ------
    ConfigError
        If an axis is shorter than half of 6.4 x 12.8 x 12.8 um at its smallest voxel size.
    """
    sizes = model.config.voxel_size_range_um[0]
    extent = [n * s for n, s in zip(model.config.window, sizes, strict=True)]
    least = [LEAST_OF_WINDOW * n * s for n, s in zip(WINDOW, VOXEL_SIZE_UM, strict=True)]
    if any(e < 0.99 * want for e, want in zip(extent, least, strict=True)):
        raise ConfigError(
            f"model {model.name} generates {' x '.join(f'{e:.1f}' for e in extent)} um: expected at least "
            "3.2 x 6.4 x 6.4 um, half of the window in which sets are compared"
        )


def askable(model: Model, wanted: Mapping[str, float | str]) -> tuple[dict[str, float | str], bool]:
    """Return conditions that a model can be asked for, nearest to those wanted, and whether one had to be moved."""
    allowed = allowed_conditions(model.config)
    asked: dict[str, float | str] = {}
    moved = False
    for name, value in wanted.items():
        limits = allowed.get(name)
        if limits is None:
            continue
        if isinstance(value, str):
            if value in limits:
                asked[name] = value
            else:
                moved = True
            continue
        low, high = float(limits[0]), float(limits[1])
        asked[name] = min(max(value, low), high)
        moved = moved or not low <= value <= high
    return check_conditions(model.config, asked), moved


def model_samples(
    model: Model,
    seed: int,
    conditions: Sequence[Mapping[str, float | str]],
    steps: int | None,
    at_once: int | None = None,
) -> Iterator[Array]:
    """Sample one noise-free volume per entry of ``conditions`` with the checkpoint's own sampler.

    ``at_once`` is 1 on the CPU and 16 on a GPU where it is not given: noise and conditions of a volume do not depend on
    it, its values do by rounding alone.
    """
    sampling = plan_sampling(model, None, steps, None, None, None, "fp32")
    size = at_once or (1 if model.device.type == "cpu" else GPU_BATCH)
    for start, latent in sampled_latents(model, seed, conditions, sampling, size):
        volume = decode_start(model, latent, start, sampling, {}, f"sample-{start.index}")
        yield windows_of(volume.data, volume.voxel_size_um)[0]


def sampled_latents(
    model: Model, seed: int, conditions: Sequence[Mapping[str, float | str]], sampling: Sampling, at_once: int
) -> Iterator[tuple[Start, Tensor]]:
    """Sample one latent (C, d, h, w) per entry of ``conditions``, ``at_once`` of them together."""
    for first in range(0, len(conditions), at_once):
        indices = range(first, min(first + at_once, len(conditions)))
        starts = [draw_start(model, seed, i, check_conditions(model.config, conditions[i])) for i in indices]
        latents = torch.empty(0)
        for step in sample_starts(model, starts, sampling):
            latents = step.latent
        yield from zip(starts, latents, strict=True)
