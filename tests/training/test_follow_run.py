"""What a real run tells whoever follows it: numbers, volumes, who works there, how it ended."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

import napari_vqldm.training.folder as folder_module
from napari_vqldm.errors import FileError, TrainingError
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.follow import RunFollower, RunHistory
from napari_vqldm.training.interrupt import Interrupted
from napari_vqldm.training.presence import RunProcess
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_record
from napari_vqldm.training.show import volumes_sheet
from napari_vqldm.training.start import start_training, stop_training
from napari_vqldm.training.volumes import SeriesReader, load_volumes

FAMILIES = ("ldm", "vq-ldm")


def test_a_finished_run(finished: dict[str, Path]) -> None:
    run, history = finished["ldm"], RunHistory()
    news = RunFollower(run).poll()
    history.add(news)
    assert (news.name, news.state.name, news.checkpoint) == ("tiny", "finished", run / "checkpoint.safetensors")
    losses = [
        (x["step"], x["loss"]) for x in read_metrics(run / "metrics.jsonl") if x["stage"] == "denoiser" and "loss" in x
    ]
    assert history.curves["denoiser"]["loss"] == losses and len(losses) == 7
    assert not (run / "running.json").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_volumes_are_those_of_the_pictures(finished: dict[str, Path], family: str) -> None:
    news = RunFollower(finished[family]).poll()
    assert [file.path.stem for file in news.volumes] == [path.stem for path in news.pictures.values()]
    series = SeriesReader().read(news.volumes)
    assert set(series["autoencoder"].frames) == {"input", "target", "reconstruction"}
    assert set(series["denoiser"].frames) == {"sample"}
    for of_stage in series.values():
        assert of_stage.steps == (7,)
        assert all(frames.shape == (1, 8, 16, 16) for frames in of_stage.frames.values())
    # Drawn again, they are the pictures but for the rounding to 16 bits.
    groups = ("input", "target", "reconstruction")
    for file, headings in zip(news.volumes, ("held-out volume {}", "generated"), strict=True):
        saved = load_volumes(file.path)
        if file.stage == "denoiser":
            rows = [(headings, [(f"sample {i}", volume) for i, volume in enumerate(saved.volumes["sample"])])]
        else:
            assert [len(saved.volumes[name]) for name in groups] == [2, 2, 2]  # held-out volumes
            rows = [(headings.format(i), [(name, saved.volumes[name][i]) for name in groups]) for i in range(2)]
        drawn = volumes_sheet(rows, saved.voxel_size_um, "step 7").astype(int)
        with Image.open(news.pictures[file.stage]) as picture:
            assert np.abs(drawn - np.asarray(picture, int)).max() <= 2
            assert np.asarray(picture).std() > 10


def test_a_run_under_way_names_its_process_and_a_stop_takes_it_back(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    write = RunLog.write
    run = tmp_path / "run"

    def look(self: RunLog, stage: str, step: int, *args: object, **extra: float) -> None:
        write(self, stage, step, *args, **extra)  # type: ignore[arg-type]
        seen.append(RunFollower(run).poll().state.name)
        if (stage, step) == ("denoiser", 3):
            raise Interrupted(15)

    monkeypatch.setattr(RunLog, "write", look)
    with pytest.raises(Interrupted):
        tiny.run(tiny.config(), run, cache=bank_cache)
    assert set(seen) == {"running"}
    news = RunFollower(run).poll()
    assert news.state.name == "stopped"
    assert (news.progress.stage, news.progress.step, news.progress.steps) == ("denoiser", 3, 7)


def test_an_error_is_kept_until_the_next_start(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, write = tmp_path / "run", RunLog.write

    def fail(self: RunLog, stage: str, step: int, *args: object, **extra: float) -> None:
        if (stage, step) == ("autoencoder", 5):
            raise TrainingError("stage 'autoencoder': collapsed: lower the learning rate")
        write(self, stage, step, *args, **extra)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", fail)
        with pytest.raises(TrainingError):
            tiny.run(tiny.config(), run, cache=bank_cache)
    news = RunFollower(run).poll()
    assert news.state.name == "failed" and "lower the learning rate" in news.state.text
    checkpoint = tiny.run(tiny.config(), run, cache=bank_cache)
    assert not (run / "failed.json").exists()
    assert RunFollower(run).poll().state.name == "finished"
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished["ldm"] / "checkpoint.safetensors"))


def test_a_second_training_is_refused_in_the_folder_of_a_live_one(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        created = psutil.Process(other.pid).create_time()
        (run / "running.json").write_text(json.dumps(asdict(RunProcess(other.pid, platform.node(), created))))
        (run / ".config.json.1.part").touch()
        before = sorted(path.name for path in run.iterdir())
        with pytest.raises(TrainingError, match=f"process {other.pid} on .* works there"):
            tiny.run(tiny.config(), run, cache=bank_cache)
        assert sorted(path.name for path in run.iterdir()) == before
    finally:
        other.kill()
        other.wait()


def test_a_folder_that_was_removed_under_its_training_can_be_used_again(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "failed.json").write_text(json.dumps({"message": "cannot write"}))
    (run / "metrics.jsonl").write_text(json.dumps({"stage": "autoencoder", "step": 9000, "loss": 1.0}) + "\n")
    tiny.run(tiny.config(), run, cache=bank_cache)
    assert not (run / "failed.json").exists()
    assert max(line["step"] for line in read_metrics(run / "metrics.jsonl")) < 9000


@pytest.mark.parametrize("family", FAMILIES)
def test_volumes_play_no_part_in_the_training(
    family: str,
    tmp_path: Path,
    bank_cache: Path,
    finished: dict[str, Path],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RunLog, "volumes", lambda *_: None)
    checkpoint = tiny.run(tiny.config(family), tmp_path / "run", cache=bank_cache)
    assert not (tmp_path / "run/volumes").exists()
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished[family] / "checkpoint.safetensors"))


def test_a_fresh_stage_forgets_its_volumes(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished["ldm"], run)
    monkeypatch.setattr(RunLog, "volumes", lambda *_: None)
    tiny.run(tiny.config(), run, cache=bank_cache, stages=["denoiser"], fresh=True)
    assert [file.stage for file in RunFollower(run).poll().volumes] == ["autoencoder"]


@pytest.mark.slow
def test_a_training_that_is_started_apart_goes_to_its_end(tmp_path: Path, tiny: SimpleNamespace) -> None:
    toml = tiny.write_toml(tmp_path / "tiny.toml", tiny.values())
    run = tmp_path / "run"
    training = start_training(toml, run, ["denoiser.steps=5"])
    end = training.wait(180)
    log = (run / "train.log").read_text()
    assert end is not None and end.exit_code == 0, log
    assert end.last_line == f"checkpoint: {run / 'checkpoint.safetensors'}"
    assert RunFollower(run).poll().state.name == "finished"
    assert json.loads((run / "config.json").read_text())["denoiser"]["steps"] == 5
    refused = start_training(toml, run, ["denoiser.steps=6"]).wait(180)
    assert refused is not None and refused.exit_code == 2
    assert "denoiser.steps = 5, now it is 6" in refused.last_line
    assert (run / "train.log").read_text().startswith(log)  # earlier words stay


@pytest.mark.slow
def test_a_training_that_is_stopped_by_its_folder_saves_and_goes_on(tmp_path: Path, tiny: SimpleNamespace) -> None:
    toml = tiny.write_toml(tmp_path / "tiny.toml", tiny.values(autoencoder__steps=1_000_000))
    run = tmp_path / "run"
    training = start_training(toml, run)
    follower = RunFollower(run)
    for _ in range(1200):
        news = follower.poll()
        if news.points or not training.is_alive:
            break
        time.sleep(0.1)
    assert news.state.is_here and news.progress.stage == "autoencoder"
    stop_training(run)
    end = training.wait(60)
    assert end is not None and end.exit_code == 0
    news = follower.poll()
    assert news.state.name == "stopped"
    assert load_record(run / "state/autoencoder.safetensors")["step"] == news.progress.step  # nothing is lost


def test_a_reader_that_holds_a_file_on_windows_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace, refused = tmp_path / "metrics.jsonl", Path.replace, []

    def held(self: Path, target: Path) -> Path:
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(folder_module, "REPLACE_AGAIN_S", (0.01, 0.01))
    folder_module.write_json(path, {"step": 1})
    assert refused == [path, path] and json.loads(path.read_text()) == {"step": 1}
    refused.clear()
    monkeypatch.setattr(folder_module, "REPLACE_AGAIN_S", ())
    with pytest.raises(FileError, match="permission denied"):
        folder_module.write_json(path, {"step": 2})
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]
