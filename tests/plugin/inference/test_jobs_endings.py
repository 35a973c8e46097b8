"""How jobs on the inference thread end: cancelled, failed, stopped, let go; no Qt."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.plugin.inference.jobs_helpers import WAIT_S, FakeEngine, Gate, gated, logged, messages_of

from napari_vqldm.errors import VolumeError
from napari_vqldm.plugin.inference.jobs import Cancelled, Done, Failed, Job, JobState, Started
from napari_vqldm.plugin.inference.thread import InferenceThread


def test_cancelling_stops_at_the_next_yield_and_closes_the_generator(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    job = Job("batch", gated(gate, 100, log))
    thread.submit(job)
    gate.wait_until_reached()
    assert job.cancel()
    gate.open()
    assert job.wait(WAIT_S)
    assert log == ["batch0", "closed"]  # the step under way ends, the next one never starts
    assert job.state is JobState.CANCELLED
    assert messages_of(job) == [Started(), Cancelled()]
    assert not job.cancel()


def test_cancelling_withdraws_steps_and_a_result_that_nobody_took(thread: InferenceThread) -> None:
    job = Job("quick", logged("quick", [], 3))
    thread.submit(job)
    assert job.wait(WAIT_S) and job.state is JobState.DONE
    assert job.cancel()
    assert job.state is JobState.CANCELLED
    assert messages_of(job) == [Started(), Cancelled()]
    taken = Job("taken", logged("taken", []))
    thread.submit(taken)
    assert taken.wait(WAIT_S)
    assert isinstance(messages_of(taken)[-1], Done)
    assert not taken.cancel() and taken.state is JobState.DONE


def test_a_job_cancelled_in_the_queue_ends_at_once_and_never_runs(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    running = Job("running", gated(gate))
    thread.submit(running)
    gate.wait_until_reached()
    queued = Job("queued", logged("queued", log))
    thread.submit(queued)
    assert queued.cancel() and queued.wait(0)
    gate.open()
    assert running.wait(WAIT_S)
    assert log == [] and messages_of(queued) == [Cancelled()]


@pytest.mark.parametrize(
    "error", [VolumeError("the stack is constant: choose another"), SystemExit(3), ZeroDivisionError()]
)
def test_errors_become_failures_and_the_thread_goes_on(thread: InferenceThread, error: BaseException) -> None:
    def work(_engine: FakeEngine) -> Iterator[object]:
        yield 1
        raise error

    job = Job("fails", work)
    thread.submit(job)
    assert job.wait(WAIT_S)
    last = messages_of(job)[-1]
    assert isinstance(last, Failed) and job.state is JobState.FAILED
    assert type(error).__name__ in last.failure.report and "While: fails" in last.failure.report
    after = Job("after", logged("after", []))
    thread.submit(after)
    assert after.wait(WAIT_S) and after.state is JobState.DONE


def test_work_that_is_no_generator_and_an_engine_that_cannot_be_made_fail_as_jobs() -> None:
    def broken() -> FakeEngine:
        raise OSError("no engine")

    thread = InferenceThread(broken)
    job = Job("no engine", logged("never", []))
    thread.submit(job)
    assert job.wait(WAIT_S) and job.state is JobState.FAILED
    assert thread.stop(WAIT_S)
    thread = InferenceThread(FakeEngine)
    job = Job("no iterator", lambda _engine: 5)  # type: ignore[arg-type, return-value]
    thread.submit(job)
    assert job.wait(WAIT_S) and job.state is JobState.FAILED
    assert thread.stop(WAIT_S)


def test_an_error_while_closing_and_one_of_the_reader_reach_the_log_only(
    thread: InferenceThread, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    def work(_engine: FakeEngine) -> Iterator[object]:
        try:
            while True:
                gate.wait()
                yield 1
        finally:
            raise OSError("closing fails")

    def reader() -> None:
        raise RuntimeError("reader fails")

    job = Job("stubborn", work, on_message=reader)
    thread.submit(job)
    gate.wait_until_reached()
    job.cancel()
    gate.open()
    assert job.wait(WAIT_S) and job.state is JobState.CANCELLED
    assert "closing fails" in caplog.text and "reader fails" in caplog.text


def test_cancel_all_and_stop_end_running_and_queued_jobs() -> None:
    thread, gate, log = InferenceThread(FakeEngine), Gate(), []
    jobs = [Job("running", gated(gate, 100, log))] + [Job(str(n), logged("n", log)) for n in range(3)]
    for job in jobs:
        thread.submit(job)
    gate.wait_until_reached()
    assert not thread.stop(0.01)  # busy until its next yield
    gate.open()
    assert all(job.wait(WAIT_S) for job in jobs)
    assert thread.stop(WAIT_S) and not thread.is_busy
    assert {job.state for job in jobs} == {JobState.CANCELLED}
    assert log == ["batch0", "closed"]


class Large:
    """Stands for an array."""


def test_steps_results_and_what_an_error_held_are_let_go_after_delivery(thread: InferenceThread) -> None:
    alive: list[weakref.ref[Large]] = []

    def made() -> Large:
        large = Large()
        alive.append(weakref.ref(large))
        return large

    def work(_engine: FakeEngine) -> Iterator[object]:
        yield made()
        return made()

    def fails(_engine: FakeEngine) -> Iterator[object]:
        held = made()
        yield held
        raise ValueError(held)

    def work_with(captured: Large) -> Callable[[Any], Iterator[object]]:
        return lambda _engine: iter([captured])

    gc.disable()  # what is let go must need no collection: cycles keep tensors for long
    try:
        jobs = [Job("works", work), Job("fails", fails)]
        for job in jobs:
            thread.submit(job)
            assert job.wait(WAIT_S)
        dropped = Job("cancelled", work_with(made()))
        dropped.cancel()
        # One more job, so that the thread has left the earlier ones.
        last = Job("last", logged("last", []))
        thread.submit(last)
        assert last.wait(WAIT_S)
        assert any(ref() is not None for ref in alive)  # in the messages, until they are taken
        for job in jobs:
            messages_of(job)
        assert [ref() for ref in alive] == [None] * 4
    finally:
        gc.enable()
