"""The self-test times what it says it times, and can be kept as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.peak_memory import PeakMemory
from napari_vqldm.self_test import SelfTest, self_test, self_test_steps


def test_every_piece_is_timed(model: Model) -> None:
    steps = list(self_test_steps(model))
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    result = steps[-1].result
    assert result is not None
    numbers = {name: value for name, value in result.to_dict().items() if "seconds" in name}
    assert all(value is None or value > 0 for value in numbers.values())
    assert result.denoiser_seconds is not None and result.denoiser_batch == 1
    assert (result.device, result.threads) == ("cpu", torch.get_num_threads())
    assert result.weights_sha256 == model.weights_sha256
    lines = result.lines()
    assert model.name in lines[0] and any(line.startswith("denoise:") for line in lines)


def test_json_and_back(ldm: Model) -> None:
    result = self_test(ldm)
    values = json.loads(json.dumps(result.to_dict()))
    assert SelfTest.from_dict(values) == result
    for odd in ({**values, "more": 1}, {name: value for name, value in values.items() if name != "threads"}):
        with pytest.raises(ConfigError, match="run it again"):
            SelfTest.from_dict(odd)


def test_a_slow_decoder_is_seen(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = LatentSpace.decode

    def slow(self: LatentSpace, latent: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return plain(self, latent)

    monkeypatch.setattr(LatentSpace, "decode", slow)
    result = self_test(ldm)
    assert result.decode_seconds_per_voxel * np.prod(ldm.config.window) >= 0.05


def test_a_model_without_denoiser_and_a_device_without_bf16(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = LatentSpace.decode

    def no_half(self: LatentSpace, latent: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for BFloat16")
        return plain(self, latent)

    monkeypatch.setattr(LatentSpace, "decode", no_half)
    config = ldm.config.model_copy(update={"denoiser": None})
    result = self_test(dataclasses.replace(ldm, denoiser=None, config=config))
    assert result.denoiser_seconds is None and result.bf16_decode_seconds_per_voxel is None
    assert "bf16: does not work here" in result.lines()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_that_of_the_arrays() -> None:
    kept: list[Any] = []
    with PeakMemory(torch.device("cpu")) as peak:
        array = np.ones(2**23)  # 64 MiB
        kept.append(float(array.sum()))
        del array
    assert peak.peak_bytes is not None
    assert 0.9 * 2**26 < peak.peak_bytes < 1.5 * 2**26
