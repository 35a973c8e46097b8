"""The codebook: exact lookup, the seed's losses, and who may change it."""

import numpy as np
import pytest
import torch

from napari_vqldm.config import QuantizerConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.quantizers import CodebookQuantizer, CodeUsage
from napari_vqldm.quantizers import codebook as codebook_module


@pytest.fixture
def quantizer() -> CodebookQuantizer:
    torch.manual_seed(0)
    return CodebookQuantizer(QuantizerConfig(codebook_size=50, restart_after=3), dim=4)


def test_lookup_equals_brute_force_in_float64(quantizer, monkeypatch):
    monkeypatch.setattr(codebook_module, "CHUNK_ROWS", 37)  # several uneven chunks
    z = torch.randn(2, 4, 3, 5, 7)
    flat = z.movedim(1, -1).reshape(-1, 4).double()
    expected = ((flat[:, None] - quantizer.codebook.double()[None]) ** 2).sum(-1).argmin(1).view(2, 3, 5, 7)
    assert torch.equal(quantizer.nearest(z), expected)


def test_lookup_is_exact_under_autocast(quantizer):
    z = torch.randn(1, 4, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = quantizer.nearest(z)
    assert torch.equal(half, quantizer.nearest(z))


def test_close_codes_far_from_the_origin_are_told_apart():
    """Products in float32, and all the more in TF32, lose their difference."""
    quantizer = CodebookQuantizer(QuantizerConfig(codebook_size=64), dim=4)
    with torch.no_grad():
        quantizer.codebook.copy_(100 + 1e-2 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
    codes = torch.arange(64).view(1, 4, 4, 4)
    assert torch.equal(quantizer.nearest(quantizer.embed(codes)), codes)


def test_indices_and_vectors_round_trip(quantizer):
    codes = torch.randint(50, (2, 3, 4, 5))
    assert torch.equal(quantizer.nearest(quantizer.embed(codes)), codes)


def test_losses_and_gradients_against_a_hand_case():
    quantizer = CodebookQuantizer(QuantizerConfig(codebook_size=2), dim=1)
    quantizer.codebook.data = torch.tensor([[0.0], [10.0]])
    z = torch.tensor([1.0, 8.0]).view(1, 1, 2, 1, 1).requires_grad_()
    result = quantizer(z)
    # ||sg[z] - z_q||^2 = ||z - sg[z_q]||^2 = mean(1^2, 2^2)
    assert result.codebook_loss.item() == pytest.approx(2.5)
    assert result.commitment_loss.item() == pytest.approx(2.5)
    result.codebook_loss.backward()
    assert z.grad is None
    assert quantizer.codebook.grad.flatten().tolist() == pytest.approx([-1.0, 2.0])  # d/de mean (e - z)^2
    quantizer.codebook.grad = None
    result = quantizer(z)
    result.commitment_loss.backward()
    assert quantizer.codebook.grad is None
    assert z.grad.flatten().tolist() == pytest.approx([1.0, -2.0])


def test_gradient_passes_straight_through(quantizer):
    z = torch.randn(1, 4, 2, 2, 2, requires_grad=True)
    weight = torch.randn(1, 4, 2, 2, 2)
    (quantizer(z).quantized * weight).sum().backward()
    assert torch.allclose(z.grad, weight)
    assert torch.allclose(quantizer(z).quantized, quantizer.embed(quantizer.nearest(z)), atol=1e-6)


def test_coding_never_changes_the_codebook(quantizer):
    before = quantizer.codebook.detach().clone()
    quantizer.train()
    for _ in range(5):
        quantizer(torch.randn(1, 4, 4, 4, 4))
    assert torch.equal(before, quantizer.codebook)


def test_restart_revives_exactly_the_dead_codes(quantizer):
    generator = torch.Generator().manual_seed(1)
    alive = torch.arange(20)
    z = quantizer.embed(alive.view(1, 1, 4, 5)).detach()
    before = quantizer.codebook.detach().clone()
    done = [quantizer.update(z, quantizer.nearest(z), generator)["restarted"] for _ in range(3)]
    assert done == [0.0, 0.0, 30.0]
    assert torch.equal(quantizer.codebook[:20], before[:20])
    revived = quantizer.codebook[20:].detach()
    sources = z.movedim(1, -1).reshape(-1, 4)
    distances = (revived[:, None] - sources[None]).norm(dim=2)
    assert distances.min(dim=1).values.max() == 0


def test_ema_moves_codes_to_the_mean_of_their_vectors():
    quantizer = CodebookQuantizer(QuantizerConfig(kind="ema", codebook_size=2, ema_decay=0.5, restart=False), dim=1)
    quantizer.initialize(torch.tensor([[0.0], [10.0]]), torch.Generator().manual_seed(0))
    quantizer.codebook.data.copy_(torch.tensor([[0.0], [10.0]]))
    z = torch.tensor([1.0, 3.0, 12.0, 12.0]).view(1, 1, 4, 1, 1)
    for _ in range(60):
        quantizer.update(z, quantizer.nearest(z), torch.Generator())
    assert sorted(quantizer.codebook.flatten().tolist()) == pytest.approx([2.0, 12.0], abs=1e-3)


def test_ema_leaves_unused_codes_where_they_are():
    # MONAI 1.6.1 divides the unused codes by about 1e-5 after the first step and throws them away
    quantizer = CodebookQuantizer(QuantizerConfig(kind="ema", codebook_size=8, restart=False), dim=2)
    before = quantizer.codebook.detach().clone()
    z = before[0].view(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    for _ in range(500):
        quantizer.update(z, quantizer.nearest(z), torch.Generator())
    assert torch.allclose(quantizer.codebook, before, atol=1e-3)


def test_kmeans_start_finds_planted_clusters():
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(6, 3, generator=generator) * 10
    vectors = (centers[:, None] + 0.01 * torch.randn(6, 200, 3, generator=generator)).reshape(-1, 3)
    quantizer = CodebookQuantizer(QuantizerConfig(codebook_size=24), dim=3)
    quantizer.initialize(vectors, generator)
    nearest = quantizer.embed(quantizer.nearest(vectors.T.reshape(1, 3, 1, 30, 40))).reshape(3, -1).T
    assert (nearest - vectors).norm(dim=1).max() < 0.1


def test_margin_is_the_relative_gap_of_the_two_nearest():
    quantizer = CodebookQuantizer(QuantizerConfig(codebook_size=3), dim=1)
    for unit in (1.0, 1e-3):  # of the latent: arbitrary
        quantizer.codebook.data = unit * torch.tensor([[0.0], [10.0], [30.0]])
        z = unit * torch.tensor([5.0, 1.0, 30.0]).view(1, 1, 3, 1, 1)
        assert quantizer.margin(z).flatten().tolist() == pytest.approx([0.0, 8 / 9, 1.0], abs=1e-6)


def test_wrong_channels_are_named(quantizer):
    with pytest.raises(ShapeError, match=r"expected a latent \(B, 4, D, H, W\)"):
        quantizer(torch.zeros(1, 5, 2, 2, 2))


def test_usage_counts_merge_and_perplexity_is_exact():
    usage = CodeUsage.of(np.array([0, 0, 1, 1]), 4) + CodeUsage.of(np.array([2, 2]), 4)
    assert usage.counts.tolist() == [2, 2, 2, 0]
    assert usage.perplexity == pytest.approx(3.0)
    assert usage.dead_codes == 1
