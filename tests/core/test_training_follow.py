"""A run folder as it is read from outside: what is new, what stands, and every way in which it can be unreadable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_vqldm.training import tail
from napari_vqldm.training.follow import RunFollower, RunHistory
from napari_vqldm.training.presence import RunProcess
from napari_vqldm.training.run_state import SILENT_S

CONFIG = {"name": "tiny", "model": {"denoiser": {}}, "autoencoder": {"steps": 40}, "denoiser": {"steps": 100}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def line(stage: str, step: int, **terms: Any) -> str:
    return json.dumps({"stage": stage, "step": step, **terms}) + "\n"


def append(folder: Path, text: str) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def announce(folder: Path, process: RunProcess) -> None:
    (folder / "running.json").write_text(json.dumps(asdict(process)))


def state(folder: Path) -> str:
    return RunFollower(folder).poll().state.name


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_each_look_tells_only_what_is_new(run: Path) -> None:
    follower = RunFollower(run)
    assert follower.poll().points == {}
    append(run, line("autoencoder", 1, loss=2.0, lr=0.1, seconds=1.0))
    assert follower.poll().points == {"autoencoder": {"loss": [(1, 2.0)], "lr": [(1, 0.1)]}}
    assert follower.poll().points == {}
    append(run, line("autoencoder", 10, loss=1.0) + line("autoencoder", 10, held_out_average_db=20.5))
    assert follower.poll().points == {"autoencoder": {"loss": [(10, 1.0)], "held_out_average_db": [(10, 20.5)]}}


def test_half_a_line_waits_until_it_is_whole(run: Path) -> None:
    follower, text = RunFollower(run), line("denoiser", 10, loss=0.5)
    append(run, text[:20])
    assert follower.poll().points == {}
    append(run, text[20:-1])
    assert follower.poll().points == {}
    append(run, text[-1:])
    assert follower.poll().points == {"denoiser": {"loss": [(10, 0.5)]}}


def test_lines_that_no_run_writes_are_skipped(run: Path) -> None:
    append(run, '[]\n7\n{"step": 1}\n{"stage": "x", "step": 1, "loss": 1}\n{"stage": "denoiser", "step": null}\n\xff\n')
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00\n")
    append(run, "[" * 100_000 + "\n" + line("denoiser", 10**30, loss=1.0) + line("denoiser", -1, loss=1.0))
    append(run, '{"stage": "denoiser", "step": Infinity, "loss": 1}\n' + line("denoiser", 4, huge=10**400, watcher="w"))
    append(
        run,
        line("denoiser", 5, loss=1.0, note="text", huge=10**400, flag=True, scores_of=[1])
        + line("denoiser", 6, scores={}),
    )
    assert RunFollower(run).poll().points == {"denoiser": {"loss": [(5, 1.0)]}}


def test_a_loss_that_is_no_number_is_a_point(run: Path) -> None:
    append(run, '{"stage": "denoiser", "step": 3, "loss": NaN}\n')
    ((step, value),) = RunFollower(run).poll().points["denoiser"]["loss"]
    assert step == 3 and value != value


@pytest.mark.parametrize("how", ["shorter", "other", "longer", "gone"])
def test_a_rewound_or_replaced_file_starts_anew(run: Path, how: str) -> None:
    follower, history = RunFollower(run), RunHistory()
    append(run, "".join(line("autoencoder", step, loss=1.0 / step) for step in range(1, 30)))
    history.add(follower.poll())
    other = {"shorter": 10, "other": 30, "longer": 50, "gone": 0}[how]
    text = "".join(line("autoencoder", step, loss=2.0 / step) for step in range(1, other))
    if how == "gone":
        (run / "metrics.jsonl").unlink()
    else:
        (run / "new").write_text(text)
        (run / "new").replace(run / "metrics.jsonl")
    news = follower.poll()
    assert news.is_anew
    history.add(news)
    points = history.curves.get("autoencoder", {}).get("loss", [])
    assert points == [(step, 2.0 / step) for step in range(1, other)]


def test_equal_lines_in_a_new_file_are_not_told_again(run: Path) -> None:
    """A run that goes on copies its lines into a new file."""
    follower = RunFollower(run)
    append(run, "".join(line("autoencoder", step, loss=1.0 / step) for step in range(1, 30)))
    follower.poll()
    shutil.copy(run / "metrics.jsonl", run / "new")
    (run / "new").replace(run / "metrics.jsonl")
    append(run, line("autoencoder", 30, loss=9.0))
    news = follower.poll()
    assert not news.is_anew
    assert news.points == {"autoencoder": {"loss": [(30, 9.0)]}}


def test_a_long_file_is_read_in_parts_and_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MOST_BYTES", 1000)
    append(run, "".join(line("denoiser", step, loss=1.0) for step in range(1, 101)))
    append(run, "x" * 5000 + "\n" + line("denoiser", 101, loss=1.0))  # a line that never ends
    follower, history, looks = RunFollower(run), RunHistory(), 0
    while history.curves.get("denoiser", {}).get("loss", [(0, 0.0)])[-1][0] < 101:
        history.add(follower.poll())
        looks += 1
        assert looks < 50
    assert looks > 5
    assert [step for step, _ in history.curves["denoiser"]["loss"]] == list(range(1, 102))


# --- watchers, progress -----------------------------------------------------------------------------------------------


def test_a_watcher_that_goes_on_is_one_trouble_in_its_latest_words(run: Path) -> None:
    follower, history = RunFollower(run), RunHistory()
    for step, words in ((10, "1.2: lower it"), (20, "1.3: lower it")):
        append(run, line("autoencoder", step, watcher="scale_drift", message=words, value=1.0))
        history.add(follower.poll())
    append(run, line("denoiser", 5, watcher="scale_drift", message="2: lower it", value=None))
    history.add(follower.poll())
    assert [trouble.line for trouble in history.troubles] == [
        "autoencoder, steps 10 to 20: scale_drift: 1.3: lower it",
        "denoiser, step 5: scale_drift: 2: lower it",
    ]
    assert history.curves == {}


def test_stage_step_speed_and_time_left(run: Path) -> None:
    follower = RunFollower(run)
    assert follower.poll().progress.text == "preparing the data"
    append(run, "".join(line("autoencoder", step, loss=1.0, seconds=step * 0.5) for step in (10, 20, 30)))
    progress = follower.poll().progress
    assert (progress.stage, progress.step, progress.steps) == ("autoencoder", 30, 40)
    assert progress.steps_per_s == pytest.approx(2.0)
    assert progress.seconds_left == pytest.approx(5.0)
    assert progress.text == "stage autoencoder, step 30 of 40, 2 steps/s, less than a minute left"
    append(run, line("autoencoder", 40, loss=1.0, seconds=20.0))
    assert follower.poll().progress.stage == "latents"
    (run / "results").mkdir()
    (run / "results/latents.json").write_text("{}")
    assert follower.poll().progress.stage == "denoiser"
    append(run, line("denoiser", 10, loss=1.0, seconds=100.0) + line("denoiser", 20, loss=1.0, seconds=1000.0))
    assert follower.poll().progress.text == "stage denoiser, step 20 of 100, 0.0111 steps/s, 2 h 00 min left"


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_live_process_is_a_run(run: Path) -> None:
    announce(run, RunProcess.this())
    news = RunFollower(run).poll()
    assert (news.state.name, news.state.is_here) == ("running", True)
    assert f"process {os.getpid()}" in news.state.text


def test_a_process_that_is_gone_died(run: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        process = RunProcess(other.pid, RunProcess.this().host, psutil.Process(other.pid).create_time())
        announce(run, process)
        assert state(run) == "running"
        other.kill()
        while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:  # not waited for: still in the list
            time.sleep(0.01)
        assert state(run) == "died"
    assert state(run) == "died"
    announce(run, replace(RunProcess.this(), created_s=1e9))  # another process has the number now
    assert state(run) == "died"


def test_a_process_of_another_computer_is_told_by_what_it_writes(run: Path) -> None:
    announce(run, RunProcess(1, "node-7", 0.0))
    news = RunFollower(run).poll()
    assert (news.state.name, news.state.is_here) == ("running", False)
    long_ago = time.time() - SILENT_S - 60
    os.utime(run / "running.json", (long_ago, long_ago))
    news = RunFollower(run).poll()
    assert news.state.name == "silent" and "node-7" in news.state.text and "11 min" in news.state.text
    (run / "cache/volumes-1").mkdir(parents=True)  # it simulates
    assert state(run) == "running"


@pytest.mark.parametrize(
    "files, expected, words",
    [
        ({"failed.json": {"message": "the loss is no number"}}, "failed", "the loss is no number"),
        ({"stopped.json": {"signal": 15}}, "stopped", "saved"),
        ({"checkpoint.safetensors": {}}, "finished", "checkpoint"),
        ({"autoencoder.safetensors": {}}, "ended", "no checkpoint yet"),
        ({}, "ended", "no process"),
        ({"running.json": [1, 2]}, "ended", "no process"),
        ({"running.json": {"pid": -1, "host": "", "created_s": 0}}, "ended", "no process"),
    ],
)
def test_what_the_end_left_behind(run: Path, files: Mapping[str, Any], expected: str, words: str) -> None:
    for name, content in files.items():
        (run / name).write_text(json.dumps(content))
    found = RunFollower(run).poll().state
    assert found.name == expected
    assert words in found.text and "\n" not in found.text


def test_a_run_whose_folder_was_removed_tells_how_it_ended(run: Path) -> None:
    """Its training wrote its error into a new folder."""
    (run / "config.json").unlink()
    (run / "failed.json").write_text(json.dumps({"message": "cannot write"}))
    assert RunFollower(run).poll().state.text == "failed: cannot write"


def test_an_autoencoder_alone_is_finished_with_its_own_checkpoint(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**CONFIG, "model": {"denoiser": None}}))
    assert state(run) == "ended"
    (run / "autoencoder.safetensors").touch()
    news = RunFollower(run).poll()
    assert news.state.name == "finished"
    assert news.checkpoint == run / "autoencoder.safetensors"


def test_the_newest_checkpoint_and_pictures(run: Path) -> None:
    (run / "autoencoder.safetensors").touch()
    (run / "pictures").mkdir()
    for name in (
        "autoencoder-000100.png",
        "autoencoder-001000.png",
        "denoiser-000100.png",
        ".denoiser-000200.png.part",
    ):
        (run / "pictures" / name).touch()
    news = RunFollower(run).poll()
    assert news.checkpoint == run / "autoencoder.safetensors"
    assert {stage: path.name for stage, path in news.pictures.items()} == {
        "autoencoder": "autoencoder-001000.png",
        "denoiser": "denoiser-000100.png",
    }
    (run / "checkpoint.safetensors").touch()
    assert RunFollower(run).poll().checkpoint == run / "checkpoint.safetensors"


# --- folders that are not what they should be -------------------------------------------------------------------------


def test_a_folder_that_goes_and_comes_back(run: Path) -> None:
    follower = RunFollower(run)
    append(run, line("denoiser", 10, loss=0.5))
    follower.poll()
    shutil.rmtree(run)
    news = follower.poll()
    assert news.state.name == "missing" and str(run) in news.state.text
    assert not news.is_anew  # what is on the screen stays
    run.mkdir()
    (run / "config.json").write_text(json.dumps(CONFIG))
    append(run, line("denoiser", 5, loss=0.25))
    news = follower.poll()
    assert news.is_anew and news.points == {"denoiser": {"loss": [(5, 0.25)]}}


def test_no_run_folders(tmp_path: Path) -> None:
    assert state(tmp_path / "nowhere") == "missing"
    (tmp_path / "file").touch()
    assert "a file" in RunFollower(tmp_path / "file").poll().state.text
    assert state(tmp_path) == "no run"
    (tmp_path / "config.json").write_text("{half")
    assert state(tmp_path) == "no run"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_what_the_file_system_refuses_is_a_state(run: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    append(run, line("denoiser", 5, loss=0.25))
    follower, real_open = RunFollower(run), Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "metrics.jsonl":
            raise error
        return real_open(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        found = follower.poll().state
        assert found.name == "unreadable"
        assert str(error.strerror) in found.text and "\n" not in found.text
    assert follower.poll().points == {"denoiser": {"loss": [(5, 0.25)]}}


def test_a_reader_writes_nothing(run: Path) -> None:
    announce(run, RunProcess.this())
    append(run, line("denoiser", 5, loss=0.25))
    before = {path: path.stat().st_mtime_ns for path in (run, *run.rglob("*"))}
    follower = RunFollower(run)
    for _ in range(3):
        follower.poll()
    assert {path: path.stat().st_mtime_ns for path in (run, *run.rglob("*"))} == before


def test_following_needs_no_torch() -> None:
    code = (
        "import sys, napari_vqldm.training.follow, napari_vqldm.training.start, napari_vqldm.training.show; "
        "print([name for name in ('torch', 'monai', 'lightning_fabric') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
