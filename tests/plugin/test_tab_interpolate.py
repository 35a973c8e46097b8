"""The Interpolate tab in a viewer: bits, order of frames, and everything that may happen in between."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_vqldm as nv
from napari_vqldm.files import write_volume
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import KEY, provenance_of
from napari_vqldm.plugin.state import interpolate as state
from napari_vqldm.plugin.state.interpolate import PLAY_STEPS
from napari_vqldm.plugin.tabs.interpolate import ways
from napari_vqldm.plugin.tabs.interpolate.end import LAYER, SEED
from napari_vqldm.plugin.tabs.interpolate.tab import InterpolateTab
from napari_vqldm.plugin.tabs.interpolate.ways import LiveWay, SampledWay
from napari_vqldm.volume import Volume

SHAPE = (8, 16, 16)
SIZE = (0.22, 0.2, 0.2)


def stack(seed: int, shape=SHAPE) -> np.ndarray:
    """A few bright lines on noise."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 5, shape).astype(np.float32)
    for _ in range(3):
        data[rng.integers(shape[0]), rng.integers(shape[1]), :] += 200
    return data


def add(viewer, name: str, seed: int = 0, shape=SHAPE, size=SIZE, **keywords):
    return viewer.add_image(stack(seed, shape), name=name, scale=size, units=("um",) * 3, **keywords)


@pytest.fixture
def desk(viewer) -> Iterator[Desk]:
    desk = Desk(viewer)
    desk.failures = []
    desk.failed.connect(desk.failures.append)
    yield desk
    desk.close()


@pytest.fixture(params=["ldm", "vq-ldm"])
def family(request) -> str:
    return request.param


@pytest.fixture
def make_tab(desk, tiny_checkpoints, qtbot) -> Iterator[Callable[[str], InterpolateTab]]:
    tabs = []

    def make(family: str = "ldm") -> InterpolateTab:
        desk.model.open(tiny_checkpoints[family])
        tab = InterpolateTab(desk)
        desk.viewer.window.add_dock_widget(tab, name="Interpolate")
        tabs.append(tab)
        return tab

    yield make
    for tab in tabs:
        tab.close_tab()


@pytest.fixture
def model(tiny_checkpoints) -> Callable[[str], Any]:
    return lambda family: nv.load(tiny_checkpoints[family])


@pytest.fixture
def encoded(viewer, make_tab, wait_until) -> Callable[[str], InterpolateTab]:
    """A tab whose two layers "a" and "b" are encoded."""

    def make(family: str = "ldm", **keywords) -> InterpolateTab:
        add(viewer, "a", 1, **keywords)
        add(viewer, "b", 2, **keywords)
        tab = make_tab(family)
        choose(tab, viewer, "a", "b")
        tab.start()
        wait_until(lambda: shown_t(tab) == 0.0)
        return tab

    return make


def choose(tab: InterpolateTab, viewer, a: str, b: str) -> None:
    tab.ends.a.picker.choose(viewer.layers[a])
    tab.ends.b.picker.choose(viewer.layers[b])


def seeds(tab: InterpolateTab, a: int = 3, b: int = 5) -> None:
    for box, seed in ((tab.ends.a, a), (tab.ends.b, b)):
        box.choice.setCurrentIndex(SEED)
        box.seed_box.seed = seed


def shown_t(tab: InterpolateTab) -> float | None:
    """Where the frame is that the layer shows in full."""
    frame = tab.view.frame if tab.view is not None else None
    return None if frame is None or frame.quality == "preview" else frame.t


def make_decoder(monkeypatch, speed: str) -> None:
    """Let every full decode count as ``fast`` or ``slow``."""
    limit = {"fast": 1e9, "slow": -1.0}[speed]
    for module in (state, ways):
        monkeypatch.setattr(module, "LIVE_S", limit)


def latents(model, viewer):
    return [nv.encode(model, Volume(viewer.layers[name].data, SIZE, {}, name)) for name in ("a", "b")]


# --- encoded ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "snap"), [("linear", True), ("slerp", False)])
def test_full_frames_equal_the_verb_bit_for_bit(viewer, encoded, model, family, kind, snap, wait_until):
    tab = encoded(family)
    tab.state.kind, tab.state.snap = kind, snap
    a, b = latents(model(family), viewer)
    for t in (0.5, 0.123, 1.0):
        tab.play.slider.setValue(t)
        tab.play.settled.emit()
        wait_until(lambda t=t: shown_t(tab) == t and not tab.way.frames.is_busy)
        layer = tab.view.layer
        expected = nv.interpolate(model(family), a, b, t, kind, snap)
        np.testing.assert_array_equal(layer.data, expected.data)
        request = provenance_of(layer)["request"]
        assert (request["t"], request["kind"], request["snap"]) == (t, kind, snap)
        assert provenance_of(layer)["voxels_sha256"] == expected.provenance["voxels_sha256"]
    assert [layer.name for layer in viewer.layers] == ["a", "b", "a to b"]


def test_the_middle_is_not_the_mean_of_the_ends(encoded, wait_until):
    tab = encoded()
    ends = [frame.volume.data for frame in tab.way.way.frames]
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    assert np.abs(tab.view.layer.data - (ends[0] + ends[1]) / 2).max() > 1e-4 * np.ptp(ends[0])


def test_layer_lies_on_the_first_end_with_contrast_of_both(viewer, encoded, wait_until):
    tab = encoded(translate=(1, 2, 3))
    layer = tab.view.layer
    np.testing.assert_allclose(layer.scale, SIZE)
    np.testing.assert_allclose(layer.translate, (1, 2, 3))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    limits = tuple(layer.contrast_limits)
    assert limits == pytest.approx(tab.way.limits)
    layer.contrast_limits = (110, 150)
    tab.play.slider.setValue(0.4)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.4)
    assert tuple(layer.contrast_limits) == (110, 150)


@pytest.mark.parametrize("speed", ["fast", "slow"])
def test_sixty_fast_moves_end_with_the_last_one_asked(encoded, wait_until, monkeypatch, speed):
    tab = encoded()
    make_decoder(monkeypatch, speed)
    before = tab.way.frames.num_started
    for move in range(60):
        tab.play.slider.setValue((move * 37 % 60) / 60)
    last = round((59 * 37 % 60) / 60, 3)
    wait_until(lambda: shown_t(tab) == last and not tab.way.frames.is_busy)
    assert tab.way.frames.num_started - before <= 61  # at most one a move, and one in full when it rests
    assert tab.play.shown.text() == f"shown: t = {last:.2f}"


def test_previews_while_moving_before_a_slow_decoder(encoded, model, viewer, wait_until, monkeypatch):
    tab, seen = encoded(), []

    def look(frame) -> None:
        tab._show(frame)
        layer = tab.view.layer
        seen.append((frame.quality, tab.play.shown.text(), provenance_of(layer), np.array(layer.data)))

    make_decoder(monkeypatch, "slow")
    monkeypatch.setattr(tab.way, "_show", look)
    tab.play.slider.setValue(0.4)
    wait_until(lambda: len(seen) == 2)  # the slider rests, and the full frame comes
    assert [quality for quality, *_ in seen] == ["preview", "full"]
    _, words, record, rough = seen[0]
    assert "preview" in words
    assert record is None  # a rough frame claims nothing
    a, b = latents(model("ldm"), viewer)
    full = nv.interpolate(model("ldm"), a, b, 0.4)
    np.testing.assert_array_equal(seen[1][3], full.data)
    assert not np.array_equal(rough, full.data)
    assert rough.shape == full.shape


def test_frames_come_from_the_cache_and_neighbors_are_decoded_ahead(encoded, wait_until):
    tab = encoded()
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    path = tab.way.path
    ahead = [ways.FrameRequest(t, path, "full") for t in (0.49, 0.51)]
    wait_until(lambda: all(tab.way.cached(request) is not None for request in ahead))
    started = tab.way.frames.num_started
    for t in (0.49, 0.5, 0.51):
        tab.play.slider.setValue(t)
        assert shown_t(tab) == t  # at once
    assert tab.way.frames.num_started == started


@pytest.mark.parametrize("quality", ["preview", "full"])
def test_changed_codes_are_counted(encoded, model, viewer, wait_until, monkeypatch, quality):
    if quality == "preview":
        monkeypatch.setattr(ways, "REST_MS", 600_000)
    make_decoder(monkeypatch, {"preview": "slow", "full": "fast"}[quality])
    tab = encoded("vq-ldm")
    tab.play.slider.setValue(0.5)
    wait_until(lambda: tab.view.frame.t == 0.5)
    assert tab.view.frame.quality == quality
    change = nv.changed_codes(model("vq-ldm"), *latents(model("vq-ldm"), viewer), 0.5)
    assert tab.play.codes.text() == (
        f"{change.num_changed_from_a} of {change.num_cells} cells have another code than A, "
        f"{change.num_changed_from_b} another than B"
    )
    tab.state.snap = False
    wait_until(lambda: not tab.play.codes.text())


def test_snap_is_for_codebooks_only(make_tab):
    tab = make_tab("ldm")
    assert not tab.way_form.rows["snap"].view.isEnabled()
    tab = make_tab("vq-ldm")
    assert tab.way_form.rows["snap"].view.isEnabled()


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_frames_between_seeds_equal_the_verb(viewer, make_tab, model, family, wait_until):
    tab = make_tab(family)
    seeds(tab)
    tab.state.steps = 2
    assert tab.button.text() == "Sample 5 frames"
    tab.start()
    wait_until(lambda: tab._job is None)
    assert tab.way.ts == [0.0, 0.25, 0.5, 0.75, 1.0]
    condition = tab.state.condition(tab.desk.model.header)
    for t in (0.5, 1.0):
        tab.play.slider.setValue(t)
        expected = nv.interpolate(model(family), 3, 5, t, steps=2, condition=condition)
        np.testing.assert_array_equal(tab.view.layer.data, expected.data)
    np.testing.assert_allclose(tab.view.layer.scale, expected.voxel_size_um)


def test_nearest_sampled_frame_is_shown_and_said(make_tab, wait_until):
    tab = make_tab()
    seeds(tab)
    tab.start()
    wait_until(lambda: tab._job is None)
    tab.play.slider.setValue(0.45)
    assert shown_t(tab) == 0.5
    assert tab.play.shown.text() == "shown: t = 0.50, asked 0.45"
    assert tab.ends.a.picture.gray is not None
    assert tab.ends.b.picture.gray is not None


def test_cancelling_keeps_the_frames_that_are_ready(make_tab, wait_until):
    tab = make_tab()
    seeds(tab)
    tab.state.num_frames = 17
    tab.state.steps = 50
    tab.start()
    wait_until(lambda: tab.way.ts == [0.0, 1.0])
    tab._job.cancel()
    wait_until(lambda: tab._job is None)
    assert 2 <= len(tab.way.ts) < 17
    assert tab.button.isEnabled()
    tab.play.slider.setValue(0.9)
    assert shown_t(tab) == max(tab.way.ts)


def test_a_seed_and_a_layer(viewer, make_tab, model, wait_until, qtbot):
    from napari_vqldm.files.provenance import to_jsonable

    add(viewer, "a", 1, size=(0.2, 0.1, 0.1))
    tab = make_tab()
    tab.ends.b.choice.setCurrentIndex(SEED)
    tab.ends.b.seed_box.seed = 4
    notes = []
    tab.desk.runner.noted.connect(lambda _job, text: notes.append(text))
    assert tab.state.problem(tab.desk.model.header) == ""
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    assert "Sampling seed 4 first..." in notes
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    net = model("ldm")
    request = tab.state.seed_request(tab.desk.model.header)
    first = nv.encode(net, Volume(viewer.layers["a"].data, (0.2, 0.1, 0.1), {}, "a"))
    second = nv.encode(net, nv.generate(net, **request)[0])
    np.testing.assert_array_equal(tab.view.layer.data, nv.interpolate(net, first, second, 0.5).data)
    record = provenance_of(tab.view.layer)["request"]["ends"][1]["request"]["source"]
    assert (record["verb"], record["request"]["seed"]) == ("generate", 4)
    assert to_jsonable(record) == record


# --- ends -------------------------------------------------------------------------------------------------------------


def test_ends_that_do_not_fit_are_explained_before_anything_runs(viewer, make_tab):
    add(viewer, "small", 1, shape=(8, 16, 12))
    add(viewer, "large", 2)
    tab = make_tab()
    choose(tab, viewer, "small", "large")
    assert "crop the larger one" in tab.reason.text()
    assert not tab.button.isEnabled()
    assert tab.button.toolTip() == tab.reason.text()
    tab.start()
    assert not tab.desk.runner.is_busy


def test_two_boxes_take_two_layers(viewer, make_tab):
    tab = make_tab()
    assert "choose an image layer, or a seed" in tab.reason.text()
    add(viewer, "a", 1)
    assert "Both ends are the same volume" in tab.reason.text()
    add(viewer, "b", 2)
    assert {tab.state.a.name, tab.state.b.name} == {"a", "b"}
    assert tab.button.isEnabled()


def test_time_points_of_one_series(viewer, make_tab, model, wait_until):
    series = np.stack([stack(seed) for seed in range(3)])
    viewer.add_image(series, name="film", scale=(1, *SIZE), units=("s", "um", "um", "um"))
    tab = make_tab()
    assert not tab.ends.b.time.isHidden()
    tab.ends.b.time.setValue(2)
    assert tab.state.problem(tab.desk.model.header) == ""
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    net = model("ldm")
    ends = [nv.encode(net, Volume(series[t], SIZE, {}, "film")) for t in (0, 2)]
    np.testing.assert_array_equal(tab.view.layer.data, nv.interpolate(net, *ends, 0.0).data)


def test_a_missing_voxel_size_is_asked_for(viewer, make_tab):
    viewer.add_image(stack(1), name="a")
    viewer.add_image(stack(2), name="b")
    tab = make_tab()
    assert not tab.ends.size_row.isHidden()
    assert "states no voxel size" in tab.reason.text()
    for box, value in zip(tab.ends.sizes, SIZE, strict=True):
        box.setValue(value)
    assert tab.button.isEnabled()


def test_swap_exchanges_everything(viewer, encoded):
    tab = encoded()
    pictures = [tab.ends.a.picture.gray, tab.ends.b.picture.gray]
    assert all(picture is not None for picture in pictures)
    tab.ends.b.choice.setCurrentIndex(SEED)
    tab.ends.b.seed_box.seed = 9
    tab.ends.swap_button.click()
    assert (tab.state.a.is_seed, tab.state.a.seed, tab.state.b.name) == (True, 9, "a")
    assert tab.way is None  # it went the other way


def test_thumbnails_show_the_layers(viewer, make_tab, wait_until, shown_of):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = shown_of(make_tab())
    wait_until(lambda: tab.ends.a.picture.gray is not None and tab.ends.b.picture.gray is not None)
    assert not np.array_equal(tab.ends.a.picture.gray, tab.ends.b.picture.gray)
    assert not tab.ends.a.picture.pixmap().isNull()


@pytest.fixture
def shown_of(qtbot) -> Callable[[InterpolateTab], InterpolateTab]:
    def show(tab: InterpolateTab) -> InterpolateTab:
        tab.window().show()
        qtbot.waitUntil(tab.isVisible)
        return tab

    return show


# --- what happens in between ------------------------------------------------------------------------------------------


def test_renaming_an_end_changes_nothing(viewer, encoded, wait_until):
    tab = encoded()
    way = tab.way
    viewer.layers["a"].name = "renamed"
    assert tab.state.a.name == "renamed"
    assert tab.way is way


def test_renaming_while_encoding_is_safe(viewer, make_tab, wait_until):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    tab.start()
    viewer.layers["a"].name = "renamed"
    wait_until(lambda: shown_t(tab) == 0.0)
    assert tab.desk.failures == []


def test_deleting_an_end_while_encoding_stops(viewer, make_tab, wait_until):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    tab.start()
    viewer.layers.remove("a")
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert [layer.name for layer in viewer.layers] == ["b"]
    assert tab.way is None
    assert tab.desk.failures == []


def test_changed_voxels_of_an_end_are_encoded_again(viewer, encoded, model, wait_until):
    tab = encoded()
    viewer.layers["a"].data = stack(7)
    assert tab.way is None
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    a, b = latents(model("ldm"), viewer)
    np.testing.assert_array_equal(tab.view.layer.data, nv.interpolate(model("ldm"), a, b, 0.0).data)


def test_another_model_means_another_encoding(viewer, encoded, tiny_checkpoints, model, wait_until):
    tab = encoded("ldm")
    tab.desk.model.open(tiny_checkpoints["vq-ldm"])
    assert tab.way is None
    assert not tab.play.isEnabled()
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    a, b = latents(model("vq-ldm"), viewer)
    np.testing.assert_array_equal(tab.view.layer.data, nv.interpolate(model("vq-ldm"), a, b, 0.0).data)
    assert tab.desk.failures == []


def test_another_model_while_encoding_leaves_nothing(viewer, make_tab, tiny_checkpoints, wait_until):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab("ldm")
    choose(tab, viewer, "a", "b")
    tab.start()
    tab.desk.model.open(tiny_checkpoints["vq-ldm"])
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert len(viewer.layers) == 2
    assert tab.way is None


def test_a_deleted_result_comes_back_when_the_slider_moves(viewer, encoded, wait_until):
    tab = encoded()
    tab.play.play_button.click()
    viewer.layers.remove("a to b")
    assert not tab.play.is_playing
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert len(viewer.layers) == 2
    tab.play.slider.setValue(0.6)
    wait_until(lambda: shown_t(tab) == 0.6)
    assert "a to b" in viewer.layers


def test_undo_takes_the_layer_back(viewer, encoded):
    tab = encoded()
    tab.desk.undo.undo()
    assert [layer.name for layer in viewer.layers] == ["a", "b"]


def test_closing_while_encoding(viewer, make_tab, wait_until):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    tab.start()
    tab.close_tab()
    tab.close_tab()
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert len(viewer.layers) == 2
    add(viewer, "c", 3)  # nobody listens any more


def test_closing_with_a_preview_says_so(viewer, encoded, monkeypatch, wait_until):
    monkeypatch.setattr(ways, "REST_MS", 600_000)
    tab = encoded()
    make_decoder(monkeypatch, "slow")
    tab.play.slider.setValue(0.4)
    wait_until(lambda: tab.view.frame.quality == "preview")
    tab.close_tab()
    assert viewer.layers[-1].name == "a to b (preview)"


def test_a_failure_is_shown_and_the_button_works_again(viewer, make_tab, wait_until):
    viewer.add_image(np.ones(SHAPE, np.float32), name="flat", scale=SIZE, units=("um",) * 3, contrast_limits=(0, 1))
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "flat", "b")
    tab.start()
    wait_until(lambda: tab.desk.failures)
    assert "every voxel equals 1" in tab.desk.failures[0].cause
    assert tab.button.isEnabled()


# --- player -----------------------------------------------------------------------------------------------------------


def set_free(monkeypatch, num_bytes: int) -> None:
    """Let estimates believe that so much memory is free."""
    from napari_vqldm.estimate import jobs

    monkeypatch.setattr(jobs, "available_bytes", lambda *_: num_bytes)


@pytest.mark.parametrize("is_seeds", [False, True])
def test_what_does_not_fit_is_refused_and_runs_anyway(viewer, make_tab, monkeypatch, wait_until, is_seeds):
    set_free(monkeypatch, 1)
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    if is_seeds:
        seeds(tab)
    else:
        choose(tab, viewer, "a", "b")
    tab.start()
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert len(viewer.layers) == 2
    assert tab.way is None and tab.view is None and tab.button.isEnabled()
    assert "does not fit" in tab.estimate.text and not tab.estimate.anyway_button.isHidden()
    tab.estimate.anyway_button.click()
    wait_until(lambda: not tab.desk.runner.is_busy and shown_t(tab) == 0.0)
    assert len(viewer.layers) == 3
    assert tab.estimate.anyway_button.isHidden()


def test_the_estimate_follows_ends_and_frames(viewer, make_tab, monkeypatch, wait_until, shown_of):
    set_free(monkeypatch, 2**34)
    tab = shown_of(make_tab())
    seeds(tab)
    wait_until(lambda: "first run" in tab.estimate.text)
    tab.start()
    wait_until(lambda: not tab.desk.runner.is_busy)
    wait_until(lambda: tab.estimate.text.startswith("About "))
    few = tab.estimate.text
    tab.state.num_frames = 17
    tab.state.steps = 1000
    wait_until(lambda: tab.estimate.text not in ("", few))
    tab.ends.b.seed_box.seed = 3  # the same as A: nothing can run
    wait_until(lambda: tab.estimate.text == "")


def test_playing_goes_back_and_forth_and_stops_on_close(encoded, wait_until):
    tab, seen = encoded(), []
    tab.state.fps = 30.0
    tab.play.moved.connect(lambda t: seen.append(round(t, 3)))
    tab.play.play_button.click()
    wait_until(lambda: len(seen) > PLAY_STEPS + 3)
    tab.close_tab()
    assert not tab.play.is_playing
    turn = seen.index(1.0)
    assert seen[: turn + 1] == sorted(seen[: turn + 1])
    assert seen[turn : turn + 3] == sorted(seen[turn : turn + 3], reverse=True)


def test_playing_before_a_slow_decoder_fills_the_cache_beside(encoded, wait_until, monkeypatch):
    tab = encoded()
    make_decoder(monkeypatch, "slow")
    tab.play.play_button.click()
    requests = [ways.FrameRequest(ways.rounded_t(t), tab.way.path, "full") for t in tab.way.ts]
    wait_until(lambda: all(tab.way.cached(request) is not None for request in requests))
    tab.play.stop()
    wait_until(lambda: shown_t(tab) == ways.rounded_t(tab.state.t))


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_as_a_lazy_layer_holds_the_frames_of_the_verb(viewer, encoded, model, wait_until):
    tab = encoded()
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer = viewer.layers["a to b (3 frames)"]
    assert layer.data.shape == (3, *SHAPE)
    np.testing.assert_allclose(layer.scale, (0.5, *SIZE))
    a, b = latents(model("ldm"), viewer)
    expected = nv.interpolate(model("ldm"), a, b, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(np.asarray(layer.data), np.stack([volume.data for volume in expected]))
    record = layer.metadata[KEY]
    assert [frame["request"]["t"] for frame in record["frames"]] == [0.0, 0.5, 1.0]
    tab.desk.undo.undo()
    assert "a to b (3 frames)" not in viewer.layers


def test_a_frame_of_the_lazy_layer_is_read_in_full_by_other_jobs(viewer, encoded, model, wait_until):
    from napari_vqldm.plugin.layers import snapshot

    tab = encoded()
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer, found = viewer.layers["a to b (3 frames)"], []
    wait_until(lambda: layer.data.num_ready > 0)
    source = snapshot(layer, time=1)

    def work(_engine):
        yield from ()
        return source.read()

    tab.desk.run("Read", work, on_done=found.append)
    wait_until(lambda: found)
    a, b = latents(model("ldm"), viewer)
    np.testing.assert_array_equal(found[0].data, nv.interpolate(model("ldm"), a, b, 0.5).data)
    assert found[0].provenance["request"]["t"] == 0.5


def test_export_of_sampled_frames(viewer, make_tab, wait_until):
    tab = make_tab()
    seeds(tab)
    tab.start()
    wait_until(lambda: tab._job is None)
    tab.output.add_layer()
    layer = viewer.layers["seed 3 to seed 5 (5 frames)"]
    np.testing.assert_array_equal(layer.data[2], tab.way.frames[0.5].volume.data)


@pytest.mark.parametrize("is_seeds", [False, True])
def test_export_to_files_writes_every_frame_with_its_record(tmp_path, viewer, encoded, make_tab, wait_until, is_seeds):
    if is_seeds:
        tab = make_tab()
        seeds(tab)
        tab.start()
        wait_until(lambda: tab._job is None)
    else:
        tab = encoded()
    notices = []
    tab.desk.noticed.connect(notices.append)
    tab.state.export_frames = 5
    for _ in range(2):  # the second time beside the first
        tab.output.write_to(tmp_path)
        wait_until(lambda: not tab.desk.runner.is_busy)
    stem = "seed-3-to-seed-5" if is_seeds else "a-to-b"
    assert sorted(path.name for path in tmp_path.iterdir()) == [stem, f"{stem}-2"]
    volumes = [nv.read_volume(path) for path in sorted((tmp_path / stem).iterdir())]
    assert [volume.provenance["request"]["t"] for volume in volumes] == [0.0, 0.25, 0.5, 0.75, 1.0]
    tab.play.slider.setValue(0.25)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.25)
    np.testing.assert_array_equal(volumes[1].data, tab.view.layer.data)
    assert notices == [f"Saved {tmp_path / stem}", f"Saved {tmp_path / f'{stem}-2'}"]


def test_a_cancelled_export_leaves_nothing(tmp_path, encoded, wait_until):
    tab = encoded()
    tab.state.export_frames = 101
    tab.output.write_to(tmp_path)
    wait_until(lambda: any(tmp_path.iterdir()))
    tab.desk.runner.cancel_all()
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert list(tmp_path.iterdir()) == []


def test_lazy_layers_survive_the_dock(viewer, encoded, wait_until):
    tab = encoded()
    tab.output.add_layer()
    wait_until(lambda: "a to b (9 frames)" in viewer.layers)
    layer = viewer.layers["a to b (9 frames)"]
    wait_until(lambda: layer.data.num_ready > 0)
    tab.close_tab()
    tab.desk.close()
    viewer.dims.set_point(0, 1.0)  # frames that are not there stay previews
    assert "some frames are previews" in layer.name


# --- copy -------------------------------------------------------------------------------------------------------------


def run_script(text: str, folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_copied_python_gives_the_same_bits_in_a_new_process(tmp_path, viewer, make_tab, wait_until):
    for name, seed in (("a", 1), ("b", 2)):
        write_volume(tmp_path / f"{name}.ome.tif", Volume(stack(seed), SIZE, {}, name))
        viewer.open(tmp_path / f"{name}.ome.tif", plugin="napari", name=name, scale=SIZE, units=("um",) * 3)
    tab = make_tab("vq-ldm")
    choose(tab, viewer, "a", "b")
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    tab.state.export_frames = 3
    save = "\nnv.write_volume('frame.ome.tif', volume)\n"
    run_script(tab.output._frame_python() + save + tab.output._export_python(), tmp_path)
    for name in ("frame.ome.tif", "a-to-b-001.ome.tif"):
        np.testing.assert_array_equal(nv.read_volume(tmp_path / name).data, tab.view.layer.data)


@pytest.mark.parametrize("part", ["frame", "export"])
def test_copied_commands_give_the_same_bits(tmp_path, monkeypatch, make_tab, wait_until, part):
    import shlex

    from napari_vqldm.cli import run

    tab = make_tab()
    seeds(tab)
    tab.state.steps = 2
    before = tab.output._frame_command() if part == "frame" else tab.output._export_command()
    tab.start()
    wait_until(lambda: tab._job is None)
    tab.play.slider.setValue(0.5 if part == "export" else 0.0)
    monkeypatch.chdir(tmp_path)
    for line in before.splitlines():
        assert run(shlex.split(line)[1:]) == 0
    written = sorted(path for path in tmp_path.rglob("*.ome.tif"))
    name = written[len(written) // 2]
    np.testing.assert_array_equal(nv.read_volume(name).data, tab.view.layer.data)


def test_copy_before_anything_was_encoded_says_what_to_do(viewer, make_tab):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    tab.output.copy_frame.python_action.trigger()
    assert "not encoded yet" in tab.desk.failures[0].cause


# --- looks and leaks --------------------------------------------------------------------------------------------------


def test_works_320_pixels_wide(viewer, encoded, shown_of):
    tab = shown_of(encoded("vq-ldm"))
    assert tab.minimumSizeHint().width() <= 320
    for widget in tab.findChildren(type(tab.button)):
        assert widget.objectName() or widget.text() in ("Advanced", "Roll", "")


def test_every_control_is_explained(make_tab):
    tab = make_tab()
    controls = [tab.play.slider, tab.play.play_button, tab.button, tab.ends.swap_button, tab.ends.a.choice]
    controls += [tab.output.layer_button, tab.output.files_button, tab.output.copy_frame, tab.output.copy_export]
    for control in controls:
        assert control.toolTip()
        assert control.objectName().startswith("vqldm-")


def test_ways_are_let_go(viewer, encoded, wait_until, qtbot):
    tab = encoded()
    gone = weakref.ref(tab.way.way)
    viewer.layers["a"].data = stack(7)
    wait_until(lambda: not tab.desk.runner.is_busy)
    qtbot.wait(50)
    gc.collect()
    assert gone() is None
    assert isinstance(tab.way, LiveWay | SampledWay | None)
    assert tab.ends.a.choice.currentIndex() == LAYER
