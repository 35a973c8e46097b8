"""The Training tab with a real viewer: start a training as a process of its own, stop it, leave it alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.plugin.training.helpers import make_run

from napari_vqldm.plugin.tabs.training import start_box
from napari_vqldm.plugin.tabs.training import tab as tab_module
from napari_vqldm.plugin.tabs.training.tab import TrainingTab
from napari_vqldm.training.folder import RunFolder
from napari_vqldm.training.start import StartedTraining


def stand_in_training(tmp_path: Path, monkeypatch, code: str) -> list[tuple]:
    """Start ``code`` instead of a training; what was asked for."""
    asked = []

    def start(config, out, overrides):
        asked.append((config, out, overrides))
        out.mkdir(exist_ok=True)
        with (out / "train.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
        return StartedTraining(process, RunFolder(out, out / "cache"))

    monkeypatch.setattr(tab_module, "start_training", start)
    return asked


def test_start_and_stop(tab, desk, tmp_path, monkeypatch, wait_until):
    asked = stand_in_training(tmp_path, monkeypatch, "import time; time.sleep(60)")
    out = tmp_path / "new"
    tab.start_box.preset.setCurrentText("smoke-vq-ldm")
    tab.start_box.out.setText(str(out))
    tab.start_box.overrides.setText("denoiser.steps=7  name='my cells'")
    tab.start_box.start.click()
    assert not tab.start_box.start.isEnabled()  # not twice
    wait_until(lambda: tab.started is not None)
    assert asked == [("smoke-vq-ldm", out, ("denoiser.steps=7", "name=my cells"))]
    wait_until(lambda: "starting, process" in tab.state.text())
    assert tab.following.path == out and tab.start_box.start.isEnabled()
    assert "does not end it" in desk.notices[-1]
    tab.start_box.start.click()  # it has not said in its folder that it works there
    assert len(asked) == 1 and "works there" in desk.failures.pop().cause
    tab.start_box.stop.click()  # before it has written anything
    wait_until(lambda: not tab.started.is_alive)
    wait_until(lambda: any("asked to stop" in notice for notice in desk.notices))
    wait_until(lambda: not tab.start_box.stop.isEnabled())
    wait_until(lambda: "stopped before there was anything to save" in desk.notices[-1])
    assert desk.failures == []


def test_another_run_waits_until_the_training_is_started(tab, desk, run, tmp_path, monkeypatch, wait_until):
    asked = stand_in_training(tmp_path, monkeypatch, "import time; time.sleep(60)")
    out = tmp_path / "new"
    tab.start_box.out.setText(str(out))
    tab.start_box.start.click()
    tab.follow(run)
    assert tab.following.path == out and "follow another run when it runs" in desk.notices[-1]
    wait_until(lambda: tab.started is not None)
    assert len(asked) == 1
    tab.follow(run)
    assert tab.following.path == run
    tab.started.stop()


@pytest.mark.slow
def test_a_real_training_is_started_followed_and_stopped(tab, desk, tmp_path, wait_until):
    """Of a preset, with the very process that a user starts."""
    out = tmp_path / "new"
    tab.start_box.preset.setCurrentText("smoke-ldm")
    tab.start_box.out.setText(str(out))
    tab.start_box.overrides.setText("autoencoder.steps=100000 autoencoder.log_every=1")
    tab.start_box.start.click()
    wait_until(lambda: tab.started is not None)
    wait_until(lambda: "autoencoder" in tab.history.curves, timeout=180_000)
    assert "running, process" in tab.state.text() and "loss" in tab.curves.lines
    assert f"process {tab.started.pid}" in tab.state.text()
    tab.start_box.stop.click()
    wait_until(lambda: "stopped by a signal, saved" in tab.state.text(), timeout=60_000)
    assert tab.started.wait(30).exit_code == 0 and (out / "stopped.json").exists()
    assert desk.failures == []


def test_a_training_that_saves_and_leaves_is_not_said_to_start(tab, tmp_path, monkeypatch, wait_until):
    stand_in_training(tmp_path, monkeypatch, "import time; time.sleep(60)")
    out = tmp_path / "new"
    tab.start_box.out.setText(str(out))
    tab.start_box.start.click()
    wait_until(lambda: "starting, process" in tab.state.text())
    make_run(out)
    wait_until(lambda: "tiny: running" in tab.state.text())
    (out / "stopped.json").write_text("{}")
    (out / "running.json").unlink()
    wait_until(lambda: "stopped by a signal, saved" in tab.state.text())
    assert tab.started.is_alive
    tab.started.stop()


def test_a_training_that_fails_at_once_is_told_with_its_last_line(tab, desk, tmp_path, monkeypatch, wait_until):
    stand_in_training(tmp_path, monkeypatch, "import sys; sys.exit('error: the GPU is on fire')")
    tab.start_box.out.setText(str(tmp_path / "new"))
    tab.start_box.start.click()
    wait_until(lambda: any("exit code 1: error: the GPU is on fire" in notice for notice in desk.notices))


def test_closing_the_tab_leaves_the_training_alone(tab, tmp_path, monkeypatch, wait_until):
    stand_in_training(tmp_path, monkeypatch, "import time; time.sleep(60)")
    tab.start_box.out.setText(str(tmp_path / "new"))
    tab.start_box.start.click()
    wait_until(lambda: tab.started is not None)
    tab.close_tab()
    time.sleep(0.3)
    assert tab.started.is_alive
    tab.started.stop()
    assert tab.started.wait(10) is not None


def test_what_cannot_be_started_is_explained(tab, desk, tmp_path, wait_until):
    tab.start_box.start.click()
    assert "run folder" in desk.failures[-1].cause
    tab.start_box.out.setText(str(tmp_path / "new"))
    tab.start_box.overrides.setText("denoiser.stepz=7")
    tab.start_box.start.click()
    wait_until(lambda: len(desk.failures) == 2)
    assert "stepz" in desk.failures[-1].cause
    assert tab.start_box.start.isEnabled() and not (tmp_path / "new").exists()
    tab.start_box.overrides.setText("name='half")
    tab.start_box.start.click()
    assert "KEY=VALUE" in desk.failures[-1].cause + desk.failures[-1].remedy


def test_without_the_extra_one_line_says_what_to_install(desk, run, qtbot, monkeypatch, wait_until):
    monkeypatch.setattr(start_box, "can_train", lambda: False)
    tab = TrainingTab(desk)
    qtbot.addWidget(tab)
    tab.show()
    tab.start_fold.set_open(True)
    assert "pip install 'napari-vqldm[train]'" in tab.start_box.missing.text()
    assert tab.start_box.missing.isVisible() and not tab.start_box.start.isEnabled()
    tab.follow(run)  # works without
    wait_until(lambda: "running" in tab.state.text())
    tab.close_tab()
