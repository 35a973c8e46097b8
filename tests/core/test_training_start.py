"""Starting a training apart from this program: what is refused, what is run, how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.training import start
from napari_vqldm.training.follow import RunFollower
from napari_vqldm.training.presence import RunProcess
from napari_vqldm.training.start import StartedTraining, last_line, start_training, stop_training

# Stands for a training: it says where it is, then leaves in good order when it is asked to.
STAND_IN = """
import json, platform, psutil, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def leave(*_):
    print("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
(folder / "config.json").write_text("{}")
record = {"pid": psutil.Process().pid, "host": platform.node(), "created_s": psutil.Process().create_time()}
(folder / "running.json").write_text(json.dumps(record))
time.sleep(60)
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run `STAND_IN` instead of a training; the commands that would have been run."""
    commands: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        commands.append(command)
        return real([sys.executable, "-c", STAND_IN, command[command.index("--out") + 1]], **options)

    monkeypatch.setattr(start.subprocess, "Popen", popen)
    return commands


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(training: StartedTraining) -> start.TrainingEnd:
    end = training.wait(30)
    assert end is not None
    return end


def test_it_runs_apart_from_this_program_and_stops_when_asked(tmp_path: Path, stand_in: list[list[str]]) -> None:
    out = tmp_path / "runs" / "smoke"
    training = start_training("smoke-ldm", out, ["denoiser.steps=7", "name=mine"])
    try:
        assert stand_in[0][:3] == [sys.executable, "-m", "napari_vqldm.training"]
        assert stand_in[0][-6:] == ["--out", str(out), "--set", "denoiser.steps=7", "--set", "name=mine"]
        assert Path(stand_in[0][3]).name == "smoke-ldm.toml"
        wait_for((out / "running.json").exists)
        assert RunFollower(out).poll().state.is_here
        assert os.getsid(training.pid) != os.getsid(0)  # a Ctrl-C or the end of this terminal is not for it
        assert training.is_alive and training.end() is None
        with pytest.raises(TrainingError, match=f"process {training.pid}"):
            start_training("smoke-ldm", out)
        training.stop()
        end = ended(training)
        assert (end.exit_code, end.last_line) == (0, "saved")
        assert (out / "train.log").read_text() == "saved\n"
    finally:
        if training.is_alive:
            os.kill(training.pid, signal.SIGKILL)


def test_it_outlives_the_program_that_started_it_and_is_stopped_by_its_folder(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from napari_vqldm.training import start\n"
        "real = subprocess.Popen\n"
        f"stand_in = {STAND_IN!r}\n"
        "command = [sys.executable, '-c', stand_in, sys.argv[1]]\n"
        "start.subprocess.Popen = lambda _command, **options: real(command, **options)\n"
        "print(start.start_training('smoke-ldm', sys.argv[1]).pid)\n"
    )
    out = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    try:
        wait_for((out / "running.json").exists)
        assert RunFollower(out).poll().state.name == "running"
        stop_training(out)
        wait_for(lambda: RunFollower(out).poll().state.name == "died")  # the stand-in leaves its running.json
        assert last_line(out / "train.log") == "saved"
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "can_train", lambda: False)
    with pytest.raises(TrainingError, match=r"pip install 'napari-vqldm\[train\]'"):
        start_training("smoke-ldm", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "config, overrides, words",
    [
        ("no-preset", [], "no such file or preset"),
        ("smoke-ldm", ["denoiser.stepz=3"], "stepz"),
        ("smoke-ldm", ["denoiser.steps"], "expected KEY=VALUE"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_written(
    tmp_path: Path, config: str, overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start_training(config, tmp_path / "run", overrides)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="no run folder"):
        start_training("smoke-ldm", tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        start_training("smoke-ldm", tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_nothing_is_stopped_that_is_not_there_or_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training works there"):
        stop_training(tmp_path)
    (tmp_path / "running.json").write_text(json.dumps({**asdict(RunProcess.this()), "created_s": 1e9}))
    with pytest.raises(TrainingError, match="no training works there"):
        stop_training(tmp_path)  # the number belongs to this very process
    for pid in (0, -1):  # as a signal's address: all of a group, all there are
        (tmp_path / "running.json").write_text(json.dumps({**asdict(RunProcess.this()), "pid": pid}))
        with pytest.raises(TrainingError, match="no training works there"):
            stop_training(tmp_path)
    (tmp_path / "running.json").write_text(json.dumps({"pid": 123, "host": "node-7", "created_s": 0}))
    with pytest.raises(TrainingError, match="kill -TERM 123"):
        stop_training(tmp_path)


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    assert last_line(log) == ""
    log.write_text("first\n" * 2000 + "error: the last word\n\n")
    assert last_line(log) == "error: the last word"
