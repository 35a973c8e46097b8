"""Quantization error and channels of continuous latents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.planted_model import planted_model, planted_volume

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import CheckpointError, FileError
from napari_vqldm.files import write_volume
from napari_vqldm.inside.channels import ChannelReport, channel_report, channel_steps
from napari_vqldm.inside.quantization import quantization_error, quantization_steps
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.reconstruct import decode, encode, encode_steps
from napari_vqldm.volume import Volume

UNITS = IntensityScale(0.0, 1.0)


def test_a_cell_between_two_codes_has_a_known_error(vq_ldm: Model) -> None:
    planted = planted_model(vq_ldm)
    volume = planted_volume(np.zeros((3, 4, 5), np.int32), (2, 4, 4))
    volume.data[2:4, 8:12, 4:8] = 0.6  # code 2 is (0.5, 0.02)
    found = quantization_error(planted, volume, intensity=UNITS)
    assert found.latent.codes is not None and found.latent.codes[1, 2, 1] == 2
    expected = np.zeros((3, 4, 5))
    expected[1, 2, 1] = np.sqrt((0.1**2 + 0.02**2) / 2)
    assert np.allclose(found.distance.data, expected, atol=1e-6)
    assert found.distance.translate_um == pytest.approx((0.1, 0.15, 0.15))
    lost = found.difference.data[2:4, 8:12, 4:8]
    assert float(lost.mean()) == pytest.approx(-0.1, abs=0.03)  # the decoder paints 1 and a little noise
    assert np.abs(found.difference.data[:, :, 16:]).max() == 0.0


def test_snapped_is_the_reconstruction(vq_ldm: Model, stack: Volume) -> None:
    # Long enough for a few tiles: the receptive field alone is larger than the stack.
    wide = stack.with_data(np.concatenate([stack.data, stack.data[:, :, ::-1], stack.data[:, :, :10]], axis=2))
    steps = list(quantization_steps(vq_ldm, wide, max_voxels=36_000))
    assert [step.index for step in steps] == list(range(steps[-1].total))
    found = steps[-1].result
    assert found is not None and all(step.result is None for step in steps[:-1])
    latent = encode(vq_ldm, wide)
    assert len(steps) > 4
    assert np.allclose(found.snapped.data, decode(vq_ldm, latent).data, rtol=1e-4, atol=1e-3)
    assert np.array_equal(found.difference.data, found.snapped.data - found.unsnapped.data)
    whole = quantization_error(vq_ldm, wide)
    assert np.allclose(found.unquantized, whole.unquantized, atol=1e-4)  # tiles give what the whole gives
    assert found.unquantized.shape == (3, *latent.grid) and found.distance.data.max() > 0.01
    with pytest.raises(CheckpointError, match="no codebook"):
        quantization_steps(replace(vq_ldm, config=vq_ldm.config.model_copy(update={"family": "ldm"})), stack)


def test_channels_of_two_volumes_are_those_of_all_their_cells(ldm: Model, stack: Volume) -> None:
    other = stack.with_data(stack.data[:, ::-1, :30] * 2, name="other")
    steps = list(channel_steps(ldm, iter([stack, other])))
    assert [step.name for step in steps] == ["stack", "other"]
    found = steps[-1].report
    assert found is not None and np.allclose(channel_report(ldm, [stack, other]).kl_nats, found.kl_nats)
    means, deviations = [], []
    for volume in (stack, other):
        *_, last = encode_steps(ldm, volume)
        assert last.latent is not None and last.latent.latent is not None and last.posterior_deviation is not None
        means.append(last.latent.latent.reshape(3, -1).astype(np.float64))
        deviations.append(last.posterior_deviation.reshape(3, -1).astype(np.float64))
    standard, deviation = np.concatenate(means, axis=1), np.concatenate(deviations, axis=1)
    scale, offset = ldm.space.scale.double().numpy()[:, None], ldm.space.mean.double().numpy()[:, None]
    raw, spread = standard * scale + offset, deviation * scale
    assert found.num_cells == raw.shape[1]
    assert np.allclose(found.mean, raw.mean(axis=1)) and np.allclose(found.sd, raw.std(axis=1))
    assert np.allclose(found.standardised_sd, standard.std(axis=1))
    assert np.allclose(found.standardised_mean, standard.mean(axis=1))
    kl = 0.5 * (raw**2 + spread**2 - 1 - 2 * np.log(spread))
    assert np.allclose(found.kl_nats, kl.mean(axis=1))
    assert np.array_equal(found.is_active, raw.var(axis=1) > 0.01)


def test_silent_channels_are_named() -> None:
    zeros = np.zeros(3)

    def report(*active: bool) -> ChannelReport:
        return ChannelReport(zeros, zeros, zeros, zeros, zeros, np.array(active), 10)

    assert report(True, True, True).warning == ""
    assert "2 of 3" in report(False, True, False).warning and report(False, True, False).warning.endswith("0, 2")
    assert "posterior collapse" in report(False, False, False).warning


def test_a_silent_channel_is_found_in_a_model(ldm: Model, stack: Volume, build) -> None:  # type: ignore[no-untyped-def]
    _, space, _ = build("ldm")
    space.autoencoder.encoder[-1].weight.data[1] = 0.0  # mean of channel 1
    model = replace(ldm, space=space.eval().requires_grad_(False))
    found = channel_report(model, [stack])
    assert found.is_active.tolist() == [True, False, True] and found.sd[1] == pytest.approx(0.0, abs=1e-6)


def test_channels_of_files_go_on_after_a_bad_one(ldm: Model, vq_ldm: Model, stack: Volume, tmp_path) -> None:  # type: ignore[no-untyped-def]
    good = write_volume(tmp_path / "good.ome.tif", stack)
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0 and no more")
    first, second = channel_steps(ldm, [bad, good])
    assert first.report is None and "bad.tif" in first.problem and first.name == "bad.tif"
    assert second.report is not None and second.problem == "" and second.total == 2
    with pytest.raises(FileError, match=r"bad\.tif"):
        channel_report(ldm, [bad])
    with pytest.raises(CheckpointError, match="codebook_usage"):
        channel_report(vq_ldm, [stack])
