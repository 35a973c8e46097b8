"""Jobs that wait: how many, which, and what the buttons of the row end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.plugin.dock.helpers import SIZE, Wait, open_dock

from napari_vqldm.files import write_volume
from napari_vqldm.plugin.inference.jobs import JobState
from napari_vqldm.volume import Volume

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock

WAIT_S = 20


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end in any case: a job that waits for it would hold the inference thread."""
    event = threading.Event()
    yield event
    event.set()


def waiting_for(gate: threading.Event) -> Callable[[Any], Iterator[object]]:
    """Work that yields until the gate opens, and so can be cancelled and lets interactive jobs pass."""

    def work(_engine: Any) -> Iterator[object]:
        while not gate.wait(0.01):
            yield None

    return work


def start_three(dock: Dock, gate: threading.Event, wait_until: Wait) -> list[Any]:
    jobs = [dock.desk.run(title, waiting_for(gate)) for title in ("one", "two", "three")]
    wait_until(lambda: dock.progress.text.startswith("one") and jobs[0].state is JobState.RUNNING)
    wait_until(lambda: dock.desk.runner.running is jobs[0])
    return jobs


def test_the_row_says_how_many_wait_and_which(shown_dock: Dock, gate: threading.Event, wait_until: Wait) -> None:
    progress = shown_dock.progress
    jobs = start_three(shown_dock, gate, wait_until)
    assert progress.waiting.isVisible() and progress.waiting.text() == "+2 waiting"
    assert progress.waiting.toolTip() == "two\nthree"
    assert progress.cancel_all_button.isVisible()
    jobs[1].cancel()
    wait_until(lambda: progress.waiting.text() == "+1 waiting")
    assert progress.waiting.toolTip() == "three"
    jobs[0].cancel()
    wait_until(lambda: shown_dock.desk.runner.running is jobs[2])
    assert progress.text.startswith("three") and "waiting" not in progress.text
    assert not progress.waiting.isVisible() and not progress.cancel_all_button.isVisible()
    gate.set()
    wait_until(lambda: not progress.isVisible())


def test_cancel_ends_the_running_job_alone(shown_dock: Dock, gate: threading.Event, wait_until: Wait) -> None:
    jobs = start_three(shown_dock, gate, wait_until)
    shown_dock.progress.cancel_button.click()
    wait_until(lambda: shown_dock.desk.runner.running is jobs[1])
    assert [job.state for job in jobs] == [JobState.CANCELLED, JobState.RUNNING, JobState.QUEUED]
    assert shown_dock.progress.text.startswith("two") and shown_dock.progress.cancel_button.isEnabled()


def test_cancel_all_ends_those_that_wait_as_well(shown_dock: Dock, gate: threading.Event, wait_until: Wait) -> None:
    jobs = start_three(shown_dock, gate, wait_until)
    shown_dock.progress.cancel_all_button.click()
    wait_until(lambda: not shown_dock.desk.runner.is_busy)
    assert {job.state for job in jobs} == {JobState.CANCELLED}
    assert not shown_dock.progress.isVisible()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_job_behind_another_viewers_is_shown_and_can_be_taken_back(
    make_napari_viewer: Callable[..., napari.Viewer], gate: threading.Event, wait_until: Wait
) -> None:
    first, second = (open_dock(make_napari_viewer(show=True)) for _ in range(2))
    ahead = first.desk.run("of the first viewer", waiting_for(gate))
    wait_until(lambda: first.desk.runner.running is ahead)
    behind = [second.desk.run(title, waiting_for(gate)) for title in ("mine", "mine too")]
    assert second.progress.isVisible() and second.progress.text.startswith("mine · waiting")
    assert second.progress.waiting.text() == "+1 waiting"
    assert not first.progress.waiting.isVisible()
    second.progress.cancel_button.click()
    wait_until(lambda: second.progress.text.startswith("mine too · waiting"))
    assert behind[0].state is JobState.CANCELLED and second.progress.cancel_button.isEnabled()
    second.progress.cancel_button.click()
    wait_until(lambda: not second.desk.runner.is_busy)
    assert not second.progress.isVisible() and ahead.state is JobState.RUNNING


def test_a_file_is_looked_into_while_a_job_runs(
    shown_dock: Dock, gate: threading.Event, wait_until: Wait, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).normal(100, 5, (2, 4, 8, 8)).astype(np.float32)
    np.save(tmp_path / "movie.npy", data)
    write_volume(tmp_path / "cell.ome.tif", Volume(data[0], SIZE))
    start_three(shown_dock, gate, wait_until)
    opening = shown_dock.reconstruct_tab.open_volume
    opening.open_file(str(tmp_path / "movie.npy"))
    wait_until(lambda: opening.choices.isVisibleTo(opening))  # needs a choice: asked at once
    opening.open_file(str(tmp_path / "cell.ome.tif"))
    wait_until(lambda: "Open cell.ome.tif" in shown_dock.progress.waiting.toolTip())
    assert shown_dock.progress.waiting.text() == "+3 waiting" and not shown_dock.desk.viewer.layers
