"""The verb `uncertainty`: how far a reconstruction moves when what it was made from is drawn again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.files.provenance import describe_input, make_provenance
from napari_vqldm.intensity import IntensityScale, estimate_intensity
from napari_vqldm.metrics.noise import NoiseEstimate, estimate_noise
from napari_vqldm.metrics.uncertainty import RunningSpread, Spread
from napari_vqldm.reconstruct import decode_steps, encode_steps, reconstruct_steps
from napari_vqldm.simulate.draws import check_seed, generator_for
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Volume, seal

Kind = Literal["noise", "posterior"]
Statistic = Literal["standard_deviation", "mean"]

_NOISE, _POSTERIOR = 11, 12  # streams of the draws


class _Coding(TypedDict):
    """How every draw is coded."""

    intensity: IntensityScale
    max_voxels: int


@dataclass(frozen=True)
class Uncertainty:
    """Spread of the draws.

    Attributes
    ----------
    standard_deviation, mean : Volume
        Of each voxel over the draws, units of the input; K - 1 in the denominator of the variance.
    num_draws : int
        K.
    """

    standard_deviation: Volume
    mean: Volume
    num_draws: int


@dataclass(frozen=True)
class UncertaintyStep:
    """Progress of `uncertainty_steps`: one tile of draw ``draw``; ``result`` is set by the last step.

    ``total`` is known when the first draw is encoded; until then it counts as many tiles to decode as to encode.
    """

    index: int
    total: int
    draw: int
    result: Uncertainty | None


def uncertainty(
    model: Model,
    volume: Volume,
    draws: int = 8,
    seed: int = 0,
    kind: Kind = "noise",
    *,
    statistic: Statistic = "standard_deviation",
    intensity: IntensityScale | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Map how far the reconstruction of a stack moves over draws.

    Parameters
    ----------
    model : Model
        From `load`.
    volume : Volume
        As for `reconstruct`.
    draws : int
        How many, from 2; 8 read 3.5 % low, see `napari_vqldm.metrics.uncertainty.voxel_spread`.
    seed : int
        From 0 to 2**64 - 1. Draw ``i`` of a seed is the same whatever the number of draws.
    kind : str
        ``"noise"``: the input with fresh noise of the level that is estimated from it, reconstructed each time: how far
        photons decide. ``"posterior"``: draws from the encoder's posterior (``ldm`` alone): what the encoder leaves
        open.
    statistic : str
        What to return: ``"standard_deviation"``, or the ``"mean"`` of the draws.
    intensity, max_voxels
        As in `reconstruct`. The intensity is estimated once, from the input, and held for every draw.

    Returns
    -------
    Volume
        Standard deviation of each voxel, units of the input.

    Raises
    ------
    ConfigError
        If an argument is out of range, or the posterior of a ``vq-ldm`` is asked for, which has none.
    VolumeError
        If the stack is constant, or ``kind`` is ``"noise"`` and the stack shows no noise that could be drawn again.

    Notes
    -----
    Fresh noise is normal with the variance a + b m (see `napari_vqldm.metrics.noise.estimate_noise`), m the local mean
    of the input. It comes on top of the noise that the input has: the reconstructed stacks are noisier by a factor
    of 1.4, and the map is the spread that a second exposure would cause there. The spread does not see what is wrong in
    every draw alike.
    """
    if statistic not in ("standard_deviation", "mean"):
        raise ConfigError(f"expected statistic standard_deviation or mean, got {statistic!r}")
    steps = uncertainty_steps(model, volume, draws, seed, kind, intensity=intensity, max_voxels=max_voxels)
    result = next(step.result for step in steps if step.result is not None)
    return result.mean if statistic == "mean" else result.standard_deviation


def uncertainty_steps(
    model: Model,
    volume: Volume,
    draws: int = 8,
    seed: int = 0,
    kind: Kind = "noise",
    *,
    intensity: IntensityScale | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Iterator[UncertaintyStep]:
    """Stepwise twin of `uncertainty`: one step per tile; close it to cancel. The request is checked before the first.

    Every draw is added to running sums: memory does not grow with their number.
    """
    if kind not in ("noise", "posterior"):
        raise ConfigError(f"expected kind noise or posterior, got {kind!r}")
    if draws < 2:
        raise ConfigError(f"expected 2 draws or more, got {draws}: one draw has no spread")
    check_seed(seed)
    if kind == "posterior" and model.config.family != "ldm":
        raise ConfigError(
            f"model {model.name} is a {model.config.family}: its codes have no posterior to draw from: use kind noise"
        )
    noise = estimate_noise(volume.data) if kind == "noise" else None
    if noise is not None and noise.reason is not None:
        other = " or kind posterior" if model.config.family == "ldm" else ""
        raise VolumeError(f"{volume.name}: no noise to draw again: {noise.reason}: give a recorded stack{other}")
    held = intensity or estimate_intensity(volume.data)
    request = {
        "model": model.name,
        "family": model.config.family,
        "weights_sha256": model.weights_sha256,
        "draws": draws,
        "seed": seed,
        "kind": kind,
        "noise": None if noise is None else {"offset": noise.offset, "slope": noise.slope},
        "intensity": {"background": held.background, "scale": held.scale},
        "is_intensity_estimated": intensity is None,
        "max_voxels": max_voxels,
    }
    coding: _Coding = {"intensity": held, "max_voxels": max_voxels}
    if noise is not None:
        tiles = _noise_draws(model, volume, noise, seed, draws, coding)
    else:
        tiles = _posterior_draws(model, volume, seed, draws, coding)
    return _spread(model, volume, tiles, draws, request)


def draw_noise(volume: Volume, noise: NoiseEstimate, seed: int, draw: int) -> Volume:
    """Return the volume with fresh noise of draw ``draw`` of ``seed``: a function of its arguments alone."""
    normal = generator_for(seed, draw, _NOISE).standard_normal(volume.shape, dtype=np.float32)
    return volume.with_data(volume.data + noise.standard_deviation(volume.data) * normal)


@dataclass(frozen=True)
class _Tile:
    """One tile of a draw, how many are left of all draws as far as known, and the draw if this tile finished it."""

    draw: int
    left: int
    volume: Volume | None


def _noise_draws(
    model: Model, volume: Volume, noise: NoiseEstimate, seed: int, draws: int, coding: _Coding
) -> Iterator[_Tile]:
    """Reconstruct the volume with fresh noise, once per draw."""
    for draw in range(draws):
        for step in reconstruct_steps(model, draw_noise(volume, noise, seed, draw), **coding):
            left = step.total - step.index - 1 + (draws - draw - 1) * step.total
            yield _Tile(draw, left, step.volume)


def _posterior_draws(model: Model, volume: Volume, seed: int, draws: int, coding: _Coding) -> Iterator[_Tile]:
    """Encode once, and decode one latent of the posterior per draw."""
    mean = deviation = None
    for step in encode_steps(model, volume, **coding):
        mean, deviation = step.latent, step.posterior_deviation
        yield _Tile(0, step.total - step.index - 1 + draws * step.total, None)
    if mean is None or mean.latent is None or deviation is None:
        raise ConfigError(f"model {model.name} has no posterior to draw from: use kind noise")
    for draw in range(draws):
        normal = generator_for(seed, draw, _POSTERIOR).standard_normal(deviation.shape, dtype=np.float32)
        drawn = dataclasses.replace(mean, latent=mean.latent + deviation * normal)
        for step in decode_steps(model, drawn, max_voxels=coding["max_voxels"]):
            left = step.total - step.index - 1 + (draws - draw - 1) * step.total
            yield _Tile(draw, left, step.volume)


def _spread(
    model: Model, volume: Volume, tiles: Iterator[_Tile], draws: int, request: dict[str, Any]
) -> Iterator[UncertaintyStep]:
    """Add the draws up as they come."""
    running = RunningSpread()
    for index, tile in enumerate(tiles):
        result = None
        if tile.volume is not None:
            running.add(tile.volume.data)
            result = _result(model, volume, running.spread(), request) if tile.draw == draws - 1 else None
        yield UncertaintyStep(index, index + 1 + tile.left, tile.draw, result)


def _result(model: Model, volume: Volume, spread: Spread, request: dict[str, Any]) -> Uncertainty:
    def named(statistic: Statistic, data: npt.NDArray[np.float32]) -> Volume:
        provenance = make_provenance(
            "uncertainty",
            environment=describe_environment(str(model.device)),
            **describe_input(volume),
            **request,
            statistic=statistic,
            name=volume.name,
        )
        suffix = "uncertainty" if statistic == "standard_deviation" else "uncertainty-mean"
        return seal(Volume(data, volume.voxel_size_um, provenance, f"{volume.name}-{suffix}"))

    deviation, mean = spread.standard_deviation, spread.mean
    return Uncertainty(named("standard_deviation", deviation), named("mean", mean), spread.num_draws)
