"""A box of a volume: its voxels, its record, and refusals with a remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_vqldm.crop import crop
from napari_vqldm.errors import ShapeError
from napari_vqldm.volume import Volume, hash_voxels


def test_a_box_holds_its_voxels_and_says_where_they_come_from(stack: Volume) -> None:
    box = ((1, 7), (4, 30), (0, 42))
    found = crop(stack, box)
    assert np.array_equal(found.data, stack.data[1:7, 4:30, 0:42])
    assert found.name == stack.name and found.voxel_size_um == stack.voxel_size_um
    record = found.provenance
    assert record["verb"] == "crop" and record["request"]["box"] == [[1, 7], [4, 30], [0, 42]]
    assert record["request"]["source"] == stack.provenance
    assert record["request"]["source_sha256"] == hash_voxels(stack)
    assert record["voxels_sha256"] == hash_voxels(found)


def test_the_box_is_a_copy(stack: Volume) -> None:
    found = crop(stack, ((0, 9), (0, 37), (0, 42)))
    assert np.array_equal(found.data, stack.data) and not np.shares_memory(found.data, stack.data)


def test_numpy_numbers_are_numbers(stack: Volume) -> None:
    box: Any = np.array([[1, 3], [0, 5], [2, 9]])
    assert crop(stack, box).shape == (2, 5, 7)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (((0, 10), (0, 37), (0, 42)), "0 to 9 along z, got 0 to 10"),
        (((0, 9), (-1, 37), (0, 42)), "0 to 37 along y, got -1 to 37"),
        (((0, 9), (0, 37), (5, 5)), "along x, got 5 to 5"),
        (((0, 9), (30, 20), (0, 42)), "along y, got 30 to 20"),
        (((3, 4), (0, 37), (0, 42)), "at least 2 voxels per axis, got 1 along z"),
        (((0, 9), (0, 37)), "three .start, stop."),
        (((0.0, 9), (0, 37), (0, 42)), "whole voxels"),
        (None, "three .start, stop."),
    ],
)
def test_impossible_boxes_are_refused(stack: Volume, box: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        crop(stack, box)
