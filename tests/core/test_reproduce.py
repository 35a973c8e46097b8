"""A volume is computed again from its record; every single reason for other bits is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_vqldm as nv
from napari_vqldm import recompute
from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.environment import current_environment
from napari_vqldm.errors import CheckpointError, FileError, RecipeError
from napari_vqldm.estimate import jobs
from napari_vqldm.reproduce import Reproduction, estimate_reproduction, reproduce, reproduce_steps
from napari_vqldm.volume import Volume, hash_voxels, seal

SMALL = SimulationConfig(shape=(8, 32, 32))


@pytest.fixture(scope="module")
def generated(ldm: Model) -> Volume:
    return nv.generate(ldm, seed=4, start=1, steps=2, condition={"organisation": "aster"})[0]


def with_environment(volume: Volume, **changes: Any) -> Volume:
    """A volume that claims another machine."""
    record = dict(volume.provenance)
    return replace(volume, provenance={**record, "environment": {**record["environment"], **changes}})


def assert_identical(result: Reproduction) -> None:
    assert result.is_equal and result.max_abs_difference == 0.0 and not result.is_changed
    assert result.differences == () and result.verdict == "identical to the last bit"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ldm", "vq-ldm"], indirect=True)
def test_every_verb_is_reproduced_to_the_last_bit(model: Model, stack: Volume) -> None:
    clean = nv.simulate(seed=3, start=1, config=SMALL)[0].clean
    generated = nv.generate(model, 2, (8, 30, 8), seed=4, steps=2, batch=2)[1]
    part = nv.crop(stack, ((1, 9), (3, 36), (0, 40)))
    latents = [nv.encode(model, part), nv.encode(model, nv.crop(stack, ((0, 8), (3, 36), (2, 42))))]
    output = nv.reconstruct(model, part, max_voxels=2**13)
    made = [
        clean,
        nv.simulate(seed=3, config=SMALL)[0].noisy or clean,
        generated,
        nv.record(generated, CameraConfig(photons=33.3)),
        part,
        output,
        nv.residual(part, output),
        nv.uncertainty(model, part, 2, statistic="mean"),
        nv.interpolate(model, *latents, t=0.37),
        nv.interpolate(model, 3, 4, t=0.5, steps=2, condition={"organisation": "free"}),
        nv.decode(model, nv.blend(model, *latents, t=0.25, kind="slerp")),
    ]
    for volume in made:
        assert_identical(reproduce(volume, models=[model], inputs=[stack]))


@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr"])
def test_a_file_is_reproduced_as_well(generated: Volume, ldm: Model, tmp_path: Path, name: str) -> None:
    volume = nv.read_volume(nv.write_volume(tmp_path / name, generated))
    assert hash_voxels(volume) == hash_voxels(generated)
    result = reproduce(volume, models=[ldm.path])
    assert_identical(result)
    assert hash_voxels(result.volume) == hash_voxels(generated)


def test_steps_count_up_and_the_last_has_the_result(generated: Volume, ldm: Model) -> None:
    steps = list(reproduce_steps(generated, models=[ldm]))
    assert [step.index for step in steps] == list(range(len(steps))) and len(steps) > 3
    assert all(step.index < step.total for step in steps) and steps[-1].total == len(steps)
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]


def test_threads_are_those_of_the_record_and_are_put_back(
    generated: Volume, ldm: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    seen = []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return nv.generate_steps(*arguments, **options)

    monkeypatch.setitem(recompute._STEPS, "generate", counted)
    claimed = with_environment(generated, threads=before + 2)
    for step in reproduce_steps(claimed, models=[ldm]):
        assert torch.get_num_threads() == before, step
    assert seen == [before + 2]
    other = reproduce(claimed, models=[ldm], threads=before)
    assert [difference.field for difference in other.differences] == ["threads"]
    assert f"set the number of threads to {before + 2}" in other.verdict


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processor": "Abacus 3000"}, "another processor (Abacus 3000)"),
        ({"torch": "0.1 abc"}, "another build of PyTorch (0.1 abc)"),
        ({"cpu_capability": "ABAKUS"}, "other vector instructions (ABAKUS)"),
        ({"system": "BeOS"}, "another operating system (BeOS)"),
        ({"device": "cuda:99", "device_name": "NVIDIA Z1"}, "computed on the device cuda:99, now cpu"),
    ],
)
def test_each_single_difference_explains_other_bits(
    generated: Volume, ldm: Model, change: dict[str, str], words: str
) -> None:
    nudged = generated.data.copy()
    nudged[0, 0, 0] += 1e-3
    elsewhere = with_environment(seal(generated.with_data(nudged)), **change)
    result = reproduce(elsewhere, models=[ldm])
    assert not result.is_equal and not result.is_changed and len(result.differences) == 1
    assert result.max_abs_difference == pytest.approx(1e-3, rel=0.01)
    assert result.verdict.startswith("differs by at most 0.001: computed ") and words in result.verdict
    same = reproduce(with_environment(generated, **change), models=[ldm])
    assert same.is_equal and same.verdict.startswith("identical to the last bit, although computed ")
    with pytest.raises(RecipeError, match="allow differences"):
        reproduce_steps(elsewhere, models=[ldm], allow_differences=False)


def test_other_versions_are_told(generated: Volume, ldm: Model) -> None:
    record = dict(generated.provenance)
    old = {**record, "version": "0.0.1", "packages": {**record["packages"], "scipy": "0.1"}}
    result = reproduce(replace(generated, provenance=old), models=[ldm])
    assert [d.message.partition(",")[0] for d in result.differences] == [
        "computed by napari-vqldm 0.0.1",
        "computed with SciPy 0.1",
    ]
    assert "(and 1 more differences)" in result.verdict


def test_voxels_that_were_changed_later_are_told_from_another_machine(generated: Volume, ldm: Model) -> None:
    painted = generated.data.copy()
    painted[2, 3:5, 3:5] = 7.0
    result = reproduce(generated.with_data(painted), models=[ldm])
    assert result.is_changed and not result.is_equal
    assert "the voxels were changed after they were computed; those that were computed are reproduced" in result.verdict
    assert hash_voxels(result.volume) == hash_voxels(generated)
    resized = reproduce(replace(generated, voxel_size_um=(0.2, 0.1, 0.11)), models=[ldm])
    assert resized.is_changed and resized.max_abs_difference == 0.0 and "differs in its voxel size" in resized.verdict
    cut = reproduce(generated.with_data(generated.data[1:]), models=[ldm])
    assert cut.max_abs_difference is None and "differs in its grid" in cut.verdict


def test_other_bits_without_any_difference_are_a_bug_to_report(generated: Volume, ldm: Model) -> None:
    claimed = seal(generated.with_data(generated.data + 1))
    assert "please report" in reproduce(claimed, models=[ldm]).verdict


def test_a_loaded_model_is_used_as_it_is_and_its_file_not_read(
    generated: Volume, ldm: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(ldm.path.read_bytes())
    loaded = load_checkpoint(path)
    path.write_bytes(b"another file")
    with monkeypatch.context() as patch:
        patch.setattr(recompute, "load_checkpoint", lambda *_: pytest.fail("a second copy is loaded"))
        assert_identical(reproduce(generated, models=[loaded]))
        assert_identical(reproduce(generated, models=[ldm.path, loaded]))
    claimed = replace(loaded, device=torch.device("meta"))  # where the record was not computed
    assert_identical(reproduce(generated, models=[ldm.path, claimed]))
    with pytest.raises(CheckpointError, match="mine"):
        reproduce(generated, models=[claimed])


def test_a_file_that_changes_before_it_is_loaded_is_not_taken(
    generated: Volume, ldm: Model, vq_ldm: Model, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(ldm.path.read_bytes())
    steps = reproduce_steps(generated, models=[path])
    path.write_bytes(vq_ldm.path.read_bytes())
    with pytest.raises(CheckpointError, match="other weights than a moment ago"):
        list(steps)


@pytest.mark.slow
def test_the_estimate_is_that_of_the_parts_that_are_computed_again(
    ldm: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: 2**34)
    pair = nv.generate(ldm, 2, (8, 30, 8), seed=4, steps=2, batch=2)
    both = nv.estimate_generation(ldm, 2, (8, 30, 8), 2, batch=2)
    assert estimate_reproduction(pair[1], models=[ldm]) == both
    weights = 4 * sum(ldm.header.card.parameters.values())
    unloaded = estimate_reproduction(pair[1], models=[ldm.path])
    assert unloaded is not None and unloaded.memory_bytes == both.memory_bytes + weights
    part = nv.crop(stack, ((1, 9), (3, 36), (0, 40)))
    output = nv.reconstruct(ldm, part, max_voxels=2**13)
    shape, size = part.shape, part.voxel_size_um
    coding = [
        nv.estimate_encoding(ldm, shape, size, 2**13),
        nv.estimate_interpolation(ldm, 1, shape, size, max_voxels=2**13),
    ]
    for inputs in ([stack], [part]):  # the crop is computed again, or not
        found = estimate_reproduction(output, models=[ldm], inputs=inputs)
        assert found is not None
        assert found.seconds == pytest.approx(sum(estimate.seconds for estimate in coding))
        assert found.memory_bytes == max(estimate.memory_bytes for estimate in coding)
    again = nv.reconstruct(ldm, pair[0])
    found = estimate_reproduction(again, models=[ldm])  # its input is generated first
    assert found is not None and found.memory_bytes >= both.memory_bytes
    map_ = nv.uncertainty(ldm, part, 3)
    assert estimate_reproduction(map_, models=[ldm], inputs=[part]) == nv.estimate_uncertainty(ldm, shape, size, 3)
    frame = nv.interpolate(ldm, 3, 4, t=0.5, steps=2)
    assert estimate_reproduction(frame, models=[ldm]) == nv.estimate_interpolation(ldm, 1, steps=2)
    assert estimate_reproduction(nv.simulate(seed=3, config=SMALL)[0].clean) is None
    with pytest.raises(FileError, match="give the file"):
        estimate_reproduction(output, models=[ldm])


def test_other_weights_are_not_the_model(generated: Volume, ldm: Model, vq_ldm: Model) -> None:
    with pytest.raises(CheckpointError, match=r"'tiny-ldm' with the weights \w{12} is neither bundled nor given"):
        reproduce_steps(generated, models=[vq_ldm])
    assert_identical(reproduce(generated, models=[vq_ldm, load_checkpoint(ldm.path)]))


def test_inputs_are_asked_for_by_name(ldm: Model, stack: Volume) -> None:
    source = {"software": "napari-vqldm", "verb": "read", "source": {"file": "cell.tif"}}
    foreign = replace(stack, provenance=source)
    output = nv.reconstruct(ldm, foreign)
    with pytest.raises(FileError, match=r"the file 'cell.tif', is needed \(sha256 of its voxels \w{12}\)"):
        reproduce_steps(output, models=[ldm], inputs=[foreign.with_data(foreign.data + 1)])
    assert_identical(reproduce(output, models=[ldm], inputs=[foreign]))
    # An input that was changed before it was used cannot be computed again.
    generated = nv.generate(ldm, steps=2)[0]
    edited = generated.with_data(generated.data * 2)
    with pytest.raises(FileError, match=r"generate .*was changed after it was computed"):
        reproduce_steps(nv.reconstruct(ldm, edited), models=[ldm])
    assert_identical(reproduce(nv.reconstruct(ldm, edited), models=[ldm], inputs=[edited]))
    assert_identical(reproduce(nv.reconstruct(ldm, generated), models=[ldm]))


def test_what_carries_no_record_of_ours_is_refused(stack: Volume) -> None:
    with pytest.raises(RecipeError, match="carries no record of napari-vqldm"):
        reproduce_steps(replace(stack, provenance={}))
    with pytest.raises(RecipeError, match=r"was read from the file 'a.tif' and not computed"):
        reproduce(replace(stack, provenance={"software": "napari-vqldm", "verb": "read", "source": {"file": "a.tif"}}))


def test_older_records_are_reproduced_and_say_what_they_lack(ldm: Model, stack: Volume, generated: Volume) -> None:
    result = reproduce(replace(generated, provenance=older(generated.provenance)), models=[ldm])
    assert result.is_equal and {d.field for d in result.differences} == {"environment", "batch"}
    source = {"software": "napari-vqldm", "verb": "read", "source": {"file": "cell.tif"}}
    output = nv.reconstruct(ldm, replace(stack, provenance=source))
    result = reproduce(
        replace(output, provenance=older(output.provenance)), models=[ldm], inputs=[replace(stack, provenance=source)]
    )
    assert result.is_equal and {d.field for d in result.differences} == {"environment", "max_voxels"}
    clean = nv.simulate(seed=3, config=SMALL)[0].clean
    assert reproduce(replace(clean, provenance=older(clean.provenance))).is_equal


def older(record: Any) -> Any:
    """A record as the first version wrote it."""
    later = ("environment", "voxels_sha256", "batch", "condition", "target", "part", "max_voxels", "source_sha256")
    later = (*later, "source_voxel_size_um", "is_intensity_estimated")
    if isinstance(record, Mapping):
        return {key: older(value) for key, value in record.items() if key not in later}
    return [older(value) for value in record] if isinstance(record, list) else record


def test_records_say_where_they_were_computed(generated: Volume, stack: Volume, ldm: Model) -> None:
    now = current_environment("cpu")
    for volume in (
        generated,
        nv.simulate(config=SMALL)[0].clean,
        nv.reconstruct(ldm, stack),
        nv.crop(stack, ((0, 2),) * 3),
    ):
        found = volume.provenance["environment"]
        assert found == {key: now[key] for key in found} and found["threads"] == torch.get_num_threads()
        assert volume.provenance["voxels_sha256"] == hash_voxels(volume)


def test_the_fingerprint_is_of_grid_size_and_voxels_alone() -> None:
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    volume = Volume(data, (0.2, 0.1, 0.1))
    assert hash_voxels(volume) == hash_voxels(replace(volume, name="other", provenance={"a": 1}))
    assert hash_voxels(volume) == hash_voxels(Volume(data.astype(np.float64), (0.2, 0.1, 0.1)))
    flipped = data.copy()
    flipped[0, 0, 0] = -0.0
    others = [
        Volume(data.reshape(3, 5, 4), (0.2, 0.1, 0.1)),
        Volume(data, (0.2, 0.1, float(np.nextafter(0.1, 1)))),
        Volume(flipped, (0.2, 0.1, 0.1)),
    ]
    assert len({hash_voxels(v) for v in (volume, *others)}) == 4
