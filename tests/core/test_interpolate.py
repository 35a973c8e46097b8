"""Paths between volumes: exact ends, the right geometry in between, and refusals with a remedy."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import DiffusionConfig
from napari_vqldm.errors import CheckpointError, ConditionError, ConfigError, ShapeError
from napari_vqldm.generate import generate
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.interpolate import CodeChange, blend, changed_codes, interpolate, interpolate_steps
from napari_vqldm.latent_path import linear, slerp
from napari_vqldm.reconstruct import decode, encode, latent_tensor, reconstruct
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Volume


@pytest.fixture(scope="module")
def other(stack: Volume) -> Volume:
    return stack.with_data(np.ascontiguousarray(stack.data[::-1, ::-1]) * 3 + 50, name="other")


@pytest.mark.parametrize("kind", ["linear", "slerp"])
@pytest.mark.parametrize("snap", [True, False])
def test_encoded_ends_return_their_reconstruction(
    model: Model, stack: Volume, other: Volume, kind: Any, snap: bool
) -> None:
    a, b = encode(model, stack), encode(model, other)
    first, middle, last = interpolate(model, a, b, [0.0, 0.5, 1.0], kind, snap)
    assert np.array_equal(first.data, reconstruct(model, stack).data)
    assert np.array_equal(last.data, reconstruct(model, other).data)
    assert not np.array_equal(middle.data, first.data) and not np.array_equal(middle.data, last.data)
    assert isinstance(interpolate(model, a, b, 0.5, kind, snap), Volume)
    assert middle.provenance["request"]["kind"] == kind and middle.provenance["request"]["t"] == 0.5


@pytest.mark.parametrize("kind", ["linear", "slerp"])
@pytest.mark.parametrize("condition", [None, {"organisation": "spindle"}])
def test_seeds_at_the_ends_are_generate(model: Model, kind: Any, condition: Any) -> None:
    first, middle, last = interpolate(model, 3, 9, [0, 0.4, 1], kind, snap=False, condition=condition)
    for end, seed in ((first, 3), (last, 9)):
        direct = generate(model, seed=seed, condition=condition)[0]
        assert np.array_equal(end.data, direct.data) and end.voxel_size_um == direct.voxel_size_um
    low, high = sorted((first.voxel_size_um[0], last.voxel_size_um[0]))
    assert low < middle.voxel_size_um[0] < high
    assert np.isfinite(middle.data).all()


def test_stochastic_samplers_form_a_path_between_seeds(ldm: Model) -> None:
    request: dict[str, Any] = {"sampler": "dpmpp_2m_sde", "steps": 6, "condition": {"organisation": "aster"}}
    near, first, close, middle, last = interpolate(ldm, 3, 9, [1e-6, 0, 1e-3, 0.5, 1], "slerp", **request)
    for end, seed in ((first, 3), (last, 9)):
        assert np.array_equal(end.data, generate(ldm, seed=seed, **request)[0].data)
    gap = [float(np.abs(frame.data - first.data).max()) for frame in (near, close, middle)]
    assert gap[0] < gap[1] < gap[2] and gap[0] < 1e-3 * gap[2]
    diffusion = DiffusionConfig(objective="epsilon", sampler="ddpm", steps=4)
    epsilon = dataclasses.replace(ldm, config=ldm.config.model_copy(update={"diffusion": diffusion}))
    first, middle = interpolate(epsilon, 1, 2, [0, 0.5])
    assert np.array_equal(first.data, generate(epsilon, seed=1)[0].data) and np.isfinite(middle.data).all()


def test_intensities_move_linearly_between_the_ends(ldm: Model, stack: Volume) -> None:
    a = encode(ldm, stack)
    intensity = IntensityScale(a.intensity.background + 40, a.intensity.scale * 3)
    brighter = dataclasses.replace(a, intensity=intensity)
    first, middle, last = interpolate(ldm, a, brighter, [0, 0.25, 1])
    np.testing.assert_allclose(middle.data, 0.75 * first.data + 0.25 * last.data, rtol=1e-4)


def test_snapping_puts_every_cell_on_a_code_and_not_snapping_does_not(
    vq_ldm: Model, stack: Volume, other: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    space = type(vq_ldm.space)
    real = space.decode
    monkeypatch.setattr(space, "decode", lambda self, z, **k: decoded.append(z.clone()) or real(self, z, **k))
    a, b = encode(vq_ldm, stack), encode(vq_ldm, other)
    snapped = interpolate(vq_ldm, a, b, 0.5, snap=True)
    free = interpolate(vq_ldm, a, b, 0.5, snap=False)
    on, off = decoded
    assert torch.equal(on, vq_ldm.space.snap(on))
    straight = linear(latent_tensor(vq_ldm, a), latent_tensor(vq_ldm, b), 0.5)
    assert torch.equal(off, straight) and torch.equal(on, vq_ldm.space.snap(straight))
    assert not torch.equal(off, vq_ldm.space.snap(off))
    assert not np.array_equal(snapped.data, free.data)


@pytest.mark.parametrize("requantize", [True, False])
def test_frames_between_seeds_are_snapped_only_if_the_ends_are(
    vq_ldm: Model, monkeypatch: pytest.MonkeyPatch, requantize: bool
) -> None:
    diffusion = vq_ldm.config.diffusion.model_copy(update={"requantize": requantize})
    vq_ldm = dataclasses.replace(vq_ldm, config=vq_ldm.config.model_copy(update={"diffusion": diffusion}))
    decoded = []
    space = type(vq_ldm.space)
    real = space.decode
    monkeypatch.setattr(space, "decode", lambda self, z, **k: decoded.append(z.clone()) or real(self, z, **k))
    interpolate(vq_ldm, 3, 9, [0, 0.5, 1])
    assert [torch.equal(z, vq_ldm.space.snap(z)) for z in decoded] == [requantize] * 3


def two_vectors(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3, 4)) * rng.uniform(0.1, 9, (2, 1, 1))
    return a, b


@settings(deadline=None)
@given(ends=st.integers(0, 2**31).map(two_vectors), t=st.floats(0.01, 0.99))
def test_slerp_turns_the_direction_evenly_and_the_norm_linearly(ends: tuple[Any, Any], t: float) -> None:
    a, b = (torch.from_numpy(end) for end in ends)
    between = slerp(a, b, t)

    def angle(u: torch.Tensor, v: torch.Tensor) -> float:
        u, v = u / u.norm(), v / v.norm()
        return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))

    whole = angle(a, b)
    assert float(between.norm()) == pytest.approx(float((1 - t) * a.norm() + t * b.norm()), rel=1e-9)
    assert angle(a, between) == pytest.approx(t * whole, rel=1e-6)
    assert angle(between, b) == pytest.approx((1 - t) * whole, rel=1e-6)


def test_slerp_of_degenerate_ends() -> None:
    a = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    torch.testing.assert_close(slerp(a, torch.zeros(3), 0.25), 0.75 * a)
    with pytest.raises(ConfigError, match="opposite"):
        slerp(a, -a, 0.5)
    assert slerp(a, -a, 0.0) is a


def test_what_cannot_be_connected_is_refused_with_the_remedy(ldm: Model, vq_ldm: Model, stack: Volume) -> None:
    a = encode(ldm, stack)
    smaller = encode(ldm, stack.with_data(stack.data[:, :-1]))
    coarser = encode(ldm, dataclasses.replace(stack, voxel_size_um=(0.22, 0.1, 0.1)))
    with pytest.raises(ShapeError, match="crop the stacks to one shape"):
        interpolate_steps(ldm, a, smaller)
    with pytest.raises(ConfigError, match="choose stacks of one voxel size"):
        interpolate_steps(ldm, a, coarser)
    with pytest.raises(CheckpointError, match="belongs to model"):
        interpolate_steps(ldm, a, encode(vq_ldm, stack))
    with pytest.raises(CheckpointError, match="belongs to model"):
        interpolate_steps(ldm, dataclasses.replace(a, weights_sha256="0" * 64), a)
    with pytest.raises(ConfigError, match="one of each"):
        interpolate_steps(ldm, a, 3)
    for t in (-0.1, 1.1, float("nan"), [], [0.5, 2]):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            interpolate_steps(ldm, a, a, t)
    with pytest.raises(ConfigError, match="slerp"):
        interpolate_steps(ldm, a, a, kind="cubic")  # type: ignore[arg-type]
    with pytest.raises(ConditionError):
        interpolate_steps(ldm, 1, 2, condition={"organisation": "bouquet"})


def test_opposite_ends_are_refused_before_the_first_step(
    ldm: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = encode(ldm, stack)
    assert a.latent is not None
    opposite = dataclasses.replace(a, latent=-a.latent)
    with pytest.raises(ConfigError, match="opposite"):
        interpolate_steps(ldm, a, opposite, [0.0, 0.5, 1.0], "slerp")
    interpolate_steps(ldm, a, opposite, [0.0, 1.0], "slerp")
    interpolate_steps(ldm, a, opposite, [0.5], "linear")

    module = sys.modules["napari_vqldm.interpolate"]
    draw = module.draw_start  # type: ignore[attr-defined]

    def mirrored(model: Model, seed: int, index: int, given: Any) -> Any:
        start = draw(model, 1, index, given)
        return dataclasses.replace(start, noise=start.noise if seed == 1 else -start.noise)

    monkeypatch.setattr(module, "draw_start", mirrored)
    with pytest.raises(ConfigError, match="opposite"):
        interpolate_steps(ldm, 1, 2, [0.5], "slerp")


def test_seeds_beyond_64_bits_are_refused(ldm: Model) -> None:
    for seed in (-1, 2**64):
        with pytest.raises(ConfigError, match="seed"):
            interpolate_steps(ldm, 1, seed)


def test_steps_count_up_to_their_total_and_can_be_cancelled(model: Model, stack: Volume) -> None:
    a = encode(model, stack)
    for request in (interpolate_steps(model, a, a, [0, 0.5]), interpolate_steps(model, 1, 2, [0, 0.5])):
        steps = list(request)
        assert [step.index for step in steps] == list(range(steps[0].total))
        assert {step.total for step in steps} == {len(steps)}
        assert [step.t for step in steps if step.volume is not None] == [0, 0.5]
    running = interpolate_steps(model, 1, 2)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert next(running, None) is None


@pytest.mark.parametrize("kind", ["linear", "slerp"])
@pytest.mark.parametrize("snap", [True, False])
def test_a_blended_latent_decodes_to_the_frame(
    model: Model, stack: Volume, other: Volume, kind: Any, snap: bool
) -> None:
    a, b = encode(model, stack), encode(model, other)
    mixed = blend(model, a, b, 0.3, kind, snap)
    assert np.array_equal(decode(model, mixed).data, interpolate(model, a, b, 0.3, kind, snap).data)
    assert mixed.provenance["verb"] == "blend" and mixed.provenance["request"]["t"] == 0.3
    assert (mixed.codes is None) == (model.config.family == "ldm" or not snap)
    assert blend(model, a, b, 0.0, kind, snap) is a and blend(model, a, b, 1.0, kind, snap) is b
    with pytest.raises(ConfigError, match="t from 0 to 1"):
        blend(model, a, b, 1.5)
    with pytest.raises(ConfigError, match="linear or slerp"):
        blend(model, a, b, 0.5, "cubic")  # type: ignore[arg-type]


@pytest.mark.slow
def test_smaller_tiles_are_those_of_decode_and_recorded(ldm: Model, stack: Volume, other: Volume) -> None:
    a, b = encode(ldm, stack), encode(ldm, other)
    frame = interpolate(ldm, a, b, 0.3, max_voxels=2**11)
    assert np.array_equal(frame.data, decode(ldm, blend(ldm, a, b, 0.3), max_voxels=2**11).data)
    assert len(list(interpolate_steps(ldm, a, b, 0.3, max_voxels=2**11))) > 1
    assert frame.provenance["request"]["max_voxels"] == 2**11
    whole = interpolate(ldm, a, b, 0.3)
    assert whole.provenance["request"]["max_voxels"] == MAX_VOXELS
    np.testing.assert_allclose(frame.data, whole.data, rtol=0, atol=1e-4 * float(np.ptp(whole.data)))
    with pytest.raises(ConfigError, match="max_voxels is for encoded ends"):
        interpolate_steps(ldm, 1, 2, max_voxels=2**11)


def test_changed_codes_count_from_either_end(ldm: Model, vq_ldm: Model, stack: Volume, other: Volume) -> None:
    a, b = encode(vq_ldm, stack), encode(vq_ldm, other)
    assert a.codes is not None and b.codes is not None
    apart = int((a.codes != b.codes).sum())
    assert changed_codes(vq_ldm, a, b, 0.0) == CodeChange(0, apart, a.codes.size)
    assert changed_codes(vq_ldm, a, b, 1.0) == CodeChange(apart, 0, a.codes.size)
    near, far = changed_codes(vq_ldm, a, b, 0.5), changed_codes(vq_ldm, a, b, 0.8)
    assert near is not None and far is not None
    assert 0 < near.num_changed_from_a < far.num_changed_from_a <= a.codes.size
    assert near.num_changed_from_b > far.num_changed_from_b
    assert changed_codes(ldm, encode(ldm, stack), encode(ldm, other)) is None
