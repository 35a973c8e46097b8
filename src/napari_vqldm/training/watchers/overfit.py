"""Watchers of memorization: the training set gets better, held-out volumes get worse."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from napari_vqldm.training.watchers.base import MeanWatcher, Trouble

RISE = 1.10  # held-out loss over its best
CHECKS = 2  # in a row
FALL_DB = 1.0  # held-out PSNR below its best
OVER_DB = 0.5  # above the noise ceiling: photons differ between the crops of a window


class DenoiserOverfit(MeanWatcher):
    """The held-out loss rises, the training loss falls."""

    name = "overfit"
    wanted = ("loss",)

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Judge at every check: training loss since the last one against the held-out loss."""
        if "held_out_loss" not in numbers or not self.window.count:
            return self.trouble
        held_out, train = numbers["held_out_loss"], self.window.take()["loss"][0]
        if not self.memory or held_out <= self.memory["best"]:
            self.memory = {"best": held_out, "train": train, "bad": 0}
        worse = held_out > RISE * self.memory["best"] and train < self.memory["train"]
        self.memory = self.memory | {"bad": self.memory["bad"] + 1 if worse else 0}
        self.trouble = None
        if self.memory["bad"] >= CHECKS:
            ratio = held_out / self.memory["best"]
            self.trouble = Trouble(
                self.name,
                f"the held-out loss is {ratio:.3g} times its best while the training loss falls: raise "
                "data.num_volumes, latents.augmentations or denoiser.weight_decay, lower denoiser.steps, or use fewer "
                "model.denoiser.channels",
                ratio,
            )
        return self.trouble


class AutoencoderOverfit(MeanWatcher):
    """The held-out PSNR falls while the training improves, or the network describes the noise of its target.

    Parameters
    ----------
    noise_ceiling_db : float or None
        10 log10(1 / MSE), volumes in filament units, that a perfect noise-free reconstruction has to its own noisy
        target; a network above it copies noise. None: the target has no noise, or how much is not known.
    least : int
        Steps of a training window.
    """

    name = "overfit"
    wanted = ("mse",)

    def __init__(self, noise_ceiling_db: float | None = None, least: int = 1) -> None:
        super().__init__(least)
        self.noise_ceiling_db = noise_ceiling_db

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean squared error of the reconstruction."""
        return {"mse": terms["mse"].detach().float().mean()} if "mse" in terms else {}

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Judge at every check."""
        held_out = numbers.get("held_out_average_db", numbers.get("held_out_psnr_unit_range_db"))
        if held_out is None or self.window.count < self.least:
            return self.trouble
        train_db = -10.0 * math.log10(max(self.window.take()["mse"][0], 1e-20))
        if not self.memory or held_out >= self.memory["best_db"]:
            self.memory = {"best_db": held_out, "train_db": train_db}
        self.trouble = self._judged(held_out, train_db)
        return self.trouble

    def _judged(self, held_out: float, train_db: float) -> Trouble | None:
        """Compare with the best check and with the ceiling."""
        fall = self.memory["best_db"] - held_out
        if fall > FALL_DB and train_db > self.memory["train_db"]:
            return Trouble(
                self.name,
                f"held-out volumes are {fall:.2f} dB below their best while the training improves: raise "
                "data.num_volumes or autoencoder.weight_decay, lower autoencoder.steps, or use a smaller network",
                fall,
            )
        if self.noise_ceiling_db is not None and train_db > self.noise_ceiling_db + OVER_DB:
            over = train_db - self.noise_ceiling_db
            return Trouble(
                self.name,
                f"the reconstruction is {over:.2f} dB closer to its noisy target than the noise allows: it copies "
                "noise, lower autoencoder.steps or model.autoencoder.latent_channels, or use model.target = 'clean'",
                over,
            )
        return None
