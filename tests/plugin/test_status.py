"""The row of a dock whose jobs wait behind those of another: which one it shows, and what Cancel ends. No viewer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qtpy.QtCore import QObject, Signal

from napari_vqldm.plugin.inference.jobs import JobState
from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.thread import BaseEngine, SharedThread
from napari_vqldm.plugin.status import Status


class FakeDesk(QObject):
    """What a status row needs of a desk."""

    failed = Signal(object)
    noticed = Signal(str)
    asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner(parent=self)


@pytest.fixture
def desks(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeDesk, FakeDesk]]:
    """Two that share one inference thread, as the docks of two viewers do."""
    monkeypatch.setattr("napari_vqldm.plugin.inference.runner._SHARED", SharedThread(BaseEngine))
    pair = FakeDesk(), FakeDesk()
    yield pair
    for desk in pair:
        desk.runner.close()


def endless(_engine: object) -> Iterator[object]:
    while not threading.Event().wait(0.01):
        yield None


@pytest.mark.parametrize("titles", [("mine", "mine"), ("mine", "mine too")])
def test_cancel_takes_back_one_waiting_job_after_the_other_whatever_their_titles(
    desks: tuple[FakeDesk, FakeDesk], wait_until: Callable[..., None], qtbot: Any, titles: tuple[str, str]
) -> None:
    other, mine = desks
    status = Status(mine)  # type: ignore[arg-type]
    qtbot.addWidget(status)
    status.show()
    ahead = other.runner.run("ahead", endless, show_progress=False)
    jobs = [mine.runner.run(title, endless, show_progress=False) for title in titles]
    row = status.progress
    assert row.waiting.text() == "+1 waiting" and row.cancel_all_button.isVisible()
    for count, title in enumerate(titles):
        wait_until(lambda count=count: len(mine.runner.waiting) == 2 - count)
        assert row.text.startswith(f"{title} · waiting")
        assert row.cancel_button.isEnabled() and row.cancel_button.text() == "Cancel"
        row.cancel_button.click()
        assert not row.cancel_button.isEnabled()
    wait_until(lambda: not mine.runner.is_busy)
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 2 and ahead.state is JobState.RUNNING
    assert not row.isVisible()
    again = mine.runner.run("mine", endless, show_progress=False)
    assert row.isVisible() and row.cancel_button.isEnabled()
    other.runner.cancel_all()
    wait_until(lambda: mine.runner.running is again)
    assert "waiting" not in row.text
