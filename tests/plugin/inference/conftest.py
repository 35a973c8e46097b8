"""An inference thread, and a runner with a log of what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.
if TYPE_CHECKING:
    from tests.plugin.inference.runner_helpers import Log

    from napari_vqldm.plugin.inference.runner import Runner
    from napari_vqldm.plugin.inference.thread import InferenceThread


@pytest.fixture
def thread() -> Iterator[InferenceThread]:
    from tests.plugin.inference.jobs_helpers import WAIT_S, FakeEngine

    from napari_vqldm.plugin.inference.thread import InferenceThread

    thread = InferenceThread(FakeEngine)
    yield thread
    assert thread.stop(WAIT_S)


@pytest.fixture
def runner(qtbot: Any) -> Iterator[Runner]:
    from napari_vqldm.plugin.inference.runner import Runner
    from napari_vqldm.plugin.inference.thread import BaseEngine

    runner = Runner(make_engine=BaseEngine)
    yield runner
    runner.close()


@pytest.fixture
def log(runner: Runner) -> Log:
    from tests.plugin.inference.runner_helpers import Log

    return Log(runner)
