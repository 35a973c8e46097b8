"""Watchers of adversarial training: a loss that runs away, a discriminator that teaches nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_vqldm.training.watchers.base import State, Trouble, WindowWatcher
from napari_vqldm.training.watchers.latent import LEAST_STEPS

WORSE = 1.5  # reconstruction loss over its best window
GROWTH = 20.0  # adversarial loss over its first window
SMALL_ADVERSARIAL = 0.5  # a first window below counts as this: a hinge loss begins at zero
SAME_LOGITS = 0.02
WON_LOSS = 0.01
SETTLED_STEPS = 200  # that a discriminator gets to learn something


class AdversarialInstability(WindowWatcher):
    """The reconstruction gets worse, or the adversarial loss grows without end, once the adversary has begun."""

    name = "adversarial_instability"
    wanted = ("reconstruction", "adversarial")

    def __init__(self, least: int = LEAST_STEPS) -> None:
        super().__init__(least)

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the reconstruction loss and the size of the adversarial one."""
        reconstruction = terms.get("l1", terms.get("mse"))
        if reconstruction is None or "adversarial" not in terms:
            return {}
        adversarial = terms["adversarial"].detach().float().mean().abs()
        return {"reconstruction": reconstruction.detach().float().mean(), "adversarial": adversarial}

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Compare with the best and the first window; before the adversary begins its loss is zero."""
        reconstruction, adversarial = means["reconstruction"][0], means["adversarial"][0]
        if adversarial == 0.0 and not self.memory:
            return None
        best = min(reconstruction, self.memory.get("best", reconstruction))
        first = self.memory.get("first", adversarial)
        self.memory = {"best": best, "first": first}
        remedy = (
            "lower autoencoder.adversarial_weight or autoencoder.discriminator_learning_rate, lengthen "
            "autoencoder.adversarial_ramp, or begin later (autoencoder.adversarial_start)"
        )
        if reconstruction > WORSE * best:
            ratio = reconstruction / best if best else float("inf")
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
        """Return mean logits and loss, once the discriminator has had time to learn."""
        names = {"real": "logits_real", "fake": "logits_fake", "loss": "discriminator_loss"}
        if not all(name in terms for name in names.values()):
            return {}
        self.trained += 1
        if self.trained <= self.settled:
            return {}
        return {short: terms[name].detach().float().mean() for short, name in names.items()}

    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Look at the gap between the logits and at the loss."""
        gap, loss = means["real"][0] - means["fake"][0], means["loss"][0]
        if loss < WON_LOSS:
            return Trouble(
                self.name,
                f"the discriminator always wins (loss {loss:.2g}): lower autoencoder.discriminator_learning_rate or "
                "autoencoder.discriminator_channels, or raise autoencoder.adversarial_weight",
                loss,
            )
        if abs(gap) < SAME_LOGITS:
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
