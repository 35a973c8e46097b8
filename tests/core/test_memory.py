"""Out of memory is recognized and survived in smaller tiles; free memory is that of system and container."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from napari_vqldm import coding, memory
from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import MemoryLimitError, ShapeError, VolumeError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.memory import SmallerTiles, available_bytes, free_memory, is_out_of_memory, with_smaller_tiles
from napari_vqldm.reconstruct import reconstruct, reconstruct_steps
from napari_vqldm.volume import Volume


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryLimitError("the smallest tiles do not fit"),
    ],
)
def test_out_of_memory_is_recognized(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError("no"), VolumeError("it would run out of memory"), RuntimeError("shape")])
def test_other_errors_are_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_arrays_as_large_as_the_world_are_out_of_memory() -> None:
    for make in (lambda: np.empty(2**55, np.float64), lambda: torch.empty(2**55)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            make()
        assert is_out_of_memory(caught.value)


class Work:
    """Steps that fail where more than ``limit`` voxels go through at once, after they took an array."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tried: list[int] = []
        self.arrays: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def __call__(self, max_voxels: int) -> Iterator[int]:
        self.tried.append(max_voxels)
        self.alive.append(sum(ref() is not None for ref in self.arrays))
        array = np.zeros(10)
        self.arrays.append(weakref.ref(array))
        yield 1
        if max_voxels > self.limit:
            raise MemoryError(f"unable to allocate {array.nbytes} bytes")
        yield 2


def test_tiles_shrink_until_they_fit_and_the_arrays_of_before_are_gone() -> None:
    work = Work(300)
    found = list(with_smaller_tiles(work, 1000, least=100))
    assert work.tried == [1000, 500, 250] and work.alive == [0, 0, 0]
    told = [step for step in found if isinstance(step, SmallerTiles)]
    assert [step.max_voxels for step in told] == [500, 250] and "250 voxels" in told[1].text
    assert [step for step in found if not isinstance(step, SmallerTiles)] == [1, 1, 1, 2]


def test_below_the_smallest_tiles_one_line_says_what_to_do() -> None:
    work = Work(10)
    with pytest.raises(MemoryLimitError, match=r"unable to allocate 80 bytes.*smaller region") as caught:
        list(with_smaller_tiles(work, 1000, least=200))
    assert work.tried == [1000, 500, 250]
    assert caught.value.__context__ is None  # nothing keeps the arrays


def test_other_errors_pass_and_nothing_is_tried_again() -> None:
    calls = []

    def steps(max_voxels: int) -> Iterator[int]:
        calls.append(max_voxels)
        raise ValueError("odd")
        yield 0

    with pytest.raises(ValueError, match="odd"):
        list(with_smaller_tiles(steps, 1000))
    assert calls == [1000]


def test_a_model_that_refuses_tiles_says_so() -> None:
    def steps(max_voxels: int) -> Iterator[int]:
        if max_voxels < 2**20:
            raise ShapeError("this model normalizes over the whole volume")
        raise MemoryError
        yield 0

    with pytest.raises(MemoryLimitError, match=r"memory ran out.*normalizes over the whole volume"):
        list(with_smaller_tiles(steps, 2**20))
    with pytest.raises(ShapeError):
        list(with_smaller_tiles(steps, 2**19))


def test_closing_it_closes_the_work() -> None:
    closed = []

    def steps(max_voxels: int) -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(max_voxels)

    running = with_smaller_tiles(steps, 7)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert closed == [7]


def test_a_reconstruction_goes_on_and_equals_the_one_with_these_tiles(
    model: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 40_000
    stack = stack.with_data(np.tile(stack.data, (1, 1, 4)))
    plain = coding.encode_block

    def encode(space: LatentSpace, volumes: Tensor) -> coding.Coding:
        if volumes.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(space, volumes)

    monkeypatch.setattr(coding, "encode_block", encode)
    steps = list(with_smaller_tiles(lambda n: reconstruct_steps(model, stack, max_voxels=n), 2**17, least=2**10))
    sizes = [step.max_voxels for step in steps if isinstance(step, SmallerTiles)]
    assert sizes and sizes[-1] <= limit
    result = steps[-1]
    assert not isinstance(result, SmallerTiles) and result.volume is not None
    monkeypatch.undo()
    assert np.array_equal(result.volume.data, reconstruct(model, stack, max_voxels=sizes[-1]).data)


def test_free_memory_is_told_and_less_than_all() -> None:
    free = available_bytes()
    assert free is not None and 0 < free < psutil.virtual_memory().total


def limit_group(folder: Path, limit: str, used: int, cached: int) -> None:
    """Write what the kernel tells of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 2000\ninactive_file {cached}\n")


def test_a_container_gets_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "_system_free", lambda: 10_000)
    assert available_bytes() == 10_000
    limit_group(tmp_path, "5000", 3000, 500)
    assert available_bytes() == 2500
    limit_group(tmp_path, "max", 3000, 500)
    assert available_bytes() == 10_000


def test_a_batch_job_gets_what_its_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "proc-self-cgroup"
    own.write_text("0::/slurm/job_7/step_0\n")
    root = tmp_path / "cgroup"
    monkeypatch.setattr(memory, "_CGROUP", root)
    monkeypatch.setattr(memory, "_OWN_CGROUP", own)
    monkeypatch.setattr(memory, "_system_free", lambda: 10_000)
    limit_group(root / "slurm/job_7", "4000", 1000, 0)
    limit_group(root / "slurm/job_7/step_0", "max", 900, 0)
    limit_group(root / "slurm/job_8", "50", 0, 0)
    assert available_bytes() == 3000
    limit_group(root / "slurm/job_7/step_0", "1000", 900, 0)
    assert available_bytes() == 100


def test_memory_of_devices_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        mem_get_info=lambda device: (1000, 9000),
        memory_reserved=lambda device: 300,
        memory_allocated=lambda device: 100,
    )
    fake = SimpleNamespace(cuda=cuda, device=str)
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert available_bytes("cuda:0") == 1200  # with what the allocator holds and does not use
    monkeypatch.delitem(sys.modules, "torch")
    assert available_bytes("cuda:0") is None
    free_memory()  # without torch there is nothing to give back
    monkeypatch.undo()
    free_memory()
