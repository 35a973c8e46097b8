"""The Reconstruct tab in a viewer, with tiny models: results, places, records, files, scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugin.reconstruct.helpers import SIZE, add, expected, stack

from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.plugin.compat import camera_of
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume

# --- result -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"], indirect=True)
def test_the_layer_is_what_the_core_computes_and_lies_on_its_input(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], family: str
) -> None:
    source = add(viewer, translate=(3.0, 2.0, 1.0))
    tab.start()
    idle()
    assert failures == []
    result = viewer.layers[-1]
    assert result.name == f"cell ({family})"
    assert np.array_equal(result.data, expected(tab, source.data).data)
    assert np.allclose(result.scale, source.scale) and np.allclose(result.translate, source.translate)
    assert [str(unit) for unit in result.units] == [str(unit) for unit in source.units]
    assert list(result.contrast_limits) == [80.0, 200.0]
    record = provenance_of(result)
    assert record is not None and record["verb"] == "decode"
    assert "PSNR" in tab.compare_panel.controls.numbers.text()
    assert tab.button.isEnabled()


def test_a_region_lands_where_it_was_taken(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    source = add(viewer)
    viewer.add_shapes([np.array([[0, 0.4, 0.6], [0, 0.4, 1.9], [0, 1.9, 1.9], [0, 1.9, 0.6]])], units=("um",) * 3)
    tab.state.region = "shapes"
    tab.start()
    idle()
    result = next(layer for layer in viewer.layers if layer.name == "cell (ldm)")
    start = np.round(np.asarray(result.translate) / SIZE).astype(int)
    assert tuple(start) == (0, 4, 6)
    part = source.data[tuple(slice(s, s + n) for s, n in zip(start, result.data.shape, strict=True))]
    assert part.shape == result.data.shape != source.data.shape
    assert np.array_equal(result.data, expected(tab, part).data)


def test_what_the_view_shows_is_reconstructed(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    source = add(viewer)
    camera_of(viewer).zoom *= 4
    viewer.screenshot(canvas_only=True, flash=False)  # draws: what is in view is known after that
    tab.state.region = "view"
    tab.start()
    idle()
    result = viewer.layers[-1]
    start = np.round(np.asarray(result.translate) / SIZE).astype(int)
    part = source.data[tuple(slice(s, s + n) for s, n in zip(start, result.data.shape, strict=True))]
    assert part.shape == result.data.shape != source.data.shape
    assert np.array_equal(result.data, expected(tab, part).data)


def test_the_chosen_channel_is_reconstructed(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    data = np.stack([stack(1), stack(2)])
    add(viewer, data=data, scale=(1.0, *SIZE), units=("pixel", "um", "um", "um"), axis_labels=("c", "z", "y", "x"))
    assert tab.input.channel.count() == 2
    tab.input.channel.setCurrentIndex(1)
    tab.start()
    idle()
    assert np.array_equal(viewer.layers[-1].data, expected(tab, data[1]).data)


def test_a_region_without_a_shape_is_explained(viewer: Any, tab: ReconstructTab, failures: list[Any]) -> None:
    add(viewer)
    tab.state.region = "shapes"
    tab.start()
    assert "draw a rectangle" in f"{failures[0].cause} {failures[0].remedy}"
    assert len(viewer.layers) == 1


def test_an_entered_voxel_size_counts(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    source = viewer.add_image(stack(), name="bare", contrast_limits=(80.0, 200.0))
    assert not tab.button.isEnabled() and "voxel size" in tab.reason.text()
    for field, value in zip(tab.input.voxel_size.fields, (0.25, 0.2, 0.2), strict=True):
        field.setValue(value)
    assert tab.button.isEnabled() and tab.reason.text() == ""
    tab.start()
    idle()
    assert np.array_equal(viewer.layers[-1].data, expected(tab, source.data, (0.25, 0.2, 0.2)).data)
    tab.compare_panel.make_residual()
    idle()
    assert viewer.layers[-1].name == "bare (residual)"


def test_the_entered_size_can_be_written_to_the_layer(viewer: Any, tab: ReconstructTab) -> None:
    source = viewer.add_image(stack(), name="bare", contrast_limits=(80.0, 200.0))
    tab.input.voxel_size.fields[0].setValue(0.25)
    tab.input.voxel_size.fields[1].setValue(0.2)
    tab.input.voxel_size.fields[2].setValue(0.2)
    tab.input.write_button.click()
    assert np.allclose(source.scale, (0.25, 0.2, 0.2))
    assert "from the layer" in tab.input.size_text.text() and not tab.state.uses_typed


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_a_series_appears_frame_by_frame(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], kind: str, failures: list[Any]
) -> None:
    frames = np.stack([stack(seed) for seed in range(3)])
    if kind == "dask":
        data: Any = pytest.importorskip("dask.array").from_array(frames, chunks=(1, 8, 24, 24))
    elif kind == "zarr":
        data = pytest.importorskip("zarr").array(frames, chunks=(1, 8, 24, 24))
    else:
        data = frames
    add(viewer, "movie", data=data, scale=(2.0, *SIZE), units=("s", "um", "um", "um"))
    tab.state.frames = "all"
    tab.start()
    idle()
    assert failures == []
    result = viewer.layers[-1]
    assert result.data.shape == frames.shape
    assert float(result.scale[0]) == 2.0 and str(result.units[0]) == "second"
    for index in range(3):
        assert np.array_equal(result.data[index], expected(tab, frames[index]).data)
    record = provenance_of(result)
    assert record is not None and [frame["verb"] for frame in record["frames"]] == ["decode"] * 3
    assert "All 3 frames" in tab.compare_panel.controls.series.text()


def test_one_time_point_is_the_one_in_view(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    frames = np.stack([stack(seed) for seed in range(3)])
    add(viewer, "movie", data=frames, scale=(1.0, *SIZE), units=("s", "um", "um", "um"))
    viewer.dims.set_point(0, 2.0)
    tab.start()
    idle()
    assert np.array_equal(viewer.layers[-1].data, expected(tab, frames[2]).data)


# --- files and scripts ------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "cell.ome.tif", Volume(stack(), SIZE, name="cell"))


def test_a_file_without_choices_opens_at_once(
    viewer: Any, tab: ReconstructTab, file: Path, wait_until: Callable[..., None]
) -> None:
    add(viewer, "older")
    tab.open_volume.open_file(str(file))
    wait_until(lambda: len(viewer.layers) == 2)
    layer = viewer.layers[-1]
    assert np.array_equal(layer.data, read_volume(file).data) and np.allclose(layer.scale, SIZE)
    assert tab.input.layer is layer
    assert tab.desk.inputs


def test_an_ome_zarr_is_opened_from_its_folder(
    viewer: Any, tab: ReconstructTab, tmp_path: Path, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ome_zarr")
    from qtpy.QtWidgets import QFileDialog

    folder = write_volume(tmp_path / "cell.zarr", Volume(stack(), SIZE, name="cell"))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    tab.open_volume.folder_button.click()
    wait_until(lambda: len(viewer.layers) == 1)
    assert np.array_equal(viewer.layers[0].data, stack())


def test_a_series_without_voxel_size_is_asked_about(
    viewer: Any, tab: ReconstructTab, tmp_path: Path, wait_until: Callable[..., None], failures: list[Any]
) -> None:
    path = tmp_path / "movie.npy"
    np.save(path, np.stack([stack(0), stack(1)]))
    tab.open_volume.open_file(str(path))
    wait_until(lambda: tab.open_volume.state.content is not None)
    assert tab.open_volume.choices.isVisibleTo(tab) and not tab.open_volume.open_button.isEnabled()
    tab.open_volume.all_times.setChecked(True)
    for field, value in zip(tab.open_volume.voxel_size.fields, SIZE, strict=True):
        field.setValue(value)
    tab.open_volume.open_button.click()
    wait_until(lambda: len(viewer.layers) == 1)
    assert failures == []
    assert viewer.layers[0].data.shape == (2, 8, 24, 24)
    assert np.allclose(viewer.layers[0].scale[1:], SIZE)


def test_a_damaged_file_is_one_failure(
    tab: ReconstructTab, tmp_path: Path, wait_until: Callable[..., None], failures: list[Any], viewer: Any
) -> None:
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0nothing")
    tab.open_volume.open_file(str(path))
    wait_until(lambda: failures)
    assert "broken.tif" in failures[0].cause + failures[0].remedy and len(viewer.layers) == 0


@pytest.mark.slow
def test_every_copied_script_gives_the_same_bits_in_a_new_process(
    viewer: Any, tab: ReconstructTab, file: Path, idle: Callable[[], None], wait_until: Callable[..., None],
    failures: list[Any], tmp_path: Path,
) -> None:  # fmt: skip
    tab.open_volume.open_file(str(file))
    wait_until(lambda: len(viewer.layers) == 1)
    idle()
    tab.state.draws = 2
    tab.start()
    idle()
    tab.compare_panel.make_residual()
    idle()
    tab.compare_panel.make_uncertainty()
    idle()
    assert failures == []
    scripts = {}
    for layer in viewer.layers[1:]:
        scripts[str(tmp_path / f"{len(scripts)}.npy")] = tab.desk.python_of(layer)
    runner = (
        "import json, sys, numpy\n"
        "for path, text in json.load(sys.stdin).items():\n"
        "    space = {}\n"
        "    exec(compile(text, path, 'exec'), space)\n"
        "    numpy.save(path, space['volume'].data)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", runner], input=json.dumps(scripts), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for layer, path in zip(viewer.layers[1:], scripts, strict=True):
        assert np.array_equal(np.load(path), layer.data), layer.name


def test_zero_weights_change_the_result(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], tmp_path: Path
) -> None:
    import torch

    from napari_vqldm.checkpoint import load_checkpoint, save_checkpoint

    add(viewer)
    tab.start()
    idle()
    model = load_checkpoint(tab.desk.model.path, "cpu")
    with torch.no_grad():
        for parameter in model.space.autoencoder.parameters():
            parameter.zero_()
    zeroed = save_checkpoint(tmp_path / "zero.safetensors", config=model.config, space=model.space, denoiser=None)
    tab.desk.model.open(zeroed)
    tab.start()
    idle()
    first, second = viewer.layers[1].data, viewer.layers[2].data
    assert not np.array_equal(first, second)


def test_everything_fits_into_a_narrow_dock(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer, "a layer with a very long name that nobody would want to read in full")
    tab.start()
    idle()
    assert tab.minimumSizeHint().width() <= 320


def test_every_control_has_a_tooltip_and_a_name(tab: ReconstructTab) -> None:
    from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar

    seen = []
    for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider):
        for control in tab.findChildren(kind):
            if control.objectName().startswith("qt_") or isinstance(control, QScrollBar):
                continue  # parts of Qt's own widgets
            spoken = control.accessibleName() or (control.text() if isinstance(control, QAbstractButton) else "")
            who = f"{type(control).__name__} {control.objectName()!r} {spoken!r}"
            assert control.toolTip(), who
            assert spoken or is_labelled(tab, control), who
            seen.append(control)
    assert len(seen) > 25


def is_labelled(tab: ReconstructTab, control: Any) -> bool:
    """Whether a label beside a control names it, as screen readers look for it."""
    from qtpy.QtWidgets import QLabel

    return any(label.buddy() is control and label.text() for label in tab.findChildren(QLabel))
