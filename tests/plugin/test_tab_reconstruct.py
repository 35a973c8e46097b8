"""The Reconstruct tab in a viewer, with tiny models: results, places, records, cancelling, what users do meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.plugin.compat import camera_of, grid_of
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume

SIZE = (0.2, 0.1, 0.1)


def stack(seed: int = 0, shape: tuple[int, ...] = (8, 24, 24)) -> np.ndarray:
    """Noise with a bright bar: something with background, contrast and noise."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100.0, 5.0, shape).astype(np.float32)
    data[..., 3:5, 10:13, :] += 80.0
    return data


def add(viewer: Any, name: str = "cell", **arguments: Any) -> Any:
    data = arguments.pop("data", None)
    data = stack() if data is None else data
    placed: dict[str, Any] = {"scale": SIZE, "units": ("um",) * 3, "contrast_limits": (80.0, 200.0), **arguments}
    return viewer.add_image(data, name=name, **placed)


@pytest.fixture(params=["ldm"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def desk(viewer: Any, tiny_checkpoints: dict[str, Path], family: str) -> Iterator[Desk]:
    shared = Desk(viewer)
    shared.model.device, shared.model.threads = "cpu", 1
    shared.model.open(tiny_checkpoints[family])
    yield shared
    shared.close()


@pytest.fixture
def failures(desk: Desk) -> list[Any]:
    seen: list[Any] = []
    desk.failed.connect(seen.append)
    return seen


@pytest.fixture
def tab(desk: Desk, failures: list[Any], qtbot: Any) -> Iterator[ReconstructTab]:
    widget = ReconstructTab(desk)
    qtbot.addWidget(widget)
    yield widget
    widget.close_tab()


@pytest.fixture
def idle(desk: Desk, wait_until: Callable[..., None]) -> Callable[[], None]:
    """Wait until no job runs."""
    return lambda: wait_until(lambda: not desk.runner.is_busy)


def loaded(tab: ReconstructTab) -> Any:
    """The model of the tab, on this thread and with as many threads as the tab computes with."""
    import torch

    from napari_vqldm.checkpoint import load_checkpoint

    torch.set_num_threads(tab.desk.model.threads)
    return load_checkpoint(tab.desk.model.path, "cpu")


def expected(tab: ReconstructTab, data: np.ndarray, size: tuple[float, float, float] = SIZE) -> Volume:
    """What the core makes of the same voxels."""
    from napari_vqldm.reconstruct import reconstruct

    return reconstruct(loaded(tab), Volume(data, size))


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


# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda v: v.add_image(np.zeros((16, 16))), "2D"),
        (lambda v: v.add_image(np.zeros((8, 16, 16, 3), np.uint8), rgb=True), "RGB"),
        (lambda v: v.add_labels(np.zeros((8, 16, 16), int)), "image layer"),
        (lambda v: v.add_points(np.zeros((1, 3))), "image layer"),
    ],
    ids=["2D", "RGB", "labels", "points"],
)
def test_layers_that_cannot_be_used_are_explained(
    viewer: Any, tab: ReconstructTab, make: Callable[[Any], Any], words: str
) -> None:
    make(viewer)
    assert not tab.button.isEnabled() and words in tab.reason.text()
    assert tab.button.toolTip() == tab.reason.text()
    tab.start()
    assert not tab.desk.runner.is_busy


def test_an_empty_viewer_says_what_to_do(tab: ReconstructTab) -> None:
    assert "Open volume" in tab.reason.text() and not tab.button.isEnabled()


def test_a_constant_layer_is_one_failure_and_leaves_nothing(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    add(viewer, data=np.full((8, 24, 24), 7.0, np.float32))
    tab.start()
    idle()
    assert len(failures) == 1 and len(viewer.layers) == 1 and tab.button.isEnabled()


# --- meanwhile --------------------------------------------------------------------------------------------------------


def test_when_memory_runs_out_smaller_tiles_are_tried_and_said(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm import reconstruct as _  # noqa: F401
    from napari_vqldm.coding import MAX_VOXELS

    module = sys.modules["napari_vqldm.reconstruct"]
    steps, tried = module.reconstruct_steps, []

    def short_of_memory(model: Any, volume: Volume, *, max_voxels: int) -> Iterator[Any]:
        tried.append(max_voxels)
        if max_voxels == MAX_VOXELS:
            raise MemoryError
        yield from steps(model, volume, max_voxels=max_voxels)

    monkeypatch.setattr(module, "reconstruct_steps", short_of_memory)
    notes: list[str] = []
    tab.desk.runner.noted.connect(lambda _job, text: notes.append(text))
    add(viewer)
    tab.start()
    idle()
    assert failures == [] and tried == [MAX_VOXELS, MAX_VOXELS // 2]
    assert any("Memory ran out" in note for note in notes)
    assert len(viewer.layers) == 2


def test_cancel_leaves_nothing(viewer: Any, tab: ReconstructTab, idle: Callable[[], None], qtbot: Any) -> None:
    frames = np.stack([stack(seed) for seed in range(12)])
    add(viewer, "movie", data=frames, scale=(1.0, *SIZE), units=("s", "um", "um", "um"))
    tab.state.frames = "all"
    tab.start()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    tab.desk.runner.cancel_all()
    idle()
    assert [layer.name for layer in viewer.layers] == ["movie"]
    assert tab.button.isEnabled() and not tab.desk.undo.can_undo


def set_free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Let estimates believe that so much memory is free."""
    from napari_vqldm.estimate import jobs

    monkeypatch.setattr(jobs, "available_bytes", lambda *_: num_bytes)


def test_what_does_not_fit_is_refused_and_runs_anyway(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], monkeypatch: pytest.MonkeyPatch, failures: list[Any]
) -> None:
    tab.show()
    source = add(viewer)
    set_free(monkeypatch, 1)
    opened: list[int] = []
    tab.start(then=lambda: opened.append(1))
    idle()
    assert list(viewer.layers) == [source] and failures == []
    assert "does not fit" in tab.estimate.text and tab.estimate.anyway_button.isVisible()
    assert tab.button.isEnabled() and tab.compare_panel.pair is None
    tab.estimate.anyway_button.click()
    idle()
    assert np.array_equal(viewer.layers[-1].data, expected(tab, source.data).data)
    assert opened == [1] and not tab.estimate.anyway_button.isVisible()


def test_an_uncertainty_map_that_does_not_fit_is_refused_and_runs_anyway(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tab.show()
    add(viewer)
    tab.state.draws = 2
    tab.start()
    idle()
    set_free(monkeypatch, 1)
    panel = tab.compare_panel
    panel.controls.uncertainty_wanted.emit()
    idle()
    assert len(viewer.layers) == 2
    assert panel.estimate.text.startswith("Uncertainty map: Nothing was started.")
    assert not tab.estimate.anyway_button.isVisible()
    panel.estimate.anyway_button.click()
    idle()
    assert viewer.layers[-1].name == "cell (uncertainty)"


def test_the_estimate_follows_layer_frames_and_draws(
    viewer: Any,
    tab: ReconstructTab,
    idle: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    set_free(monkeypatch, 2**34)
    tab.show()
    movie = np.stack([stack(seed) for seed in range(3)])
    add(viewer, "movie", data=movie, scale=(2.0, *SIZE), units=("s", "um", "um", "um"))
    wait_until(lambda: "first run" in tab.estimate.text)
    tab.start()
    idle()
    wait_until(lambda: tab.estimate.text.startswith("About "))
    one = tab.estimate.text
    wait_until(lambda: tab.compare_panel.estimate.text.startswith("Uncertainty map: about "))
    few = tab.compare_panel.estimate.text
    movies = np.broadcast_to(movie[:1], (400, *movie.shape[1:]))
    tab.input.choose(add(viewer, "long", data=movies, scale=(2.0, *SIZE), units=("s", "um", "um", "um")))
    tab.state.frames = "all"
    wait_until(lambda: tab.estimate.text not in ("", one))
    tab.state.draws = 256
    wait_until(lambda: tab.compare_panel.estimate.text not in ("", few))


@pytest.mark.parametrize("what", ["rename", "delete input", "delete result", "close tab"])
def test_the_user_may_do_anything_meanwhile(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], qtbot: Any, what: str
) -> None:
    frames = np.stack([stack(seed) for seed in range(6)])
    source = add(viewer, "movie", data=frames, scale=(1.0, *SIZE), units=("s", "um", "um", "um"))
    tab.state.frames = "all"
    tab.start()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    if what == "rename":
        source.name = "other"
    elif what == "delete input":
        viewer.layers.remove(source)
    elif what == "delete result":
        viewer.layers.remove(viewer.layers[-1])
    else:
        tab.close_tab()
        tab.desk.close()
    idle()
    assert failures == []
    names = [layer.name for layer in viewer.layers]
    assert (
        names
        == {
            "rename": ["other", "movie (ldm)"],
            "delete input": ["movie (ldm)"],
            "delete result": ["movie"],
            "close tab": ["movie"],
        }[what]
    )
    assert (tab.compare_panel.pair is not None) == (what == "rename")


def test_undo_takes_the_result_back(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer)
    tab.start()
    idle()
    tab.compare_panel.side_by_side()
    idle()
    assert grid_of(viewer).enabled
    tab.desk.undo.undo()
    tab.desk.undo.undo()
    assert [layer.name for layer in viewer.layers] == ["cell"]
    assert not grid_of(viewer).enabled and tab.compare_panel.pair is None and viewer.layers[0].visible


# --- compare ----------------------------------------------------------------------------------------------------------


def test_compare_reconstructs_and_shows_three_cells(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], wait_until: Callable[..., None]
) -> None:
    source = add(viewer)
    tab.compare(source)
    wait_until(lambda: tab.compare_panel.modes.name == "side")
    names = [layer.name for layer in viewer.layers if layer.visible]
    assert names == ["cell", "cell (ldm)", "cell (residual)"]
    result, rest = viewer.layers[1].data, viewer.layers[2].data
    assert np.array_equal(rest, source.data - result)
    tab.compare_panel.controls.side_button.click()
    assert not grid_of(viewer).enabled and tab.compare_panel.modes.name == ""
    count = len(viewer.layers)
    tab.compare(viewer.layers[1])
    assert tab.compare_panel.modes.name == "side" and len(viewer.layers) == count


def test_every_view_opens_alone_and_ends(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], qtbot: Any
) -> None:
    add(viewer), add(viewer, "another")
    tab.input.choose(viewer.layers[0])
    tab.start()
    idle()
    panel = tab.compare_panel
    for name in ("blink", "wipe", "side", "canvases"):
        panel.open_view(name)
        idle()
        assert panel.modes.name == name
        assert not viewer.layers["another"].visible
    panel.controls.canvases_button.click()
    qtbot.wait(20)
    assert panel.modes.name == "" and all(layer.visible for layer in viewer.layers)
    assert [layer.name for layer in viewer.layers] == ["cell", "another", "cell (ldm)", "cell (residual)"] or [
        layer.name for layer in viewer.layers
    ] == ["cell", "cell (ldm)", "cell (residual)", "another"]


def test_the_divider_moves_the_wipe(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    source = add(viewer)
    tab.start()
    idle()
    tab.compare_panel.wipe()
    idle()
    result, wiped = viewer.layers[1], viewer.layers[-1]
    tab.compare_panel.controls.divider.setValue(250)
    assert np.array_equal(wiped.data[..., :6], result.data[..., :6])
    assert np.array_equal(wiped.data[..., 6:], source.data[..., 6:])
    tab.blink()
    assert "wipe" not in [layer.name for layer in viewer.layers]
    tab.blink()
    assert tab.compare_panel.modes.name == ""


def test_a_click_on_a_plane_goes_there(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer, translate=(5.0, 0.0, 0.0))
    tab.start()
    idle()
    tab.compare_panel.plots.plane_chosen.emit(6)
    assert viewer.dims.point[0] == pytest.approx(5.0 + 6 * 0.2)


@pytest.mark.parametrize("kind", ["noise", "posterior"])
def test_the_uncertainty_map_is_that_of_the_core(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], kind: str
) -> None:
    from napari_vqldm.uncertainty import uncertainty

    source = add(viewer)
    tab.state.draws, tab.state.kind, tab.compare_panel.seed.seed = 3, kind, 5
    tab.start()
    idle()
    tab.compare_panel.make_uncertainty()
    idle()
    assert failures == []
    layer = viewer.layers[-1]
    assert layer.name == "cell (uncertainty)"
    wanted = uncertainty(loaded(tab), Volume(source.data, SIZE), draws=3, seed=5, kind=kind)
    assert np.array_equal(layer.data, wanted.data)


@pytest.mark.parametrize("family", ["vq-ldm"], indirect=True)
def test_the_posterior_is_refused_for_vq_ldm_with_a_reason(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None]
) -> None:
    add(viewer)
    tab.start()
    idle()
    tab.state.kind = "posterior"
    controls = tab.compare_panel.controls
    assert not controls.uncertainty_button.isEnabled() and "ldm model" in controls.reason.text()


def test_a_result_without_its_input_is_not_reconstructed_again(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    source = add(viewer)
    tab.start()
    idle()
    viewer.layers.remove(source)
    tab.compare(viewer.layers[0])
    assert len(failures) == 1 and len(viewer.layers) == 1


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


def test_closing_lets_the_viewer_go(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer)
    tab.start()
    idle()
    tab.compare_panel.blink()
    tab.close_tab()
    tab.close_tab()
    assert all(layer.visible for layer in viewer.layers)
    add(viewer, "later")
    viewer.dims.set_point(0, 0.4)
    viewer.layers.clear()


def test_everything_fits_into_a_narrow_dock(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> None:
    add(viewer, "a layer with a very long name that nobody would want to read in full")
    tab.start()
    idle()
    assert tab.minimumSizeHint().width() <= 320


def test_every_control_has_a_tooltip_and_a_name(tab: ReconstructTab) -> None:
    from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox

    for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QAbstractSlider):
        for control in tab.findChildren(kind):
            if control.objectName().startswith("qt_") or "Collapsible" in type(control.parent()).__name__:
                continue
            if isinstance(control, QAbstractSlider) and not control.objectName().startswith("vqldm"):
                continue  # scroll bars of Qt
            assert control.toolTip() or control.parentWidget().toolTip(), control.objectName() or control
