"""A rough volume for a latent within milliseconds, to look at while the full decoder works.

`LinearDecoder` is one linear map from a latent cell and its 26 neighbors, and from products of channels, to the voxels
of that cell. It shows where filaments are and roughly how bright, with ringing around them; the
decoder itself makes what is kept or measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import exact_math
from napari_vqldm.config import Int3, SimulationConfig
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.simulate import Simulator, tier
from napari_vqldm.tiles import choose_tile

_SEED = 0x70726576  # names the simulated volumes of the fit
_RIDGE = 1e-4  # of the mean square of the features
_MAX_PAIRED = 6
_MAX_VOXELS = 2**20  # per simulated volume: larger windows are cut, more cells hardly change the map


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """A linear stand-in for the decoder of one model, see `fit_linear_decoder`.

    Attributes
    ----------
    weight : Tensor
        (V, F, 3, 3, 3): from the F features of a cell and its neighbors, see `lift`, to the V voxels of that cell; on
        the device of the model.
    bias : Tensor
        (V,).
    latent_channels : int
        C of the latents that it takes.
    downsampling_factor : tuple of int
        Voxels (z, y, x) of a cell; their product is V.
    r2 : float
        Coefficient of determination against the full decoder on a held-out simulated volume.
    """

    weight: Tensor
    bias: Tensor
    latent_channels: int
    downsampling_factor: Int3
    r2: float

    def decode(self, latent: npt.NDArray[Any] | Tensor) -> npt.NDArray[np.float32]:
        """Return a rough volume.

        Parameters
        ----------
        latent : ndarray or Tensor
            (C, d, h, w), standardised, e.g. ``GenerationStep.preview``.

        Returns
        -------
        ndarray
            float32 (Z, Y, X), filament units.

        Raises
        ------
        ShapeError
            If ``latent`` has another number of axes or channels, or an empty axis.
        """
        if latent.ndim != 4 or latent.shape[0] != self.latent_channels or 0 in latent.shape:
            raise ShapeError(f"expected one latent ({self.latent_channels}, d, h, w), got {tuple(latent.shape)}")
        with exact_math(self.weight.device, "fp32"):
            tensor = torch.as_tensor(latent).to(self.weight.device, torch.float32)
            blocks = F.conv3d(_continued(lift(tensor))[None], self.weight, self.bias)[0]
            volume: npt.NDArray[np.float32] = _voxels(blocks, self.downsampling_factor).contiguous().cpu().numpy()
        return volume


def fit_linear_decoder(model: Model, volumes: int = 2, *, rate: bool = True) -> LinearDecoder:
    """Fit a linear map to what the full decoder makes of simulated volumes: ridge least squares.

    The volumes come from the distribution that the model was trained on (the standard tier where it is not on record),
    recorded by its camera, of the size of the trained window. With a KL posterior they are encoded to a draw from it
    instead of its mean, as generated latents look. The same model gives the same map.

    Parameters
    ----------
    model : Model
        From `load`; no denoiser is needed.
    volumes : int
        Simulated volumes to fit to.
    rate : bool
        Measure ``r2`` on one more; else it is NaN.

    Returns
    -------
    LinearDecoder

    Raises
    ------
    ConfigError
        If ``volumes`` is below 1.
    """
    if volumes < 1:
        raise ConfigError(f"expected 1 or more volumes to fit to, got {volumes}")
    factor, channels = model.space.autoencoder.downsampling_factor, model.space.autoencoder.latent_channels
    simulator = Simulator(_distribution(model))
    weight, bias = _solve(
        (_features(latent), _blocks(decoded, factor))
        for latent, decoded in (_example(model, simulator, index) for index in range(volumes))
    )
    kernel = rearrange(weight, "(f z y x) v -> v f z y x", z=3, y=3, x=3).contiguous()
    unrated = LinearDecoder(kernel.to(model.device), bias.to(model.device), channels, factor, math.nan)
    if not rate:
        return unrated
    latent, decoded = _example(model, simulator, volumes)
    r2 = coefficient_of_determination(decoded.numpy(), unrated.decode(latent))
    return replace(unrated, r2=r2)


def lift(latent: Tensor) -> Tensor:
    """Append products of channels over the length of the vector: (C, d, h, w) to (F, d, h, w).

    All pairs for up to 6 channels, else squares. A decoder answers to both signs of a channel and is nearly deaf to
    small noise, which no linear map is. Divided by the length, products grow no faster than the latent itself.
    """
    channels = len(latent)
    pairs = (
        combinations_with_replacement(range(channels), 2)
        if channels <= _MAX_PAIRED
        else ((i, i) for i in range(channels))
    )
    length = (1.0 + latent.square().sum(0)).sqrt()
    return torch.cat([latent, torch.stack([latent[i] * latent[j] / length for i, j in pairs])])


def coefficient_of_determination(truth: npt.NDArray[Any], estimate: npt.NDArray[Any]) -> float:
    """Return 1 - squared error / variance: 1 is exact, 0 as good as the mean of ``truth``; NaN if it is constant."""
    spread = float(np.square(truth - truth.mean(dtype=np.float64)).sum(dtype=np.float64))
    error = float(np.square(np.subtract(truth, estimate, dtype=np.float64)).sum())
    return 1.0 - error / spread if spread > 0 else math.nan


def _distribution(model: Model) -> SimulationConfig:
    """Return what to simulate: the training distribution, of the trained window or, if that is large, a part of it."""
    shape = model.config.window
    if model.space.autoencoder.is_tileable:
        shape = choose_tile(shape, model.space.autoencoder.downsampling_factor, (0, 0, 0), _MAX_VOXELS)
    return (model.config.simulation or tier()).model_copy(update={"shape": shape})


def _example(model: Model, simulator: Simulator, index: int) -> tuple[Tensor, Tensor]:
    """Return the latent (C, d, h, w) of a simulated volume and what the full decoder makes of it (Z, Y, X), CPU."""
    noisy = simulator.sample(_SEED, [index]).noisy
    if noisy is None:
        raise ConfigError("expected a recorded volume from the simulator, got none")
    with exact_math(model.device, "fp32"):
        encoding = model.space.autoencoder.encode(noisy.to(model.device))
        noise = None
        if encoding.log_variance is not None:
            generator = torch.Generator().manual_seed(index)
            noise = torch.randn(encoding.mean.shape, generator=generator).to(model.device)
        latent = model.space.latent_of(encoding, noise)
        decoded = model.space.decode(latent)
    return latent[0].float().cpu(), decoded[0, 0].float().cpu()


def _solve(examples: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Ridge least squares over pairs of features (n, p) and voxels (n, V); returns (p, V) and a constant (V,)."""
    # Sums of squares and products about running sums, in float64: one example in memory at a time.
    gram, moment, count = torch.zeros(()), torch.zeros(()), 0
    for features, blocks in examples:
        x = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
        gram, moment, count = gram + x.T @ x, moment + x.T @ blocks.double(), count + len(features)
    size = float(gram.diagonal()[:-1].mean()) or 1.0  # a collapsed encoder gives zeros alone
    ridge = torch.full((len(gram),), _RIDGE * size, dtype=torch.float64)
    ridge[-1] = 0.0  # the constant is free
    solution = torch.linalg.solve(gram + torch.diag(ridge), moment)
    return solution[:-1].float(), solution[-1].float()


def _continued(latent: Tensor) -> Tensor:
    """Add one cell (C, d + 2, h + 2, w + 2) on every side by repeating the outermost."""
    for axis in (1, 2, 3):
        size = latent.shape[axis]
        cells = torch.arange(-1, size + 1, device=latent.device).clamp(0, size - 1)
        latent = latent.index_select(axis, cells)
    return latent


def _features(latent: Tensor) -> Tensor:
    """Return every cell's neighborhood (d*h*w, F*27)."""
    windows = _continued(lift(latent)).unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
    return rearrange(windows, "f d h w z y x -> (d h w) (f z y x)")


def _blocks(volume: Tensor, factor: Int3) -> Tensor:
    """Cut a volume (Z, Y, X) into the voxels of each cell (d*h*w, V)."""
    z, y, x = factor
    return rearrange(volume, "(d z) (h y) (w x) -> (d h w) (z y x)", z=z, y=y, x=x)


def _voxels(blocks: Tensor, factor: Int3) -> Tensor:
    """Put the voxels (V, d, h, w) of each cell in their places: (Z, Y, X)."""
    z, y, x = factor
    return rearrange(blocks, "(z y x) d h w -> (d z) (h y) (w x)", z=z, y=y, x=x)
