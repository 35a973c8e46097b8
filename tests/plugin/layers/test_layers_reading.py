"""Layers in: what is read equals what the layer holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugin.layers.helpers import UM, stack

import napari_vqldm as nv
from napari_vqldm.crop import crop
from napari_vqldm.errors import ChoiceError, ShapeError, VolumeError
from napari_vqldm.plugin.layers import add_volume, describe, provenance_of, snapshot
from napari_vqldm.volume import Volume, hash_voxels

# napari: rotated layers are sliced approximately. Nothing is sliced here.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


# --- describe ---------------------------------------------------------------------------------------------------------


def misuse(model: Any) -> dict[str, Any]:
    return {
        "labels": model.add_labels(np.ones((4, 8, 8), int)),
        "points": model.add_points(np.zeros((2, 3))),
        "RGB": model.add_image(np.zeros((4, 8, 8, 3), np.uint8), rgb=True),
        "2D": model.add_image(stack(8, 8)),
        "least 2": model.add_image(stack(1, 8, 8)),
        "2D image": model.add_image(stack(5, 8, 8), axis_labels=("t", "y", "x")),
        "axes": model.add_image(stack(2, 2, 2, 4, 8, 8)),
        "convert": model.add_image(stack(8, 8, 4), axis_labels=("x", "y", "z")),
    }


@pytest.mark.parametrize("word", ["labels", "points", "RGB", "2D", "least 2", "2D image", "axes", "convert"])
def test_layers_without_a_volume_are_refused_with_a_reason(model: Any, word: str) -> None:
    layer = misuse(model)[word]
    info = describe(layer)
    assert not info.is_usable
    assert word in info.reason and layer.name in info.reason
    with pytest.raises(VolumeError, match=word):
        snapshot(layer, voxel_size_um=(0.2, 0.1, 0.1))


@pytest.mark.parametrize(
    "shape, labels, times, channels, spatial",
    [
        ((4, 8, 9), None, 1, 1, (0, 1, 2)),
        ((5, 4, 8, 9), None, 5, 1, (1, 2, 3)),
        ((5, 3, 4, 8, 9), None, 5, 3, (2, 3, 4)),
        ((3, 4, 8, 9), ("c", "z", "y", "x"), 1, 3, (1, 2, 3)),
        ((4, 3, 8, 9), ("z", "channel", "y", "x"), 1, 3, (0, 2, 3)),
        ((3, 5, 4, 8, 9), ("c", "t", "z", "y", "x"), 5, 3, (2, 3, 4)),
        ((5, 3, 4, 8, 9), ("time", "p", "z", "y", "x"), 5, 3, (2, 3, 4)),
    ],
)
def test_axes_are_told_by_label_else_by_place(
    model: Any, shape: tuple[int, ...], labels: Any, times: int, channels: int, spatial: tuple[int, ...]
) -> None:
    info = describe(model.add_image(stack(*shape), axis_labels=labels))
    assert (info.is_usable, info.num_times, info.num_channels, info.spatial_axes) == (True, times, channels, spatial)


@pytest.mark.parametrize(
    "scale, units, expected, is_assumed",
    [
        ((1, 1, 1), None, None, False),
        ((0.2, 0.065, 0.065), None, (0.2, 0.065, 0.065), True),
        ((0.2, 0.065, 0.065), UM, (0.2, 0.065, 0.065), False),
        ((1, 1, 1), UM, (1.0, 1.0, 1.0), False),
        ((200, 65, 65), ("nm",) * 3, (0.2, 0.065, 0.065), False),
        ((-0.2, 0.065, 0.065), UM, (0.2, 0.065, 0.065), False),
        ((200, 0.065, 0.065), ("nm", "um", "um"), (0.2, 0.065, 0.065), False),
    ],
)
def test_voxel_size_comes_from_scale_and_units(
    model: Any, scale: Any, units: Any, expected: Any, is_assumed: bool
) -> None:
    info = describe(model.add_image(stack(4, 8, 8), scale=scale, units=units))
    assert info.voxel_size_um == (None if expected is None else pytest.approx(expected, rel=1e-12))
    assert info.is_assumed_um is is_assumed


def test_voxel_size_survives_rotation_and_counts_an_affine(model: Any) -> None:
    turned = model.add_image(stack(4, 8, 8), scale=(0.2, 0.1, 0.1), units=UM, rotate=(10, 20, 30))
    stretched = model.add_image(stack(4, 8, 8), scale=(0.2, 0.1, 0.1), units=UM, affine=np.diag([2.0, 1, 1, 1]))
    assert describe(turned).voxel_size_um == pytest.approx((0.2, 0.1, 0.1))
    assert describe(stretched).voxel_size_um == pytest.approx((0.4, 0.1, 0.1))


# --- snapshot and read ------------------------------------------------------------------------------------------------


def test_read_returns_the_chosen_voxels_on_another_thread(model: Any) -> None:
    data = stack(3, 2, 5, 8, 9)
    layer = model.add_image(data, scale=(1, 1, 0.2, 0.1, 0.1), units=("s", "pixel", *UM), axis_labels="tczyx")
    source = snapshot(layer, time=2, channel=1, box=((1, 4), (0, 8), (3, 9)))
    model.layers.clear()  # the layer is deleted while the job waits
    found: list[Volume] = []
    thread = threading.Thread(target=lambda: found.append(source.read()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0].data, data[2, 1, 1:4, :, 3:9])
    assert found[0].voxel_size_um == (0.2, 0.1, 0.1)
    assert source.shape == (3, 8, 6)
    assert found[0].provenance["source"]["time"] == 2 and found[0].provenance["source"]["box"] == [
        [1, 4],
        [0, 8],
        [3, 9],
    ]


def test_lazy_layers_compute_only_the_chosen_part(model: Any) -> None:
    da = pytest.importorskip("dask.array")
    touched: list[int] = []

    def block(block_info: Any = None) -> np.ndarray[Any, Any]:
        touched.append(block_info[None]["chunk-location"][0])
        return stack(1, 4, 8, 8, seed=touched[-1])

    data = da.map_blocks(
        block, chunks=((1,) * 6, (4,), (8,), (8,)), dtype=np.float32, meta=np.empty((0,) * 4, np.float32)
    )
    layer = model.add_image(data, contrast_limits=(0, 1), scale=(1, 0.2, 0.1, 0.1))
    assert describe(layer).is_lazy
    touched.clear()
    volume = snapshot(layer, time=4).read()
    assert touched == [4]
    np.testing.assert_array_equal(volume.data, stack(4, 8, 8, seed=4).reshape(4, 8, 8))


def test_zarr_and_pyramids_are_read_at_full_resolution(model: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = stack(4, 16, 16)
    array = zarr.create_array(tmp_path / "a.zarr", data=data)
    one = model.add_image(array, contrast_limits=(0, 1))
    pyramid = model.add_image([array, data[:, ::2, ::2]], multiscale=True, contrast_limits=(0, 1))
    for layer in (one, pyramid):
        assert describe(layer).is_lazy and describe(layer).nbytes == data.nbytes
        np.testing.assert_array_equal(snapshot(layer, voxel_size_um=(0.2, 0.1, 0.1)).read().data, data)


def test_choices_that_are_missing_or_impossible_are_named(model: Any) -> None:
    series = model.add_image(stack(3, 4, 8, 8), scale=(1, 0.2, 0.1, 0.1))
    bare = model.add_image(stack(4, 8, 8))
    with pytest.raises(ChoiceError, match="3 time points: choose one, 0 to 2"):
        snapshot(series)
    with pytest.raises(VolumeError, match="no time point 3"):
        snapshot(series, time=3)
    with pytest.raises(VolumeError, match="one channel, got 1"):
        snapshot(series, time=0, channel=1)
    with pytest.raises(ChoiceError, match="no voxel size"):
        snapshot(bare)
    with pytest.raises(ShapeError, match="along y"):
        snapshot(series, time=0, box=((0, 4), (3, 9), (0, 8)))


@pytest.mark.parametrize("value, message", [(np.nan, "NaN"), (np.inf, "infinite"), (None, "every voxel equals 3")])
def test_content_without_structure_is_refused_when_it_is_read(model: Any, value: Any, message: str) -> None:
    data = np.full((4, 8, 8), 3, np.float32)
    if value is not None:
        data[1, 2, 3] = value
    layer = model.add_image(data, contrast_limits=(0, 1), scale=(0.2, 0.1, 0.1), name="poor")
    with pytest.raises(VolumeError, match=f"'poor'.*{message}"):
        snapshot(layer).read()


def test_more_than_the_free_memory_is_refused_before_reading(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    da = pytest.importorskip("dask.array")
    monkeypatch.setattr("napari_vqldm.memory.available_bytes", lambda *_: 2**30)
    layer = model.add_image(da.zeros((400, 2048, 2048), chunks=(1, 2048, 2048)), contrast_limits=(0, 1))
    source = snapshot(layer, voxel_size_um=(0.2, 0.1, 0.1))
    with pytest.raises(VolumeError, match=r"25\.0 GiB of memory, 1\.0 GiB are free: choose a region"):
        source.read()


def test_the_record_of_a_layer_stays_with_its_voxels(model: Any, recorded: Volume) -> None:
    layer = add_volume(model, recorded)
    assert provenance_of(layer) == recorded.provenance
    assert provenance_of(model.add_image(stack(4, 8, 8))) is None
    volume = snapshot(layer).read()
    assert volume.provenance == recorded.provenance
    assert hash_voxels(volume) == recorded.provenance["voxels_sha256"]
    box = ((1, 5), (2, 8), (0, 11))
    cut, expected = snapshot(layer, box=box).read(), crop(recorded, box)
    np.testing.assert_array_equal(cut.data, expected.data)
    assert cut.provenance["request"] == expected.provenance["request"]


# --- files ------------------------------------------------------------------------------------------------------------


def opened(model: Any, data: Any, path: Path, **arguments: Any) -> Any:
    from napari.layers import Image
    from napari.layers._source import layer_source

    with layer_source(path=str(path), reader_plugin="somebody"):
        layer = Image(data, **arguments)
    model.add_layer(layer)
    return layer


def test_a_layer_from_a_file_knows_where_its_voxels_lie(model: Any, recorded: Volume, tmp_path: Path) -> None:
    path = nv.write_volume(tmp_path / "a.ome.tif", recorded)
    layer = opened(model, recorded.data.copy(), path, scale=recorded.voxel_size_um, units=UM)
    box = ((0, 6), (1, 9), (2, 11))
    source = snapshot(layer, box=box)
    part = source.file_input
    assert part is not None
    again = nv.read_volume(part.path, channel=part.channel, time=part.time, voxel_size_um=part.voxel_size_um)
    assert hash_voxels(crop(again, part.box)) == hash_voxels(source.read())
    assert source.is_in_file(source.read())
    layer.data[3, 4, 5] += 1  # edited in napari: the file is no longer what is shown
    assert not source.is_in_file(snapshot(layer, box=box).read())


def test_channels_are_found_by_size_or_by_the_name_of_the_layer(model: Any, tmp_path: Path) -> None:
    import tifffile

    data = stack(5, 3, 8, 9)  # z, c, y, x
    path = tmp_path / "b.ome.tif"
    names = {"axes": "ZCYX", "Channel": {"Name": ["dna", "tubulin", "actin"]}}
    tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata=names)
    whole = opened(model, data.transpose(1, 0, 2, 3), path)  # napari sees four axes without names
    one = opened(model, data[:, 1], path, name="tubulin")
    other = opened(model, data[:, 2], path, name="b [2]")
    size = (0.2, 0.1, 0.1)
    for source in (snapshot(whole, time=1, voxel_size_um=size), snapshot(one, voxel_size_um=size)):
        part = source.file_input
        assert part is not None and (part.channel, part.time) == (1, None)
        assert source.is_in_file(source.read())
    assert snapshot(other, voxel_size_um=size).file_input is None  # three channels, and none of that name
    assert snapshot(model.add_image(stack(4, 8, 8)), voxel_size_um=size).file_input is None
