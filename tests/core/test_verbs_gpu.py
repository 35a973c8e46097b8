"""On a GPU every verb runs and agrees with the CPU; run by hand with `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_vqldm.checkpoint import load_checkpoint
from napari_vqldm.codebook import codebook_usage
from napari_vqldm.coding import decode_latent, encode_volume
from napari_vqldm.generate import generate
from napari_vqldm.interpolate import interpolate
from napari_vqldm.reconstruct import decode, encode, reconstruct
from napari_vqldm.volume import Volume

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_verbs_on_a_gpu_agree_with_the_cpu(checkpoints: dict[str, Path], stack: Volume, family: str) -> None:
    cpu, gpu = (load_checkpoint(checkpoints[family], device) for device in ("cpu", "cuda"))
    latent = encode(gpu, stack)
    assert np.array_equal(decode(gpu, latent).data, reconstruct(gpu, stack).data)
    scale = np.ptp(stack.data)
    np.testing.assert_allclose(decode(gpu, latent).data, decode(cpu, latent).data, rtol=0, atol=1e-4 * scale)
    on_cpu, on_gpu = (generate(model, 3, seed=1) for model in (cpu, gpu))
    for a, b in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-3)
    assert np.isfinite(generate(gpu, 2, precision="bf16")[0].data).all()
    alone = generate(gpu, seed=1)[0]
    assert np.array_equal(interpolate(gpu, 1, 2, 0.0, "slerp").data, alone.data)
    for snap in (True, False):
        frames = interpolate(gpu, latent, encode(gpu, stack.with_data(stack.data[::-1])), [0, 0.5], "slerp", snap)
        assert np.array_equal(frames[0].data, decode(gpu, latent).data)
    if family == "vq-ldm":
        assert codebook_usage(gpu, [stack]).everywhere.total == np.prod(latent.grid)


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_tiles_equal_the_whole_on_a_gpu(checkpoints: dict[str, Path], family: str) -> None:
    model = load_checkpoint(checkpoints[family], "cuda")
    volume = torch.rand(1, 1, 12, 48, 52, generator=torch.Generator().manual_seed(0))
    whole = [step.result for step in encode_volume(model.space, volume)][-1]
    tiled = [step.result for step in encode_volume(model.space, volume, tile=(4, 16, 16))][-1]
    assert whole is not None and tiled is not None
    torch.testing.assert_close(tiled.latent, whole.latent, rtol=0, atol=1e-5)
    a = [step.result for step in decode_latent(model.space, whole.latent)][-1]
    b = [step.result for step in decode_latent(model.space, whole.latent, tile=(2, 5, 4))][-1]
    assert a is not None and b is not None
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
