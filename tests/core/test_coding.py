"""Coded in tiles equals coded whole; long work can be stopped between tiles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_vqldm import zoo
from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent, encode_block, encode_volume
from napari_vqldm.config import Int3
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.tiles import choose_tile, pad_to_multiple

SIZES: list[Int3] = [(7, 41, 66), (21, 30, 43), (34, 70, 29)]  # no multiples of the strides


def padded(shape: Int3, seed: int = 0) -> torch.Tensor:
    data = np.random.default_rng(seed).gamma(0.5, 1.0, shape).astype(np.float32)
    return torch.from_numpy(pad_to_multiple(data, (2, 4, 4))[0])[None, None]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("tile", [(2, 4, 4), (8, 16, 12)])
def test_encoding_in_tiles_equals_encoding_whole(model: Model, shape: Int3, tile: Int3) -> None:
    volume = padded(shape)
    if tile == (2, 4, 4):
        volume = volume[..., :8, :24, :16]
    with torch.no_grad():
        whole = encode_block(model.space, volume)
    steps = list(encode_volume(model.space, volume, tile=tile))
    assert len(steps) > 1 and steps[-1].result is not None
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert torch.equal(whole.latent, model.space.encode(volume))
    torch.testing.assert_close(steps[-1].result.latent, whole.latent, rtol=0, atol=1e-5)
    if whole.margin is not None:
        assert steps[-1].result.margin is not None
        torch.testing.assert_close(steps[-1].result.margin, whole.margin, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("tile", [(1, 2, 2), (3, 5, 4)])
def test_decoding_in_tiles_equals_decoding_whole(model: Model, shape: Int3, tile: Int3) -> None:
    with torch.no_grad():
        latent = model.space.encode(padded(shape))
        if tile == (1, 2, 2):
            latent = latent[..., :4, :6, :4]
        whole = model.space.decode(latent)
    steps = list(decode_latent(model.space, latent, tile=tile))
    assert len(steps) > 1 and steps[-1].result is not None
    assert all(step.result is None for step in steps[:-1])
    torch.testing.assert_close(steps[-1].result, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", zoo.NAMES)
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((11, 50, 70), marks=pytest.mark.slow),
        (7, 90, 45),
        pytest.param((26, 33, 61), marks=pytest.mark.slow),
    ],
)
def test_bundled_weights_give_the_same_tiled_or_whole(name: str, shape: Int3) -> None:
    model = zoo.load(name)
    volume = padded(shape)
    with torch.no_grad():
        coded = encode_block(model.space, volume)
        whole = model.space.decode(coded.latent)
    tiled = [step.result for step in encode_volume(model.space, volume, tile=(8, 32, 32))][-1]
    assert tiled is not None
    sure = slice(None) if coded.margin is None else (coded.margin > 1e-5)[:, None].expand_as(coded.latent)
    torch.testing.assert_close(tiled.latent[sure], coded.latent[sure], rtol=0, atol=1e-5)
    decoded = [step.result for step in decode_latent(model.space, coded.latent, tile=(4, 9, 8))][-1]
    assert decoded is not None
    torch.testing.assert_close(decoded, whole, rtol=0, atol=1e-5)


def test_tiles_without_their_halo_would_not_be_equal(model: Model) -> None:
    volume = padded((8, 16, 48))
    with torch.no_grad():
        encoder = model.space.autoencoder.encode
        whole = encoder(volume).mean
        half = encoder(volume[..., :32]).mean
    cells = half.shape[-1]
    assert (half - whole[..., :cells]).abs().max() > 1e-3
    reach = model.space.autoencoder.encoder_halo[2] // model.space.autoencoder.downsampling_factor[2]
    unaffected = cells - reach
    assert unaffected >= 2
    torch.testing.assert_close(half[..., :unaffected], whole[..., :unaffected], rtol=0, atol=1e-5)


def test_a_volume_above_the_limit_is_cut_and_gives_the_same(model: Model) -> None:
    volume = padded((8, 64, 64))
    whole = list(encode_volume(model.space, volume))
    cut = list(encode_volume(model.space, volume, max_voxels=24_000))
    assert len(whole) == 1 and len(cut) > 1
    assert whole[-1].result is not None and cut[-1].result is not None
    torch.testing.assert_close(cut[-1].result.latent, whole[-1].result.latent, rtol=0, atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 60)] * 3),
    multiple=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    halo=st.tuples(*[st.integers(0, 12)] * 3),
    limit=st.integers(1, 50_000),
)
def test_a_chosen_tile_respects_the_limit_or_cannot_be_smaller(
    shape: Int3, multiple: Int3, halo: Int3, limit: int
) -> None:
    shape = tuple(n * m for n, m in zip(shape, multiple, strict=True))  # type: ignore[assignment]
    tile = choose_tile(shape, multiple, halo, limit)
    read = np.prod([min(n, t + 2 * h) for n, t, h in zip(shape, tile, halo, strict=True)])
    assert all(t % m == 0 and m <= t <= n for t, m, n in zip(tile, multiple, shape, strict=True))
    assert read <= limit or tile == multiple
    if np.prod(shape) <= limit:
        assert tile == shape


def test_work_stops_when_the_generator_is_closed(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = type(ldm.space).latent_of
    monkeypatch.setattr(type(ldm.space), "latent_of", lambda *a, **k: calls.append(1) or real(*a, **k))
    steps = encode_volume(ldm.space, padded((8, 32, 32)), tile=(4, 8, 8))
    total = next(steps).total
    next(steps)
    steps.close()
    assert len(calls) == 2 < total
    assert torch.is_grad_enabled()


def test_snapping_happens_in_float32_even_in_half_precision(vq_ldm: Model) -> None:
    latent = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        snapped = vq_ldm.space.snap(latent)
    once = [step.result for step in decode_latent(vq_ldm.space, latent, requantize=True, precision="bf16")][-1]
    twice = [step.result for step in decode_latent(vq_ldm.space, snapped, precision="bf16")][-1]
    exact = [step.result for step in decode_latent(vq_ldm.space, snapped)][-1]
    assert once is not None and twice is not None and exact is not None
    assert torch.equal(once, twice)
    assert not torch.equal(once, exact)
    torch.testing.assert_close(once, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_wrong_shapes_and_precisions_are_named(ldm: Model) -> None:
    with pytest.raises(ShapeError, match="one volume"):
        next(encode_volume(ldm.space, torch.zeros(2, 1, 4, 8, 8)))
    with pytest.raises(ShapeError, match="pad it first"):
        next(encode_volume(ldm.space, torch.zeros(1, 1, 3, 8, 8)))
    with pytest.raises(ShapeError, match="one latent"):
        next(decode_latent(ldm.space, torch.zeros(1, 4, 4, 8, 8)))
    with pytest.raises(ConfigError, match="bf16"):
        next(decode_latent(ldm.space, torch.zeros(1, 3, 4, 8, 8), precision="fp8"))  # type: ignore[arg-type]
    assert dataclasses.is_dataclass(next(encode_volume(ldm.space, torch.zeros(1, 1, 4, 8, 8))))
