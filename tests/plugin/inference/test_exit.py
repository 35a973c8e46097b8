"""The end of the program while a step is running."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import threading
from napari_vqldm.plugin.inference.jobs import Job
from napari_vqldm.plugin.inference.thread import BaseEngine, InferenceThread
import torch

started = threading.Event()

def work(engine):
    started.set()
    x = torch.ones(1, 8, 32, 96, 96)
    w = torch.ones(8, 8, 3, 3, 3)
    for _ in range({steps}):
        torch.nn.functional.conv3d(x, w, padding=1)
    yield

thread = InferenceThread(BaseEngine)
thread.submit(Job("long step", work))
started.wait()
print(thread.stop(0.05))
"""


@pytest.mark.slow
def test_a_step_that_outlives_the_stop_is_waited_for():
    program = PROGRAM.format(steps=60)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "False"  # it was still busy
    assert (done.returncode, done.stderr) == (0, "")
