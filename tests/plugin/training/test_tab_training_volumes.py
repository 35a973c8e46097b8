"""The Training tab with a real viewer: volumes of a run as layers that grow, and its checkpoint as the model."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.plugin.training.helpers import SHAPE, VOXEL, add_samples, append, drawn, make_run

from napari_vqldm.plugin.tabs.training.run_layers import KEY
from napari_vqldm.training.volumes import SeriesReader, save_volumes


def test_samples_become_layers_that_grow(tab, desk, run, wait_until):
    add_samples(run, 10, "autoencoder")
    for step in (10, 20):
        add_samples(run, step)
    tab.follow(run)
    wait_until(tab.samples.isEnabled)
    tab.samples.click()
    layers = desk.viewer.layers
    wait_until(lambda: len(layers) == 3)
    assert [layer.name for layer in layers] == ["my-run: input", "my-run: reconstruction", "my-run: samples"]
    samples = layers["my-run: samples"]
    assert samples.data.shape == (2, *SHAPE)
    assert tuple(samples.scale) == (1, *VOXEL)
    assert [str(unit) for unit in samples.units[1:]] == ["micrometer"] * 3
    assert samples.data[:, 0, 0, 0].tolist() == [10, 20]
    expected = {"folder": str(run), "stage": "denoiser", "steps": [10, 20], "voxel_size_um": VOXEL}
    assert samples.metadata[KEY] == expected
    assert desk.viewer.dims.current_step[0] == 1  # the newest
    add_samples(run, 30)
    wait_until(lambda: samples.data.shape[0] == 3)
    assert desk.viewer.dims.current_step[0] == 2  # who looks at the newest goes on doing so
    assert samples.metadata[KEY]["steps"] == [10, 20, 30]
    desk.viewer.dims.set_current_step(0, 0)
    add_samples(run, 40)
    wait_until(lambda: samples.data.shape[0] == 4)
    assert desk.viewer.dims.current_step[0] == 0  # and who looks back is left alone
    tab.number.setValue(2)
    tab.samples.click()
    wait_until(lambda: samples.data[0, 0, 0, 0] == -10)
    assert len(layers) == 3


def test_the_right_end_of_the_slider_is_the_newest_of_every_stage(tab, desk, run, wait_until):
    for step in (10, 20, 30):
        add_samples(run, step, "autoencoder")
    add_samples(run, 5)
    tab.follow(run)
    wait_until(tab.samples.isEnabled)
    tab.samples.click()
    layers, dims = desk.viewer.layers, desk.viewer.dims
    wait_until(lambda: len(layers) == 3)

    def seen() -> list[float]:
        points = [layer.world_to_data(dims.point)[0] for layer in layers]
        frames = [layer.data for layer in layers]
        return [float(f[round(p)].max()) for f, p in zip(frames, points, strict=True) if 0 <= round(p) < len(f)]

    assert dims.current_step[0] == 2 and seen() == [30, 30, 5]
    for step in (10, 15, 20):
        add_samples(run, step)
    wait_until(lambda: len(layers["my-run: samples"].data) == 4)
    wait_until(lambda: dims.current_step[0] == 3)
    assert seen() == [30, 30, 20]
    dims.set_current_step(0, 0)
    assert seen() == [5]  # nothing was reconstructed as long ago as that many samples


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_layer_that_was_removed_comes_back_only_when_asked(tab, desk, run, wait_until):
    add_samples(run, 10)
    tab.follow(run)
    wait_until(tab.samples.isEnabled)
    tab.samples.click()
    wait_until(lambda: len(desk.viewer.layers) == 1)
    desk.viewer.layers.clear()
    add_samples(run, 20)
    wait_until(lambda: len(tab.news.volumes) == 2)
    append(run, "denoiser", 20, loss=1.0)
    wait_until(lambda: "loss" in tab.curves.lines)
    assert len(desk.viewer.layers) == 0
    tab.samples.click()
    wait_until(lambda: len(desk.viewer.layers) == 1)
    assert desk.viewer.layers[0].data.shape[0] == 2
    desk.undo.undo()
    assert len(desk.viewer.layers) == 0


def test_the_newest_checkpoint_becomes_the_model(tab, desk, run, tiny_checkpoints, wait_until):
    tab.follow(run)
    wait_until(lambda: tab.news is not None)
    assert not tab.open_button.isEnabled() and "no checkpoint yet" in tab.open_button.toolTip()
    shutil.copy(tiny_checkpoints["ldm"], run / "autoencoder.safetensors")
    wait_until(tab.open_button.isEnabled)
    tab.open_button.click()
    wait_until(lambda: desk.model.name == str(run / "autoencoder.safetensors"))
    assert "my-run" in desk.notices[-1]


def test_a_bad_checkpoint_is_explained(tab, desk, run, wait_until):
    (run / "checkpoint.safetensors").write_bytes(b"PK\x03\x04" + bytes(20))
    tab.follow(run)
    wait_until(tab.open_button.isEnabled)
    tab.open_button.click()
    wait_until(lambda: desk.failures)
    assert "checkpoint.safetensors" in desk.failures[0].cause
    assert desk.model.header is None


def test_a_run_with_other_voxels_in_the_same_folder_has_their_size(tab, desk, run, wait_until):
    add_samples(run, 10)
    tab.follow(run)
    wait_until(tab.samples.isEnabled)
    tab.samples.click()
    wait_until(lambda: len(desk.viewer.layers) == 1)
    samples = desk.viewer.layers[0]
    shutil.rmtree(run)
    make_run(run)
    save_volumes(run / "volumes", "denoiser", 20, {"sample": [np.zeros((8, 12, 16), np.float32)]}, (0.15, 0.05, 0.05))
    wait_until(lambda: samples.data.shape[1:] == (8, 12, 16))
    assert tuple(samples.scale) == (1, 0.15, 0.05, 0.05)
    samples.scale = (1, 0.6, 0.2, 0.2)  # by the user, who knows better
    save_volumes(run / "volumes", "denoiser", 30, {"sample": [np.ones((8, 12, 16), np.float32)]}, (0.15, 0.05, 0.05))
    wait_until(lambda: len(samples.data) == 2)
    assert tuple(samples.scale) == (1, 0.6, 0.2, 0.2)


def test_what_nobody_thought_of_is_told_once_and_the_run_is_followed_on(tab, desk, run, monkeypatch, wait_until):
    def fail(_self, _files):
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(SeriesReader, "read", fail)
        add_samples(run, 10)
        tab.follow(run)
        wait_until(tab.samples.isEnabled)
        tab.samples.click()
        wait_until(lambda: desk.failures)
        append(run, "denoiser", 3, loss=1.0)
        wait_until(lambda: "loss" in tab.curves.lines)
    assert len(desk.failures) == 1
    assert drawn(tab, "loss") == ([3.0], [1.0])
    wait_until(lambda: len(desk.viewer.layers) == 1)
