"""Work done by several processes is the work done here, and a process that dies is one line."""

from __future__ import annotations

import multiprocessing
import operator
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_vqldm.errors import ConfigError, VqldmError, WorkerError
from napari_vqldm.report.parallel import LOOK_AHEAD, Workers
from napari_vqldm.report.rows import recorded, simulated
from napari_vqldm.simulate.mt_sim import mt_sim_split, mt_sim_volumes, record

THREADS = "__import__('torch').get_num_threads()"


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -2])
def test_no_workers_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"1 or more workers, got {count}"):
        Workers(count)


@pytest.mark.usefixtures("three_threads")
def test_without_processes_one_thread_works_and_the_others_come_back() -> None:
    with Workers(1) as workers:
        assert list(workers.map(eval, [THREADS, THREADS])) == [1, 1]
        assert torch.get_num_threads() == 3
        with pytest.raises(ConfigError):
            list(workers.map(mt_sim_split, ["no tier"]))
    assert torch.get_num_threads() == 3
    assert not multiprocessing.active_children()


def test_one_piece_is_one_volume_with_its_own_noise() -> None:
    split = mt_sim_split("standard", "val")
    expected = list(mt_sim_volumes(split, range(2)))
    with Workers() as workers:
        made = list(simulated(split, 2, workers))
        again = recorded([v.clean for v in made], split, workers)
    for one, other, noisy in zip(made, expected, again, strict=True):
        for name in ("clean", "noisy", "recorded"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.parameters == other.parameters
        np.testing.assert_array_equal(noisy, other.recorded)
    assert not np.array_equal(again[0], list(record([made[0].clean] * 2, split))[1])  # the noise has a number


@pytest.mark.slow
@pytest.mark.usefixtures("three_threads")
def test_processes_keep_order_look_little_ahead_and_are_gone_after_one_died() -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for i in range(40):
            pulled.append(i)
            yield i

    with Workers(2) as workers:
        assert not multiprocessing.active_children()  # none before there is work
        found = workers.map(operator.neg, items())
        for number, result in enumerate(found):
            assert result == -number
            assert len(pulled) - number <= LOOK_AHEAD * 2 + 1
        assert list(workers.map(eval, [THREADS] * 4)) == [1] * 4
        split = mt_sim_split("hard", "val")
        made, expected = next(simulated(split, 1, workers)), next(simulated(split, 1, Workers()))
        np.testing.assert_array_equal(made.recorded, expected.recorded)
        with pytest.raises(ConfigError, match="no tier"):  # what a piece raises is raised here
            list(workers.map(mt_sim_split, ["standard", "no tier"]))
        with pytest.raises(WorkerError, match="run again with fewer workers") as death:
            list(workers.map(os._exit, [3, 3]))
        assert isinstance(death.value, VqldmError) and "\n" not in str(death.value)
    assert not multiprocessing.active_children()
