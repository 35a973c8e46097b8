"""Atoms: what a code paints, against a decoder that paints a known kernel and against decoding the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.planted_model import REACH, PlantedAutoencoder, planted_model, planted_volume

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent
from napari_vqldm.errors import CheckpointError, ConfigError, VolumeError
from napari_vqldm.inside import swaps
from napari_vqldm.inside.atoms import MIDDLE, atom, atom_steps, commonest_background
from napari_vqldm.inside.codes import CodeMap, code_map
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.volume import Volume

UNITS = IntensityScale(0.0, 1.0)


@pytest.fixture
def planted(vq_ldm: Model) -> Model:
    return planted_model(vq_ldm)


def mapped(planted: Model, codes: np.ndarray) -> CodeMap:
    factor = planted.space.autoencoder.downsampling_factor
    return code_map(planted, planted_volume(codes, factor), intensity=UNITS)


def painted(planted: Model, code: int, background: int) -> np.ndarray:
    autoencoder = planted.space.autoencoder
    assert isinstance(autoencoder, PlantedAutoencoder) and autoencoder.quantizer is not None
    vectors = autoencoder.quantizer.codebook
    return torch.einsum("c,czyx->zyx", vectors[code] - vectors[background], autoencoder.kernel[:, 0]).numpy()


def test_the_atom_of_a_linear_decoder_is_its_kernel(planted: Model) -> None:
    codes = np.ones((6, 11, 7), np.int32)
    codes[2, 4, 3] = codes[3, 5, 3] = codes[3, 6, 4] = (
        6  # neighbours, so that each stands in the surroundings of others
    )
    codes[0, 0, 0] = 5
    steps = list(atom_steps(planted, 6, [mapped(planted, codes)]))
    assert [step.index for step in steps] == [0, 1, 2] and steps[0].total == 3 and steps[0].result is None
    found = steps[-1].result
    assert found is not None and found.background_code == 1 and found.num_occurrences == found.num_found == 3
    assert "3 of 3 occurrences, fewer than 16" in found.text
    assert found.reach == REACH and found.volume.voxel_size_um == pytest.approx((0.2, 0.1, 0.1))
    expected = painted(planted, 6, 1)
    assert found.volume.shape == expected.shape == found.middle.shape  # a field this small is shown whole
    assert np.allclose(found.volume.data, expected, atol=1e-5)
    assert np.abs(expected).max() > 1.0


def test_beyond_the_faces_an_atom_is_zero(planted: Model) -> None:
    codes = np.zeros((6, 11, 7), np.int32)
    codes[0, 5, 3] = 4
    found = atom(planted, 4, [mapped(planted, codes)])
    expected = painted(planted, 4, 0)
    assert np.all(found.volume.data[: REACH[0] * 2] == 0.0)
    assert np.allclose(found.volume.data[REACH[0] * 2 :], expected[REACH[0] * 2 :], atol=1e-5)


def test_occurrences_are_spread_over_all_contexts(planted: Model) -> None:
    codes = np.zeros((6, 11, 7), np.int32)
    codes[1:5, 3:8, 2:5] = 3  # 60 places a stack
    maps = [mapped(planted, codes), mapped(planted, codes)]
    found = atom(planted, 3, maps)
    assert (found.num_occurrences, found.num_found) == (16, 120) and "fewer" not in found.text
    assert np.allclose(found.volume.data, painted(planted, 3, 0), atol=1e-5)
    assert len(list(atom_steps(planted, 3, maps, occurrences=40))) == 40


def test_a_smaller_reach_is_the_middle_of_the_whole(planted: Model) -> None:
    codes = np.zeros((6, 11, 7), np.int32)
    codes[3, 5, 3] = 4
    maps = [mapped(planted, codes)]
    whole, middle = atom(planted, 4, maps), atom(planted, 4, maps, reach=1)
    assert middle.reach == (1, 1, 1) and whole.is_whole and not middle.is_whole
    assert np.allclose(middle.volume.data, whole.volume.data[:, 4:-4], atol=1e-5)
    against = atom(planted, 4, maps, background_code=2)
    assert np.allclose(against.volume.data, painted(planted, 4, 2), atol=1e-5)
    assert not atom(planted, 0, maps).volume.data.any() and "commonest background" in atom(planted, 0, maps).text


def test_it_equals_decoding_the_whole_twice(vq_ldm: Model, stack: Volume) -> None:
    """Of a network that is not linear, in a stack larger than its receptive field on one axis."""
    long = stack.with_data(np.concatenate([stack.data, stack.data[:, :, ::-1], 0.7 * stack.data], axis=2))
    found = code_map(vq_ldm, long)
    halo, factor = vq_ldm.space.autoencoder.decoder_halo, vq_ldm.space.autoencoder.downsampling_factor
    assert found.codes.shape[2] > 4 * halo[2] + 1
    inner = np.argwhere(~found.is_padded & (np.arange(found.codes.shape[2]) > 2 * halo[2]))
    cell = tuple(inner[len(inner) // 2])
    code, background = int(found.codes[cell]), int((found.codes[cell] + 1) % 32)
    only = replace(found, codes=np.where(found.codes == code, background, found.codes))
    only.codes[cell] = code
    made = atom(vq_ldm, code, [only], background_code=background)
    swapped = only.codes.copy()
    swapped[cell] = background

    def whole(codes: np.ndarray) -> np.ndarray:
        latent = vq_ldm.space.embed_codes(torch.from_numpy(codes.astype(np.int64))[None])
        steps = decode_latent(vq_ldm.space, latent)
        return next(step.result for step in steps if step.result is not None)[0, 0].numpy()

    change = whole(only.codes) - whole(swapped)
    pads = [(h * f, h * f) for h, f in zip(halo, factor, strict=True)]
    cut = tuple(slice(c * f, (c + 2 * h + 1) * f) for c, h, f in zip(cell, halo, factor, strict=True))
    expected = np.pad(change, pads)[cut]
    assert np.abs(change).max() > 1e-3 and np.abs(change).sum() == pytest.approx(np.abs(expected).sum(), rel=1e-4)
    assert np.allclose(made.volume.data, expected, atol=1e-5)
    assert made.reach == halo and made.is_whole and min(halo) > MIDDLE  # pictures show the middle
    edges = [(h - MIDDLE) * f for h, f in zip(halo, factor, strict=True)]
    inner = tuple(slice(edge, -edge) for edge in edges)
    assert np.array_equal(made.middle.data, made.volume.data[inner])
    assert made.middle.shape == tuple((2 * MIDDLE + 1) * f for f in factor)


def test_places_far_apart_are_decoded_together(planted: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two decodings serve all of them, and what one paints is not mixed with what another does.

    Where it is less work, the stack as it is is decoded once for all of them.
    """
    calls: list[tuple[int, ...]] = []
    decode = swaps._decode
    monkeypatch.setattr(
        swaps, "_decode", lambda model, codes, most: (calls.append(codes.shape), decode(model, codes, most))[1]
    )
    apart, near = np.zeros((6, 12, 9), np.int32), np.zeros((6, 12, 9), np.int32)
    for z, y, x in ((1, 3, 2), (4, 3, 2), (1, 9, 2), (4, 9, 2)):
        apart[z, y, x] = 5
    near[1, 3, 2] = near[3, 7, 4] = 5  # one cell too close on every axis
    crowded = np.zeros_like(near)
    crowded[2, 5:7, 4:6] = crowded[3, 5, 4] = 5
    for codes, decodings in ((apart, 2), (near, 4), (crowded, 1 + 5)):
        calls.clear()
        found = atom(planted, 5, [mapped(planted, codes)])
        assert len(calls) == decodings and found.num_occurrences == np.count_nonzero(codes == 5)
        assert np.allclose(found.volume.data, painted(planted, 5, 0), atol=1e-5)


def test_together_or_one_by_one_is_the_same_mean(vq_ldm: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that is not linear: a stack so long that its ends do not see each other."""
    long = stack.with_data(np.concatenate([stack.data, stack.data[:, :, ::-1], 0.7 * stack.data], axis=2))
    found = code_map(vq_ldm, long)
    codes = np.where(found.codes == 3, 4, found.codes)
    for cell in ((2, 4, 2), (3, 5, 16), (2, 6, 29)):
        codes[cell] = 3
    changed = [replace(found, codes=codes)]
    groups = swaps.together([(changed[0], (2, 4, 2)), (changed[0], (3, 5, 16))], (3, 3, 3), (9, 9, 9))
    assert len(groups) == 1  # so the first run below decodes them at once
    at_once = atom(vq_ldm, 3, changed, reach=3, background_code=4)
    monkeypatch.setattr(swaps, "together", lambda chosen, *_: [(context, [cell]) for context, cell in chosen])
    one_by_one = atom(vq_ldm, 3, changed, reach=3, background_code=4)
    assert np.abs(at_once.volume.data).max() > 1e-3
    assert np.allclose(at_once.volume.data, one_by_one.volume.data, atol=1e-5)


def test_what_has_no_atom_is_refused(planted: Model, ldm: Model) -> None:
    codes = np.full((3, 4, 5), 2, np.int32)
    codes[0, 0, 0] = 0
    found = mapped(planted, codes)
    with pytest.raises(VolumeError, match="code 7 stands nowhere in 1 stacks"):
        atom_steps(planted, 7, [found])
    with pytest.raises(ConfigError, match="from 0 to 7"):
        atom_steps(planted, 8, [found])
    with pytest.raises(ConfigError, match="occurrences"):
        atom_steps(planted, 2, [found], occurrences=0)
    with pytest.raises(CheckpointError, match="no codebook"):
        atom_steps(ldm, 2, [found])
    foreign = replace(found, latent=replace(found.latent, weights_sha256="0" * 64))
    with pytest.raises(CheckpointError, match="another model"):
        atom_steps(planted, 2, [foreign])
    with pytest.raises(VolumeError, match="background"):
        commonest_background([mapped(planted, np.full((3, 4, 5), 7, np.int32))])
