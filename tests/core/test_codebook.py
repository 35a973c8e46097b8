"""Code usage is counted over filament cells and background cells apart."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import codebook_steps, codebook_usage
from napari_vqldm.errors import CheckpointError, ConfigError, ShapeError
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
