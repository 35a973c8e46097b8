"""A run that was stopped anywhere ends with the same bits as one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import napari_vqldm.training.stages.latents as latents_module
from napari_vqldm.training.__main__ import main
from napari_vqldm.training.config import parse_train_config
from napari_vqldm.training.folder import read_metrics, write_json
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state, save_state

FAMILIES = ("ldm", "vq-ldm")


class Crash(Exception):
    """Stands for a process that dies between two steps."""


def crash_at(monkeypatch: pytest.MonkeyPatch, stage: str, step: int) -> None:
    """Make the run die right after the given step was logged, before anything is saved."""
    write = RunLog.write

    def write_or_die(self: RunLog, name: str, at: int, *args: object, **extra: float) -> None:
        write(self, name, at, *args, **extra)  # type: ignore[arg-type]
        if (name, at) == (stage, step):
            raise Crash

    monkeypatch.setattr(RunLog, "write", write_or_die)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage, step", [("autoencoder", 5), ("denoiser", 3)])
def test_a_crash_leaves_no_trace_in_the_weights(
    family: str,
    stage: str,
    step: int,
    tmp_path: Path,
    bank_cache: Path,
    finished: dict[str, Path],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny.config(family)
    with monkeypatch.context() as patch:
        crash_at(patch, stage, step)
        with pytest.raises(Crash):
            tiny.run(config, tmp_path / "run", cache=bank_cache)
    checkpoint = tiny.run(config, tmp_path / "run", cache=bank_cache)
    assert checkpoint is not None
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished[family] / "checkpoint.safetensors"))
    numbers = [(x["stage"], x["step"], x.get("loss")) for x in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert numbers == [(x["stage"], x["step"], x.get("loss")) for x in read_metrics(finished[family] / "metrics.jsonl")]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_crash_while_encoding_leaves_no_trace(
    family: str,
    tmp_path: Path,
    bank_cache: Path,
    finished: dict[str, Path],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, encode, calls = tiny.config(family), latents_module._encode, []

    def encode_or_die(*args: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:
            raise Crash
        return encode(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(latents_module, "_encode", encode_or_die)
        with pytest.raises(Crash):
            tiny.run(config, tmp_path / "run", cache=bank_cache)
    done_before = len(list((tmp_path / "run/cache/latents").glob("train-*.npy")))
    assert done_before == 1
    checkpoint = tiny.run(config, tmp_path / "run", cache=bank_cache)
    assert checkpoint is not None
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished[family] / "checkpoint.safetensors"))
    for path in sorted((finished[family] / "cache/latents").glob("*.npy")):
        assert path.read_bytes() == (tmp_path / "run/cache/latents" / path.name).read_bytes()


def test_stages_one_by_one_equal_the_whole_run(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    config = tiny.config()
    for stage in ("autoencoder", "latents", "denoiser"):
        checkpoint = tiny.run(config, tmp_path / "run", stages=[stage], cache=bank_cache)
    assert checkpoint is not None
    tiny.assert_same_bits(tiny.weights(checkpoint), tiny.weights(finished["ldm"] / "checkpoint.safetensors"))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    bank_cache: Path,
    finished: dict[str, Path],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toml = tiny.write_toml(tmp_path / "tiny.toml", tiny.values())
    command = [str(toml), "--out", str(tmp_path / "run"), "--cache", str(bank_cache)]
    write = RunLog.write

    def write_and_signal(self: RunLog, name: str, at: int, *args: object, **extra: float) -> None:
        write(self, name, at, *args, **extra)  # type: ignore[arg-type]
        if (name, at) == ("autoencoder", 3):
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_signal)
        assert main(command) == code
    state = load_state(tmp_path / "run/state/autoencoder.safetensors")
    assert state is not None and state.record["step"] == 3
    assert main(command) == 0
    tiny.assert_same_bits(
        tiny.weights(tmp_path / "run/checkpoint.safetensors"), tiny.weights(finished["ldm"] / "checkpoint.safetensors")
    )


def test_a_failed_write_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, {"a": torch.ones(3)}, {"step": 1})

    def fail(*args: object) -> None:
        raise Crash

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(Crash):
        save_state(path, {"a": torch.zeros(3)}, {"step": 2})
    state = load_state(path)
    assert state is not None and state.record["step"] == 1
    assert torch.equal(state.tensors["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", ["autoencoder", "denoiser"])
def test_two_processes_equal_one_with_twice_the_batch(
    stage: str, tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    """Samples are numbered over all processes, so the mean gradient is the same up to rounding."""
    run = tmp_path / "run"
    shutil.copytree(finished["ldm"], run)
    values = tiny.values(**{"devices": 2, "device": "cpu", f"{stage}__batch_size": 1})
    toml = tiny.write_toml(tmp_path / "tiny.toml", values)
    config = parse_train_config(values)
    write_json(run / "config.json", config.model_dump(mode="json"))
    command = [sys.executable, "-m", "napari_vqldm.training", str(toml), "--out", str(run), "--cache", str(bank_cache)]
    subprocess.run([*command, "--stage", stage, "--fresh"], check=True)
    one, two = (load_state(folder / f"state/{stage}.safetensors") for folder in (finished["ldm"], run))
    assert one is not None and two is not None
    for name, tensor in one.part("model").items():
        torch.testing.assert_close(two.part("model")[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the second process by /proc")
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace) -> None:
    run = tmp_path / "run"
    values = tiny.values(
        devices=2,
        device="cpu",
        autoencoder__steps=100_000,
        autoencoder__save_every=100_000,
        autoencoder__check_every=100_000,
    )
    toml = tiny.write_toml(tmp_path / "tiny.toml", values)
    command = [sys.executable, "-m", "napari_vqldm.training", str(toml), "--out", str(run), "--cache", str(bank_cache)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 300
        while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_bytes().splitlines()) < 5:
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        second = [pid for pid in children if b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()]
        os.kill(int(second[0]), signal.SIGTERM)
        try:
            _, said = first.communicate(timeout=120)
        finally:
            first.kill()
    assert first.returncode == 0, said
    assert "run the same command again to resume" in said
    state = load_state(run / "state/autoencoder.safetensors")
    assert state is not None and state.record["step"] >= 5
