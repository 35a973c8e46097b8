"""The Interpolate tab in a viewer that is not shown, with tiny models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import napari_vqldm as nv

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.
if TYPE_CHECKING:
    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.tabs.interpolate.tab import InterpolateTab


@pytest.fixture
def desk(viewer) -> Iterator[Desk]:
    from napari_vqldm.plugin.desk import Desk

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
    from napari_vqldm.plugin.tabs.interpolate.tab import InterpolateTab

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
    from tests.plugin.interpolate.helpers import add, choose, shown_t

    def make(family: str = "ldm", **keywords) -> InterpolateTab:
        add(viewer, "a", 1, **keywords)
        add(viewer, "b", 2, **keywords)
        tab = make_tab(family)
        choose(tab, viewer, "a", "b")
        tab.start()
        wait_until(lambda: shown_t(tab) == 0.0)
        return tab

    return make


@pytest.fixture
def shown_of(qtbot) -> Callable[[InterpolateTab], InterpolateTab]:
    def show(tab: InterpolateTab) -> InterpolateTab:
        tab.window().show()
        qtbot.waitUntil(tab.isVisible)
        return tab

    return show
