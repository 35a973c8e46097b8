"""What the loop offers, in complete runs of both families."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state
from napari_vqldm.training.stages.autoencoder import AutoencoderTraining


class Crash(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_a_run_in_parts_nearly_has_the_same_weights(
    family: str, tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    config = tiny.config(family, autoencoder__accumulate=2)
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    one, two = (load_state(folder / "state/autoencoder.safetensors") for folder in (finished[family], tmp_path / "run"))
    assert one is not None and two is not None
    for name, tensor in one.part("model").items():
        torch.testing.assert_close(two.part("model")[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_a_real_run_goes_back_too(
    family: str, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codebook starts at step 2, the state is of step 2, step 3 fails: counters and averages go back as well."""
    losses, left = AutoencoderTraining.losses, [3]

    def fail_once(self: AutoencoderTraining, task: nn.Module, batch: Any, step: int) -> dict[str, Tensor]:
        terms = losses(self, task, batch, step)
        if left == [step]:
            left.clear()
            terms["loss"] = terms["loss"] * math.nan
        return terms

    config, folders = tiny.config(family), [tmp_path / "whole", tmp_path / "resumed"]
    monkeypatch.setattr(AutoencoderTraining, "losses", fail_once)
    tiny.run(config, folders[0], stages=["autoencoder"], cache=bank_cache)
    left.append(3)
    with monkeypatch.context() as patch:
        write = RunLog.write

        def write_or_die(self: RunLog, name: str, step: int, *args: Any, **extra: Any) -> None:
            write(self, name, step, *args, **extra)
            if step == 5:
                raise Crash

        patch.setattr(RunLog, "write", write_or_die)
        with pytest.raises(Crash):
            tiny.run(config, folders[1], stages=["autoencoder"], cache=bank_cache)
    tiny.run(config, folders[1], stages=["autoencoder"], cache=bank_cache)
    one, two = (load_state(folder / "state/autoencoder.safetensors") for folder in folders)
    assert one is not None and two is not None
    assert one.record["rewinds"] == two.record["rewinds"] == [{"from": 4, "to": 2, "until": 204}]
    tiny.assert_same_bits(one.tensors, two.tensors)


def test_power_averages_serve_a_whole_run(tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace) -> None:
    """A codebook that starts from k-means starts in all averages; both stages choose."""
    config = tiny.config(
        "vq-ldm", autoencoder__ema="power", denoiser__ema="power", denoiser__ema_lengths=[0.05, 0.1, 0.2]
    )
    assert tiny.run(config, tmp_path / "run", cache=bank_cache) is not None
    for stage, count in (("autoencoder", 2), ("denoiser", 3)):
        state = load_state(tmp_path / f"run/state/{stage}.safetensors")
        assert state is not None and len(state.record["scores"]) == count
    state = load_state(tmp_path / "run/state/autoencoder.safetensors")
    assert state is not None
    name = "network.quantizer.codebook"
    assert (state.part("average")[name] - state.part("average1")[name]).abs().max() < 1.0
