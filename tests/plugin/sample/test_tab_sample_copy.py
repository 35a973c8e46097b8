"""What the Sample tab offers to copy, and when: one button for each thing, named by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_vqldm.plugin.layer_tools import LayerTools
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.widgets import CopyButton


@pytest.fixture
def tools(desk, qtbot):
    tools = LayerTools(desk)
    qtbot.addWidget(tools)
    tools.show()
    yield tools
    tools.close_tools()


def run(tab, wait_until) -> Any:
    tab.button.click()
    wait_until(lambda: not tab.desk.runner.is_busy and tab.button.isEnabled())
    return tab.desk.viewer.layers[-1]


def buttons(tab) -> list[str]:
    return [button.text() for button in tab.findChildren(CopyButton) if button.isVisible()]


def copied(action) -> str:
    action.trigger()
    return QApplication.clipboard().text()


def test_the_tab_copies_the_request_also_after_a_run(tab, wait_until):
    assert buttons(tab) == ["Copy request"]
    run(tab, wait_until)
    tab.state.seed, tab.state.steps = 77, 3
    script, command = copied(tab.copy.python_action), copied(tab.copy.command_action)
    assert "seed=77" in script and "steps=3" in script
    assert "--seed 77" in command and "--steps 3" in command


def test_the_request_has_the_seed_of_the_next_run_and_after_it_that_of_the_last(tab, wait_until):
    tab.seed_box.keep_box.setChecked(False)
    last = None
    for roll in (False, True):
        if roll:
            tab.seed_box.roll_button.click()
        script, command = copied(tab.copy.python_action), copied(tab.copy.command_action)
        seed = provenance_of(run(tab, wait_until))["request"]["seed"]
        for text in (script, copied(tab.copy.python_action)):
            assert f"seed={seed}," in text
        assert f"--seed {seed} " in command and seed != last
        last = seed
    seed = provenance_of(run(tab, wait_until))["request"]["seed"]
    assert seed != last and f"seed={seed}," in copied(tab.copy.python_action)


def test_the_script_of_the_request_gives_the_volume_of_the_button(tab, wait_until, capsys):
    layer = run(tab, wait_until)
    namespace: dict[str, Any] = {}
    exec(copied(tab.copy.python_action), namespace)
    np.testing.assert_array_equal(namespace["volumes"][0].data, layer.data)
    assert layer.name in capsys.readouterr().out


def test_a_finished_volume_is_copied_as_the_selected_layer(tab, tools, desk, wait_until):
    layer = run(tab, wait_until)
    tab.state.seed = 77
    assert desk.viewer.layers.selection.active is layer and tools.copy.isEnabled()
    assert "seed=5" in copied(tools.copy.python_action) and "--seed 5" in copied(tools.copy.command_action)


def test_a_recording_has_one_button_the_one_of_its_layer_where_that_is_selected(tab, tools, desk, wait_until):
    sample = run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: len(desk.viewer.layers) == 2 and not desk.runner.is_busy)
    recording = desk.viewer.layers[1]
    assert provenance_of(recording)["request"]["source"] is not None
    desk.viewer.layers.selection.active = recording
    assert buttons(tab) == ["Copy request"]
    of_layer = copied(tools.copy.python_action)
    desk.viewer.layers.selection.active = sample
    assert buttons(tab) == ["Copy request", "Copy recording"]
    assert copied(tab.camera.copy.python_action) == of_layer
    assert copied(tools.copy.python_action) != of_layer
    desk.viewer.layers.remove(recording)
    assert buttons(tab) == ["Copy request"]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_closed_tab_does_not_follow_the_selection(tab, desk, wait_until):
    run(tab, wait_until)
    tab.camera.switch.click()
    wait_until(lambda: len(desk.viewer.layers) == 2 and not desk.runner.is_busy)
    tab.close_tab()
    before = buttons(tab)
    for layer in list(desk.viewer.layers):
        desk.viewer.layers.selection.active = layer
        assert buttons(tab) == before


def test_ends_of_unlike_voxel_size_are_told_what_the_sample_tab_does(desk, tab):
    from napari_vqldm.condition_ranges import middle_voxel_size
    from napari_vqldm.plugin.state.interpolate import End, InterpolateState

    ends = [End(name=n, shape=(8, 16, 16), voxel_size_um=(z, 0.1, 0.1)) for n, z in (("a", 0.2), ("b", 0.25))]
    problem = InterpolateState(*ends).problem(desk.model.header)
    assert "differ in voxel size" in problem and "middle of the trained voxel sizes" in problem
    # What the sentence says is so: nothing has to be fixed first.
    assert tab.state.to_request()["condition"] == middle_voxel_size(desk.model.header.config) != {}
