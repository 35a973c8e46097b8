"""What users give the dock that it was not made for: one clear line each time, and the dock stays usable."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt

from napari_vqldm.plugin.tabs.interpolate.end import SEED
from napari_vqldm.volume import Volume

SHAPE = (8, 16, 16)
SIZE = (0.22, 0.2, 0.2)
PLACED: dict[str, Any] = {"scale": SIZE, "units": ("um",) * 3, "contrast_limits": (80.0, 300.0)}

Wait = Callable[..., None]


def stack(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 5, shape).astype(np.float32)
    data[..., 3:5, 6:9, :] += 200
    return data


def placed(ndim: int) -> dict[str, Any]:
    """Scale and units of a layer whose first axes are time and channel."""
    extra = ndim - 3
    return {**PLACED, "scale": (1.0,) * extra + SIZE, "units": ("pixel",) * extra + ("um",) * 3}


@pytest.fixture
def ready(dock: Any, tiny_checkpoints: dict[str, Path]) -> Any:
    dock.desk.model.device, dock.desk.model.threads = "cpu", 1
    dock.open_model(tiny_checkpoints["ldm"])
    dock.reconstruct_tab, dock.interpolate_tab, dock.tab("Measure")  # they follow the layers
    return dock


@pytest.fixture
def heard(ready: Any) -> list[Any]:
    failures: list[Any] = []
    ready.desk.failed.connect(failures.append)
    return failures


@pytest.fixture
def idle(ready: Any, wait_until: Wait) -> Callable[[], None]:
    return lambda: wait_until(lambda: not ready.desk.runner.is_busy)


def is_one_clear_line(text: str) -> bool:
    return bool(text) and "\n" not in text and not any(word in text for word in ("Traceback", "Unexpected", "Error:"))


def expected_reconstruction(dock: Any, data: np.ndarray) -> np.ndarray:
    import torch

    import napari_vqldm as nv

    torch.set_num_threads(1)
    return nv.reconstruct(nv.load(dock.desk.model.path, device="cpu"), Volume(data, SIZE)).data


def check_usable(dock: Any, idle: Callable[[], None]) -> None:
    """A good layer beside the bad one is reconstructed as if nothing had happened."""
    viewer, tab = dock.desk.viewer, dock.reconstruct_tab
    good = viewer.add_image(stack(9), name="good", **PLACED)
    tab.input.choose(good)
    assert tab.button.isEnabled(), tab.reason.text()
    tab.button.click()
    idle()
    layer = viewer.layers["good (ldm)"]
    np.testing.assert_array_equal(layer.data, expected_reconstruction(dock, good.data))
    assert not dock.errors.cause.text()  # the message of the misuse is gone


# --- refused before anything runs -------------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "2D image": (lambda v: v.add_image(stack()[0], name="bad"), "2D"),
    "RGB": (lambda v: v.add_image(np.zeros((*SHAPE, 3), np.uint8), rgb=True, name="bad"), "RGB"),
    "labels": (lambda v: v.add_labels(np.ones(SHAPE, int), name="bad"), "image layer"),
    "points": (lambda v: v.add_points(np.ones((2, 3)), name="bad"), "image layer"),
    "six axes": (lambda v: v.add_image(np.zeros((2, 2, 2, *SHAPE), np.float32), name="bad"), "6 axes"),
    "one plane": (lambda v: v.add_image(stack()[:1], name="bad", **PLACED), "at least 2"),
    "order of axes": (
        lambda v: v.add_image(stack(), name="bad", axis_labels=("x", "y", "z"), **PLACED),
        "order x, y, z",
    ),
    "no voxel size": (lambda v: v.add_image(stack(), name="bad"), "voxel size"),
}


def test_layers_that_cannot_be_used_are_explained_in_every_tab(
    ready: Any, heard: list[Any], idle: Callable[[], None]
) -> None:
    """One after the other in one dock, as somebody who tries would meet them."""
    for case in UNUSABLE:
        check_explained(ready, heard, case)
        check_usable(ready, idle)
        ready.desk.viewer.layers.clear()
        heard.clear()


def check_explained(ready: Any, heard: list[Any], case: str) -> None:
    make, words = UNUSABLE[case]
    viewer = ready.desk.viewer
    make(viewer)
    reconstruct, interpolate = ready.reconstruct_tab, ready.interpolate_tab
    reason = reconstruct.reason.text()
    assert words in reason and is_one_clear_line(reason) and not reconstruct.button.isEnabled()
    assert is_one_clear_line(interpolate.reason.text()) and not interpolate.button.isEnabled()
    measure = ready.tab("Measure")
    assert words in measure.reason.text() and is_one_clear_line(measure.reason.text())
    for tab in (reconstruct, interpolate, measure):
        assert not tab.button.isEnabled() and tab.button.toolTip() == tab.reason.text()
    for start in (reconstruct.start, interpolate.start, measure.measure, measure.measure_all):
        start()  # as a key or a command does
    assert not ready.desk.runner.is_busy and len(viewer.layers) == 1
    if case != "no voxel size":  # there, a number is asked for where the layer is
        ready.compare(viewer.layers[0])
        assert len(heard) == 1 and is_one_clear_line(f"{heard[0].cause} {heard[0].remedy}")


# --- refused when the voxels are read ---------------------------------------------------------------------------------


def with_value(value: float) -> np.ndarray:
    data = stack()
    data[1, 2, 3] = value
    return data


UNREADABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: with_value(np.nan), "nan"),
    "infinite": (lambda: with_value(np.inf), "infinit"),
    "constant": (lambda: np.full(SHAPE, 7.0, np.float32), "every voxel equals 7"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # napari's thumbnail of NaN
def test_voxels_that_cannot_be_used_are_one_message(ready: Any, heard: list[Any], idle: Callable[[], None]) -> None:
    for case in UNREADABLE:
        check_one_message(ready, heard, idle, case)
        check_usable(ready, idle)
        ready.desk.viewer.layers.clear()
        heard.clear()


def check_one_message(ready: Any, heard: list[Any], idle: Callable[[], None], case: str) -> None:
    make, words = UNREADABLE[case]
    viewer = ready.desk.viewer
    viewer.add_image(make(), name="bad", **PLACED)
    viewer.add_image(stack(1), name="other", **PLACED)
    ready.reconstruct_tab.input.choose(viewer.layers["bad"])
    ready.reconstruct_tab.button.click()
    idle()
    (failure,) = heard
    text = f"{failure.cause} {failure.remedy}"
    assert words in text.lower() and "'bad'" in text and is_one_clear_line(text) and failure.remedy
    assert ready.errors.cause.text() == failure.cause
    ends = ready.interpolate_tab.ends
    ends.a.picker.choose(viewer.layers["bad"])
    ends.b.picker.choose(viewer.layers["other"])
    ready.interpolate_tab.button.click()
    idle()
    assert len(heard) == 2 and words in f"{heard[1].cause} {heard[1].remedy}".lower()
    ready.measure(viewer.layers["bad"])
    idle()
    assert len(heard) == 3 and words in f"{heard[2].cause} {heard[2].remedy}".lower()
    assert [layer.name for layer in viewer.layers] == ["bad", "other"]
    assert ready.interpolate_tab.button.isEnabled() and ready.reconstruct_tab.button.isEnabled()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_volume_larger_than_memory_is_refused_with_a_number_and_not_computed(
    ready: Any, heard: list[Any], idle: Callable[[], None]
) -> None:
    computed = []

    def block(block_info: Any = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.zeros(block_info[None]["chunk-shape"], np.float32)

    chunks = ((2**15,) * 2**10, (64,), (64,))  # half a tebibyte, in blocks of zeros that no memory is touched for
    huge = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.zeros((0,) * 3, np.float32))
    viewer, tab = ready.desk.viewer, ready.reconstruct_tab
    layer = viewer.add_image(huge, name="huge", **PLACED)
    computed.clear()  # the plane on the canvas
    tab.input.choose(layer)
    tab.button.click()
    idle()
    assert "Nothing was started" in tab.estimate.text and re.search(r"\d [GT]iB", tab.estimate.text), tab.estimate.text
    assert heard == [] and computed == [] and len(viewer.layers) == 1
    tab.estimate.anyway_button.click()
    idle()
    (failure,) = heard
    text = f"{failure.cause} {failure.remedy}"
    assert re.search(r"\d [GT]iB", text) and "region" in text and is_one_clear_line(text)
    assert computed == [] and len(viewer.layers) == 1
    viewer.layers.clear()
    check_usable(ready, idle)


def test_napari_itself_refuses_complex_images(ready: Any, idle: Callable[[], None]) -> None:
    with pytest.raises(NotImplementedError):
        ready.desk.viewer.add_image(stack().astype(np.complex64), name="bad", **PLACED)
    ready.desk.viewer.layers.clear()
    check_usable(ready, idle)


# --- used as they are -------------------------------------------------------------------------------------------------


def zarr_array(folder: Path, data: np.ndarray) -> Any:
    array = zarr.create_array(folder / "stack.zarr", shape=data.shape, chunks=data.shape, dtype=data.dtype)
    array[...] = data
    return array


def as_time_series(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0, (3, *SHAPE))
    return data, placed(4), data[1]


def as_five_axes(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0, (3, 2, *SHAPE))
    return data, placed(5), data[1, 0]


def as_dask(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0)
    return da.from_array(data, chunks=(4, 8, 8)), PLACED, data


def as_zarr(folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0)
    return zarr_array(folder, data), PLACED, data


def as_pyramid(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0)
    return [data, data[::2, ::2, ::2]], {**PLACED, "multiscale": True}, data


def as_integers(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0).round().astype(np.uint16)
    return data, PLACED, data.astype(np.float32)


def as_big_endian(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0)
    return data.astype(">f4"), PLACED, data


def as_a_view(_folder: Path) -> tuple[Any, dict[str, Any], np.ndarray]:
    data = stack(0, (16, 16, 8)).T
    return data, PLACED, np.ascontiguousarray(data)


USABLE = {
    "time series": as_time_series,
    "time and channel": as_five_axes,
    "dask": as_dask,
    "zarr": as_zarr,
    "multiscale": as_pyramid,
    "uint16": as_integers,
    "big endian": as_big_endian,
    "not contiguous": as_a_view,
}


def test_what_holds_a_volume_is_reconstructed_as_that_volume(
    ready: Any, heard: list[Any], idle: Callable[[], None], tmp_path: Path
) -> None:
    for case in USABLE:
        (tmp_path / case).mkdir()
        check_reconstructed(ready, idle, tmp_path / case, case)
        assert heard == []
        ready.desk.viewer.layers.clear()


def check_reconstructed(ready: Any, idle: Callable[[], None], folder: Path, case: str) -> None:
    data, place, seen = USABLE[case](folder)
    viewer = ready.desk.viewer
    layer = viewer.add_image(data, name="cell", **place)
    for axis in range(layer.ndim - 3):
        viewer.dims.set_point(axis, 1.0)
    tab = ready.reconstruct_tab
    tab.button.click()
    idle()
    assert len(viewer.layers) == 2
    result = viewer.layers[-1]
    np.testing.assert_array_equal(result.data, expected_reconstruction(ready, seen))
    np.testing.assert_allclose(result.scale[-3:], SIZE)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_whatever_is_typed_as_a_seed_gives_a_volume(
    ready: Any, heard: list[Any], idle: Callable[[], None], qtbot: Any
) -> None:
    for typed, seed in (("-5", 5), ("0", 0), ("1.5", 15), ("abc", 3), ("", 3), ("9" * 30, None)):
        check_seed(ready, idle, qtbot, typed, seed)
        assert heard == []
        ready.desk.viewer.layers.clear()


def check_seed(ready: Any, idle: Callable[[], None], qtbot: Any, typed: str, seed: int | None) -> None:
    tab, viewer = ready.sample_tab, ready.desk.viewer
    tab.state.size_z, tab.state.size_y, tab.state.size_x, tab.state.steps = 4, 8, 8, 1
    tab.state.shows_preview = False
    tab.seed_box.keep_box.setChecked(True)
    tab.state.seed = 3
    edit = tab.seed_box.edit
    edit.selectAll()
    qtbot.keyClicks(edit, typed) if typed else qtbot.keyClick(edit, Qt.Key.Key_Delete)
    edit.editingFinished.emit()
    shown = int(edit.text())
    assert shown == tab.state.seed and 0 <= shown < 2**63
    assert seed is None or shown == seed
    tab.button.click()
    idle()
    assert viewer.layers[0].name == f"tiny-ldm-seed{shown}-000"


def test_equal_seeds_are_no_way(ready: Any) -> None:
    tab = ready.interpolate_tab
    for box in (tab.ends.a, tab.ends.b):
        box.choice.setCurrentIndex(SEED)
        box.seed_box.seed = 4
    assert "same seed" in tab.reason.text() and not tab.button.isEnabled()


# --- meanwhile --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
@pytest.mark.parametrize("what", ["rename", "delete", "delete all", "replace the data"])
def test_the_layer_changes_while_its_job_runs(
    ready: Any, heard: list[Any], idle: Callable[[], None], wait_until: Wait, what: str
) -> None:
    viewer, tab = ready.desk.viewer, ready.reconstruct_tab
    frames = stack(0, (6, *SHAPE))
    layer = viewer.add_image(frames, name="movie", **placed(4))
    tab.state.frames = "all"
    tab.button.click()
    wait_until(lambda: len(viewer.layers) == 2)
    if what == "rename":
        layer.name = "film"
    elif what == "delete":
        viewer.layers.remove(layer)
    elif what == "delete all":
        viewer.layers.clear()
    else:
        layer.data = stack(1, (2, *SHAPE))
    idle()
    assert heard == []
    left = [entry.name for entry in viewer.layers]
    assert left == {"rename": ["film", "movie (ldm)"], "delete": ["movie (ldm)"], "delete all": []}.get(
        what, ["movie", "movie (ldm)"]
    )
    if what != "delete all":
        result = viewer.layers["movie (ldm)"].data
        np.testing.assert_array_equal(result[5], expected_reconstruction(ready, frames[5]))
    viewer.layers.clear()
    check_usable(ready, idle)
