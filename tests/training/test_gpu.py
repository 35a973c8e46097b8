"""What training owes a GPU: it never waits for it between two steps; run by hand with `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from napari_vqldm.config import QuantizerConfig
from napari_vqldm.quantizers.codebook import CodebookQuantizer
from napari_vqldm.training.loop import _Loop

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch says that it is a prototype
@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_a_denoiser_step_does_not_wait_for_the_gpu(
    family: str, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read back, which the averaging of torch does in every step."""
    one_step, checked = _Loop._one_step, []

    def watched(self: _Loop, step: int, batch: object) -> dict[str, torch.Tensor]:  # type: ignore[type-arg]
        warm = self.stage.name == "denoiser" and step >= 3  # the first steps choose algorithms and make states
        torch.cuda.set_sync_debug_mode("error" if warm else "default")
        try:
            return one_step(self, step, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            checked.append(warm)

    monkeypatch.setattr(_Loop, "_one_step", watched)
    tiny.run(tiny.config(family, device="cuda", precision="bf16-mixed"), tmp_path / "run", cache=bank_cache)
    assert sum(checked) == 4


def test_the_settings_of_training_do_not_change_codes() -> None:
    """TF32 products would change two codes in a hundred."""
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(QuantizerConfig(codebook_size=1024), 4).eval()
    latent = torch.randn(2, 4, 16, 32, 32)
    expected, clear = quantizer.nearest(latent), quantizer.margin(latent) > 1e-4
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = quantizer.cuda().nearest(latent.cuda()).cpu()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert clear.float().mean() > 0.95
    assert torch.equal(found[clear], expected[clear])


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_latents_in_the_memory_of_a_gpu_are_those_of_the_cache(
    family: str, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"device": "cuda", "denoiser__crop_probability": 0.0}  # crops are cut from the cache in any case
    whole = tiny.run(tiny.config(family, **values), tmp_path / "whole", cache=bank_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (0, 0))
    from_disk = tiny.run(tiny.config(family, **values), tmp_path / "disk", cache=bank_cache)
    a, b = tiny.weights(whole), tiny.weights(from_disk)
    assert a.keys() == b.keys()
    for name in a:  # cuDNN adds in no fixed order
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
