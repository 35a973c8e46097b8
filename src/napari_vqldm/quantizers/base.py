"""The protocol that every quantizer keeps, and the result that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantization:
    """Result of quantizing a latent (B, C, D, H, W).

    ``quantized`` same shape, straight-through gradient to the latent; ``code_indices`` int64 (B, D, H, W);
    ``codebook_loss`` ||sg[z] - z_q||^2 and ``commitment_loss`` ||z - sg[z_q]||^2, both unweighted means over elements.
    """

    quantized: Tensor
    code_indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class Quantizer(nn.Module, ABC):
    """A codebook and the rule that picks from it. Nothing but `update` and the optimizer changes the codebook.

    Attributes
    ----------
    codebook : Tensor
        (K, C), the vector of every code.
    is_implicit : bool
        No table is learned: the codes are the points of a fixed grid, as in finite scalar quantization (FSQ). Dead
        codes and neighbors then tell of the encoder alone.
    """

    is_implicit: ClassVar[bool] = False
    codebook: Tensor  # (K, C)

    @abstractmethod
    def forward(self, latent: Tensor) -> Quantization:
        """Quantize (B, C, D, H, W)."""

    @abstractmethod
    def nearest(self, latent: Tensor) -> Tensor:
        """Code indices (B, D, H, W), int64, of a latent (B, C, D, H, W)."""

    @abstractmethod
    def embed(self, code_indices: Tensor) -> Tensor:
        """Code vectors (B, C, D, H, W) of indices (B, D, H, W)."""

    @abstractmethod
    def margin(self, latent: Tensor) -> Tensor:
        """How much nearer the nearest code is than the second, as a part of the latter, (B, D, H, W): 0 is a tie."""

    @abstractmethod
    def initialize(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Start the codebook from encoder vectors (N, C)."""

    @abstractmethod
    def update(self, latent: Tensor, code_indices: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Advance moving averages and revive dead codes after an optimizer step; returns what was done."""

    @abstractmethod
    def training_state(self) -> dict[str, Tensor]:
        """What a resumed training needs besides the codebook."""

    @abstractmethod
    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `training_state` returned."""
