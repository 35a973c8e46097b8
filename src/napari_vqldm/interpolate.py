"""Walk between two volumes in the standardised latent space, or between two seeds in the space of initial noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import Precision
from napari_vqldm.conditions import blend_conditions, check_conditions
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.files.provenance import make_provenance
from napari_vqldm.generate import Start, decode_start, draw_start, model_record, plan_sampling, sample_starts
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.latent_path import PATHS, Kind, slerp
from napari_vqldm.reconstruct import Latent, decode_steps, latent_tensor
from napari_vqldm.sampling_plan import Sampling
from napari_vqldm.simulate.draws import check_seed
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Volume, seal

Endpoint = Latent | int


@dataclass(frozen=True)
class InterpolationStep:
    """Progress of `interpolate_steps`; ``volume`` is set when the frame at ``t`` is finished."""

    index: int
    total: int
    t: float
    volume: Volume | None


@dataclass(frozen=True)
class CodeChange:
    """How far a snapped frame between two encoded volumes is from either end, from `changed_codes`.

    Attributes
    ----------
    num_changed_from_a, num_changed_from_b : int
        Latent cells whose code is not that of the end.
    num_cells : int
        All latent cells.
    """

    num_changed_from_a: int
    num_changed_from_b: int
    num_cells: int


@overload
def interpolate(
    model: Model,
    a: Endpoint,
    b: Endpoint,
    t: float = 0.5,
    kind: Kind = "linear",
    snap: bool = True,
    **options: Any,
) -> Volume: ...


@overload
def interpolate(
    model: Model,
    a: Endpoint,
    b: Endpoint,
    t: Sequence[float],
    kind: Kind = "linear",
    snap: bool = True,
    **options: Any,
) -> list[Volume]: ...


def interpolate(
    model: Model,
    a: Endpoint,
    b: Endpoint,
    t: float | Sequence[float] = 0.5,
    kind: Kind = "linear",
    snap: bool = True,
    **options: Any,
) -> Volume | list[Volume]:
    """Interpolate between two encoded volumes or between two seeds.

    Parameters
    ----------
    model : Model
        From `load`; two seeds need a denoiser.
    a, b : Latent or int
        Both from `encode`, or both seeds. Encoded ends return their reconstruction itself; ends of seeds return volume
        0 of that seed as `generate` does.
    t : float or sequence of float
        0 is ``a``, 1 is ``b``.
    kind : str
        ``"linear"``, or ``"slerp"``: turn the direction at constant speed and interpolate the norm linearly.
    snap : bool
        ``vq-ldm``: move every vector to its nearest code before decoding; between seeds only if the model samples so
        (``diffusion.requantize``). No effect on the ends, nor on ``ldm``.
    **options
        For encoded ends: ``max_voxels``, as in `decode`. For seeds: ``steps``, ``sampler``, ``condition``,
        ``guidance_scale``, ``precision``, as in `generate`; conditions that are not given are drawn for both ends and
        interpolated too.

    Returns
    -------
    Volume or list of Volume
        One per ``t``. Background and brightness of encoded volumes are interpolated linearly.

    Raises
    ------
    ShapeError
        If the grids differ.
    CheckpointError
        If a latent belongs to another model.
    ConfigError
        If ``t``, ``kind``, an option or the ends do not fit, or the voxel sizes differ.
    """
    request = interpolate_steps(model, a, b, t, kind, snap, **options)
    volumes = [step.volume for step in request if step.volume is not None]
    return volumes if np.ndim(t) else volumes[0]


def interpolate_steps(
    model: Model,
    a: Endpoint,
    b: Endpoint,
    t: float | Sequence[float] = 0.5,
    kind: Kind = "linear",
    snap: bool = True,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    condition: Mapping[str, float | str] | None = None,
    guidance_scale: float | None = None,
    precision: Precision = "fp32",
    max_voxels: int = MAX_VOXELS,
) -> Iterator[InterpolationStep]:
    """Stepwise twin of `interpolate`: one step per tile or denoising step; close it to cancel.

    The request is checked before the first step.
    """
    ts = [float(value) for value in np.ravel(t)]
    _check_ts(ts, t, kind)
    if isinstance(a, Latent) and isinstance(b, Latent):
        _check_pair(model, a, b)
        _check_way(latent_tensor(model, a), latent_tensor(model, b), ts, kind)
        return _between_latents(model, a, b, ts, kind, snap, max_voxels)
    if isinstance(a, Latent) or isinstance(b, Latent):
        raise ConfigError("expected two encoded volumes or two seeds, got one of each: generate and encode the seed")
    if max_voxels != MAX_VOXELS:
        raise ConfigError("max_voxels is for encoded ends: frames between seeds have the size of the model's window")
    check_seed(a, b)
    sampling = plan_sampling(model, None, steps, sampler, guidance_scale, None, precision)
    given = check_conditions(model.config, condition)
    first, last = (draw_start(model, seed, 0, given) for seed in (a, b))
    _check_way(first.noise, last.noise, ts, kind)
    return _between_seeds(model, first, last, ts, kind, snap, sampling, given)


def blend(model: Model, a: Latent, b: Latent, t: float = 0.5, kind: Kind = "linear", snap: bool = True) -> Latent:
    """Return the latent between two encoded volumes that `interpolate` decodes.

    Parameters
    ----------
    model, a, b, t, kind, snap
        As in `interpolate`, for encoded ends and one ``t``.

    Returns
    -------
    Latent
        The end itself at ``t`` 0 and 1. Codes for a snapped ``vq-ldm``, else numbers. ``decode`` of it has the voxels
        of ``interpolate(model, a, b, t, kind, snap)``.

    Raises
    ------
    ShapeError
        If the grids differ.
    CheckpointError
        If a latent belongs to another model.
    ConfigError
        If ``t`` or ``kind`` does not fit, the voxel sizes differ, or the ends are opposite and ``kind`` is ``"slerp"``.
    """
    _check_ts([t], t, kind)
    _check_pair(model, a, b)
    mixed = _blend(model, a, b, t, kind, snap)
    if t in (0.0, 1.0):
        return mixed
    provenance = make_provenance(
        "blend",
        environment=describe_environment(str(model.device)),
        **model_record(model),
        t=t,
        kind=kind,
        snap=snap,
        ends=[dict(a.provenance), dict(b.provenance)],
    )
    return dataclasses.replace(mixed, provenance=provenance, name=f"{a.name}-to-{b.name}-t{t:.3f}")


def changed_codes(model: Model, a: Latent, b: Latent, t: float = 0.5, kind: Kind = "linear") -> CodeChange | None:
    """Count the codes that a snapped frame does not share with either end.

    Parameters
    ----------
    model, a, b, t, kind
        As in `interpolate`, for encoded ends and one ``t``.

    Returns
    -------
    CodeChange or None
        None for ``ldm``, which has no codes.

    Raises
    ------
    VqldmError
        As in `blend`.
    """
    mixed = blend(model, a, b, t, kind, snap=True)
    if mixed.codes is None or a.codes is None or b.codes is None:
        return None
    from_a, from_b = (int(np.count_nonzero(mixed.codes != end.codes)) for end in (a, b))
    return CodeChange(from_a, from_b, mixed.codes.size)


def _check_ts(ts: Sequence[float], given: object, kind: Kind) -> None:
    """Refuse places that are not on the path, and paths that are not known."""
    if not ts or not all(0.0 <= value <= 1.0 for value in ts):
        raise ConfigError(f"expected t from 0 to 1, got {given}")
    if kind not in PATHS:
        raise ConfigError(f"expected kind linear or slerp, got {kind!r}")


def _check_pair(model: Model, a: Latent, b: Latent) -> None:
    """Refuse ends that do not live on one grid of one model."""
    for end in (a, b):
        latent_tensor(model, end)
    if a.coded_shape != b.coded_shape or a.padding != b.padding or a.shape != b.shape:
        raise ShapeError(
            f"expected two latents on one grid, got volumes of {a.shape} and {b.shape} voxels (coded as "
            f"{a.coded_shape} and {b.coded_shape}): crop the stacks to one shape (in Fiji, say) and encode again"
        )
    if not np.allclose(a.voxel_size_um, b.voxel_size_um, rtol=1e-3, atol=0):
        raise ConfigError(
            f"expected one voxel size, got {a.voxel_size_um} and {b.voxel_size_um} um: choose stacks of one voxel "
            "size, or encode again with --voxel-size Z Y X where a file states a wrong one"
        )


def _check_way(a: Tensor, b: Tensor, ts: Sequence[float], kind: Kind) -> None:
    """Refuse ends that have no way between them, unless only the ends are wanted."""
    if kind == "slerp" and any(0.0 < t < 1.0 for t in ts):
        slerp(a, b, 0.5)


def _between_latents(
    model: Model, a: Latent, b: Latent, ts: Sequence[float], kind: Kind, snap: bool, max_voxels: int
) -> Iterator[InterpolationStep]:
    """Decode one blended latent per t."""
    done = 0
    for frame, t in enumerate(ts):
        for step in decode_steps(model, _blend(model, a, b, t, kind, snap), max_voxels=max_voxels):
            volume = step.volume
            if volume is not None:
                provenance = make_provenance(
                    "interpolate",
                    environment=describe_environment(str(model.device)),
                    **model_record(model),
                    t=t,
                    kind=kind,
                    snap=snap,
                    max_voxels=max_voxels,
                    ends=[dict(a.provenance), dict(b.provenance)],
                )
                name = f"{a.name}-to-{b.name}-t{t:.3f}"
                volume = seal(volume.with_data(volume.data, provenance=provenance, name=name))
            yield InterpolationStep(done, done + (len(ts) - frame) * step.total - step.index, t, volume)
            done += 1


def _blend(model: Model, a: Latent, b: Latent, t: float, kind: Kind, snap: bool) -> Latent:
    """Return the latent at t; the ends are handed through untouched."""
    if t in (0.0, 1.0):
        return b if t else a
    mixed = PATHS[kind](latent_tensor(model, a), latent_tensor(model, b), t)
    intensity = IntensityScale(
        (1 - t) * a.intensity.background + t * b.intensity.background,
        (1 - t) * a.intensity.scale + t * b.intensity.scale,
    )
    codes = None
    if snap and model.config.family == "vq-ldm":
        with torch.no_grad():
            codes = model.space.code_indices(mixed)[0].cpu().numpy().astype(np.int32)
    numbers = mixed[0].float().cpu().numpy() if codes is None else None
    return dataclasses.replace(a, latent=numbers, codes=codes, intensity=intensity, num_ties=0)


def _between_seeds(
    model: Model,
    a: Start,
    b: Start,
    ts: Sequence[float],
    kind: Kind,
    snap: bool,
    sampling: Sampling,
    given: Mapping[str, float | str],
) -> Iterator[InterpolationStep]:
    """Sample one volume per t from blended noise and conditions."""
    total = len(ts) * (sampling.steps + 1)
    done = 0
    for t in ts:
        # None: as the model samples, so that no frame differs in brightness from the ends for this reason alone.
        start, requantize = _blend_starts(a, b, t, kind), None if snap or t in (0.0, 1.0) else False
        latent = start.noise
        for step in sample_starts(model, [start], sampling):
            latent = step.latent[0]
            yield InterpolationStep(done, total, t, None)
            done += 1
        provenance = make_provenance(
            "interpolate",
            environment=describe_environment(str(model.device)),
            **model_record(model),
            t=t,
            kind=kind,
            snap=snap,
            seeds=[a.seed, b.seed],
            condition=dict(given) or None,
            conditions=dict(start.conditions.values),
            **sampling.to_dict(),
        )
        name = f"{model.name}-seed{a.seed}-to-seed{b.seed}-t{t:.3f}"
        volume = decode_start(model, latent, start, sampling, provenance, name, requantize)
        yield InterpolationStep(done, total, t, volume)
        done += 1


def _blend_starts(a: Start, b: Start, t: float, kind: Kind) -> Start:
    """Return noise and conditions at t; the ends are handed through untouched.

    The fresh noise of stochastic samplers turns from one end's to the other's whatever ``kind``: a linear mean of two
    draws has less noise than each, and every step would lack it.
    """
    if t in (0.0, 1.0):
        return b if t else a
    return Start(
        a.seed,
        a.index,
        PATHS[kind](a.noise, b.noise, t),
        lambda step: slerp(a.step_noise(step), b.step_noise(step), t),
        blend_conditions(a.conditions, b.conditions, t),
    )
