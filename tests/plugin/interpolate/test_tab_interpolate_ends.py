"""Layers and seeds as ends of an interpolation, and everything that may happen to them in between."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.interpolate.helpers import SHAPE, SIZE, add, choose, latents, make_decoder, seeds, shown_t, stack

import napari_vqldm as nv
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.tabs.interpolate import ways
from napari_vqldm.plugin.tabs.interpolate.end import SEED
from napari_vqldm.volume import Volume

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


def test_a_typed_voxel_size_is_written_to_the_layers(viewer, make_tab, model, wait_until):
    for name, seed in (("a", 1), ("b", 2)):
        viewer.add_image(stack(seed), name=name)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    for box, value in zip(tab.ends.sizes, SIZE, strict=True):
        box.setValue(value)
    assert tuple(viewer.layers["a"].scale) == (1, 1, 1)  # nothing is written before it is used
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    for name in ("a", "b", "a to b"):
        assert tuple(viewer.layers[name].scale) == SIZE
        assert [str(unit) for unit in viewer.layers[name].units] == ["micrometer"] * 3
    assert tab.way.way.a.latent.voxel_size_um == SIZE and tab.ends.size_row.isHidden()
    expected = nv.interpolate(model("ldm"), *latents(model("ldm"), viewer), 0.0)
    np.testing.assert_array_equal(tab.view.layer.data, expected.data)


def test_an_absurd_voxel_size_is_refused_and_not_written(viewer, make_tab):
    for name, seed in (("a", 1), ("b", 2)):
        viewer.add_image(stack(seed), name=name)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    for box in tab.ends.sizes:
        box.setValue(0.0001)
    tab.start()
    assert "voxel size" in tab.desk.failures[0].cause
    assert tuple(viewer.layers["a"].scale) == (1, 1, 1) and not tab.desk.runner.is_busy


def test_another_voxel_size_of_an_end_means_another_way(viewer, encoded, model, wait_until):
    tab = encoded()
    larger = tuple(1.1 * size for size in SIZE)
    viewer.layers["a"].scale = larger
    assert tab.way is None and not tab.play.isEnabled()
    assert tab.play.shown.text() == ""
    assert "differ in voxel size" in tab.reason.text() and not tab.button.isEnabled()
    viewer.layers["b"].scale = larger
    assert tab.button.isEnabled() and "then the slider moves" in tab.reason.text()
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    ends = [nv.encode(model("ldm"), Volume(viewer.layers[name].data, larger, {}, name)) for name in ("a", "b")]
    np.testing.assert_array_equal(tab.view.layer.data, nv.interpolate(model("ldm"), *ends, 0.0).data)
    np.testing.assert_allclose(tab.view.layer.scale, larger)
    viewer.layers["b"].units = ("nm", "nm", "nm")
    assert tab.way is None


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


@pytest.mark.slow
@pytest.mark.both_bindings
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
