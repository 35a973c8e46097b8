"""The Interpolate tab in a viewer: bits and order of the frames, player, looks."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tests.plugin.interpolate.helpers import SIZE, add, choose, latents, make_decoder, seeds, shown_t, stack

import napari_vqldm as nv
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.state.interpolate import PLAY_STEPS
from napari_vqldm.plugin.tabs.interpolate import ways
from napari_vqldm.plugin.tabs.interpolate.end import LAYER
from napari_vqldm.plugin.tabs.interpolate.ways import LiveWay, SampledWay

# --- encoded ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "snap"),
    [
        ("ldm", "slerp", False),
        ("vq-ldm", "linear", True),
        pytest.param("ldm", "linear", True, marks=pytest.mark.slow),
        pytest.param("vq-ldm", "slerp", False, marks=pytest.mark.slow),
    ],
)
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


@pytest.mark.slow
@pytest.mark.both_bindings
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


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_estimate_follows_ends_and_frames(viewer, make_tab, monkeypatch, wait_until, shown_of):
    set_free(monkeypatch, 2**34)
    tab = shown_of(make_tab())
    seeds(tab)
    wait_until(lambda: "The model is loaded first" in tab.estimate.text)
    tab.start()
    wait_until(lambda: not tab.desk.runner.is_busy)
    wait_until(lambda: tab.estimate.text.startswith("About ") and "loaded first" not in tab.estimate.text)
    few = tab.estimate.text
    tab.state.num_frames = 17
    tab.state.steps = 1000
    wait_until(lambda: tab.estimate.text not in ("", few))
    tab.ends.b.seed_box.seed = 3  # the same as A: nothing can run
    wait_until(lambda: tab.estimate.text == "")


@pytest.mark.slow
@pytest.mark.both_bindings
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
