"""Watchers of adversarial training: a loss that runs away, a discriminator that teaches nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_vqldm.training.watchers.base import State, Trouble, WindowWatcher
from napari_vqldm.training.watchers.latent import LEAST_STEPS

WORSE = 2.0  # reconstruction loss over its best; volumes differ, and the onset of a good adversary costs 1.6
RECENT = 3  # windows whose mean is compared: single ones differ by what volumes they hold
GROWTH = 20.0  # adversarial loss over its first window
SMALL_ADVERSARIAL = 0.5  # a first window below counts as this: a hinge loss begins at zero
SAME_LOGITS = 0.05  # a discriminator that never learns has 0.003 to 0.04, one at work 0.05 to 0.8
NOT_LEARNED = 0.8  # loss over that of its first window: of good reconstructions there is little to tell, but it learned
WON_LOSS = 0.01
SETTLED_STEPS = 200  # that a discriminator gets to learn something


class AdversarialInstability(WindowWatcher):
    """The reconstruction gets worse, or the adversarial loss grows without end, once the adversary has begun.

    Parameters
    ----------
    least : int
        Steps of a window.
    after : int
        Steps before, while codes are skipped: without them the reconstruction is better than it can be later.
    """

    name = "adversarial_instability"
    wanted = ("reconstruction", "adversarial")

    def __init__(self, least: int = LEAST_STEPS, after: int = 0) -> None:
        super().__init__(least)
        self.after = after

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the reconstruction loss and the size of the adversarial one, which is absent before it begins."""
        reconstruction = terms.get("l1", terms.get("mse"))
        if reconstruction is None or step <= self.after:
            return {}
        adversarial = terms.get("adversarial", torch.zeros_like(reconstruction)).detach().float().mean().abs()
        return {"reconstruction": reconstruction.detach().float().mean(), "adversarial": adversarial}

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Compare with the first window and with the best one, which counts from the last before the adversary began.

        A weight far too large spoils the reconstruction at once: among later windows alone all are bad.
        """
        reconstruction, adversarial = means["reconstruction"][0], means["adversarial"][0]
        if adversarial == 0.0 and "first" not in self.memory:
            self.memory = {"best": reconstruction}
            return None
        recent = [self.memory[f"recent{i}"] for i in range(RECENT) if f"recent{i}" in self.memory]
        recent = [reconstruction, *recent][:RECENT]
        level = sum(recent) / len(recent)
        best = min(level, self.memory.get("best", level))
        first = self.memory.get("first", adversarial)
        self.memory = {"best": best, "first": first, **{f"recent{i}": value for i, value in enumerate(recent)}}
        remedy = (
            "lower autoencoder.adversarial_weight or autoencoder.discriminator_learning_rate, lengthen "
            "autoencoder.adversarial_ramp, or begin later (autoencoder.adversarial_start)"
        )
        if min(level, reconstruction) > WORSE * best:
            ratio = level / best if best else float("inf")
            return Trouble(self.name, f"the reconstruction loss is {ratio:.3g} times its best: {remedy}", ratio)
        ratio = adversarial / max(first, SMALL_ADVERSARIAL)
        if ratio > GROWTH:
            return Trouble(self.name, f"the adversarial loss has grown by a factor of {ratio:.3g}: {remedy}", ratio)
        return None


class DeadDiscriminator(WindowWatcher):
    """The discriminator cannot tell real from reconstructed, or tells them apart without fail: no gradient to use."""

    name = "dead_discriminator"
    wanted = ("real", "fake", "loss")

    def __init__(self, least: int = LEAST_STEPS, settled: int = SETTLED_STEPS) -> None:
        super().__init__(least)
        self.settled = settled
        self.trained = 0  # steps of the discriminator

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return mean logits and loss."""
        names = {"real": "logits_real", "fake": "logits_fake", "loss": "discriminator_loss"}
        if not all(name in terms for name in names.values()):
            return {}
        self.trained += 1
        return {short: terms[name].detach().float().mean() for short, name in names.items()}

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Look at the gap between the logits and at the loss, which is compared with that of the first window."""
        gap, loss = means["real"][0] - means["fake"][0], means["loss"][0]
        if "first" not in self.memory:
            self.memory = {"first": loss}
        if self.trained <= self.settled:
            return None
        if loss < WON_LOSS:
            return Trouble(
                self.name,
                f"the discriminator always wins (loss {loss:.2g}): lower autoencoder.discriminator_learning_rate or "
                "autoencoder.discriminator_channels, or raise autoencoder.adversarial_weight",
                loss,
            )
        if abs(gap) < SAME_LOGITS and loss > NOT_LEARNED * self.memory["first"]:
            return Trouble(
                self.name,
                f"the discriminator tells nothing (logits differ by {abs(gap):.2g}): raise "
                "autoencoder.discriminator_learning_rate or autoencoder.discriminator_channels, or set "
                "autoencoder.adversarial_weight = 0",
                abs(gap),
            )
        return None

    def state(self) -> State:
        """Return the steps of the discriminator too."""
        return super().state() | {"trained": self.trained}

    def load(self, state: State) -> None:
        """Take back `state`."""
        super().load(state)
        self.trained = int(state["trained"])
