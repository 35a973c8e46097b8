"""Adversarial losses on plain logits: no hidden activation saturates them.

MONAI's ``PatchAdversarialLoss`` sends the logits through a LeakyReLU (least squares) or a tanh (hinge) first; after a
tanh no logit reaches the margin of the hinge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_vqldm.models.blocks import at_least_float32

AdversarialKind = Literal["least_squares", "hinge"]


def generator_loss(fake: Tensor, kind: AdversarialKind) -> Tensor:
    """Return what the autoencoder minimizes.

    Parameters
    ----------
    fake : Tensor
        Logits of reconstructions, any shape.
    kind : {"least_squares", "hinge"}
        mean((D - 1)^2) (Mao et al. 2017, arXiv:1611.04076, Eq. 9 with c = 1, without the half) or -mean(D)
        (Lim & Ye 2017, arXiv:1705.02894, Sec. 3.3).
    """
    fake = at_least_float32(fake)
    return (fake - 1).square().mean() if kind == "least_squares" else -fake.mean()


def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialKind) -> Tensor:
    """Return what the discriminator minimizes: half the sum of its loss on targets and on reconstructions.

    Parameters
    ----------
    real, fake : Tensor
        Logits of targets and of reconstructions, any shape.
    kind : {"least_squares", "hinge"}
        Labels 1 and 0 (arXiv:1611.04076, Eq. 9), or margins at 1 and -1 (arXiv:1705.02894).
    """
    real, fake = at_least_float32(real), at_least_float32(fake)
    if kind == "least_squares":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Return the mean over layers of the mean L1 between features of reconstruction and target.

    Wang et al. 2018, arXiv:1711.11585, Eq. 4; the targets are constants.
    """
    layers = [F.l1_loss(at_least_float32(f), at_least_float32(r.detach())) for f, r in zip(fake, real, strict=True)]
    return torch.stack(layers).mean()


def adaptive_weight(
    fidelity: Tensor,
    adversarial: Tensor,
    last_layer: Tensor,
    maximum: float,
    mean_over_processes: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the weight that makes both losses pull equally hard on the last layer.

    Esser et al. 2021, arXiv:2012.09841, Eq. 7: ||grad fidelity|| / (||grad adversarial|| + 1e-6), here bounded.

    Parameters
    ----------
    fidelity, adversarial : Tensor
        Scalars that depend on ``last_layer``; their graphs are kept.
    last_layer : Tensor
        Weight of the last layer of the decoder.
    maximum : float
        Upper bound.
    mean_over_processes : callable
        Averages a tensor over processes. Gradients are averaged, not norms: that is what one process with the batch
        of all would see.

    Returns
    -------
    Tensor
        Scalar without gradient, in [0, maximum].
    """
    gradients = [torch.autograd.grad(term, last_layer, retain_graph=True)[0] for term in (fidelity, adversarial)]
    both = mean_over_processes(torch.stack([at_least_float32(g).flatten() for g in gradients]))
    pull, push = torch.linalg.vector_norm(both, dim=1)
    weight: Tensor = pull / (push + 1e-6)
    return weight.clamp(0.0, maximum).detach()


def strength(step: int, start: int, ramp: int) -> float:
    """Return the factor of the adversarial terms: 0 before ``start``, then linear to 1 within ``ramp`` steps."""
    return 0.0 if step < start else min(1.0, (step - start + 1) / max(1, ramp))
