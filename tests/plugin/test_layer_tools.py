"""The buttons for the selected layer where it cannot be reproduced: not computed at all, or too large. No window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_vqldm as nv
from napari_vqldm.estimate import Estimate
from napari_vqldm.plugin import layer_tools
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge
from napari_vqldm.plugin.layer_tools import LayerTools
from napari_vqldm.plugin.layers import KEY, add_volume

SIZE = (0.2, 0.1, 0.1)
COMPUTED = {"software": "napari-vqldm", "version": 1, "verb": "generate", "request": {"seed": 1}}


@pytest.fixture
def viewer() -> Any:
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def desk(viewer: Any, qtbot: Any) -> Iterator[Desk]:
    desk = Desk(viewer)
    yield desk
    desk.close()


@pytest.fixture
def failures(desk: Desk) -> list[Any]:
    seen: list[Any] = []
    desk.failed.connect(seen.append)
    return seen


@pytest.fixture
def tools(desk: Desk, qtbot: Any) -> Iterator[LayerTools]:
    tools = LayerTools(desk)
    qtbot.addWidget(tools)
    yield tools
    tools.close_tools()


def add(viewer: Any, name: str, record: dict[str, Any]) -> Any:
    data = np.random.default_rng(0).normal(100, 5, (4, 8, 8)).astype(np.float32)
    layer = viewer.add_image(data, name=name, scale=SIZE, units=("um",) * 3, contrast_limits=(80, 120))
    layer.metadata = {KEY: record}
    return layer


def test_a_stack_from_a_file_that_is_foreign_is_refused_in_the_panel(
    viewer: Any, desk: Desk, tools: LayerTools, failures: list[Any], tmp_path: Path, qtbot: Any
) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(100, 5, (4, 8, 8)).astype(np.float32))
    opened = nv.read_volume(tmp_path / "a.npy", voxel_size_um=SIZE)
    viewer.layers.selection.active = add_volume(viewer, opened, name="a")
    assert tools.reproduce_button.isEnabled()
    with qtbot.capture_exceptions() as escaped:
        tools.reproduce_button.click()
    assert escaped == [] and len(failures) == 1 and not desk.runner.is_busy
    assert "was read from the file 'a.npy' and not computed" in failures[0].cause


def test_a_record_of_another_version_is_refused_in_the_panel(
    viewer: Any, desk: Desk, tools: LayerTools, failures: list[Any], qtbot: Any
) -> None:
    add(viewer, "a", {**COMPUTED, "verb": "fold"})
    with qtbot.capture_exceptions() as escaped:
        tools.reproduce_button.click()
    assert escaped == [] and len(failures) == 1 and not desk.runner.is_busy
    assert "'fold', which this version does not know" in failures[0].cause


def test_a_refusal_names_its_layer_and_goes_when_another_is_selected(
    viewer: Any,
    desk: Desk,
    tools: LayerTools,
    failures: list[Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forced: list[tuple[str, bool]] = []

    def too_large(source: Any, *, is_forced: bool, **_: Any) -> Callable[[Any], Iterator[object]]:
        def work(_engine: Any) -> Iterator[object]:
            forced.append((source.name, is_forced))
            yield from ()
            return TooLarge(Estimate(2**40, 1.0, 1, 2**40, 1, True, ("about 1 s", "this does not fit")))

        return work

    monkeypatch.setattr(layer_tools, "reproduce_work", too_large)
    first, second = (add(viewer, name, COMPUTED) for name in ("first", "second"))
    box = tools.estimate
    tools.reproduce(first)  # from its menu, while the other one is selected
    wait_until(lambda: not desk.runner.is_busy)
    assert viewer.layers.selection.active is second and not box.anyway_button.isHidden()
    assert box.text.startswith("Reproduce first: Nothing was started.")
    box.anyway_button.click()
    wait_until(lambda: not desk.runner.is_busy)
    assert forced == [("first", False), ("first", True)] and failures == []
    second.name = "renamed"  # the same layer
    assert not box.anyway_button.isHidden()
    viewer.layers.selection.active = first
    assert tools.selected.text() == "Selected layer: first" and box.text == "" and box.anyway_button.isHidden()
