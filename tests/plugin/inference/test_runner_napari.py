"""What napari shows and asks about the jobs of a runner: tasks, progress bars."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from napari.utils import progress
from napari.utils.task_status import Status
from qtpy.QtCore import QTimer
from tests.plugin.inference.runner_helpers import WAIT_S, Log, Progress, counting, endless, gated

from napari_vqldm.errors import VolumeError
from napari_vqldm.plugin.inference import delivery as module
from napari_vqldm.plugin.inference.jobs import JobState, Priority
from napari_vqldm.plugin.inference.runner import Runner


def statuses(viewer: Any) -> list[tuple[Status, str]]:
    """What napari's task manager holds; there is no public way to look."""
    tasks = viewer.window._task_status_manager._tasks.values()
    return [(task.state()[2], task.state()[3]) for task in tasks]


def test_napari_asks_about_batch_jobs_and_cancels_them_when_it_closes(
    viewer: Any, runner: Runner, log: Log, wait_until: Any
) -> None:
    manager = viewer.window._task_status_manager
    gate = threading.Event()
    running = runner.run("Generate 3 volumes", endless(gate))
    queued = runner.run("Reconstruct cells", counting(3))
    runner.run("slider", counting(3), priority=Priority.INTERACTIVE)
    wait_until(lambda: log.named("progressed"))
    assert list(manager.get_status()) == [
        "napari-worker: Executing VQ-LDM: Generate 3 volumes",
        "napari-worker: VQ-LDM: Reconstruct cells execution pending",
    ]
    manager.cancel_all()  # what closing the window does
    wait_until(lambda: not runner.is_busy)
    assert running.state is queued.state is JobState.CANCELLED
    assert not manager.is_busy()
    manager.cancel_all()  # ended tasks stay there: cancelling them does nothing


@pytest.mark.slow
@pytest.mark.both_bindings
def test_more_queued_jobs_than_threads_of_the_pool_block_nobody(
    viewer: Any, runner: Runner, log: Log, wait_until: Any
) -> None:
    from napari.qt.threading import create_worker

    gate, seen = threading.Event(), []
    for number in range(20):
        runner.run(f"batch {number}", gated(gate))
    worker = create_worker(lambda: 5)
    worker.returned.connect(seen.append)
    worker.start()
    wait_until(lambda: seen == [5])
    gate.set()
    wait_until(lambda: not runner.is_busy)
    assert {status for status, _ in statuses(viewer)} == {Status.COMPLETED}


def bars() -> list[Any]:
    return list(progress._all_instances)


def test_the_activity_dock_shows_progress_and_its_button_cancels(
    viewer: Any, runner: Runner, log: Log, wait_until: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar

    job = runner.run("Generate", endless(threading.Event()), on_cancelled=lambda: log.add("cancelled"))
    wait_until(lambda: bars() and bars()[0].total == 10**6 and bars()[0].n > 2)
    (row,) = viewer.window._qt_window.findChildren(QtLabeledProgressBar)
    assert row.description_label.text() == "Generate: " and row.qt_progress_bar.maximum() == 10**6
    assert row.qt_progress_bar.value() > 0
    row.cancel_button.click()
    wait_until(lambda: not runner.is_busy)
    assert job.state is JobState.CANCELLED and log.named("cancelled")
    assert bars() == []
    assert capsys.readouterr() == ("", "")  # no second bar in the terminal


@pytest.mark.parametrize("ending", ["done", "failed", "closed"])
def test_the_bar_goes_with_the_job(viewer: Any, runner: Runner, log: Log, wait_until: Any, ending: str) -> None:
    gate = threading.Event()

    def work(_engine: object) -> Iterator[object]:
        yield Progress(0, 2)
        assert gate.wait(WAIT_S)
        if ending == "failed":
            raise VolumeError("constant")
        yield Progress(1, 2)

    runner.run("Generate", work)
    wait_until(bars)
    if ending == "closed":
        QTimer.singleShot(0, gate.set)
        gate.set()
        runner.close()
    gate.set()
    wait_until(lambda: not runner.is_busy)
    assert bars() == []
    assert not viewer.window._task_status_manager.is_busy()


def test_a_short_job_starts_before_it_ends(viewer: Any, runner: Runner, log: Log, wait_until: Any, monkeypatch) -> None:
    """napari processes events while it makes a bar: what the job sends meanwhile must wait for its turn."""
    make = module.ActivityBar

    def slow_bar(title: str) -> Any:
        wait_until(lambda: job.state is JobState.DONE)  # processes events
        return make(title)

    monkeypatch.setattr(module, "ActivityBar", slow_bar)
    job = runner.run("short", counting(2), on_done=lambda _: log.add("done"))
    wait_until(lambda: log.named("busy") == [("busy", True), ("busy", False)])
    order = [entry[0] for entry in log.entries if entry[0] in ("started", "done", "ended")]
    assert order == ["started", "done", "ended"]
    assert bars() == []


def test_interactive_and_silent_jobs_show_no_bar(viewer: Any, runner: Runner, log: Log, wait_until: Any) -> None:
    seen: list[int] = []
    watch = lambda _: seen.append(len(bars()))  # noqa: E731
    runner.run("slider", counting(5), on_step=watch, priority=Priority.INTERACTIVE)
    runner.run("save", counting(5), on_step=watch, show_progress=False)
    wait_until(lambda: not runner.is_busy)
    assert seen == [0] * 10
