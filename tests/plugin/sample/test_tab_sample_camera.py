"""The recording of a sample by a simulated camera."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from tests.plugin.sample.helpers import SHAPE, names, run, script_bits

import napari_vqldm as nv
from napari_vqldm.config import CameraConfig
from napari_vqldm.plugin.layers import provenance_of


def recording(desk):
    return next((layer for layer in desk.viewer.layers if layer.name.endswith("(camera)")), None)


def test_camera_says_why_it_waits(tab):
    assert not tab.camera.switch.isEnabled()
    assert "generate one first" in tab.camera.reason.text()


@pytest.mark.slow
def test_the_recording_equals_generate_with_that_camera(tab, desk, model, wait_until, tmp_path):
    run(tab, wait_until)
    sample = desk.viewer.layers[0]
    clean = sample.data.copy()
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    tab.camera.sliders["photons"].slider.setValue(20)
    tab.camera.sliders["blur_um"].slider.setValue(0.1)
    wait_until(lambda: not desk.runner.is_busy)
    camera = CameraConfig(photons=20, blur_um=0.1)
    (expected,) = nv.generate(model, 1, SHAPE, seed=5, camera=camera)
    layer = recording(desk)
    np.testing.assert_array_equal(layer.data, expected.data)
    np.testing.assert_array_equal(sample.data, clean)
    np.testing.assert_allclose(layer.scale, sample.scale)
    tab.camera.copy.python_action.trigger()
    np.testing.assert_array_equal(layer.data, script_bits(QApplication.clipboard().text(), tmp_path))


def test_sixty_fast_moves_end_at_the_last_and_use_one_layer(tab, desk, wait_until):
    from napari_vqldm.record import record
    from napari_vqldm.volume import Volume

    run(tab, wait_until)
    sample = desk.viewer.layers[0]
    tab.camera.switch.click()
    for photons in range(10, 70):
        tab.camera.sliders["photons"].slider.setValue(photons)
    wait_until(lambda: not desk.runner.is_busy)
    volume = Volume(sample.data, tuple(sample.scale), provenance_of(sample), sample.name)
    np.testing.assert_array_equal(recording(desk).data, record(volume, CameraConfig(photons=69)).data)
    assert len(desk.viewer.layers) == 2


def test_the_recording_follows_the_next_sample_and_the_selection(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    first = recording(desk)
    tab.state.seed = 6
    run(tab, wait_until)
    wait_until(lambda: recording(desk).name == "tiny-ldm-seed6-000 (camera)")
    assert recording(desk) is first
    desk.viewer.layers.selection.active = desk.viewer.layers[0]
    wait_until(lambda: recording(desk).name == "tiny-ldm-seed5-000 (camera)")
    assert provenance_of(recording(desk))["request"]["source"]["request"]["seed"] == 5


def test_a_recording_of_another_size_gets_a_new_layer(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    tab.state.size_x = 16
    run(tab, wait_until)
    wait_until(lambda: recording(desk) is not None and recording(desk).data.shape == (4, 8, 16))
    assert sum(name.endswith("(camera)") for name in names(desk)) == 1


def test_deleting_the_sample_ends_recording_and_keeps_the_recording(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    bits = recording(desk).data.copy()
    desk.viewer.layers.remove(desk.viewer.layers[0])
    tab.camera.sliders["photons"].slider.setValue(3)
    wait_until(lambda: not desk.runner.is_busy)
    np.testing.assert_array_equal(recording(desk).data, bits)
    assert not tab.camera.sliders["photons"].isEnabled()


def test_contrast_of_the_user_stays(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: recording(desk) is not None)
    automatic = tuple(recording(desk).contrast_limits)
    tab.camera.sliders["photons"].slider.setValue(500)
    wait_until(lambda: not desk.runner.is_busy)
    assert tuple(recording(desk).contrast_limits) != automatic
    recording(desk).contrast_limits = (50.0, 300.0)
    tab.camera.sliders["photons"].slider.setValue(10)
    wait_until(lambda: not desk.runner.is_busy)
    assert tuple(recording(desk).contrast_limits) == (50.0, 300.0)
