"""Views of layers with time and channels: they show the time point and channel that was reconstructed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugin.reconstruct.helpers import SIZE, add, expected, stack

from napari_vqldm.files import write_series
from napari_vqldm.files.provenance import SeriesAxis
from napari_vqldm.plugin.layers import provenance_of, snapshot
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume

SLOW = [pytest.mark.slow, pytest.mark.both_bindings]
VIEWS = ("blink", "wipe", "side", "canvases")


def add_movie(viewer: Any, num: int = 3) -> tuple[Any, np.ndarray]:
    frames = np.stack([stack(seed) for seed in range(num)])
    return add(viewer, "movie", data=frames, scale=(2.0, *SIZE), units=("s", "um", "um", "um")), frames


def add_channels(viewer: Any, num: int = 3) -> tuple[Any, np.ndarray]:
    data = np.stack([stack(seed) for seed in range(num)])
    labels = ("c", "z", "y", "x")
    return add(viewer, data=data, scale=(1.0, *SIZE), units=("pixel", *("um",) * 3), axis_labels=labels), data


def is_shown(viewer: Any, layer: Any, volume: np.ndarray) -> bool:
    """Whether a layer shows the plane in view of a volume (Z, Y, X)."""
    z = round(viewer.dims.point[-3] / SIZE[0])
    return all(
        layer.get_value((*viewer.dims.point[:-2], y * SIZE[1], x * SIZE[2])[-layer.ndim :], world=True)
        == volume[z, y, x]
        for y, x in ((3, 5), (11, 7), (20, 22))
    )


def test_a_saved_series_is_opened_on_its_axis(
    viewer: Any, tab: ReconstructTab, tmp_path: Path, wait_until: Callable[..., None], failures: list[Any]
) -> None:
    frames = [Volume(stack(seed), SIZE, {"verb": "decode", "frame": seed}) for seed in range(3)]
    path = write_series(tmp_path / "movie.ome.tif", frames, axis=SeriesAxis(2.0, 1.0, "second", "time"))
    tab.open_volume.open_file(str(path))
    wait_until(lambda: tab.open_volume.state.content is not None)
    tab.open_volume.all_times.setChecked(True)
    tab.open_volume.open_button.click()
    wait_until(lambda: len(viewer.layers) == 1)
    layer = viewer.layers[0]
    assert failures == [] and np.allclose(layer.scale, (2.0, *SIZE)) and layer.translate[0] == 1
    assert (str(layer.units[0]), layer.axis_labels[0]) == ("second", "time")


# --- time and channel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["tc", "ct"])
def test_a_series_with_channels_follows_the_time_slider(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], order: str
) -> None:
    data = np.stack([np.stack([stack(10 * t + c) for c in range(2)]) for t in range(3)])  # (t, c, z, y, x)
    held = data if order == "tc" else np.ascontiguousarray(data.swapaxes(0, 1))
    time, channel = order.index("t"), order.index("c")
    scale = (2.0, 1.0, *SIZE) if order == "tc" else (1.0, 2.0, *SIZE)
    add(viewer, "movie", data=held, scale=scale, units=("pixel",) * 2 + ("um",) * 3, axis_labels=(*order, *"zyx"))
    tab.state.frames = "all"
    tab.input.channel.setCurrentIndex(1)
    tab.start()
    idle()
    assert failures == []
    result, panel = viewer.layers[-1], tab.compare_panel
    made = [expected(tab, data[t, 1]).data for t in range(3)]
    numbers = set()
    for t in range(3):
        for c in range(2):
            viewer.dims.set_point((time, channel), (2.0 * t, float(c)))
            assert is_shown(viewer, result, made[t]), (t, c)
            assert panel.pair.frame(viewer) == t
            numbers.add(panel.controls.numbers.text())
    assert len(numbers) == 3
    assert np.array_equal(snapshot(result, time=2).read().data, made[2])
    viewer.dims.set_point(time, 2.0)
    assert tab.desk.record_of(result) == provenance_of(result)["frames"][1]
    panel.make_residual()
    idle()
    assert np.array_equal(viewer.layers["movie (residual, frame 1)"].data, data[1, 1] - made[1])


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_canvas_of_its_own_moves_no_channel_of_the_input(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], qtbot: Any
) -> None:
    data = np.stack([np.stack([stack(10 * t + c) for c in range(4)]) for t in range(2)])
    add(viewer, "movie", data=data, scale=(1.0, 1.0, *SIZE), units=("pixel",) * 2 + ("um",) * 3)
    tab.state.frames = "all"
    tab.input.channel.setCurrentIndex(3)
    tab.start()
    idle()
    tab.compare_panel.separate_canvases()
    idle()
    assert viewer.dims.point[:2] == (0.0, 3.0)
    other = tab.compare_panel.modes.view.models[0]
    other.dims.set_point(2, 0.6)
    assert viewer.dims.point[:3] == pytest.approx((0.0, 3.0, 0.6))
    tab.compare_panel.open_view("")
    del other
    qtbot.wait(20)


# --- one of several ---------------------------------------------------------------------------------------------------


def test_the_channel_starts_from_the_slider(viewer: Any, tab: ReconstructTab) -> None:
    add_channels(viewer)
    assert round(viewer.dims.point[0]) == 1  # napari starts in the middle
    assert tab.input.channel.currentIndex() == tab.state.channel == 1
    tab.input.choose(add(viewer, "single"))
    assert tab.state.channel == 0


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("wipe", "side") else SLOW) for n in VIEWS],
)
def test_a_view_goes_to_the_channel_that_was_reconstructed(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], name: str, qtbot: Any
) -> None:
    source, data = add_channels(viewer)
    viewer.dims.set_point(1, 0.4)
    tab.input.channel.setCurrentIndex(0)
    tab.start()
    idle()
    panel = tab.compare_panel
    assert panel.controls.note.text() == (
        "The sliders show channel 1 of the input; this reconstruction is of channel 0."
    )
    panel.open_view(name)
    idle()
    assert panel.modes.name == name
    assert viewer.dims.point[:2] == pytest.approx((0.0, 0.4))
    assert name == "wipe" or is_shown(viewer, source, data[0])  # hidden layers show nothing
    assert panel.controls.note.text() == ""
    viewer.dims.set_point(0, 2.0)
    assert "channel 2 of the input" in panel.controls.note.text()
    viewer.dims.set_point(0, 0.0)
    assert panel.controls.note.text() == ""
    panel.open_view("")
    qtbot.wait(20)


@pytest.mark.parametrize("name", ["blink", "side"])
def test_a_view_goes_to_the_time_point_that_was_reconstructed(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], name: str
) -> None:
    source, frames = add_movie(viewer)
    viewer.dims.set_point(0, 4.0)
    tab.start()
    idle()
    viewer.dims.set_point(0, 0.0)
    assert "time point 0" in tab.compare_panel.controls.note.text()
    tab.compare_panel.open_view(name)
    idle()
    assert viewer.dims.point[0] == 4.0 and is_shown(viewer, source, frames[2])
    assert tab.compare_panel.controls.note.text() == ""


# --- series -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def series(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Frames of an input and of its reconstruction; the viewer shows frame 0."""
    _, frames = add_movie(viewer)
    tab.state.frames = "all"
    tab.start()
    idle()
    viewer.dims.set_point(0, 0.0)
    return frames, np.asarray(viewer.layers["movie (ldm)"].data)


@pytest.mark.parametrize("name", ["side", pytest.param("canvases", marks=SLOW)])
def test_the_residual_of_a_view_follows_the_time_slider(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], qtbot: Any, series: Any, name: str
) -> None:
    frames, made = series
    panel = tab.compare_panel
    panel.make_residual()
    idle()
    asked = viewer.layers[-1]
    panel.open_view(name)
    idle()
    rest = next(layer for layer in viewer.layers if "residual" in layer.name and layer is not asked)
    assert np.array_equal(rest.data, frames[0] - made[0])
    count = len(viewer.layers)
    viewer.dims.set_point(0, 4.0)
    assert panel.controls.note.text() == "The residual still shows frame 0."
    idle()
    assert np.array_equal(rest.data, frames[2] - made[2]) and rest.name == "movie (residual, frame 2)"
    assert panel.modes.name == name and panel.controls.note.text() == "" and len(viewer.layers) == count
    assert provenance_of(rest)["verb"] == "residual"
    if name == "canvases":
        assert np.array_equal(panel.modes.view.models[1].layers[0].data, rest.data)
    assert np.array_equal(asked.data, frames[0] - made[0])  # that one is the user's
    panel.open_view("")
    viewer.dims.set_point(0, 2.0)
    idle()
    assert np.array_equal(rest.data, frames[2] - made[2])
    panel.open_view(name)
    idle()
    assert np.array_equal(rest.data, frames[1] - made[1]) and len(viewer.layers) == count
    panel.open_view("")
    qtbot.wait(20)


def test_the_wipe_follows_the_time_slider(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], wait_until: Callable[..., None], series: Any
) -> None:
    frames, made = series
    panel = tab.compare_panel
    panel.wipe()
    idle()
    panel.controls.divider.setValue(250)
    wait_until(lambda: panel.modes.view.array.divider == 6)
    wiped = viewer.layers["wipe"]
    viewer.dims.set_point(0, 2.0)
    assert panel.controls.note.text() == "The wipe still shows frame 0."
    idle()
    assert viewer.layers["wipe"] is wiped and panel.controls.note.text() == ""
    assert np.array_equal(wiped.data[..., :6], made[1][..., :6])
    assert np.array_equal(wiped.data[..., 6:], frames[1][..., 6:])
    panel.controls.divider.setValue(500)
    wait_until(lambda: np.array_equal(wiped.data[..., :12], made[1][..., :12]))


def test_of_many_frames_only_the_latest_is_computed(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], series: Any, hold: Callable[[], Callable[[], None]]
) -> None:
    frames, made = series
    tab.compare_panel.side_by_side()
    idle()
    jobs: list[str] = []
    tab.desk.runner.queued.connect(lambda job: jobs.append(job.title))
    release = hold()
    for t in (1, 2, 1, 0, 2):
        viewer.dims.set_point(0, 2.0 * t)
    release()
    idle()
    assert np.array_equal(viewer.layers["movie (residual, frame 2)"].data, frames[2] - made[2])
    assert len([title for title in jobs if "Residual" in title]) <= 2


def test_a_residual_that_fails_is_told_once_for_its_frame(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], series: Any, failures: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from napari_vqldm.plugin.compare import maps

    tab.compare_panel.side_by_side()
    idle()

    def failing(*_sources: Any) -> Any:
        def work(_engine: Any) -> Any:
            raise MemoryError
            yield

        return work

    monkeypatch.setattr(maps, "residual_work", failing)
    viewer.dims.set_point(0, 4.0)
    idle()
    viewer.dims.set_point(1, 0.8)
    idle()
    assert len(failures) == 1 and tab.compare_panel.modes.name == "side"
    assert tab.compare_panel.controls.note.text() == "The residual still shows frame 0."
