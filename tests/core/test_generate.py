"""Volume i of a seed is the same whatever the batch; conditions are drawn inside the trained range or refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.condition_ranges import allowed_conditions
from napari_vqldm.conditions import draw_conditions
from napari_vqldm.config import CameraConfig, DiffusionConfig
from napari_vqldm.errors import CheckpointError, ConditionError, ConfigError, ShapeError
from napari_vqldm.generate import draw_start, generate, generate_steps
from napari_vqldm.sampling import initial_noise
from napari_vqldm.simulate import Simulator

WINDOW = (8, 32, 32)


def test_volumes_are_the_same_whatever_the_batch_the_count_or_the_start(model: Model) -> None:
    three = generate(model, 3, seed=5)
    alone = generate(model, 1, seed=5, start=2)[0]
    assert np.array_equal(alone.data, three[2].data)  # on the CPU one volume at a time is the default
    together = generate(model, 3, seed=5, batch=3)
    for a, b in zip(three, together, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-4)
        assert a.voxel_size_um == b.voxel_size_um and a.name == b.name
        one, many = (dict(volume.provenance["request"]) for volume in (a, b))
        assert one.pop("batch")["size"] == 1 and many.pop("batch") == {"start": 0, "size": 3}
        assert one == many
    assert np.abs(three[0].data - three[1].data).max() > 1e-2


def test_noise_and_conditions_depend_on_seed_and_index_alone(model: Model) -> None:
    first = draw_start(model, 5, 2)
    generate(model, 2, seed=5)
    again = draw_start(model, 5, 2)
    assert torch.equal(first.noise, again.noise) and torch.equal(first.noise, initial_noise(5, 2, (3, 4, 8, 8)))
    assert first.conditions.values == again.conditions.values
    assert first.conditions.vector is not None and again.conditions.vector is not None
    assert torch.equal(first.conditions.vector, again.conditions.vector)
    other = draw_start(model, 6, 2)
    assert not torch.equal(first.noise, other.noise) and first.conditions.values != other.conditions.values


def test_the_result_carries_its_voxel_size_and_its_origin(model: Model) -> None:
    volume = generate(model, 1, seed=1, start=4, steps=2, guidance_scale=1.5)[0]
    request = volume.provenance["request"]
    conditions = request["conditions"]
    assert volume.shape == WINDOW and np.isfinite(volume.data).all()
    sizes = conditions["voxel_size_z_um"], conditions["voxel_size_xy_um"], conditions["voxel_size_xy_um"]
    assert volume.voxel_size_um == sizes
    assert (request["seed"], request["index"], request["steps"], request["guidance_scale"]) == (1, 4, 2, 1.5)
    assert request["sampler"] == "euler" and request["weights_sha256"] == model.weights_sha256
    assert volume.provenance["packages"]["torch"]
    json.dumps(volume.provenance)


def test_a_smaller_shape_is_the_center_of_the_window(model: Model) -> None:
    whole = generate(model, seed=2)[0].data
    part = generate(model, seed=2, shape=(4, 30, 7))[0].data
    assert np.array_equal(part, whole[2:6, 1:31, 12:19])
    for shape in ((9, 32, 32), (8, 32, 33), (1, 32, 32)):
        with pytest.raises(ShapeError, match=r"\(8, 32, 32\)"):
            generate_steps(model, shape=shape)


def test_conditions_and_guidance_reach_the_denoiser(ldm: Model) -> None:
    fixed = {"organisation": "aster", "voxel_size_z_um": 0.2, "voxel_size_xy_um": 0.1}
    few, many = (
        generate(ldm, seed=3, condition={**fixed, "length_density_um_per_um3": value})[0] for value in (0.1, 0.5)
    )
    assert few.voxel_size_um == (0.2, 0.1, 0.1)
    assert np.abs(few.data - many.data).max() > 1e-4
    guided = generate(ldm, seed=3, condition={**fixed, "length_density_um_per_um3": 0.1}, guidance_scale=3.0)[0]
    assert np.abs(few.data - guided.data).max() > 1e-4


def test_the_checkpoint_chooses_the_guidance_that_nobody_asked_for(ldm: Model) -> None:
    config = ldm.config.model_copy(
        update={"diffusion": ldm.config.diffusion.model_copy(update={"guidance_scale": 3.0})}
    )
    chosen = dataclasses.replace(ldm, config=config)
    request = {"seed": 3, "steps": 2}
    assert np.array_equal(generate(chosen, **request)[0].data, generate(ldm, **request, guidance_scale=3.0)[0].data)
    assert np.array_equal(generate(chosen, **request, guidance_scale=1.0)[0].data, generate(ldm, **request)[0].data)
    assert generate(chosen, **request)[0].provenance["request"]["guidance_scale"] == 3.0


def test_drawn_conditions_follow_the_training_distribution(ldm: Model) -> None:
    assert ldm.config.simulation is not None
    drawn = [draw_conditions(ldm.config, 11, i).values for i in range(200)]
    allowed = allowed_conditions(ldm.config)
    for name, ends in allowed.items():
        values = [values[name] for values in drawn]
        if name == "organisation":
            assert set(values) == set(ends)
        else:
            numbers = np.array(values, float)
            low, high = (float(end) for end in ends)
            assert low * (1 - 1e-9) <= numbers.min() and numbers.max() <= high * (1 + 1e-9)
            assert np.ptp(numbers) > 0.8 * (high - low)
    assert drawn[7] == Simulator(ldm.config.simulation).draw_parameters(11, 7).condition_values()


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ({"density": 0.3}, "length_density_um_per_um3"),
        ({"length_density_um_per_um3": 0.6}, "0.1 to 0.5"),
        ({"length_density_um_per_um3": -1}, "0.1 to 0.5"),
        ({"length_density_um_per_um3": float("nan")}, "0.1 to 0.5"),
        ({"length_density_um_per_um3": "much"}, "0.1 to 0.5"),
        ({"length_density_um_per_um3": True}, "0.1 to 0.5"),
        ({"voxel_size_z_um": 0.3}, "0.1818 to 0.22"),
        ({"organisation": "bouquet"}, "two_asters"),
        ({"organisation": 3}, "two_asters"),
    ],
)
def test_a_condition_outside_the_model_names_what_is_allowed(
    ldm: Model, condition: dict[str, float | str], named: str
) -> None:
    with pytest.raises(ConditionError, match=named):
        generate_steps(ldm, condition=condition)


def test_a_model_that_knew_nothing_takes_no_conditions(ldm: Model) -> None:
    blind = dataclasses.replace(ldm, config=ldm.config.model_copy(update={"simulation": None}))
    volume = generate(blind)[0]
    np.testing.assert_allclose(volume.voxel_size_um, (0.19900, 0.09950, 0.09950), rtol=1e-3)  # middle of the range
    with pytest.raises(ConditionError, match="no conditions"):
        generate_steps(blind, condition={"organisation": "aster"})


def test_the_camera_records_after_sampling(model: Model) -> None:
    camera = CameraConfig(photons=1e6, background=0.5, read_noise_e=0.0, offset_adu=100.0)
    clean = generate(model, seed=4)[0]
    one, two = generate(model, 2, seed=4, camera=camera)
    expected = 100 + np.maximum(clean.data + 0.5, 0) * 1e6 * camera.quantum_efficiency / camera.gain_e_per_adu
    np.testing.assert_allclose(one.data, expected, rtol=0.02, atol=2e4)
    assert np.array_equal(two.data, generate(model, 1, seed=4, start=1, camera=camera)[0].data)
    assert one.provenance["request"]["camera"]["photons"] == 1e6
    noisy = dataclasses.replace(model, config=model.config.model_copy(update={"target": "input"}))
    with pytest.raises(ConfigError, match="without a camera"):
        generate_steps(noisy, camera=camera)


def test_steps_report_progress_and_can_be_cancelled(model: Model) -> None:
    steps = list(generate_steps(model, 3, batch=2, steps=2))
    assert [step.index for step in steps] == list(range(steps[0].total)) and steps[0].total == 2 + 2 + 2 + 1
    assert [len(step.volumes or ()) for step in steps] == [0, 0, 1, 1, 0, 0, 1]
    assert [step.volume_index for step in steps] == [0, 0, 0, 1, 2, 2, 2]
    assert all((step.preview is None) == (step.volumes is not None) for step in steps)
    assert steps[0].preview is not None and steps[0].preview.shape == (3, 4, 8, 8)
    running = generate_steps(model, 3)
    next(running)
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    running.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(running)


def test_half_precision_is_near_and_stays_outside_the_caller(ldm: Model) -> None:
    exact, fast = (generate(ldm, seed=8, precision=precision)[0].data for precision in ("fp32", "bf16"))  # type: ignore[arg-type]
    assert not np.array_equal(exact, fast)
    assert np.corrcoef(exact.ravel(), fast.ravel())[0, 1] > 0.99
    running = generate_steps(ldm, precision="bf16")
    next(running)
    assert not torch.is_autocast_enabled("cpu")


def test_fresh_noise_of_stochastic_steps_belongs_to_the_volume(ldm: Model) -> None:
    alone = generate(ldm, seed=4, start=1, sampler="dpmpp_2m_sde", steps=5)[0].data
    batch = generate(ldm, 3, seed=4, sampler="dpmpp_2m_sde", steps=5, batch=3)
    np.testing.assert_allclose(batch[1].data, alone, rtol=0, atol=1e-4 * np.abs(alone).max())
    assert not np.allclose(alone, generate(ldm, seed=4, start=1, sampler="euler", steps=5)[0].data)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_epsilon_models_generate_too(ldm: Model, sampler: str) -> None:
    diffusion = DiffusionConfig(objective="epsilon", sampler=sampler, steps=4, num_train_timesteps=20)  # type: ignore[arg-type]
    epsilon = dataclasses.replace(ldm, config=ldm.config.model_copy(update={"diffusion": diffusion}))
    two = generate(epsilon, 2, seed=1)
    batch = generate(epsilon, 2, seed=1, batch=2)
    scale = np.abs(two[1].data).max()
    np.testing.assert_allclose(two[1].data, batch[1].data, rtol=0, atol=1e-4 * scale)
    with pytest.raises(ConfigError, match="1 to 20"):
        generate_steps(epsilon, steps=21)


def test_requests_out_of_range_are_refused_at_once(ldm: Model) -> None:
    for bad in (
        {"count": 0},
        {"seed": -1},
        {"start": -1},
        {"batch": 0},
        {"steps": 0},
        {"guidance_scale": -1.0},
        {"guidance_scale": float("nan")},
        {"sampler": "ddim"},
        {"sampler": "magic"},
    ):
        with pytest.raises(ConfigError):
            generate_steps(ldm, **bad)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="stage 1 alone"):
        generate_steps(dataclasses.replace(ldm, denoiser=None))
