"""The last frame shown is the last one asked for, and a slow worker never falls behind."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from napari_vqldm.plugin.inference.live import LatestWins


class Worker:
    """Starts computations that the test finishes when it wants."""

    def __init__(self) -> None:
        self.open: list[tuple[int, Callable[[str], None], Callable[[], None]]] = []
        self.num_cancelled = 0
        self.most_at_once = 0

    def start(self, request: int, done: Callable[[str], None], ended: Callable[[], None]) -> Worker:
        self.open.append((request, done, ended))
        self.most_at_once = max(self.most_at_once, len(self.open))
        return self

    def cancel(self) -> bool:
        self.num_cancelled += 1
        return True

    def finish(self) -> None:
        request, done, _ = self.open.pop(0)
        done(f"frame {request}")

    def fail(self) -> None:
        self.open.pop(0)[2]()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def shown() -> list[tuple[int, str]]:
    return []


def mailbox(worker: Worker, shown: list[tuple[int, str]], **keywords) -> LatestWins[int, str]:
    return LatestWins(worker.start, lambda request, frame: shown.append((request, frame)), **keywords)


@pytest.mark.parametrize("seed", range(5))
def test_last_shown_is_last_asked_whatever_the_order_of_events(worker, shown, seed):
    live, rng = mailbox(worker, shown), random.Random(seed)
    for move in range(60):
        live.ask(move)
        while worker.open and rng.random() < 0.4:
            worker.finish()
    while worker.open:
        worker.finish()
    assert shown[-1] == (59, "frame 59")
    assert [request for request, _ in shown] == sorted(request for request, _ in shown)
    assert live.num_started <= live.num_asked == 60
    assert worker.most_at_once == 1
    assert not live.is_busy


def test_while_one_is_computed_only_the_latest_waits(worker, shown):
    live = mailbox(worker, shown)
    for move in range(10):
        live.ask(move)
    worker.finish()
    worker.finish()
    assert shown == [(0, "frame 0"), (9, "frame 9")]
    assert not worker.open


def test_ready_frames_are_shown_at_once_and_older_ones_never_follow(worker, shown):
    live = mailbox(worker, shown, ready={7: "ready 7"}.get)
    live.ask(1)
    live.ask(2)
    live.ask(7)
    assert shown == [(7, "ready 7")]
    worker.finish()  # 1, which was asked before 7; 2 is not wanted any more
    assert shown == [(7, "ready 7")]
    assert not live.is_busy


def test_asking_again_for_what_is_computed_starts_nothing(worker, shown):
    live = mailbox(worker, shown, ready={7: "ready 7"}.get)
    live.ask(1)
    live.ask(7)
    live.ask(1)
    assert live.num_started == 1
    assert live.running == 1
    worker.finish()
    assert shown == [(7, "ready 7"), (1, "frame 1")]


def test_after_a_failure_the_waiting_request_runs(worker, shown):
    live = mailbox(worker, shown)
    live.ask(1)
    live.ask(2)
    worker.fail()
    worker.finish()
    assert shown == [(2, "frame 2")]


def test_a_failing_view_does_not_stop_the_next_frame(worker):
    frames = []

    def show(request: int, _frame: str) -> None:
        if request == 1:
            raise ValueError("view is gone")
        frames.append(request)

    live = LatestWins(worker.start, show)
    live.ask(1)
    live.ask(2)
    with pytest.raises(ValueError, match="view is gone"):
        worker.finish()
    worker.finish()
    assert frames == [2]


def test_a_worker_that_refuses_leaves_the_mailbox_usable(shown):
    calls = []

    def start(request: int, done: Callable[[str], None], _ended: Callable[[], None]) -> None:
        calls.append(request)
        if len(calls) == 1:
            raise RuntimeError("no thread")
        done(f"frame {request}")  # before it returns

    live = LatestWins(start, lambda request, frame: shown.append((request, frame)))
    with pytest.raises(RuntimeError, match="no thread"):
        live.ask(1)
    live.ask(2)
    assert shown == [(2, "frame 2")]
    assert not live.is_busy


def test_interrupt_and_close(worker, shown):
    live = mailbox(worker, shown)
    live.ask(1)
    live.ask(2)
    live.interrupt()
    assert worker.num_cancelled == 1
    worker.fail()
    assert not live.is_busy
    live.ask(3)
    live.close()
    worker.finish()  # a result that was on its way
    live.ask(4)
    assert shown == []
    assert live.num_asked == 3
