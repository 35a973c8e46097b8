"""Which channels of a continuous latent (`ldm`) say something about the volume, over a set of volumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import CheckpointError
from napari_vqldm.files import read_volume
from napari_vqldm.files.streaming import Read, Source, Worked, each_volume
from napari_vqldm.reconstruct import encode_steps
from napari_vqldm.volume import Volume

# A channel is active when its posterior mean varies by more than this over cells, in units of the prior's variance:
# Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), "activity of a latent dimension".
ACTIVE_VARIANCE = 0.01

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelReport:
    """How the channels of a latent are used, all arrays (C,).

    Attributes
    ----------
    mean, sd : ndarray
        Of the posterior mean over cells, in the latent as the encoder returns it: the prior is N(0, 1).
    standardised_mean, standardised_sd : ndarray
        The same in the latent that files and the denoiser see: 0 and 1 on volumes like those of the training.
    kl_nats : ndarray
        Mean KL divergence of the posterior to N(0, 1), nats per cell.
    is_active : ndarray
        bool: ``sd`` squared exceeds 0.01.
    num_cells : int
        Latent cells counted.
    """

    mean: Array
    sd: Array
    standardised_mean: Array
    standardised_sd: Array
    kl_nats: Array
    is_active: npt.NDArray[np.bool_]
    num_cells: int

    @property
    def warning(self) -> str:
        """One line when channels say nothing, else empty."""
        silent = np.flatnonzero(~self.is_active).tolist()
        if not silent:
            return ""
        if len(silent) == len(self.is_active):
            return "posterior collapse: no channel varies with the volume: the decoder does not look at the latent"
        numbers = ", ".join(map(str, silent))
        return (
            f"{len(silent)} of {len(self.is_active)} channels do not vary with the volume and carry nothing: {numbers}"
        )


@dataclass(frozen=True)
class ChannelStep:
    """One volume is counted, or cannot be; ``report`` is over all volumes so far, None before the first.

    ``name`` and ``problem`` as in `napari_vqldm.codebook.CodebookStep`.
    """

    index: int
    total: int
    report: ChannelReport | None
    name: str
    problem: str = ""


def channel_report(model: Model, volumes: Iterable[Source], *, read: Read = read_volume) -> ChannelReport:
    """Measure how the channels of an ``ldm`` are used over a set of volumes.

    Parameters
    ----------
    model : Model
        An ``ldm``.
    volumes, read
        As in `napari_vqldm.codebook.codebook_usage`.

    Returns
    -------
    ChannelReport

    Raises
    ------
    CheckpointError
        If the model has a codebook.
    ConfigError, FileError
        If there is no volume, or not one file can be used.
    """
    reports = [step.report for step in channel_steps(model, volumes, read=read)]
    return next(report for report in reversed(reports) if report is not None)


def channel_steps(model: Model, volumes: Iterable[Source], *, read: Read = read_volume) -> Iterator[ChannelStep]:
    """Stepwise twin of `channel_report`: one step per volume; close it to cancel."""
    if model.config.family != "ldm":
        raise CheckpointError(
            f"model {model.name} is a {model.config.family}: its channels are told by codes: use codebook_usage"
        )
    return _sum(model, each_volume(volumes, lambda _, volume: _sums(model, volume), read))


@dataclass(frozen=True)
class _Sums:
    """Of one set of cells: number, mean and sum of squared deviations of the posterior mean, mean KL; raw latent."""

    cells: int
    mean: Array
    squares: Array
    kl: Array

    def __add__(self, other: _Sums) -> _Sums:
        # Chan, Golub & LeVeque 1983: no cancellation, whatever the mean.
        cells = self.cells + other.cells
        step, part = other.mean - self.mean, other.cells / cells
        return _Sums(
            cells,
            self.mean + step * part,
            self.squares + other.squares + step**2 * self.cells * part,
            self.kl + (other.kl - self.kl) * part,
        )


def _sums(model: Model, volume: Volume) -> _Sums:
    latent = deviation = None
    for step in encode_steps(model, volume):
        latent, deviation = step.latent, step.posterior_deviation
    if latent is None or latent.latent is None or deviation is None:
        raise CheckpointError(f"model {model.name} gives no posterior: use an ldm")
    offset, scale = (values.double().cpu().numpy()[:, None] for values in (model.space.mean, model.space.scale))
    channels = len(latent.latent)
    mean = latent.latent.reshape(channels, -1) * scale + offset  # (C, cells), raw
    variance = (deviation.reshape(channels, -1) * scale) ** 2
    kl = 0.5 * (mean**2 + variance - 1.0 - np.log(variance))
    centre = mean.mean(axis=1)
    return _Sums(mean.shape[1], centre, ((mean - centre[:, None]) ** 2).sum(axis=1), kl.mean(axis=1))


def _sum(model: Model, worked: Iterator[Worked[_Sums]]) -> Iterator[ChannelStep]:
    sums: _Sums | None = None
    offset, scale = (values.double().cpu().numpy() for values in (model.space.mean, model.space.scale))
    for one in worked:
        if one.result is not None:
            sums = one.result if sums is None else sums + one.result
        yield ChannelStep(one.index, one.total, _report(sums, offset, scale), one.name, one.problem)


def _report(sums: _Sums | None, offset: Array, scale: Array) -> ChannelReport | None:
    if sums is None:
        return None
    variance = sums.squares / sums.cells
    sd = np.sqrt(variance)
    return ChannelReport(
        sums.mean, sd, (sums.mean - offset) / scale, sd / scale, sums.kl, variance > ACTIVE_VARIANCE, sums.cells
    )
