"""Time left, and jobs in words."""

from __future__ import annotations

import pytest
from tests.plugin.inference.runner_helpers import Progress, counting

from napari_vqldm.plugin.inference.jobs import Job
from napari_vqldm.plugin.inference.pace import Pace, words_for


def test_time_left_follows_the_pace_of_the_steps_after_the_first() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.text == "" and pace.seconds_left == -1
    assert not pace.observe("no step") and not pace.observe(Progress(0, 0))
    now[0] = 30.0  # loading and warming up
    assert pace.observe(Progress(0, 10))
    assert pace.seconds_left == -1 and pace.text == "1 of 10"
    now[0] = 32.0
    pace.observe(Progress(1, 10))
    assert pace.seconds_left == pytest.approx(16)
    now[0] = 33.0
    assert pace.seconds_left == pytest.approx(15)
    now[0] = 99.0  # a step that takes longer than its pace: no less than the steps after it
    assert pace.seconds_left == pytest.approx(14)
    now[0] = 32.0
    assert pace.text == "2 of 10, about 16 s left"
    pace.observe(Progress(0, 4))
    assert pace.seconds_left == -1 and pace.text == "1 of 4"


@pytest.mark.parametrize(
    "seconds, words",
    [(0.0, "about 1 s"), (12.4, "about 12 s"), (200.0, "about 3 min"), (9000.0, "about 2.5 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert words_for(seconds) == words


def test_a_job_is_readable_in_a_log() -> None:
    assert repr(Job("Generate", counting(1))) == "Job('Generate', queued)"
