"""Code usage is counted over filament cells and background cells apart."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.planted_model import CODES, planted_model, planted_volume

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import codebook_steps, codebook_usage
from napari_vqldm.errors import CheckpointError, ConfigError, FileError, ShapeError
from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.reconstruct import encode
from napari_vqldm.volume import Volume


def test_clean_volumes_tell_filament_cells(vq_ldm: Model, stack: Volume) -> None:
    clean = np.zeros(stack.shape, np.float32)
    clean[1, 5, 9] = 1.0  # one voxel: one cell
    clean[8, 36, 41] = 0.2  # too dim
    usage = codebook_usage(vq_ldm, [stack], [stack.with_data(clean)])
    codes = encode(vq_ldm, stack).codes
    assert codes is not None
    assert usage.filament.total == 1 and usage.filament.counts[codes[0, 1, 2]] == 1
    assert usage.everywhere.total == codes.size
    assert np.array_equal(usage.everywhere.counts, np.bincount(codes.ravel(), minlength=32))
    table = usage.to_dict()
    assert table["filament"]["perplexity"] == pytest.approx(1.0) and table["filament"]["dead_codes"] == 31
    assert table["everywhere"]["codes_used"] == len(np.unique(codes))


def test_counts_add_up_over_volumes(vq_ldm: Model, stack: Volume) -> None:
    other = stack.with_data(stack.data[::-1])
    steps = list(codebook_steps(vq_ldm, [stack, other]))
    assert [step.index for step in steps] == [0, 1] and steps[0].total == 2
    alone = codebook_usage(vq_ldm, [other])
    for part in ("filament", "background"):
        both, first, second = (getattr(u, part).counts for u in (steps[1].usage, steps[0].usage, alone))
        assert np.array_equal(both, first + second)


def test_what_cannot_be_counted_is_refused(ldm: Model, vq_ldm: Model, stack: Volume) -> None:
    with pytest.raises(CheckpointError, match="no codebook"):
        codebook_steps(ldm, [stack])
    with pytest.raises(ConfigError, match="at least one"):
        codebook_steps(vq_ldm, [])
    with pytest.raises(ConfigError, match="as many clean"):
        codebook_steps(vq_ldm, [stack, stack], [stack])
    with pytest.raises(ShapeError, match="clean volume"):
        codebook_steps(vq_ldm, [stack], [stack.with_data(stack.data[1:])])


@pytest.mark.slow
def test_two_hundred_volumes_are_never_in_memory_together(vq_ldm: Model) -> None:
    model, alive, most = planted_model(vq_ldm), set[int](), 0

    def read(path: Path) -> Volume:
        nonlocal most
        number = int(path.stem)
        codes = np.zeros((2, 2, 2), np.int32)
        codes[1, 1, 1] = 2 + number % 3
        volume = planted_volume(codes, (2, 4, 4), path.stem)
        alive.add(number)
        weakref.finalize(volume.data, alive.discard, number)
        most = max(most, len(alive))
        return volume

    steps = codebook_steps(model, (f"{number}.tif" for number in range(200)), read=read)
    for number, step in enumerate(steps):
        assert (step.index, step.total, step.name, step.problem) == (number, number + 1, f"{number}.tif", "")
    assert step.usage.everywhere.total == 200 * 8 and len(step.usage.everywhere.counts) == CODES
    assert most <= 2


@pytest.mark.slow
def test_files_that_cannot_be_used_are_told_and_passed_over(vq_ldm: Model, stack: Volume, tmp_path: Path) -> None:
    good, bad, flat = (tmp_path / name for name in ("good.ome.tif", "bad.tif", "flat.npy"))
    write_volume(good, stack)
    bad.write_bytes(b"II*\0 and no more")
    np.save(flat, np.ones((4, 8, 8), np.float32))

    def read(path: Path) -> Volume:
        return Volume(np.ones((4, 8, 8)), (0.2, 0.1, 0.1)) if path == flat else read_volume(path)

    steps = list(codebook_steps(vq_ldm, [bad, str(flat), good], read=read))
    assert [step.name for step in steps] == ["bad.tif", "flat.npy", "good.ome.tif"] and steps[0].total == 3
    assert steps[0].problem.startswith(str(bad)) and steps[1].problem.startswith(str(flat))
    assert steps[0].usage.everywhere.total == steps[1].usage.everywhere.total == 0 and steps[2].problem == ""
    alone = codebook_usage(vq_ldm, [stack])
    assert np.array_equal(steps[2].usage.everywhere.counts, alone.everywhere.counts)
    with pytest.raises(FileError, match=r"none of 2 files.*bad\.tif"):
        codebook_usage(vq_ldm, [bad, flat], read=read)
    clean = [stack.with_data(np.full(stack.shape, value, np.float32)) for value in (0.0, 0.0, 1.0)]
    paired = codebook_usage(vq_ldm, [bad, flat, good], iter(clean), read=read)  # the twin of the third one
    assert paired.background.total == 0 and paired.filament.total == alone.everywhere.total


def test_lazy_volumes_are_held_to_the_same_rules(vq_ldm: Model, stack: Volume) -> None:
    def two() -> Iterator[Volume]:
        yield stack
        yield stack

    with pytest.raises(ConfigError, match="at least one"):
        codebook_usage(vq_ldm, iter(()))
    with pytest.raises(ConfigError, match="as many clean"):
        codebook_usage(vq_ldm, two(), [stack])
    with pytest.raises(ShapeError, match="clean volume"):
        codebook_usage(vq_ldm, two(), [stack.with_data(stack.data[1:])])
    with pytest.raises(ConfigError, match="into a list"):
        codebook_steps(vq_ldm, stack)  # type: ignore[arg-type]
