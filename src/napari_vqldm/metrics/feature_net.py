"""The network behind the 64 features by which sets of volumes are compared.

It is trained to recognize what a microscopist would name (density, stiffness, order, organisation, photons, width of
the point spread function, background, blur), never to compress: a distance measured in the latent space of a generative
model would be blind to what that model is blind to.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_vqldm.errors import ShapeError

NUM_FEATURES = 64
WIDTHS = (16, 32, 64, 128)
BLOCKS = (1, 1, 2, 1)
HIDDEN = 256
NORM_GROUPS = 8
POOL_EPS = 1e-6
# Filament units. Below it intensities pass almost linearly, above it logarithmically: camera noise (standard deviation
# 0.02-0.3) stays visible and a crossing of ten filaments is about twice as bright as one filament.
ASINH_KNEE = 0.25


def compress_intensity(volumes: Tensor) -> Tensor:
    """Return asinh(volumes / 0.25) / 2 for volumes in filament units: about 0 in the background, 1 at a filament."""
    return torch.asinh(volumes / ASINH_KNEE) / 2.0


class GroupNorm(nn.GroupNorm):
    """Group norm in the type of its input: autocast would widen every activation (sums are float32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, D, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class Block(nn.Module):
    """Group norm, ReLU, 3x3x3 convolution, twice, around an identity (He et al. 2016, arXiv:1603.05027).

    Nothing on the identity path is normalized, so that the absolute brightness of a volume reaches the pooling: an
    intensity gain must not be invisible.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(min(NORM_GROUPS, in_channels), in_channels)
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = GroupNorm(min(NORM_GROUPS, out_channels), out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.stride = stride
        self.project = nn.Conv3d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, D, H, W) to (B, C', D/s, H/s, W/s)."""
        identity = F.avg_pool3d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        if self.project is not None:
            identity = self.project(identity)
        h = self.conv1(F.relu(self.norm1(x)))
        result: Tensor = identity + self.conv2(F.relu(self.norm2(h)))
        return result


class FeatureNet(nn.Module):
    """3D residual network of four stages, global mean and standard deviation of each, two linear layers.

    Voxels of 0.2 x 0.1 x 0.1 um (z, y, x) enter; the first stride is (1, 2, 2), so that from the first stage on cells
    are 0.2 um wide along every axis. Every stage is pooled: noise and sharpness live in the first, organisation in the
    last.

    Parameters
    ----------
    widths : sequence of int
        Channels of the stages.
    blocks : sequence of int
        Residual blocks of the stages.
    hidden : int
        Width of the layer between pooling and features.
    features : int
        Number of features.
    batch_norm : bool
        Standardize what was pooled, for training; `folded` puts it into the next layer afterwards.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        hidden: int = HIDDEN,
        features: int = NUM_FEATURES,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, widths[0], (3, 5, 5), (1, 2, 2), (1, 2, 2))
        self.stages = nn.ModuleList()
        channels = widths[0]
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage = nn.Sequential()
            for block in range(count):
                stage.append(Block(channels, width, 2 if number > 0 and block == 0 else 1))
                channels = width
            self.stages.append(stage)
        self.pool_norm = nn.BatchNorm1d(2 * sum(widths), affine=False) if batch_norm else None
        self.hidden = nn.Linear(2 * sum(widths), hidden)
        self.output = nn.Linear(hidden, features)

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the features of volumes.

        Parameters
        ----------
        volumes : Tensor
            (B, 1, D, H, W), filament units, voxels of 0.2 x 0.1 x 0.1 um.

        Returns
        -------
        Tensor
            float32, (B, features).

        Raises
        ------
        ShapeError
            If the volumes have another number of axes or channels.
        """
        features, _ = self.with_stages(volumes)
        return features

    def with_stages(self, volumes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features and what each stage made, (B, C, D', H', W'); see `forward`."""
        if volumes.ndim != 5 or volumes.shape[1] != 1:
            raise ShapeError(f"expected volumes (B, 1, D, H, W), got {tuple(volumes.shape)}")
        h = self.stem(compress_intensity(volumes))
        pooled, stages = [], []
        for stage in self.stages:
            h = stage(h)
            stages.append(h)
            flat = h.flatten(2).float()  # (B, C, voxels)
            variance, mean = torch.var_mean(flat, dim=2, correction=0)
            pooled += [mean, (variance + POOL_EPS).sqrt()]
        # Half precision would round the means of thousands of voxels.
        with torch.autocast(volumes.device.type, enabled=False):
            row = torch.cat(pooled, dim=1)
            if self.pool_norm is not None:
                row = self.pool_norm(row)
            hidden = F.silu(self.hidden(row))
            features: Tensor = self.output(hidden)
        return features, stages


@torch.no_grad()
def folded(net: FeatureNet) -> FeatureNet:
    """Return a copy for inference whose first linear layer contains the batch normalization of ``net``."""
    plain = copy.deepcopy(net)
    norm, plain.pool_norm = plain.pool_norm, None
    if norm is not None and norm.running_mean is not None and norm.running_var is not None:
        scale = (norm.running_var + norm.eps).rsqrt()
        plain.hidden.bias.sub_(plain.hidden.weight @ (norm.running_mean * scale))
        plain.hidden.weight.mul_(scale)
    return plain.eval()
