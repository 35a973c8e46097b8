"""Order, cancelling and endings of jobs on the inference thread; no Qt."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import pytest

from napari_vqldm.errors import VolumeError
from napari_vqldm.plugin.inference.jobs import (
    Cancelled,
    Done,
    Failed,
    Job,
    JobState,
    Message,
    Note,
    Priority,
    Started,
    Step,
)
from napari_vqldm.plugin.inference.thread import BaseEngine, InferenceThread, SharedThread

WAIT_S = 20


class FakeEngine(BaseEngine):
    """Knows where it was made and used, and whether it was freed."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.log: list[str] = []
        self.is_freed = False

    def free(self) -> None:
        self.is_freed = True

    @contextmanager
    def suspended(self) -> Iterator[None]:
        self.log.append("suspended")
        yield
        self.log.append("resumed")


class Gate:
    """Work that stops at each yield until the test lets it pass."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)

    def wait(self) -> None:
        self.reached.release()
        assert self._passes.acquire(timeout=WAIT_S)

    def wait_until_reached(self) -> None:
        assert self.reached.acquire(timeout=WAIT_S)

    def open(self, times: int = 1) -> None:
        self._passes.release(times)


@pytest.fixture
def thread() -> Iterator[InferenceThread]:
    thread = InferenceThread(FakeEngine)
    yield thread
    assert thread.stop(WAIT_S)


def messages_of(job: Job) -> list[Message]:
    found = []
    while True:
        try:
            found.append(job.messages.get_nowait())
        except Empty:
            return found


def steps_of(job: Job) -> list[Any]:
    return [message.value for message in messages_of(job) if isinstance(message, Step)]


def logged(name: str, log: list[str], steps: int = 1) -> Callable[[Any], Iterator[object]]:
    def work(_engine: FakeEngine) -> Iterator[object]:
        for index in range(steps):
            log.append(f"{name}{index}")
            yield index

    return work


def gated(gate: Gate, steps: int = 1, log: list[str] | None = None) -> Callable[[Any], Iterator[object]]:
    def work(_engine: FakeEngine) -> Iterator[object]:
        try:
            for index in range(steps):
                gate.wait()
                if log is not None:
                    log.append(f"batch{index}")
                yield index
        finally:
            if log is not None:
                log.append("closed")
        return "result"

    return work


def test_messages_arrive_in_order_and_the_result_is_what_the_work_returns(thread: InferenceThread) -> None:
    def work(engine: FakeEngine) -> Iterator[object]:
        yield Note("Loading...")
        yield 1
        yield 2
        return engine.thread is threading.current_thread()

    job = Job("count", work)
    thread.submit(job)
    assert job.wait(WAIT_S)
    started, note, one, two, done = messages_of(job)
    assert started == Started()
    assert (note.value, one.value, two.value) == (Note("Loading..."), 1, 2)
    assert isinstance(done, Done) and done.result is True  # the engine was made where it is used
    assert job.state is JobState.DONE


def test_the_thread_starts_with_the_first_job_and_ends_with_stop() -> None:
    def named() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "napari-vqldm inference"]

    before = len(named())
    engines = []

    def make() -> FakeEngine:
        engines.append(FakeEngine())
        return engines[-1]

    thread = InferenceThread(make)
    assert len(named()) == before
    jobs = [Job(str(index), logged("job", [])) for index in range(3)]
    for job in jobs:
        thread.submit(job)
    assert all(job.wait(WAIT_S) for job in jobs)
    assert len(named()) == before + 1 and named()[-1].daemon
    assert thread.stop(WAIT_S)
    assert len(named()) == before
    assert len(engines) == 1 and engines[0].is_freed
    assert thread.stop(WAIT_S)  # a second time does no harm
    late = Job("late", logged("late", []))
    thread.submit(late)
    assert late.state is JobState.CANCELLED and messages_of(late) == [Cancelled()]


def test_interactive_jobs_come_first_and_equals_in_order(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    first = Job("first", gated(gate))
    thread.submit(first)
    gate.wait_until_reached()
    jobs = [
        Job("a", logged("a", log)),
        Job("b", logged("b", log)),
        Job("c", logged("c", log), Priority.INTERACTIVE),
        Job("d", logged("d", log), Priority.INTERACTIVE),
    ]
    for job in jobs:
        thread.submit(job)
    assert thread.is_busy
    gate.open()
    assert all(job.wait(WAIT_S) for job in [first, *jobs])
    assert log == ["c0", "d0", "a0", "b0"]


def test_an_interactive_job_runs_to_its_end_between_two_steps_of_a_batch_job(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    engines = []

    def batch(engine: FakeEngine) -> Iterator[object]:
        engines.append(engine)
        yield from gated(gate, 3, log)(engine)

    job = Job("batch", batch)
    thread.submit(job)
    gate.wait_until_reached()
    slider = Job("slider", logged("slider", log, steps=2), Priority.INTERACTIVE)
    thread.submit(slider)
    other = Job("other batch", logged("other", log))
    thread.submit(other)
    gate.open()
    assert slider.wait(WAIT_S)
    assert job.state is JobState.RUNNING and other.state is JobState.QUEUED
    gate.open(2)
    assert job.wait(WAIT_S) and other.wait(WAIT_S)
    assert log == ["batch0", "slider0", "slider1", "batch1", "batch2", "closed", "other0"]
    assert engines[0].log == ["suspended", "resumed"]


def test_an_interactive_job_is_not_interrupted(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    first = Job("first", gated(gate, 2, log), Priority.INTERACTIVE)
    thread.submit(first)
    gate.wait_until_reached()
    second = Job("second", logged("second", log), Priority.INTERACTIVE)
    thread.submit(second)
    gate.open(2)
    assert second.wait(WAIT_S)
    assert log == ["batch0", "batch1", "closed", "second0"]


def test_the_latest_of_a_key_replaces_those_in_the_queue_but_not_the_running_one(thread: InferenceThread) -> None:
    gate, log = Gate(), []
    running = Job("running", gated(gate), Priority.INTERACTIVE, key="slider")
    thread.submit(running)
    gate.wait_until_reached()
    moves = [Job(f"move {n}", logged(f"move{n}-", log), Priority.INTERACTIVE, key="slider") for n in range(5)]
    other = Job("other", logged("other", log), Priority.INTERACTIVE, key="thumbnail")
    for job in [*moves[:2], other, *moves[2:]]:
        thread.submit(job)
    gate.open()
    assert all(job.wait(WAIT_S) for job in [running, other, *moves])
    assert log == ["other0", "move4-0"]
    assert [job.state for job in moves] == [JobState.REPLACED] * 4 + [JobState.DONE]
    assert messages_of(moves[0]) == [Cancelled()]
    assert running.state is JobState.DONE


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


def test_runners_share_a_thread_that_ends_with_the_last() -> None:
    shared = SharedThread(FakeEngine)
    one, two = shared.acquire(), shared.acquire()
    assert one is two
    job = Job("job", logged("job", []))
    one.submit(job)
    assert job.wait(WAIT_S)
    shared.release(WAIT_S)
    late = Job("late", logged("late", []))
    two.submit(late)
    assert late.wait(WAIT_S) and late.state is JobState.DONE
    shared.release(WAIT_S)
    assert shared.acquire() is not one
    shared.release(WAIT_S)
