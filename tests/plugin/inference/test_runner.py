"""From the inference thread to the GUI thread."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication
from tests.plugin.inference.runner_helpers import WAIT_S, Log, Progress, counting, endless, gated

from napari_vqldm.errors import VolumeError
from napari_vqldm.plugin.inference.failures import Failure
from napari_vqldm.plugin.inference.jobs import Job, JobState, Note, Priority
from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.thread import BaseEngine


def test_everything_arrives_in_order_on_the_gui_thread(runner: Runner, log: Log, wait_until: Any) -> None:
    def work(_engine: object) -> Iterator[object]:
        yield Note("Loading...")
        yield from counting(3)(_engine)
        return "result"

    runner.run(
        "count", work, on_step=lambda step: log.add("step", step.index), on_done=lambda result: log.add("done", result)
    )
    assert runner.is_busy
    wait_until(lambda: log.named("busy")[1:])
    assert [entry for entry in log.entries if entry[0] != "progressed"] == [
        ("busy", True),
        ("started", "count"),
        ("noted", "Loading..."),
        ("step", 0),
        ("step", 1),
        ("step", 2),
        ("done", "result"),
        ("ended", "count", JobState.DONE, False),
        ("busy", False),
    ]
    assert log.named("progressed")[-1][2:4] == (3, 3)
    assert log.threads == {threading.main_thread()}


def test_many_steps_are_all_delivered_but_progress_is_thinned(runner: Runner, log: Log, wait_until: Any) -> None:
    seen: list[int] = []
    runner.run("many", counting(20_000), on_step=lambda step: seen.append(step.index))
    wait_until(lambda: not runner.is_busy)
    assert seen == list(range(20_000))
    told = [entry[2] for entry in log.named("progressed")]
    assert told == sorted(told) and told[-1] == 20_000
    assert len(told) < 2_000


def test_the_event_loop_has_its_turn_while_messages_pour_in(runner: Runner, wait_until: Any) -> None:
    # All messages are there before the first is delivered, and each takes a millisecond.
    job = runner.run("many", counting(200), on_step=lambda _: time.sleep(0.001))
    assert job.wait(WAIT_S)
    turns = []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(runner.is_busy))
    timer.start(0)
    wait_until(lambda: not runner.is_busy)
    timer.stop()
    assert sum(turns) >= 5


def test_cancelling_drops_what_was_not_delivered(runner: Runner, log: Log, wait_until: Any) -> None:
    closed, steps = threading.Event(), []

    def on_step(step: Progress) -> None:
        steps.append(step.index)
        if step.index == 2:
            job.cancel()

    job = runner.run(
        "endless",
        endless(threading.Event(), closed),
        on_step=on_step,
        on_done=lambda _: log.add("done"),
        on_cancelled=lambda: log.add("cancelled"),
    )
    wait_until(lambda: not runner.is_busy)
    assert steps == [0, 1, 2] and closed.is_set()
    assert log.entries[-3:] == [
        ("cancelled",),
        ("ended", "endless", JobState.CANCELLED, False),
        ("busy", False),
    ]
    assert not log.named("done")


def test_a_failure_of_the_work_goes_to_both_ways(runner: Runner, log: Log, wait_until: Any, qtbot: Any) -> None:
    def work(_engine: object) -> Iterator[object]:
        yield 1
        raise VolumeError("the stack is constant: choose another")

    failures: list[Failure] = []
    with qtbot.capture_exceptions() as escaped:
        runner.run("fails", work, on_failure=failures.append, on_done=lambda _: log.add("done"))
        wait_until(lambda: not runner.is_busy)
    assert escaped == []
    assert failures == [log.named("failed")[0][2]] and failures[0].remedy == "Choose another"
    assert log.named("ended") == [("ended", "fails", JobState.FAILED, False)] and not log.named("done")


@pytest.mark.parametrize("which", ["on_step", "on_done", "on_cancelled"])
def test_an_error_in_a_callback_is_shown_once_and_stays_out_of_qt(
    runner: Runner, log: Log, wait_until: Any, qtbot: Any, which: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("in a callback")

    with qtbot.capture_exceptions() as escaped:
        job = runner.run("works", counting(50), **{which: broken}, on_failure=lambda failure: log.add("told"))
        if which == "on_cancelled":
            job.cancel()
        wait_until(lambda: not runner.is_busy)
    assert escaped == []
    (failed,) = log.named("failed")
    assert "ZeroDivisionError: in a callback" in failed[2].cause and "broken" in failed[2].report
    assert len(log.named("told")) == 1 and len(log.named("ended")) == 1


def test_an_error_in_the_failure_callback_leaves_the_first_failure(
    runner: Runner, log: Log, wait_until: Any, qtbot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work(_engine: object) -> Iterator[object]:
        yield 1
        raise OSError("first")

    def broken(_failure: Failure) -> None:
        raise ValueError("second")

    with qtbot.capture_exceptions() as escaped:
        runner.run("fails", work, on_failure=broken)
        wait_until(lambda: not runner.is_busy)
    assert escaped == []
    assert [("first" in entry[2].cause) for entry in log.named("failed")] == [True]
    assert "second" in caplog.text


def test_latest_wins_for_a_key_and_replaced_jobs_end_without_callbacks(
    runner: Runner, log: Log, wait_until: Any
) -> None:
    gate, shown = threading.Event(), []
    for number in range(60):
        runner.run(
            f"move {number}",
            gated(gate),
            on_done=lambda _, number=number: shown.append(number),
            on_cancelled=lambda: log.add("cancelled"),
            priority=Priority.INTERACTIVE,
            key="slider",
        )
        if number == 0:
            wait_until(lambda: log.named("started"))
    gate.set()
    wait_until(lambda: not runner.is_busy)
    assert shown == [0, 59]
    assert not log.named("cancelled")
    states = [entry[2] for entry in log.named("ended")]
    assert states.count(JobState.REPLACED) == 58 and len(states) == 60


def test_keys_of_two_runners_do_not_meet(qtbot: Any, wait_until: Any) -> None:
    one, two = Runner(), Runner()
    gate = threading.Event()
    try:
        blocker = one.run("blocker", gated(gate))
        jobs = [runner.run("move", counting(1), key="slider") for runner in (one, two)]
        gate.set()
        wait_until(lambda: not (one.is_busy or two.is_busy))
        assert [job.state for job in [blocker, *jobs]] == [JobState.DONE] * 3
        one.close()
        late = two.run("late", counting(1))
        wait_until(lambda: not two.is_busy)
        assert late.state is JobState.DONE  # the shared thread goes on for the other viewer
    finally:
        one.close()
        two.close()
    assert inference_threads() == []


def inference_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "napari-vqldm inference"]


def test_close_while_running_ends_the_thread_and_drops_callbacks(qtbot: Any) -> None:
    runner = Runner(make_engine=BaseEngine)
    log, closed = Log(runner), threading.Event()
    running = runner.run("running", endless(threading.Event(), closed), on_step=lambda _: log.add("step"))
    queued = runner.run("queued", counting(3), on_cancelled=lambda: log.add("cancelled"))
    qtbot.waitUntil(lambda: bool(log.named("step")))
    runner.close()
    before = list(log.entries)
    assert running.state is queued.state is JobState.CANCELLED and closed.is_set()
    assert inference_threads() == [] and not runner.is_busy
    late = runner.run("late", counting(3), on_cancelled=lambda: log.add("cancelled"))
    runner.close()
    qtbot.wait(100)
    assert late.state is JobState.CANCELLED
    assert log.entries == before


def test_a_job_without_callbacks_can_be_waited_for_on_the_gui_thread(runner: Runner, log: Log) -> None:
    job = Job("frame", counting(2, "frame"))
    runner.submit(job)
    assert job.wait(WAIT_S)
    assert [type(job.messages.get_nowait()).__name__ for _ in range(4)] == ["Started", "Step", "Step", "Done"]
    assert log.entries == []
    runner.close()
    late = Job("late", counting(2))
    runner.submit(late)
    assert late.state is JobState.CANCELLED


def test_close_inside_a_callback(qtbot: Any) -> None:
    runner = Runner(make_engine=BaseEngine)
    log = Log(runner)
    runner.run("closes", counting(5), on_done=lambda _: runner.close())
    other = runner.run("other", counting(5), on_done=lambda _: log.add("done"))
    qtbot.waitUntil(lambda: inference_threads() == [])
    qtbot.wait(50)
    assert other.state in (JobState.CANCELLED, JobState.DONE) and not log.named("done")
    assert ("ended", "closes", JobState.DONE, False) not in log.entries


def test_the_end_of_the_application_closes(qtbot: Any) -> None:
    runner = Runner(make_engine=BaseEngine)
    job = runner.run("running", endless(threading.Event()))
    QApplication.instance().aboutToQuit.emit()
    assert job.state is JobState.CANCELLED and inference_threads() == []


def test_a_runner_deleted_by_qt_under_a_running_job_harms_nobody(qtbot: Any) -> None:
    parent = QObject()
    runner = Runner(parent, make_engine=BaseEngine)
    job = runner.run("running", endless(threading.Event()), show_progress=False)
    parent.deleteLater()
    QApplication.sendPostedEvents(parent, int(QEvent.Type.DeferredDelete.value))
    del parent, runner
    qtbot.wait(50)
    assert job.wait(WAIT_S) and job.state is JobState.CANCELLED
    qtbot.waitUntil(lambda: inference_threads() == [])


def test_a_collection_that_finds_a_runner_in_the_middle_of_our_own_code_waits_for_nothing(qtbot: Any) -> None:
    runner = Runner(make_engine=BaseEngine)
    jobs = [runner.run(name, endless(threading.Event()), show_progress=False) for name in ("running", "queued")]
    collection = threading.Thread(target=runner._forgotten, daemon=True)
    with jobs[0]._lock, jobs[1]._lock:  # held where it interrupts: by the same thread, for which they are closed, too
        collection.start()
        collection.join(WAIT_S)
        assert not collection.is_alive()
    assert all(job.wait(WAIT_S) and job.state is JobState.CANCELLED for job in jobs)
    qtbot.waitUntil(lambda: inference_threads() == [])
    runner.close()


def test_nothing_keeps_a_delivered_result(runner: Runner, wait_until: Any) -> None:
    class Large:
        """Stands for a volume."""

    results: list[weakref.ref[Large]] = []

    def work(_engine: object) -> Iterator[object]:
        large = Large()
        results.append(weakref.ref(large))
        yield large
        return large

    job = runner.run("large", work, on_step=lambda _: None, on_done=lambda _: None)
    wait_until(lambda: not runner.is_busy)
    assert [ref() for ref in results] == [None]
    assert job.state is JobState.DONE


def test_nothing_keeps_a_closed_runner(qtbot: Any) -> None:
    def closed_runner() -> weakref.ref[Runner]:
        runner = Runner(make_engine=BaseEngine)
        done: list[int] = []
        runner.run("count", counting(3), on_done=lambda _: done.append(1))
        qtbot.waitUntil(lambda: bool(done))
        runner.close()
        return weakref.ref(runner)

    ref = closed_runner()
    gc.collect()
    assert ref() is None
