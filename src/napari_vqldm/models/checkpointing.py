"""Recompute residual blocks in the backward pass: less memory for more time, equal numbers (arXiv:1604.06174)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from monai.networks.nets.autoencoderkl import AEKLResBlock
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock
from monai.networks.nets.vqvae import VQVAEResidualUnit
from torch import nn
from torch.utils.checkpoint import checkpoint

from napari_vqldm.models.blocks import ResidualBlock

BLOCKS = (ResidualBlock, AEKLResBlock, DiffusionUNetResnetBlock, VQVAEResidualUnit)


def recompute_blocks(module: nn.Module) -> int:
    """Let every residual block below ``module`` keep its input alone and compute the rest again in the backward pass.

    Names of parameters stay as they are. A deep copy of the module has the same property. Nothing changes in
    evaluation and without gradients.

    Parameters
    ----------
    module : nn.Module
        Changed in place; blocks inside another block are left to the outer one. A second call changes nothing.

    Returns
    -------
    int
        Number of blocks that recompute.
    """
    if isinstance(module, BLOCKS):
        # A partial object, not a closure: `copy.deepcopy` binds it to the copied block.
        module.__dict__["forward"] = partial(_forward, module)
        return 1
    return sum(recompute_blocks(child) for child in module.children())


def _forward(block: nn.Module, *args: Any, **options: Any) -> Any:
    """Forward pass of the block's class, checkpointed while it trains."""
    forward = type(block).forward
    if not (block.training and torch.is_grad_enabled()):
        return forward(block, *args, **options)
    return checkpoint(forward, block, *args, use_reentrant=False, **options)
