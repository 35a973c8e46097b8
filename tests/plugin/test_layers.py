"""Layers in and out: what is read equals what the layer holds, what is added lies where it came from."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_vqldm as nv
from napari_vqldm.crop import crop
from napari_vqldm.errors import ChoiceError, ShapeError, VolumeError
from napari_vqldm.plugin.compat import camera_of, grid_of, scale_bar_of
from napari_vqldm.plugin.layers import (
    KEY,
    add_series,
    add_volume,
    box_of_shapes,
    box_of_view,
    describe,
    provenance_of,
    set_volume,
    snapshot,
)
from napari_vqldm.volume import Volume, hash_voxels, seal

napari = pytest.importorskip("napari")

# napari: rotated layers are sliced approximately. Nothing is sliced here.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")

UM = ("um",) * 3
ZYX = ("z", "y", "x")


def stack(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.fixture
def model() -> Any:
    """A viewer without a window: layers need no canvas."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def recorded() -> Volume:
    """A volume of ours, with a sealed record."""
    record = {"software": "napari-vqldm", "verb": "generate", "request": {"seed": 7}}
    return seal(Volume(stack(6, 9, 11), (0.2, 0.1, 0.1), record, "sample"))


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


# --- add --------------------------------------------------------------------------------------------------------------


def test_added_volumes_carry_size_units_labels_contrast_and_record(model: Any, recorded: Volume) -> None:
    layer = add_volume(model, recorded)
    assert tuple(layer.scale) == recorded.voxel_size_um
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ZYX
    assert layer.metadata[KEY]["request"] == {"seed": 7}
    assert recorded.data.min() <= layer.contrast_limits[0] < layer.contrast_limits[1] <= recorded.data.max()
    assert layer.rendering == "attenuated_mip"
    np.testing.assert_array_equal(layer.data, recorded.data)


def test_names_are_unique_and_nothing_is_replaced(model: Any, recorded: Volume) -> None:
    first, second = add_volume(model, recorded), add_volume(model, recorded)
    assert first.name == "sample" and second.name != "sample" and len(model.layers) == 2
    assert "preview" in add_volume(model, recorded, kind="preview").name


@pytest.mark.parametrize("kind", ["volume", "reconstruction", "residual", "uncertainty", "preview"])
@pytest.mark.parametrize("data", [np.zeros((3, 4, 5), np.float32), stack(3, 4, 5) - 0.5], ids=["constant", "signed"])
def test_contrast_is_never_empty(model: Any, kind: Any, data: Any) -> None:
    low, high = add_volume(model, Volume(data, (0.2, 0.1, 0.1)), kind=kind).contrast_limits
    assert low < high
    assert kind != "residual" or low == -high
    assert kind != "uncertainty" or low == 0


def test_zero_residual_is_black(model: Any) -> None:
    layer = add_volume(model, Volume(stack(3, 4, 5) - 0.5, (0.2, 0.1, 0.1)), kind="residual")
    colors = layer.colormap.map(np.array([0.0, 0.5, 1.0]))
    assert tuple(colors[1, :3]) == (0, 0, 0)
    assert colors[0, 2] > colors[0, 0] and colors[2, 0] > colors[2, 2]  # blue is too low, orange too high


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (0.2, 0.1, 0.1), "units": UM, "translate": (5, 6, 7)},
        {"scale": (200, 100, 100), "units": ("nm",) * 3, "rotate": (10, 20, 30), "axis_labels": ZYX},
        {"scale": (0.2, 0.1, 0.1), "shear": (0.2, 0.1, 0.3), "affine": np.diag([1.0, 2, 1, 1]) + np.eye(4, k=1) * 0.1},
    ],
    ids=["moved", "turned", "sheared"],
)
def test_results_lie_on_the_region_that_they_came_from(model: Any, place: dict[str, Any]) -> None:
    data = stack(2, 8, 10, 12)
    wide = {key: (1, *value) if key == "scale" else value for key, value in place.items()}
    if "units" in wide:
        wide["units"] = ("s", *wide["units"])
    single = model.add_image(data[1], **place)
    several = model.add_image(data, **{k: v for k, v in wide.items() if k in ("scale", "units")})
    box = ((2, 6), (1, 9), (4, 12))
    for layer, lead in ((single, {}), (several, {"time": 1})):
        source = snapshot(layer, box=box, **lead)
        result = add_volume(model, source.read(), like=source, kind="reconstruction")
        coarse = add_volume(model, Volume(stack(2, 4, 4), (0.4, 0.2, 0.2)), like=source)
        assert [str(u) for u in result.units] == [str(u) for u in layer.units[-3:]]
        assert result.axis_labels == layer.axis_labels[-3:]
        for voxel in ((0, 0, 0), (3, 7, 7), (1, 5, 2)):
            inside = np.add(voxel, [2, 1, 4])
            expected = np.array(layer.data_to_world([*([1] if lead else []), *inside]))[-3:]
            np.testing.assert_allclose(result.data_to_world(voxel), expected, rtol=1e-9)
        # Voxels twice as large share the outer corner, half a voxel before their first center.
        corner = np.array([1.5, 0.5, 3.5])
        expected = np.array(layer.data_to_world([*([1] if lead else []), *corner]))[-3:]
        np.testing.assert_allclose(coarse.data_to_world((-0.5, -0.5, -0.5)), expected, rtol=1e-9)


def test_an_exact_copy_has_exactly_the_voxel_size_of_its_input(model: Any) -> None:
    layer = model.add_image(stack(4, 8, 8), scale=(203.7, 64.3, 64.3), units=("nm",) * 3)
    source = snapshot(layer)
    assert describe(add_volume(model, source.read(), like=source)).voxel_size_um == source.voxel_size_um


def test_set_volume_keeps_what_the_user_set(model: Any, recorded: Volume) -> None:
    layer = add_volume(model, recorded)
    layer.contrast_limits, layer.colormap, layer.visible = (0.1, 0.4), "magma", False
    other = recorded.with_data(stack(6, 9, 11, seed=1), provenance={"verb": "generate", "request": {"seed": 8}})
    set_volume(layer, other, name="another")
    np.testing.assert_array_equal(layer.data, other.data)
    assert (tuple(layer.contrast_limits), layer.colormap.name, layer.visible) == ((0.1, 0.4), "magma", False)
    assert layer.metadata[KEY] == other.provenance and layer.name == "another"
    with pytest.raises(ShapeError, match="add a new one"):
        set_volume(layer, Volume(stack(4, 4, 4), (0.2, 0.1, 0.1)))


def test_series_keep_the_record_of_every_frame(model: Any) -> None:
    records = [{"software": "napari-vqldm", "verb": "interpolate", "request": {"t": t}} for t in (0.0, 0.5, 1.0)]
    frames = stack(3, 4, 8, 9)
    layer = add_series(model, frames, (0.2, 0.1, 0.1), name="path", step=0.5, provenances=records)
    assert tuple(layer.scale) == (0.5, 0.2, 0.1, 0.1) and layer.axis_labels == ("t", *ZYX)
    source = snapshot(layer, time=1)
    assert source.provenance == records[1]
    np.testing.assert_array_equal(source.read().data, frames[1])
    with pytest.raises(ShapeError, match="one record for each"):
        add_series(model, frames, (0.2, 0.1, 0.1), name="path", provenances=records[:2])
    with pytest.raises(ShapeError, match="frames"):
        add_series(model, frames[0], (0.2, 0.1, 0.1), name="path")


def test_lazy_series_compute_no_frame_when_limits_are_given(model: Any) -> None:
    da = pytest.importorskip("dask.array")
    touched: list[Any] = []
    frames = da.ones((5, 4, 8, 9), chunks=(1, 4, 8, 9)).map_blocks(
        lambda block: touched.append(block.shape) or block, dtype=float, meta=np.empty((0,) * 4)
    )
    like = snapshot(model.add_image(stack(4, 8, 9), scale=(0.2, 0.1, 0.1), rotate=(0, 0, 30), units=UM))
    touched.clear()
    layer = add_series(model, frames, (0.2, 0.1, 0.1), name="lazy", limits=(0, 2), like=like)
    assert sum(shape == (1, 4, 8, 9) for shape in touched) <= 1  # the frame that is shown
    expected = np.array(like.transform.rotate) @ (np.array([1, 2, 3]) * [0.2, 0.1, 0.1])
    np.testing.assert_allclose(layer.data_to_world((2, 1, 2, 3)), [2, *expected], rtol=1e-9)


# --- regions ----------------------------------------------------------------------------------------------------------


def rectangle(y0: float, y1: float, x0: float, x1: float) -> np.ndarray[Any, Any]:
    return np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])


def test_a_drawn_rectangle_gives_the_voxels_under_it(model: Any) -> None:
    target = model.add_image(stack(2, 5, 20, 30), scale=(1, 0.2, 0.1, 0.1), translate=(0, 0, 1, 2))
    world = rectangle(1.3, 1.9, 2.5, 4.0)  # rows 3 to 9, columns 5 to 20
    shapes = model.add_shapes([world], shape_type="rectangle")
    assert box_of_shapes(shapes, target) == ((0, 5), (3, 10), (5, 21))
    fine = model.add_shapes([world * 10], shape_type="rectangle", scale=(0.1, 0.1))
    assert box_of_shapes(fine, target) == ((0, 5), (3, 10), (5, 21))


def test_only_the_selected_shape_counts_and_it_is_cut_to_the_layer(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30))
    shapes = model.add_shapes([rectangle(2, 8, 2, 8), rectangle(10, 40, -5, 12)], shape_type="rectangle")
    shapes.selected_data = set()
    with pytest.raises(VolumeError, match="none is selected"):
        box_of_shapes(shapes, target)
    shapes.selected_data = {1}
    assert box_of_shapes(shapes, target) == ((0, 5), (10, 20), (0, 13))


def test_units_of_length_are_converted(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30), scale=(0.2, 0.1, 0.1), units=UM)
    shapes = model.add_shapes([rectangle(300, 900, 500, 2000)], shape_type="rectangle", units=("nm", "nm"))
    assert box_of_shapes(shapes, target) == ((0, 5), (3, 10), (5, 21))


def test_empty_and_far_shapes_are_named(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30), name="cell")
    with pytest.raises(VolumeError, match="holds no shape"):
        box_of_shapes(model.add_shapes(None, name="empty"), target)
    with pytest.raises(VolumeError, match="beside 'cell'"):
        box_of_shapes(model.add_shapes([rectangle(50, 60, 0, 5)]), target)
    with pytest.raises(VolumeError, match="expected a shapes layer"):
        box_of_shapes(target, target)


def test_the_view_gives_the_voxels_on_the_canvas(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_image(stack(5, 100, 100), scale=(0.2, 0.1, 0.1), units=UM)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0, 3.0, 7.0), camera.zoom * 5
    qtbot.waitUntil(lambda: layer.corner_pixels[0][2] > 50, timeout=5000)
    z, y, x = box_of_view(viewer, layer)
    assert z == (0, 5)
    assert y[0] < 30 < y[1] and 50 < x[0] < 70 < x[1] < 90 and y[1] - y[0] < 40
    assert sum(y) / 2 == pytest.approx(30.5, abs=1.5) and sum(x) / 2 == pytest.approx(70.5, abs=1.5)
    camera.center = (0, 300.0, 300.0)
    qtbot.waitUntil(lambda: layer.corner_pixels[0][2] > 90, timeout=5000)
    with pytest.raises(VolumeError, match="shows nothing"):
        box_of_view(viewer, layer)
    viewer.dims.ndisplay = 3
    with pytest.raises(VolumeError, match="set it to 2D"):
        box_of_view(viewer, layer)


def test_camera_grid_and_scale_bar_are_those_of_the_viewer(model: Any) -> None:
    """The names that napari 0.9 deprecates would warn, and warnings are errors here."""
    camera_of(model).zoom = 3.5
    grid_of(model).enabled = True
    scale_bar_of(model).visible = True
    assert model.scene.camera.zoom == 3.5 and model.canvas.grid.enabled and model.canvas.overlays.scale_bar.visible
