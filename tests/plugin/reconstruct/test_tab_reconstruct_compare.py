"""Compare views and the uncertainty map of a reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.plugin.reconstruct.helpers import SIZE, add, loaded

from napari_vqldm.plugin.compat import grid_of
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume


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


@pytest.mark.slow
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


def test_the_divider_moves_the_wipe(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], wait_until: Callable[..., None]
) -> None:
    source = add(viewer)
    tab.start()
    idle()
    tab.compare_panel.wipe()
    idle()
    result, wiped = viewer.layers[1], viewer.layers[-1]
    tab.compare_panel.controls.divider.setValue(250)
    wait_until(lambda: tab.compare_panel.modes.view.array.divider == 6)
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


@pytest.mark.parametrize("name", ["side", "wipe"])
def test_a_view_that_cannot_be_made_is_one_failure(
    viewer: Any,
    tab: ReconstructTab,
    idle: Callable[[], None],
    failures: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    from napari_vqldm.plugin.compare import grid, wipe

    def fail(*_: Any) -> None:
        raise RuntimeError("no context of OpenGL")

    add(viewer)
    tab.start()
    idle()
    monkeypatch.setattr(grid, "Titles", fail)
    monkeypatch.setattr(wipe, "Divider", fail)
    tab.compare_panel.open_view(name)
    idle()
    assert len(failures) == 1 and tab.compare_panel.modes.name == ""
    assert all(layer.visible for layer in viewer.layers) and not any(layer.name == "wipe" for layer in viewer.layers)
