"""Perceptual losses: edges at several scales, without a network, or the features of a ResNet-50 from a local file.

No file is downloaded and no pickle is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config import AutoencoderStage

POOLED_FROM = 4  # voxels: a shorter axis would be left without a second difference


def make_perceptual(config: AutoencoderStage) -> nn.Module | None:
    """Build the perceptual loss of a configuration; None when its weight is 0.

    Returns
    -------
    nn.Module or None
        Maps reconstruction and target, (B, 1, D, H, W) in filament units, to one number.

    Raises
    ------
    ConfigError
        For the ResNet-50: no torchvision, no file, or a file of something else.
    """
    if config.perceptual_weight == 0:
        return None
    if config.perceptual == "gradient":
        return GradientPerceptual(config.perceptual_scales)
    return SlicePerceptual(config.perceptual_weights)


class GradientPerceptual(nn.Module):
    """L1 of the first and second differences of the error, over a pyramid of averages.

    Each axis has its own differences (the second ones are the parts of a Laplacian), in voxels: a sum over axes would
    add numbers of different units on anisotropic voxels. A constant offset costs nothing: that is for L1 and MSE.

    Parameters
    ----------
    scales : int
        Levels of the pyramid; each halves the axes of at least `POOLED_FROM` voxels.
    """

    def __init__(self, scales: int) -> None:
        super().__init__()
        self.scales = scales

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over scales, axes and voxels for two (B, 1, D, H, W)."""
        error = reconstruction - target  # all that follows is linear up to the absolute value
        levels = [_edges(error)]
        for _ in range(self.scales - 1):
            kernel = [2 if n >= POOLED_FROM else 1 for n in error.shape[2:]]
            if max(kernel) == 1:
                break
            error = F.avg_pool3d(error, kernel)
            levels.append(_edges(error))
        return torch.stack(levels).mean()


class SlicePerceptual(nn.Module):
    """Distance of ResNet-50 features, slice by slice along all three axes: MONAI's 2.5D ``PerceptualLoss``.

    All slices count, in order: MONAI draws a random part of them from the global random state.

    Parameters
    ----------
    path : str or None
        A .safetensors file with the weights of torchvision's ``resnet50``.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self.function = _resnet_distance(path)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the three axes of the mean distance of their slices, for two (B, 1, D, H, W)."""
        total = reconstruction.new_zeros(())
        for axis in (2, 3, 4):
            slices = (volume.movedim(axis, 1).flatten(0, 1) for volume in (reconstruction, target))
            total = total + self.function(*slices).mean()
        return total

    def train(self, mode: bool = True) -> SlicePerceptual:
        """Stay in evaluation mode: the statistics of the ResNet are part of its weights."""
        return super().train(False)


def _edges(error: Tensor) -> Tensor:
    """Mean over axes of the mean absolute first and second differences; an axis too short for one is left out."""
    found = []
    for order in (1, 2):
        axes = [error.diff(order, dim=axis).abs().mean() for axis in (2, 3, 4) if error.shape[axis] > order]
        if axes:
            found.append(torch.stack(axes).mean())
    return torch.stack(found).sum() if found else error.new_zeros(())


def _resnet_distance(path: str | None) -> nn.Module:
    """Build MONAI's distance of ResNet-50 features and load its weights."""
    if path is None or not Path(path).is_file():
        raise ConfigError(
            f"autoencoder.perceptual_weights: expected a .safetensors file of a ResNet-50, got {path}: "
            'name one, or use perceptual = "gradient"'
        )
    try:
        import torchvision  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigError(
            f'autoencoder.perceptual = "monai" needs torchvision ({error}): install it, or use perceptual = "gradient"'
        ) from None
    from monai.losses import PerceptualLoss

    # The first weights are overwritten: they must not advance the global random state.
    with torch.random.fork_rng(devices=[]):
        loss = PerceptualLoss(spatial_dims=3, network_type="resnet50", is_fake_3d=True, pretrained=False)
    function: nn.Module = loss.perceptual_function
    network: nn.Module = function.model  # type: ignore[assignment]
    try:
        tensors = load_file(path)
        missing, unexpected = network.load_state_dict(
            {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}, strict=False
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"autoencoder.perceptual_weights: expected a ResNet-50 in {path}, got {str(error)[:200]}"
        ) from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # unused, often not stored
    if missing or unexpected:
        raise ConfigError(
            f"autoencoder.perceptual_weights: expected the weights of torchvision's resnet50 in {path}, "
            f"got {len(missing)} missing and {len(unexpected)} unknown names: convert the file"
        )
    return function.eval().requires_grad_(False)
