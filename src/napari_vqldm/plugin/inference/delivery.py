"""What a runner keeps of each of its jobs until its last message, and how the inference thread wakes the runner."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.inference.failures import Failure
from napari_vqldm.plugin.inference.jobs import Job
from napari_vqldm.plugin.inference.napari_tasks import ActivityBar, TaskWorker
from napari_vqldm.plugin.inference.pace import Pace

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.runner import Runner


@dataclass(eq=False)
class Delivery:
    """What a job's messages lead to."""

    job: Job
    worker: TaskWorker | None
    show_progress: bool
    on_step: Callable[[Any], object] | None
    on_done: Callable[[Any], object] | None
    on_failure: Callable[[Failure], object] | None
    on_cancelled: Callable[[], object] | None
    pace: Pace = field(default_factory=Pace)
    bar: ActivityBar | None = None
    shown_s: float = 0.0
    is_started: bool = False
    is_unshown: bool = False
    has_failed: bool = False

    def start(self) -> None:
        """Show napari that the job left the queue."""
        self.is_started = True
        if self.worker is not None:
            self.worker.begin()
        if self.show_progress:
            self.bar = ActivityBar(self.job.title)

    def close(self, is_cancelled: bool) -> None:
        """Take the job out of napari's sight."""
        if self.bar is not None:
            self.bar.close()
        if self.worker is not None:
            self.worker.end(is_cancelled)


class Poke:
    """Wakes a runner without keeping it alive: a job that is still running may outlive its dock."""

    def __init__(self, runner: Runner) -> None:
        self._runner = weakref.ref(runner)

    def __call__(self) -> None:
        """Wake the runner, if it is still there."""
        runner = self._runner()
        if runner is not None:
            runner.wake()
