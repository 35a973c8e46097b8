"""Tiles cover a volume once and see what a whole-volume computation sees; padding is undone exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from napari_vqldm.errors import ShapeError
from napari_vqldm.tiles import pad_to_multiple, plan_tiles

small = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(small, small, small),
    tile=st.tuples(small, small, small),
    halo=st.tuples(*[st.integers(0, 5)] * 3),
    multiple=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_tiles_write_every_voxel_once_and_stay_aligned(cells, tile, halo, multiple):
    shape = tuple(c * m for c, m in zip(cells, multiple, strict=True))
    count = np.zeros(shape, int)
    for t in plan_tiles(shape, tile, halo, multiple):
        count[t.write] += 1
        for read, keep, write, n, h, m in zip(t.read, t.keep, t.write, shape, halo, multiple, strict=True):
            assert read.start % m == read.stop % m == write.start % m == write.stop % m == 0
            assert read.start + keep.start == write.start
            assert read.start + keep.stop == write.stop
            assert 0 <= read.start <= max(0, write.start - h)
            assert n >= read.stop >= min(n, write.stop + h)
    assert (count == 1).all()


def test_tiles_are_never_larger_than_asked():
    tiles = plan_tiles((33, 100, 7), (32, 32, 32), (0, 0, 0))
    assert max(t.write[0].stop - t.write[0].start for t in tiles) <= 32
    assert len(tiles) == 2 * 4


def test_a_local_filter_gives_the_same_voxels_tiled_and_whole():
    data = np.random.default_rng(0).normal(size=(13, 22, 17))
    whole = uniform_filter(data, 5, mode="constant")
    tiled = np.full_like(whole, np.nan)
    for t in plan_tiles(data.shape, (5, 8, 6), (2, 2, 2)):
        tiled[t.write] = uniform_filter(data[t.read], 5, mode="constant")[t.keep]
    np.testing.assert_allclose(tiled, whole, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "tile", "halo", "multiple"),
    [
        ((5, 4, 4), (4, 4, 4), (0, 0, 0), (2, 2, 2)),
        ((4, 4, 4), (0, 4, 4), (0, 0, 0), (1, 1, 1)),
        ((4, 4, 4), (4, 4, 4), (-1, 0, 0), (1, 1, 1)),
    ],
)
def test_impossible_plans_are_refused(shape, tile, halo, multiple):
    with pytest.raises(ShapeError, match="expected"):
        plan_tiles(shape, tile, halo, multiple)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 7)] * 3), multiple=st.tuples(*[st.integers(1, 5)] * 3), low=st.integers(1, 11))
def test_padding_reaches_the_grid_and_crop_undoes_it(shape, multiple, low):
    data = np.random.default_rng(1).normal(size=(2, *shape))
    padded, padding = pad_to_multiple(data, multiple, (low, 1, low))
    assert all(n % m == 0 for n, m in zip(padded.shape[1:], multiple, strict=True))
    assert padded.shape[1] >= low
    assert padded.shape[3] >= low
    np.testing.assert_array_equal(padding.crop(padded), data)
    assert set(np.unique(padded)) == set(np.unique(data))  # only voxels of the volume, never zeros


def test_a_volume_that_fits_is_not_copied():
    data = np.zeros((4, 8, 8), np.float32)
    padded, padding = pad_to_multiple(data, (2, 4, 4))
    assert padded is data
    assert padding.before == padding.after == (0, 0, 0)


def test_an_empty_or_flat_array_is_not_padded():
    with pytest.raises(ShapeError, match="empty"):
        pad_to_multiple(np.zeros((0, 4, 4)), (2, 2, 2))
    with pytest.raises(ShapeError):
        pad_to_multiple(np.zeros((4, 4)), (2, 2, 2))
