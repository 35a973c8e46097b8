"""Messages and order of jobs on the inference thread; no Qt."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from tests.plugin.inference.jobs_helpers import WAIT_S, FakeEngine, Gate, gated, logged, messages_of

from napari_vqldm.plugin.inference.jobs import Cancelled, Done, Job, JobState, Note, Priority, Started
from napari_vqldm.plugin.inference.thread import InferenceThread, SharedThread


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


def test_runners_share_a_thread_that_ends_with_the_last() -> None:
    shared = SharedThread(FakeEngine)
    one, two = shared.acquire("one"), shared.acquire("two")
    assert one is two
    job = Job("job", logged("job", []))
    one.submit(job)
    assert job.wait(WAIT_S)
    shared.release("one", WAIT_S)
    late = Job("late", logged("late", []))
    two.submit(late)
    assert late.wait(WAIT_S) and late.state is JobState.DONE
    shared.release("two", WAIT_S)
    assert shared.acquire("three") is not one
    shared.release("three", WAIT_S)


def test_a_thread_whose_users_were_forgotten_ends_by_itself() -> None:
    shared, gate, log = SharedThread(FakeEngine), Gate(), []
    one, two = shared.acquire("one"), shared.acquire("two")
    jobs = [Job("running", gated(gate, 100, log)), Job("queued", logged("queued", log))]
    for job in jobs:
        one.submit(job)
    gate.wait_until_reached()
    shared.forget("one")
    gate.open()
    gate.wait_until_reached()  # goes on for the other user
    shared.forget("two")
    gate.open()
    assert all(job.wait(WAIT_S) for job in jobs)
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 2 and log == ["batch0", "batch1", "closed"]
    assert messages_of(jobs[0]) == [Started(), Cancelled()]
    assert two._thread is not None
    two._thread.join(WAIT_S)
    assert not two._thread.is_alive()
    late = Job("late", logged("late", []))
    two.submit(late)
    assert late.state is JobState.CANCELLED


def test_a_forgotten_thread_that_has_nothing_to_do_ends_as_well_and_the_next_user_gets_another() -> None:
    shared, engines = SharedThread(FakeEngine), list[FakeEngine]()
    shared.acquire("never used")
    shared.forget("never used")
    one = shared.acquire("one")

    def work(engine: FakeEngine) -> Iterator[object]:
        engines.append(engine)
        yield 1

    job = Job("job", work)
    one.submit(job)
    assert job.wait(WAIT_S) and job.state is JobState.DONE
    shared.forget("one")
    engines[0].thread.join(WAIT_S)
    assert engines[0].is_freed and not engines[0].thread.is_alive()
    other, again = shared.acquire("two"), Job("again", work)
    assert other is not one
    other.submit(again)
    assert again.wait(WAIT_S) and again.state is JobState.DONE
    shared.release("two", WAIT_S)
    assert engines[1].is_freed
