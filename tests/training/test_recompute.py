"""Blocks that compute again in the backward pass: equal bits, fewer kept tensors."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from napari_vqldm.models.blocks import ResidualBlock
from napari_vqldm.models.checkpointing import recompute_blocks


def blocks() -> nn.Sequential:
    """Three residual blocks whose branches are on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), *(ResidualBlock(4) for _ in range(3)))
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            nn.init.constant_(block.gain, 0.5)
    return module


def gradients(module: nn.Module) -> tuple[Tensor, list[Tensor], int]:
    """Loss, gradients and number of tensors kept for the backward pass."""
    kept: list[int] = []
    x = torch.randn(1, 1, 4, 6, 6, generator=torch.Generator().manual_seed(1))

    def keep(tensor: Tensor) -> Tensor:
        kept.append(1)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module(x).square().mean()
    count = len(kept)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in module.parameters() if p.grad is not None], count


@pytest.mark.parametrize("copied", [False, True])
def test_recomputed_blocks_have_equal_gradients_and_keep_less(copied: bool) -> None:
    plain, recomputing = blocks(), blocks()
    names = list(recomputing.state_dict())
    assert recompute_blocks(recomputing) == 3 == recompute_blocks(recomputing)
    assert list(recomputing.state_dict()) == names
    if copied:
        original, recomputing = recomputing, copy.deepcopy(recomputing)
        with torch.no_grad():
            for parameter in original.parameters():  # the copy must not look at the original
                parameter.zero_()
    loss, grads, kept = gradients(plain)
    again, regrads, rekept = gradients(recomputing)
    assert torch.equal(loss, again) and len(grads) == len(regrads)
    assert all(torch.equal(a, b) for a, b in zip(grads, regrads, strict=True))
    assert rekept < kept


def test_evaluation_recomputes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = blocks()
    recompute_blocks(module)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("recomputed")

    monkeypatch.setattr("napari_vqldm.models.checkpointing.checkpoint", refuse)
    x = torch.zeros(1, 1, 4, 4, 4)
    module.eval()(x)
    with torch.no_grad():
        module.train()(x)
    with pytest.raises(AssertionError, match="recomputed"):
        module(x)


def test_a_run_with_recomputed_blocks_has_the_same_bits(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    config = tiny.config(autoencoder__checkpoint_activations=True, denoiser__checkpoint_activations=True)
    checkpoint = tiny.run(config, tmp_path / "run", cache=bank_cache)
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished["ldm"] / "checkpoint.safetensors"))
