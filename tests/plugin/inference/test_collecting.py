"""Cyclic garbage is collected on the GUI thread while somebody holds it, by Python otherwise."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.thread import BaseEngine


class Cycle:
    """Notes where it is collected."""

    def __init__(self, where: list[threading.Thread]) -> None:
        self.own = self
        self.where = where

    def __del__(self) -> None:
        self.where.append(threading.current_thread())


@pytest.fixture
def collects(wait_until: Any) -> Iterator[None]:
    """Python collects by itself before and after: docks of earlier tests have let go of it."""
    wait_until(gc.isenabled)
    yield
    wait_until(gc.isenabled)


@pytest.mark.usefixtures("collects")
def test_garbage_of_a_job_is_collected_on_the_gui_thread(qtbot: Any, wait_until: Any) -> None:
    runner, where = Runner(make_engine=BaseEngine), list[threading.Thread]()

    def work(_engine: object) -> Iterator[int]:
        for index in range(50):
            for _ in range(200):
                Cycle(where)
            yield index

    try:
        runner.run("litter", work)
        wait_until(lambda: not runner.is_busy)
        wait_until(lambda: where)
        assert set(where) == {threading.main_thread()}
        assert not gc.isenabled()
    finally:
        runner.close()


@pytest.mark.usefixtures("collects")
def test_the_last_runner_hands_it_back(qtbot: Any, wait_until: Any) -> None:
    first, second = Runner(make_engine=BaseEngine), Runner(make_engine=BaseEngine)
    first.close()
    first.close()
    qtbot.wait(300)
    assert not gc.isenabled()
    second.close()
    wait_until(gc.isenabled)
    forgotten = Runner(make_engine=BaseEngine)
    assert not gc.isenabled()
    del forgotten  # nobody closed it
    gc.collect()
    wait_until(gc.isenabled)


@pytest.mark.usefixtures("collects")
def test_who_collects_in_another_way_goes_on_with_it(qtbot: Any) -> None:
    gc.disable()
    try:
        runner = Runner(make_engine=BaseEngine)
        runner.close()
        qtbot.wait(300)
        assert not gc.isenabled()
    finally:
        gc.enable()
