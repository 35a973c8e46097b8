"""Watchers of the latent space: a posterior that says nothing, a codebook that is not used, a scale that drifts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_vqldm.quantizers import CodeUsage
from napari_vqldm.training.watchers.base import State, Trouble, WindowWatcher

COLLAPSED_NATS = 0.01  # KL per latent element
COLLAPSED_SHARE = 0.5  # of the channels
LEAST_PERPLEXITY = 0.05  # of the codebook size
LEAST_USED = 0.10
VECTORS_PER_CODE = 16
LEAST_STEPS = 20  # of a window whose mean shall not be noise
AUTOENCODER_STD = (0.05, 20.0)
DENOISER_STD = (0.7, 1.4)
DRIFT = 2.0
KL_WEIGHT = "autoencoder.kl_weight"
COMMITMENT_WEIGHT = "model.autoencoder.quantizer.commitment_weight"


class PosteriorCollapse(WindowWatcher):
    """Half of the channels or more tell nothing about the volume: their KL to the prior is nearly zero.

    Parameters
    ----------
    after : int
        Steps before, while the KL weight still rises or the encoder has not learned to speak.
    least : int
        Steps of a window.
    """

    name = "posterior_collapse"
    wanted = ("kl_channels",)

    def __init__(self, after: int, least: int = 1) -> None:
        super().__init__(least)
        self.after = after

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return nats per element and channel (C,)."""
        found = terms.get("kl_channels")
        return {} if found is None or step <= self.after else {"kl_channels": found.detach().float()}

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Count the channels that tell nothing."""
        channels = means["kl_channels"]
        silent = sum(value < COLLAPSED_NATS for value in channels)
        if silent < COLLAPSED_SHARE * len(channels):
            return None
        return Trouble(
            self.name,
            f"{silent} of {len(channels)} latent channels carry less than {COLLAPSED_NATS} nats per element: "
            "lower autoencoder.kl_weight (a large one drives the posterior into the prior) or "
            "model.autoencoder.latent_channels",
            silent / len(channels),
        )


class CodebookCollapse:
    """Few codes are used over as many steps as show every training volume once.

    Parameters
    ----------
    codebook_size : int
        Codes K.
    least : int
        Steps of a window; it also holds at least 16 K vectors.
    """

    name = "codebook_collapse"

    def __init__(self, codebook_size: int, least: int = LEAST_STEPS) -> None:
        self.size, self.least = codebook_size, max(LEAST_STEPS, least)
        self.steps = self.vectors = 0
        self.trouble: Trouble | None = None
        self._counts: Tensor | None = None  # (K,) on the device of the codes
        self._carried = torch.zeros(codebook_size, dtype=torch.int64)

    def observe(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Count the codes of a step; `torch.bincount` would wait for the device."""
        found = terms.get("code_indices")
        if found is None:
            return
        flat = found.detach().flatten().long().clamp(0, self.size - 1)
        if self._counts is None or self._counts.device != flat.device:
            self._fold()
            self._counts = torch.zeros(self.size, dtype=torch.int64, device=flat.device)
        self._counts.scatter_add_(0, flat, torch.ones_like(flat))
        self.steps, self.vectors = self.steps + 1, self.vectors + len(flat)

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Judge a full window."""
        if self.steps >= self.least and self.vectors >= VECTORS_PER_CODE * self.size:
            self._fold()
            self.trouble = self._judge(CodeUsage(self._carried.numpy()))
            self._carried = torch.zeros(self.size, dtype=torch.int64)
            self.steps = self.vectors = 0
        return self.trouble

    def state(self) -> State:
        """Return counts and verdict."""
        self._fold()
        trouble = self.trouble
        return {
            "steps": self.steps,
            "vectors": self.vectors,
            "counts": self._carried.tolist(),
            "trouble": None if trouble is None else [trouble.watcher, trouble.message, trouble.value],
        }

    def load(self, state: State) -> None:
        """Take back `state`."""
        self.steps, self.vectors = int(state["steps"]), int(state["vectors"])
        self._counts, self._carried = None, torch.tensor(state["counts"], dtype=torch.int64)
        self.trouble = Trouble(*state["trouble"]) if state["trouble"] else None

    def _judge(self, usage: CodeUsage) -> Trouble | None:
        """Compare perplexity and used codes with the size."""
        used = self.size - usage.dead_codes
        if usage.perplexity >= LEAST_PERPLEXITY * self.size and used >= LEAST_USED * self.size:
            return None
        return Trouble(
            self.name,
            f"{used} of {self.size} codes are used, perplexity {usage.perplexity:.1f}: set restart = true, "
            "kind = 'ema' or a smaller codebook_size in model.autoencoder.quantizer, or change "
            "autoencoder.kmeans_after",
            usage.perplexity,
        )

    def _fold(self) -> None:
        """Move the counts to the CPU."""
        if self._counts is not None:
            self._carried = self._carried + self._counts.cpu()
            self._counts = None


class ScaleDrift(WindowWatcher):
    """The latent of the autoencoder has no stable scale.

    Parameters
    ----------
    steps : int
        Steps of the stage: the last quarter is compared with the middle one.
    least : int
        Steps of a window.
    price : str
        Key of the configuration that holds the latent together.
    """

    name = "scale_drift"
    wanted = ("latent_std",)

    def __init__(self, steps: int, least: int = LEAST_STEPS, price: str = KL_WEIGHT) -> None:
        super().__init__(least)
        self.steps, self.price = steps, price
        self.memory = {"sum": 0.0, "windows": 0}

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the standard deviation of the latent of a step."""
        if "latent_std" not in terms and "latent" in terms:
            return {"latent_std": terms["latent"].detach().float().std()}
        return super().pick(step, terms)

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Compare with fixed limits, and late in training with its middle."""
        (value,) = means["latent_std"]
        low, high = AUTOENCODER_STD
        part = step / self.steps
        if value > high or (value < low and part > 0.25):  # an encoder starts with small weights
            return Trouble(
                self.name,
                f"the standard deviation of the latent is {value:.3g}, expected {low} to {high}: raise "
                f"{self.price} if it is large, lower it or autoencoder.learning_rate if it is small",
                value,
            )
        if 0.375 < part <= 0.625:
            self.memory = {"sum": self.memory["sum"] + value, "windows": self.memory["windows"] + 1}
        if part <= 0.75 or not self.memory["windows"]:
            return None
        middle = self.memory["sum"] / self.memory["windows"]
        if middle / DRIFT <= value <= middle * DRIFT:
            return None
        return Trouble(
            self.name,
            f"the standard deviation of the latent went from {middle:.3g} at half of the training to {value:.3g}: "
            f"train longer, lower autoencoder.learning_rate or raise {self.price}",
            value / middle,
        )


class LatentScale(WindowWatcher):
    """The denoiser is given latents that do not have unit variance."""

    name = "scale_drift"
    wanted = ("latent_std",)

    def __init__(self, least: int = LEAST_STEPS) -> None:
        super().__init__(least)

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Compare with fixed limits."""
        (value,) = means["latent_std"]
        low, high = DENOISER_STD
        if low <= value <= high:
            return None
        return Trouble(
            self.name,
            f"the standardised latents have the standard deviation {value:.3g}, expected {low} to {high}: the cache or "
            "its scale belongs to another autoencoder, run with --stage latents --fresh",
            value,
        )
