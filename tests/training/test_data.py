"""Draws are functions of their key; augmentation respects anisotropy; a stack is never on both sides of the split."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_vqldm.card import read_header
from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.files import write_volume
from napari_vqldm.simulate import Simulator
from napari_vqldm.training.bank import HELD_OUT_START, VolumeBank, build_bank
from napari_vqldm.training.config import FolderData
from napari_vqldm.training.data import SimulatedSource, StackSource, can_turn, prefetch, random_block
from napari_vqldm.training.draws import Key, keyed_normal
from napari_vqldm.training.interrupt import Interrupted
from napari_vqldm.training.stacks import StackSet, prepare_stacks, split_by_stack, stack_set
from napari_vqldm.volume import Volume

CPU = torch.device("cpu")
SMALL = SimulationConfig(shape=(8, 16, 16), length_density_um_per_um3=(2.0, 4.0))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> VolumeBank:
    bank = VolumeBank(tmp_path_factory.mktemp("bank"), 5, 2)
    list(build_bank(bank, SMALL, 3, "cpu", lambda: None))
    return bank


def test_the_bank_holds_what_the_simulator_draws(bank: VolumeBank) -> None:
    simulator = Simulator(SMALL)
    alone = simulator.sample(3, [4], noisy=False)
    np.testing.assert_array_equal(bank.volume("train", 4), alone.clean[0, 0].numpy().astype(np.float16))
    assert bank.parameters["train"][4]["condition"] == alone.parameters[0].condition_values()
    held_out = simulator.sample(3, [HELD_OUT_START + 1], noisy=False)
    np.testing.assert_array_equal(bank.volume("held_out", 1), held_out.clean[0, 0].numpy().astype(np.float16))


def test_a_bank_is_built_once_and_grows(bank: VolumeBank, tmp_path: Path) -> None:
    growing = VolumeBank(tmp_path, 2, 1)
    list(build_bank(growing, SMALL, 3, "cpu", lambda: None))
    old = (tmp_path / "held_out-000000.npy").stat().st_mtime_ns
    larger = VolumeBank(tmp_path, 5, 1)
    list(build_bank(larger, SMALL, 3, "cpu", lambda: None))
    assert (tmp_path / "held_out-000000.npy").stat().st_mtime_ns == old
    for i in range(5):
        np.testing.assert_array_equal(larger.volume("train", i), bank.volume("train", i))


@pytest.mark.slow
def test_processes_side_by_side_simulate_the_same_volumes(bank: VolumeBank, tmp_path: Path) -> None:
    alone, together = VolumeBank(tmp_path / "one", 20, 2), VolumeBank(tmp_path / "two", 20, 2)
    list(build_bank(alone, SMALL, 3, "cpu", lambda: None))
    steps = [step.index for step in build_bank(together, SMALL, 3, "cpu", lambda: None, workers=2)]
    assert steps[0] == 0 and steps == sorted(steps) and steps[-1] == 22
    for part, count in (("train", 20), ("held_out", 2)):
        assert together.parameters[part] == alone.parameters[part]
        for i in range(count):
            np.testing.assert_array_equal(together.volume(part, i), alone.volume(part, i))


@pytest.mark.slow
def test_a_stop_ends_the_processes_and_leaves_whole_chunks(tmp_path: Path) -> None:
    bank = VolumeBank(tmp_path, 80, 2)
    calls = iter(range(10_000))

    def stop_after_a_while() -> None:
        if next(calls) >= 2:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        list(build_bank(bank, SMALL, 3, "cpu", stop_after_a_while, workers=2))
    assert not multiprocessing.active_children()
    assert not (tmp_path / "held_out-000000.npy").exists()  # the last chunk: not all of them were made
    list(build_bank(bank, SMALL, 3, "cpu", lambda: None))
    simulator = Simulator(SMALL)
    for index in (0, 17, 79):  # of chunks from before and after the stop
        alone = simulator.sample(3, [index], noisy=False).clean[0, 0].numpy().astype(np.float16)
        np.testing.assert_array_equal(bank.volume("train", index), alone)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_dead_worker_is_named_unless_a_stop_was_asked_for(tmp_path: Path, stopped: bool) -> None:
    killed: list[int] = []

    def check() -> None:
        if not killed:
            killed.extend(int(child.pid or 0) for child in multiprocessing.active_children())
            for pid in killed:
                os.kill(pid, signal.SIGTERM if stopped else signal.SIGKILL)
        elif stopped:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted if stopped else TrainingError, match=None if stopped else "smaller data.workers"):
        list(build_bank(VolumeBank(tmp_path, 80, 2), SMALL, 3, "cpu", check, workers=2))
    assert len(killed) == 2 and not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_workers_do_not_outlive_a_killed_main_process(tmp_path: Path) -> None:
    script = tmp_path / "build.py"
    script.write_text(
        "from pathlib import Path\n"
        "from napari_vqldm.config import SimulationConfig\n"
        "from napari_vqldm.training.bank import VolumeBank, build_bank\n"
        "if __name__ == '__main__':\n"
        f"    bank = VolumeBank(Path({str(tmp_path / 'bank')!r}), 4000, 2)\n"
        "    for step in build_bank(bank, SimulationConfig(), 3, 'cpu', lambda: None, workers=2):\n"
        "        print(step.index, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 1:
            pass
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) >= 2
        process.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "a worker goes on alone"
        time.sleep(0.2)


def test_a_draw_does_not_depend_on_its_batch(bank: VolumeBank) -> None:
    source = SimulatedSource(bank, "train", SMALL, "clean")
    keys = [Key(0, "autoencoder", 9, i) for i in range(4)]

    def draw(chosen: list[Key]) -> tuple[torch.Tensor, torch.Tensor]:
        pair = source.finish([source.crop(key, (4, 8, 8), None, True, (0.5, 2.0)) for key in chosen], CPU)
        return pair.input, pair.target

    together = draw(keys)
    for i, key in enumerate(keys):
        alone = draw([key])
        assert torch.equal(alone[0][0], together[0][i]) and torch.equal(alone[1][0], together[1][i])
    other_step, other_seed = draw([Key(0, "autoencoder", 10, 0)]), draw([Key(1, "autoencoder", 9, 0)])
    assert not torch.equal(other_step[0][0], together[0][0])
    assert not torch.equal(other_seed[0][0], together[0][0])
    assert torch.equal(keyed_normal(keys, (3,))[2], keyed_normal(keys[2:3], (3,))[0])


def test_input_is_the_target_with_unbiased_photon_noise(bank: VolumeBank) -> None:
    source = SimulatedSource(bank, "train", SMALL, "clean")
    crops = [source.crop(Key(0, "gate", 0, i), (8, 16, 16), 2, False, (1.0, 1.0)) for i in range(200)]
    pair = source.finish(crops, CPU)
    np.testing.assert_array_equal(pair.target[0, 0], np.asarray(bank.volume("train", 2), np.float32))
    noise = pair.input - pair.target
    per_voxel = noise.mean(dim=0)
    expected = noise.std(dim=0) / 200**0.5
    assert float((per_voxel.abs() / expected).mean()) == pytest.approx((2 / np.pi) ** 0.5, rel=0.1)
    same = SimulatedSource(bank, "train", SMALL, "input").finish(crops[:2], CPU)
    assert torch.equal(same.input, same.target)


def test_flips_and_turns_are_drawn_and_keep_every_voxel() -> None:
    volume = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
    seen = set()
    for i in range(200):
        block = random_block(Key(0, "autoencoder", 0, i).rng(), volume.shape, (2, 3, 3), True, True)(volume)
        assert sorted(block.ravel()) == sorted(volume.ravel())
        seen.add(block.tobytes())
    assert len(seen) == 16  # 2 flips of z times the 8 symmetries of a square


def test_axes_of_unequal_voxel_size_are_not_turned() -> None:
    assert can_turn((0.2, 0.1, 0.1)) and not can_turn((0.1, 0.1, 0.2))
    volume = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
    seen = {
        random_block(Key(0, "autoencoder", 0, i).rng(), volume.shape, (2, 3, 3), False, True)(volume).tobytes()
        for i in range(200)
    }
    assert len(seen) == 8


def test_crops_reach_every_corner() -> None:
    volume = np.arange(4 * 6 * 6).reshape(4, 6, 6)
    seen = set()
    for i in range(400):
        crop = random_block(Key(0, "autoencoder", 0, i).rng(), volume.shape, (2, 4, 2), True, True)(volume)
        assert crop.shape == (2, 4, 2)
        seen |= set(crop.ravel().astype(int))
    assert seen == set(volume.ravel())


def test_prefetch_keeps_order_and_hands_errors_on() -> None:
    def make(step: int) -> int:
        time.sleep(0.01 if step % 2 else 0.0)
        if step == 4:
            raise RuntimeError("broken stack")
        return step * step

    for depth, threads in ((2, 1), (4, 4)):
        batches = prefetch(make, range(9), depth, threads)
        assert [next(batches) for _ in range(4)] == [(0, 0), (1, 1), (2, 4), (3, 9)]
        with pytest.raises(RuntimeError, match="broken stack"):
            next(batches)


@pytest.mark.parametrize("count, fraction, held_out", [(2, 0.2, 1), (10, 0.2, 2), (3, 0.99, 2)])
def test_split_by_stack_leaves_both_sides_something(count: int, fraction: float, held_out: int) -> None:
    names = [f"stack{i}" for i in range(count)]
    parts = split_by_stack(names, fraction, 0)
    assert parts.count("held_out") == held_out and parts.count("train") == count - held_out
    assert parts == split_by_stack(names, fraction, 0)


@pytest.fixture(scope="module")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stacks: stack i holds one bright line and a wide empty border; the last has other voxels."""
    folder = tmp_path_factory.mktemp("stacks")
    rng = np.random.default_rng(0)
    for i in range(3):
        data = rng.normal(100.0, 2.0, (8, 32, 64)).astype(np.float32)
        data[2 + i, 16, :20] += 60.0
        data[2 + i, 15:18:2, :20] += 30.0
        write_volume(folder / f"s{i}.tif", Volume(data, (0.4, 0.2, 0.2) if i == 2 else (0.2, 0.1, 0.1)))
    return folder


def prepared(folder: Path, cache: Path) -> tuple[FolderData, StackSet]:
    """Prepare the stacks of a folder."""
    config = FolderData(kind="folder", folder=str(folder), held_out_fraction=0.3)
    stacks = stack_set(cache, config, (8, 16, 16), 0)
    list(prepare_stacks(stacks, config, (8, 16, 16), 0, lambda: None))
    return config, stacks


def test_stacks_come_to_one_voxel_size_and_unit(stack_folder: Path, tmp_path: Path) -> None:
    _, stacks = prepared(stack_folder, tmp_path)
    assert stacks.voxel_size_um == pytest.approx((0.2, 0.1, 0.1))
    assert [stacks.volume(i).shape for i in range(3)] == [(8, 32, 64), (8, 32, 64), (16, 64, 128)]
    for i in range(3):
        assert abs(float(np.median(stacks.volume(i)))) < 0.2


def test_a_run_does_not_go_on_with_other_stacks(stack_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    shutil.copytree(stack_folder, folder)
    config = FolderData(kind="folder", folder=str(folder))
    first = stack_set(tmp_path / "cache", config, (8, 16, 16), 0)
    assert stack_set(tmp_path / "cache", config, (8, 16, 16), 0) == first
    (folder / "s1.tif").unlink()
    with pytest.raises(ConfigError, match="not those with which this run began"):
        stack_set(tmp_path / "cache", config, (8, 16, 16), 0)


def test_training_crops_come_from_training_stacks_only(stack_folder: Path, tmp_path: Path) -> None:
    config, stacks = prepared(stack_folder, tmp_path)
    train, held_out = (StackSource(stacks, part, config, "input") for part in ("train", "held_out"))
    assert set(train.indices) | set(held_out.indices) == {0, 1, 2} and not set(train.indices) & set(held_out.indices)
    brightest = {i: float(stacks.volume(i).max()) for i in range(3)}
    for i in range(60):
        crop = train.crop(Key(0, "autoencoder", 0, i), (8, 16, 16), None, True, (1.0, 1.0))
        assert crop.input is not None
        home = stacks.volume(train.indices[crop.volume])
        assert float(crop.input.max()) <= brightest[train.indices[crop.volume]]
        assert np.isin(crop.input, home).all()


def test_empty_crops_are_drawn_again(stack_folder: Path, tmp_path: Path) -> None:
    config, stacks = prepared(stack_folder, tmp_path)
    strict, lax = (
        StackSource(stacks, "train", config.model_copy(update={"min_signal": level}), "input") for level in (0.3, -10.0)
    )

    def empty_share(source: StackSource) -> float:
        crops = [source.crop(Key(0, "autoencoder", 0, i), (4, 8, 8), None, False, (1.0, 1.0)) for i in range(60)]
        return float(np.mean([np.percentile(c.input, 99) < 0.3 for c in crops]))  # type: ignore[arg-type]

    assert empty_share(strict) < 0.2 < 0.6 < empty_share(lax)  # a try may find nothing in all its draws


def test_stacks_train_to_a_checkpoint(stack_folder: Path, tmp_path: Path, tiny: SimpleNamespace) -> None:
    values = tiny.values("vq-ldm", model__target="input", model__diffusion={"steps": 2})
    del values["model"]["simulation"]
    values["data"] = {"kind": "folder", "folder": str(stack_folder), "held_out_fraction": 0.3}
    toml = tiny.write_toml(tmp_path / "stacks.toml", values)
    checkpoint = tiny.run(toml, tmp_path / "run")
    header = read_header(checkpoint)
    assert header.config.simulation is None and header.config.target == "input"
    assert header.config.voxel_size_range_um == (pytest.approx((0.2, 0.1, 0.1)), pytest.approx((0.2, 0.1, 0.1)))
    assert header.card.gates["autoencoder"].kind == "record"
