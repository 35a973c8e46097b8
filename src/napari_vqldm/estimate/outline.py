"""What an estimate needs to know of a model: a loaded one, or the header of a checkpoint before anything is loaded."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_vqldm.card import Header
from napari_vqldm.config import Int3, ModelConfig
from napari_vqldm.models import reach

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model

AnyModel: TypeAlias = "Model | Outline"

_FLOAT = 4  # bytes of a weight in memory


@dataclass(frozen=True)
class Outline:
    """A model without its weights.

    Attributes
    ----------
    config : ModelConfig
        Its networks.
    name : str
        On its card.
    device : str or None
        Where it computes. None: not known before PyTorch is there; memory is then that on the CPU, and no time is told.
    threads : int
        Of the CPU.
    weights_bytes : int
        What its weights take, where they are still to be loaded; 0 for a loaded model.
    """

    config: ModelConfig
    name: str
    device: str | None
    threads: int
    weights_bytes: int = 0

    @classmethod
    def of_header(cls, header: Header, device: str | None, threads: int) -> Outline:
        """Return the outline of a checkpoint that is not loaded yet."""
        card = header.card
        return cls(header.config, card.name, device, threads, _FLOAT * sum(card.parameters.values()))

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        return (self.device or "cpu").partition(":")[0]

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.config.autoencoder.latent_channels

    @property
    def factor(self) -> Int3:
        """Volume voxels per latent voxel, (z, y, x)."""
        return self.config.autoencoder.downsampling_factor

    @property
    def encoder_halo(self) -> Int3:
        """Volume voxels (z, y, x) that a tile reads around itself to be encoded."""
        return reach.encoder_halo(self.config.autoencoder)

    @property
    def decoder_halo(self) -> Int3:
        """Latent voxels (z, y, x) that a tile reads around itself to be decoded."""
        return reach.decoder_halo(self.config.autoencoder)

    def grid(self, shape: Int3) -> Int3:
        """Latent grid (d, h, w) of a volume whose axes are multiples of the factor."""
        z, y, x = (n // f for n, f in zip(shape, self.factor, strict=True))
        return z, y, x

    def cells(self, shape: Int3) -> int:
        """Latent voxels of such a volume."""
        return math.prod(self.grid(shape))


def outline_of(model: AnyModel) -> Outline:
    """Return the outline of a loaded model as it computes now; one that is given already comes back."""
    if isinstance(model, Outline):
        return model
    threads: int = sys.modules["torch"].get_num_threads()  # a loaded model has brought it
    return Outline(model.config, model.name, str(model.device), threads)
