"""`Simulator`: the same volume in every batch, exact truth, parameters within their ranges, tiers as data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_vqldm.config import ORGANISATIONS, SimulationConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator, tier

SMALL = SimulationConfig(shape=(8, 32, 32))


def simulator(**changes: object) -> Simulator:
    return Simulator(SMALL.model_copy(update=changes))


def test_a_volume_is_the_same_bits_in_every_batch() -> None:
    together = simulator().sample(3, [4, 0, 9, 2])
    for place, index in enumerate([4, 0, 9, 2]):
        alone = simulator().sample(3, [index])  # a fresh simulator: nothing is carried over from call to call
        assert torch.equal(together.clean[place], alone.clean[0])
        assert together.noisy is not None and alone.noisy is not None
        assert torch.equal(together.noisy[place], alone.noisy[0])
        assert together.parameters[place] == alone.parameters[0]
        for a, b in zip(together.centre_lines[place], alone.centre_lines[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_seeds_and_indices_give_different_volumes() -> None:
    s = simulator()
    volumes = [s.sample(seed, [index], noisy=False).clean for seed, index in [(0, 0), (0, 1), (1, 0)]]
    assert not torch.equal(volumes[0], volumes[1]) and not torch.equal(volumes[0], volumes[2])
    with pytest.raises(ConfigError, match="0 or more"):
        s.sample(0, [-1])


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the point is that the legacy state does not matter
    expected = simulator().sample(0, [0])
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    torch.manual_seed(2)
    assert torch.equal(simulator().sample(0, [0]).clean, expected.clean)


def test_shapes_units_and_types() -> None:
    batch = simulator().sample(0, range(3))
    assert batch.noisy is not None
    for volumes in (batch.clean, batch.noisy):
        assert volumes.shape == (3, 1, 8, 32, 32)
        assert volumes.dtype == torch.float32
    assert batch.clean.min() >= 0.0
    assert simulator().sample(0, [0], noisy=False).noisy is None
    assert simulator().sample(0, [], noisy=False).clean.shape == (0, 1, 8, 32, 32)


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_the_length_density_is_exact(organisation: str) -> None:
    batch = simulator(organisation={organisation: 1.0}, voxel_size_jitter=0.2).sample(1, range(3), noisy=False)
    for lines, p in zip(batch.centre_lines, batch.parameters, strict=True):
        assert p.organisation == organisation
        extent = np.array(SMALL.shape) * p.voxel_size_um
        length = sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines)
        assert length / extent.prod() == pytest.approx(p.length_density_um_per_um3, rel=1e-9)
        points = np.concatenate(lines)
        assert (points >= 0).all() and (points <= extent).all()


def test_the_truth_lies_where_the_light_is() -> None:
    batch = simulator(brightness_cv=0.0, organisation={"free": 1.0}).sample(2, range(4), noisy=False)
    for image, lines, p in zip(batch.clean[:, 0].numpy(), batch.centre_lines, batch.parameters, strict=True):
        nearest = np.floor(np.concatenate(lines) / p.voxel_size_um).astype(int)
        inside = np.clip(nearest, 0, np.array(image.shape) - 1)
        on_line = image[tuple(inside.T)]
        assert np.median(on_line) > 0.8
        assert np.median(image) < 0.2


def test_noise_is_that_of_the_drawn_photons_and_background() -> None:
    batch = simulator(organisation={"free": 1.0}, length_density_um_per_um3=(0.02, 0.05)).sample(4, range(6))
    assert batch.noisy is not None
    for clean, noisy, p in zip(batch.clean, batch.noisy, batch.parameters, strict=True):
        units = p.photons * SMALL.camera.quantum_efficiency
        expected = ((clean.double() + p.background) * units + SMALL.camera.read_noise_e**2).mean().sqrt() / units
        assert (noisy - clean).double().std() == pytest.approx(float(expected), rel=0.05)


def test_parameters_stay_in_their_ranges_and_cover_them() -> None:
    s = simulator(voxel_size_jitter=0.25)
    drawn = [s.draw_parameters(0, i) for i in range(400)]
    for name in ("length_density_um_per_um3", "persistence_length_um", "mean_contour_length_um", "out_of_plane",
                 "photons", "background"):  # fmt: skip
        low, high = getattr(SMALL, name)
        values = np.array([getattr(p, name) for p in drawn])
        assert values.min() >= low and values.max() <= high
        assert values.min() < low + 0.1 * (high - low) and values.max() > high - 0.1 * (high - low)
    ratio = np.array([p.voxel_size_um for p in drawn]) / SMALL.voxel_size_um
    assert ratio.min() >= 0.8 - 1e-9 and ratio.max() <= 1.25 + 1e-9
    np.testing.assert_allclose(ratio[:, 1], ratio[:, 2])
    assert np.corrcoef(ratio[:, 0], ratio[:, 1])[0, 1] < 0.2  # z apart from xy
    assert np.median([p.photons for p in drawn]) == pytest.approx(100.0, rel=0.15)
    counts = {name: sum(p.organisation == name for p in drawn) / 400 for name in ORGANISATIONS}
    for name, weight in SMALL.organisation.items():
        assert counts[name] == pytest.approx(weight, abs=0.07)


def test_organisations_without_weight_are_never_drawn() -> None:
    s = simulator(organisation={"aligned": 2.0, "free": 0.0})
    assert {s.draw_parameters(0, i).organisation for i in range(50)} == {"aligned"}


def test_parameters_can_be_written_as_json_and_given_to_a_model() -> None:
    p = simulator().draw_parameters(0, 0)
    assert json.loads(json.dumps(p.to_dict()))["voxel_size_um"] == list(p.voxel_size_um)
    values = p.condition_values()
    assert values == {
        "length_density_um_per_um3": p.length_density_um_per_um3,
        "persistence_length_um": p.persistence_length_um,
        "psf_width_um": p.psf_width_um,
        "voxel_size_z_um": 0.2,
        "voxel_size_xy_um": 0.1,
        "organisation": p.organisation,
    }
    assert p.psf_width_um == pytest.approx(0.2095 * p.psf_width_factor, rel=0.01)
    assert p.psf_width_factor * 64 == round(p.psf_width_factor * 64)


def test_scenes_drawn_elsewhere_are_imaged_the_same() -> None:
    s = simulator()
    apart = simulator().render([s.scene(0, 1), s.scene(0, 2)], noisy=False)
    assert torch.equal(apart.clean, s.sample(0, [1, 2], noisy=False).clean)


def test_numbered_volumes_keep_their_content() -> None:
    """Data sets are named by seed and index alone, so a change of the draws has to be noticed."""
    expected = {
        0: ("free", 0.370213, 48.3057, 152, 0.0488389),
        1: ("aligned", 0.109893, 8.9968, 31, 0.0275853),
        2: ("aster", 0.120394, 11.2667, 48, 0.0170271),
    }
    s = Simulator(tier())
    for index, (organisation, density, persistence, filaments, mean) in expected.items():
        scene = s.scene(0, index)
        p = scene.parameters
        assert p.organisation == organisation
        assert p.length_density_um_per_um3 == pytest.approx(density, rel=1e-5)
        assert p.persistence_length_um == pytest.approx(persistence, rel=1e-5)
        assert len(scene.filaments) == filaments
        assert float(s.render([scene], noisy=False).clean.mean()) == pytest.approx(mean, rel=1e-3)


def test_the_standard_tier_is_what_it_says() -> None:
    standard = tier("standard")
    assert standard.shape == (32, 128, 128)
    assert standard.voxel_size_um == (0.2, 0.1, 0.1)
    assert standard.voxel_size_jitter == 0.0
    assert standard.length_density_um_per_um3 == (0.1, 0.5)
    assert standard.photons == (50.0, 200.0)  # log-uniform: median 100
    assert tier() == standard
    with pytest.raises(ConfigError, match="unknown tier 'easy': choose one of sparse, standard, hard"):
        tier("easy")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_images_up_to_rounding() -> None:
    on_gpu = Simulator(SMALL, "cuda").sample(0, range(4), noisy=False)
    assert on_gpu.clean.device.type == "cuda"
    torch.testing.assert_close(
        on_gpu.clean.cpu(), simulator().sample(0, range(4), noisy=False).clean, atol=1e-4, rtol=0
    )
