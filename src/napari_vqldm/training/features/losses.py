"""What the extractor is asked for: labels, invariance to chance, and features that all vary and are not copies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.metrics.feature_net import GroupNorm
from napari_vqldm.training.features.config import LossConfig
from napari_vqldm.training.features.maps import TARGET_MAPS, map_targets
from napari_vqldm.training.features.views import Views

HEAD_HIDDEN = 128


class MapHead(nn.Module):
    """Two layers of 1x1x1 convolutions from the cells of a stage to `maps.TARGET_MAPS`; not part of the extractor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            GroupNorm(1, channels),
            nn.Conv3d(channels, channels, 1),
            nn.SiLU(),
            nn.Conv3d(channels, len(TARGET_MAPS), 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Return guessed maps (B, 2, d, h, w) for cells (B, C, d, h, w)."""
        guessed: Tensor = self.layers(cells)
        return guessed


class Heads(nn.Module):
    """Two layers from features to standardized targets and organisation; not part of the extractor.

    Parameters
    ----------
    features, targets, organisations : int
        Sizes.
    """

    def __init__(self, features: int, targets: int, organisations: int) -> None:
        super().__init__()
        self.targets, self.organisations = targets, organisations
        self.layers = nn.Sequential(
            nn.Linear(features, HEAD_HIDDEN), nn.SiLU(), nn.Linear(HEAD_HIDDEN, targets + organisations)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return standardized targets (B, T) and logits of the organisation (B, K)."""
        values, logits = self.layers(features).split([self.targets, self.organisations], 1)
        return values, logits


@dataclass(frozen=True)
class Terms:
    """Parts of the loss, scalars, not yet weighted."""

    regression: Tensor
    organisation: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor
    maps: Tensor

    def total(self, config: LossConfig) -> Tensor:
        """Weighted sum."""
        return torch.stack([getattr(config, name) * value for name, value in vars(self).items()]).sum()


def standardize(targets: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Return (targets - mean) / sd, (B, T)."""
    return (targets - mean) / sd


def map_loss(guessed: Tensor, views: Views) -> Tensor:
    """Return how far guessed maps (2 B, 2, d, h, w) are off where filaments can be recognized."""
    targets, weights = map_targets(views.maps)
    readable = views.known[:, :1].repeat(2, 1)[:, :, None, None, None]
    weights = weights * readable
    error = F.smooth_l1_loss(guessed.float(), targets, reduction="none") * weights
    return (error.sum((0, 2, 3, 4)) / weights.sum((0, 2, 3, 4)).clamp_min(1e-6)).sum()


def loss_terms(
    features: Tensor, values: Tensor, logits: Tensor, guessed: Tensor, views: Views, standardized: Tensor
) -> Terms:
    """Return all terms for features (2 B, d) of two views and what the heads make of them.

    Invariance, variance and covariance follow VICReg (Bardes, Ponce and LeCun 2022, arXiv:2105.04906, Eq. 1-6), on the
    features themselves, with two changes that keep their scale at 1: a standard deviation above 1 costs as one below
    it does, and correlations stand for covariances, whose squares explode in the first steps. The term makes the
    features fit for a Frechet distance, which knows no more of them than mean and covariance.
    """
    twice, known = standardized.repeat(2, 1), views.known.repeat(2, 1)
    regression = (F.smooth_l1_loss(values, twice, reduction="none") * known).sum() / known.sum()
    organisation = F.cross_entropy(logits, views.organisation.repeat(2), ignore_index=-100)
    first, second = features.chunk(2)
    variance = torch.stack([((v.var(dim=0) + 1e-4).sqrt() - 1.0).abs().mean() for v in (first, second)]).mean()
    covariance = torch.stack([_off_diagonal(v) for v in (first, second)]).mean()
    return Terms(regression, organisation, F.mse_loss(first, second), variance, covariance, map_loss(guessed, views))


def _off_diagonal(features: Tensor) -> Tensor:
    """Sum of squared correlations of different features over their number."""
    centered = features - features.mean(dim=0)
    unit = centered / (centered.square().sum(dim=0, keepdim=True) + 1e-4).sqrt()
    correlation = unit.T @ unit
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / features.shape[1]
