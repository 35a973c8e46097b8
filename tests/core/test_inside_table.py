"""Ranks, neighbours, places and planes of codes, from tables that are known."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_vqldm.codebook import CodebookUsage
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.inside.plane import codebook_plane
from napari_vqldm.inside.table import nearest_codes, places, rank_codes, usage_rows
from napari_vqldm.quantizers import CodeUsage


def test_rows_tell_use_rank_and_dead_codes() -> None:
    usage = CodebookUsage(CodeUsage(np.array([0, 3, 0, 1])), CodeUsage(np.array([4, 2, 0, 0])))
    rows = usage_rows(usage)
    assert [(row.code, row.rank, row.filament_cells, row.background_cells) for row in rows] == [
        (0, 2, 0, 4), (1, 1, 3, 2), (2, 4, 0, 0), (3, 3, 1, 0),
    ]  # fmt: skip
    assert [row.share for row in rows] == [0.4, 0.5, 0.0, 0.1]
    assert [row.is_dead for row in rows] == [False, False, True, False]
    nothing = CodebookUsage(CodeUsage(np.zeros(3, np.int64)), CodeUsage(np.zeros(3, np.int64)))
    assert [(row.share, row.is_dead) for row in usage_rows(nothing)] == [(0.0, True)] * 3


def test_equal_use_is_ranked_by_index() -> None:
    assert rank_codes(np.array([1, 5, 5, 0])).tolist() == [3, 1, 2, 4]


def test_neighbours_are_sorted_by_distance() -> None:
    codebook = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    found = nearest_codes(codebook, 0, 3)
    assert [(other.code, other.distance) for other in found] == [(3, 0.0), (2, 1.0), (1, 5.0)]
    assert len(nearest_codes(codebook, 0, 99)) == 3 and nearest_codes(codebook, 0, 0) == []
    with pytest.raises(ConfigError, match="from 0 to 3, got 4"):
        nearest_codes(codebook, 4)
    with pytest.raises(ConfigError, match="0 or more"):
        nearest_codes(codebook, 1, -1)


def test_places_are_cells_in_order() -> None:
    codes = np.zeros((2, 3, 4), np.int32)
    codes[0, 2, 1] = codes[1, 0, 3] = 6
    assert places(codes, 6).tolist() == [[0, 2, 1], [1, 0, 3]]
    assert places(codes, 5).shape == (0, 3)
    with pytest.raises(ShapeError, match="code map"):
        places(codes[0], 6)


def test_pca_finds_the_two_widest_directions() -> None:
    rng = np.random.default_rng(0)
    inner = rng.normal(size=(50, 2)) * (3.0, 1.0)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    plane = codebook_plane(inner @ turn + 7.0)
    centred = inner - inner.mean(axis=0)
    expected = np.linalg.norm(centred[:, None] - centred[None], axis=2)
    assert np.allclose(np.linalg.norm(plane[:, None] - plane[None], axis=2), expected)  # a plane is kept whole
    assert plane[:, 0].std() > plane[:, 1].std()
    assert np.allclose(codebook_plane((inner @ turn)[::-1]), plane[::-1])  # no sign by chance


def test_small_codebooks_have_a_plane_too() -> None:
    assert np.allclose(np.abs(codebook_plane(np.array([[1.0], [3.0]]))), [[1.0, 0.0], [1.0, 0.0]])
    assert codebook_plane(np.ones((1, 4))).tolist() == [[0.0, 0.0]]
    with pytest.raises(ShapeError, match="finite"):
        codebook_plane(np.array([[np.nan, 1.0]]))
    with pytest.raises(ConfigError, match="pca or tsne"):
        codebook_plane(np.ones((9, 4)), "umap")  # type: ignore[arg-type]


def test_tsne_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ConfigError, match="pip install scikit-learn"):
        codebook_plane(np.eye(6), "tsne")
    with pytest.raises(ConfigError, match="5 codes or more"):
        codebook_plane(np.eye(4), "tsne")


def test_tsne_keeps_groups_together() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(1)
    codebook = np.concatenate([rng.normal(size=(20, 4)) * 0.1 + offset for offset in (0.0, 9.0)])
    plane = codebook_plane(codebook, "tsne")
    between = np.linalg.norm(plane[:20].mean(axis=0) - plane[20:].mean(axis=0))
    assert between > 2 * max(plane[:20].std(), plane[20:].std())
    assert np.array_equal(plane, codebook_plane(codebook, "tsne"))
