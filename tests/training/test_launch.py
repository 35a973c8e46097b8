"""Who starts the processes, and the job scripts: run with stand-ins for the commands of a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.interrupt import Interrupted
from napari_vqldm.training.launch import ProcessGrid, process_grid
from napari_vqldm.training.progress import RunLog

SCRIPTS = sorted((Path(__file__).parents[2] / "training/slurm").glob("*.sbatch"))
TORCHRUN = {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}


def test_the_starter_says_how_many_processes_there_are() -> None:
    assert process_grid(3, "this program", {}) == ProcessGrid(3, 1, "this program")
    assert process_grid(1, "torchrun", TORCHRUN) == ProcessGrid(2, 3, "torchrun")
    assert process_grid(4, "srun", SRUN) == ProcessGrid(4, 2, "srun")


def test_a_configuration_that_disagrees_with_the_starter_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"torchrun started 2 processes on each node, .* devices = 4"):
        process_grid(4, "torchrun", TORCHRUN)
    with pytest.raises(ConfigError, match="7 processes on 2 nodes"):
        process_grid(1, "srun", SRUN | {"SLURM_NTASKS": "7"})


def commands(folder: Path, srun: str) -> dict[str, str]:
    """Stand-ins for srun and scontrol, first on the PATH; scontrol writes down what it was told."""
    folder.mkdir()
    (folder / "srun").write_text(f"#!/bin/bash\n{srun}\n")
    (folder / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {folder}/told\n')
    for name in ("srun", "scontrol"):
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "srun, code, told",
    [
        ("exit 0", 0, None),
        ("exit 2", 2, None),
        ('touch "$run/stopped.json"', 0, "requeue 42\n"),
    ],
    ids=["finished", "wrong configuration", "stopped by a signal to the step"],
)
def test_a_job_goes_back_into_the_queue_only_when_it_was_stopped(
    script: Path, srun: str, code: int, told: str | None, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    environment = commands(tmp_path / "bin", srun) | {"run": str(run)}
    done = subprocess.run(["bash", str(script), "smoke-ldm", str(run)], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    note = tmp_path / "bin/told"
    assert (note.read_text() if note.exists() else None) == told


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_signal_to_the_script_waits_for_the_step_to_save(script: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    step = (
        f"trap 'sleep 0.5; touch {run}/stopped.json; exit 0' TERM; touch {run}/started; while true; do sleep 0.05; done"
    )
    environment = commands(tmp_path / "bin", step)
    with subprocess.Popen(["bash", str(script), "x", str(run)], env=environment, start_new_session=True) as job:
        while not (run / "started").exists():
            assert job.poll() is None
            time.sleep(0.05)
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(timeout=60) == 0
    assert (tmp_path / "bin/told").read_text() == "requeue 42\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_passes_its_arguments_on(script: Path, tmp_path: Path) -> None:
    environment = commands(tmp_path / "bin", f'printf "%s|" "$@" > {tmp_path}/words')
    subprocess.run(["bash", str(script), "ldm", "my run", "--set", "a.b=1"], env=environment, check=True, cwd=tmp_path)
    words = (tmp_path / "words").read_text()
    assert "--cpus-per-task=8|" in words
    assert words.endswith("python|-m|napari_vqldm.training|ldm|--out|my run|--set|a.b=1|")


def test_a_stopped_run_says_so_until_it_goes_on(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RunLog.write

    def write_and_signal(self: RunLog, name: str, at: int, *args: object, **extra: float) -> None:
        write(self, name, at, *args, **extra)  # type: ignore[arg-type]
        if (name, at) == ("autoencoder", 3):
            signal.raise_signal(signal.SIGTERM)

    config = tiny.config()
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_signal)
        with pytest.raises(Interrupted):
            tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    assert (tmp_path / "run/stopped.json").exists()
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    assert not (tmp_path / "run/stopped.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_starts_two_processes_of_one_run(tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace) -> None:
    toml = tiny.write_toml(tmp_path / "tiny.toml", tiny.values("vq-ldm", device="cpu", name="tiny"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "napari_vqldm.training", str(toml), "--out", str(tmp_path / "run"), "--cache", str(bank_cache)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (tmp_path / "run/checkpoint.safetensors").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_while_the_first_of_two_processes_simulates_stops_both(tmp_path: Path, tiny: SimpleNamespace) -> None:
    run = tmp_path / "run"
    toml = tiny.write_toml(tmp_path / "tiny.toml", tiny.values(devices=2, device="cpu", data__num_volumes=50_000))
    command = [sys.executable, "-m", "napari_vqldm.training", str(toml), "--out", str(run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while not list(run.rglob("*.npy")):
            assert first.poll() is None
            time.sleep(0.2)
        first.send_signal(signal.SIGTERM)
        try:
            _, said = first.communicate(timeout=120)
        finally:
            first.kill()
    assert first.returncode == 0, said
    assert (run / "stopped.json").exists()
