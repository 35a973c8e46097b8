"""The Reconstruct tab with a viewer that is not shown and a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.
if TYPE_CHECKING:
    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab


@pytest.fixture(params=["ldm"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def desk(viewer: Any, tiny_checkpoints: dict[str, Path], family: str) -> Iterator[Desk]:
    from napari_vqldm.plugin.desk import Desk

    shared = Desk(viewer)
    shared.model.device, shared.model.threads = "cpu", 1
    shared.model.open(tiny_checkpoints[family])
    yield shared
    shared.close()


@pytest.fixture
def failures(desk: Desk) -> list[Any]:
    seen: list[Any] = []
    desk.failed.connect(seen.append)
    return seen


@pytest.fixture
def tab(desk: Desk, failures: list[Any], qtbot: Any) -> Iterator[ReconstructTab]:
    from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab

    widget = ReconstructTab(desk)
    qtbot.addWidget(widget)
    yield widget
    widget.close_tab()


@pytest.fixture
def idle(desk: Desk, wait_until: Callable[..., None]) -> Callable[[], None]:
    """Wait until no job runs."""
    return lambda: wait_until(lambda: not desk.runner.is_busy)


@pytest.fixture
def hold(desk: Desk) -> Iterator[Callable[[], Callable[[], None]]]:
    """Keep the inference thread busy: ``release = hold()`` queues a job that waits until ``release`` is called."""
    import threading

    gates: list[threading.Event] = []

    def start() -> Callable[[], None]:
        gate = threading.Event()
        gates.append(gate)

        def work(_engine: object) -> Iterator[object]:
            gate.wait(60)
            yield from ()

        desk.run("Hold", work)
        return gate.set

    yield start
    for gate in gates:
        gate.set()
