"""Every stage of every preset, shrunk by shrink.toml, killed at random moments: the result has the same bits."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_vqldm.training.config import STAGES, preset_paths
from napari_vqldm.training.folder import RunFolder, read_metrics
from napari_vqldm.training.run import run_training

KILLS = 4  # a stage


@pytest.mark.parametrize("preset", sorted(preset_paths()))
def test_shrink_reaches_every_stage_of_every_preset(preset: str, tiny: SimpleNamespace) -> None:
    config = tiny.shrunk(preset)
    assert config.model.window == (8, 32, 32)
    assert max(config.autoencoder.steps, config.denoiser.steps) <= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("preset", sorted(preset_paths()))
def test_sigkill_at_random_moments_of_each_stage(
    preset: str, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace
) -> None:
    server = multiprocessing.get_context("forkserver")  # imports once, so that a kill hits the training
    server.set_forkserver_preload(["napari_vqldm.training.run"])
    config, chance = tiny.shrunk(preset), random.Random(preset)

    def start(out: Path, stage: str) -> multiprocessing.process.BaseProcess:
        process = server.Process(
            target=run_training, args=(config, out), kwargs={"stages": [stage], "cache": bank_cache}
        )
        process.start()
        return process

    whole, run = tmp_path / "whole", tmp_path / "run"
    for stage in STAGES:
        if stage == "autoencoder":  # starts the server and simulates
            start(whole, stage).join()
            RunFolder(whole, bank_cache).clear([stage])
        began = time.monotonic()
        start(whole, stage).join()
        seconds, kills, tries = time.monotonic() - began, 0, 0
        while kills < KILLS and tries < 10 * KILLS:
            process = start(run, stage)
            time.sleep(chance.uniform(0.0, seconds))
            process.kill()
            process.join()
            kills += process.exitcode == -signal.SIGKILL
            tries += 1
            if process.exitcode == 0:  # it was faster: forget its work
                RunFolder(run, bank_cache).clear([stage])
        assert kills == KILLS
        finish = start(run, stage)
        finish.join()
        assert finish.exitcode == 0
    tiny.assert_same_bits(tiny.weights(run / "checkpoint.safetensors"), tiny.weights(whole / "checkpoint.safetensors"))
    assert not list(run.rglob(".*.part"))
    numbers = [
        [(x["stage"], x["step"], x.get("loss")) for x in read_metrics(f / "metrics.jsonl")] for f in (run, whole)
    ]
    assert numbers[0] == numbers[1]
