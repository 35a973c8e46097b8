"""Cyclic garbage is collected on the GUI thread while a thread of ours works, by Python otherwise."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.plugin.inference.jobs_helpers import Gate

from napari_vqldm.plugin.inference import collecting
from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.thread import BaseEngine

MAIN = threading.main_thread()


class Cycle:
    """Notes where it is collected."""

    def __init__(self, where: list[threading.Thread]) -> None:
        self.own = self
        self.where = where

    def __del__(self) -> None:
        self.where.append(threading.current_thread())


def litter(where: list[threading.Thread]) -> None:
    for _ in range(5_000):
        Cycle(where)


@pytest.fixture
def runner(qtbot: Any, wait_until: Any) -> Iterator[Runner]:
    """A runner of its own; Python collects by itself before it and after it."""
    wait_until(gc.isenabled)
    runner = Runner(make_engine=BaseEngine)
    yield runner
    runner.close()
    wait_until(gc.isenabled)


def test_garbage_of_a_job_is_collected_on_the_gui_thread(runner: Runner, wait_until: Any) -> None:
    where: list[threading.Thread] = []
    gate = Gate()

    def work(_engine: object) -> Iterator[int]:
        for index in range(3):
            litter(where)
            yield index
        gate.wait()

    runner.run("litter", work)
    gate.wait_until_reached()
    wait_until(lambda: where)
    assert set(where) == {MAIN} and not gc.isenabled()
    gate.open()
    wait_until(lambda: not runner.is_busy)
    wait_until(gc.isenabled)  # between jobs nothing is different: a loop on the GUI thread must not fill the memory
    where.clear()
    litter(where)
    assert where


def test_whoever_enables_it_meanwhile_does_so_for_a_moment(runner: Runner, wait_until: Any) -> None:
    """Completion of names in napari's console does."""
    gate = Gate()

    def work(_engine: object) -> Iterator[int]:
        gate.wait()
        yield 0

    runner.run("wait", work)
    gate.wait_until_reached()
    gc.enable()
    wait_until(lambda: not gc.isenabled())
    gate.open()
    wait_until(lambda: not runner.is_busy)


def test_a_step_that_outlives_its_dock_collects_nothing(runner: Runner, wait_until: Any) -> None:
    where: list[threading.Thread] = []
    reached, go_on, is_over = threading.Event(), threading.Event(), threading.Event()

    def work(_engine: object) -> Iterator[int]:
        reached.set()
        go_on.wait(20)
        litter(where)
        is_over.set()
        yield 0

    runner.run("litter", work)
    assert reached.wait(20)
    runner.close()  # waits for two seconds
    assert not gc.isenabled()
    go_on.set()
    assert is_over.wait(20)
    wait_until(gc.isenabled)
    gc.collect()
    assert set(where) == {MAIN}


def test_who_collects_in_another_way_goes_on_with_it(runner: Runner, wait_until: Any, qtbot: Any) -> None:
    gc.disable()
    try:
        runner.run("count", lambda _engine: iter(range(3)))
        wait_until(lambda: not runner.is_busy)
        qtbot.wait(300)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_where_nobody_looks_any_more_it_is_handed_back(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop on the GUI thread, or a loop of events that has ended, must not fill the memory."""
    monkeypatch.setattr(collecting, "ABSENT_S", 0.2)
    is_over = threading.Event()

    def work(_engine: object) -> Iterator[int]:
        is_over.wait(20)
        yield 0

    job = runner.run("wait", work)
    deadline = time.monotonic() + 20
    while gc.isenabled() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not gc.isenabled()
    time.sleep(0.3)
    is_over.set()
    assert job.wait(20)
    while not gc.isenabled() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gc.isenabled()


def test_a_thread_that_starts_while_the_timer_stops_ends_it_as_well(qtbot: Any, wait_until: Any) -> None:
    wait_until(gc.isenabled)
    collecting.watch(is_watched=True)
    with collecting.Hold():
        assert not gc.isenabled()
        collecting.watch(is_watched=False)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_without_a_dock_nothing_changes(qtbot: Any, wait_until: Any) -> None:
    wait_until(gc.isenabled)
    qtbot.wait(300)  # the timer of earlier docks has stopped
    with collecting.Hold():
        assert gc.isenabled()


def test_a_runner_that_nobody_closed_is_forgotten(qtbot: Any, wait_until: Any) -> None:
    from napari_vqldm.plugin.inference import collector

    wait_until(lambda: collector._timer is None)
    forgotten = Runner(make_engine=BaseEngine)
    assert collector._timer is not None
    del forgotten
    gc.collect()
    wait_until(lambda: collector._timer is None)
