"""Batches of stage 3: their parts are the whole, and their times follow the size of the crop."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.draws import Key
from napari_vqldm.training.stages.denoiser import DenoiserTraining, LatentBatch

GRID = (4, 4, 4)  # of the tiny window


class Cache:
    """Posterior of random latents."""

    def count(self, part: str) -> int:
        return 5

    def entry(self, part: str, index: int) -> np.ndarray[Any, np.dtype[np.float16]]:
        return np.random.default_rng(index).random((2, 2, *GRID)).astype(np.float16)

    def condition(self, part: str, index: int) -> None:
        return None

    def on_gpu(self, part: str, device: torch.device) -> None:
        return None


def training(tiny: SimpleNamespace, **changes: Any) -> DenoiserTraining:
    config = tiny.config(denoiser__batch_size=6, **changes)
    assert config.latent_shape == GRID
    run = SimpleNamespace(config=config, device=torch.device("cpu"), dtype=torch.float32, samples_of=range)
    space = SimpleNamespace(family="ldm", normalize=lambda latent: 2 * latent)
    return DenoiserTraining(run, Cache(), space)  # type: ignore[arg-type]


def unfinished(stage: DenoiserTraining) -> LatentBatch:
    """A batch as it is handed to a step beside a GPU, with conditions."""
    keys = [Key(0, "denoiser", 3, i) for i in range(6)]
    batch = stage._draw(keys, "train", (2, 2, 2))
    condition, drop = torch.arange(12.0).view(6, 2), torch.tensor([True, False] * 3)
    return LatentBatch(keys, None, batch.entries, None, batch.t, condition, drop)


def joined(parts: list[LatentBatch], name: str) -> Any:
    values = [getattr(part, name) for part in parts]
    if name == "keys":
        return [key for keys in values for key in keys]
    return None if values[0] is None else torch.cat(values)


@pytest.mark.parametrize("parts", [2, 3, 6])
@pytest.mark.parametrize("finish_first", [True, False])
def test_parts_of_a_batch_are_the_batch(parts: int, finish_first: bool, tiny: SimpleNamespace) -> None:
    stage = training(tiny)
    batch = unfinished(stage)
    whole = stage._finish(batch)
    cut = stage.split(whole if finish_first else batch, parts)
    assert [len(part.keys) for part in cut] == [6 // parts] * parts
    finished = [stage._finish(part) for part in cut]
    assert all((a is b) == finish_first for a, b in zip(cut, finished, strict=True))
    for field in fields(LatentBatch):
        a, b = getattr(whole, field.name), joined(finished, field.name)
        assert b is not None
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, field.name


def test_the_mean_loss_of_equal_parts_is_the_loss(tiny: SimpleNamespace) -> None:
    for weighting in ("none", "min_snr"):
        stage = training(tiny, denoiser__loss_weighting=weighting)
        generator = torch.Generator().manual_seed(0)
        for parameter in stage.task.parameters():  # the last layer starts at zero
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        batch = stage.batch(2)
        whole = stage.losses(stage.task, batch, 2)["loss"]
        parts = [stage.losses(stage.task, part, 2)["loss"] for part in stage.split(batch, 3)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_one_part_is_the_batch_itself_and_unequal_parts_are_refused(tiny: SimpleNamespace) -> None:
    stage = training(tiny)
    batch = stage.batch(0)
    assert stage.split(batch, 1)[0] is batch
    for parts in (0, -1, 4, 7):
        with pytest.raises(ConfigError, match=f"divides a batch of 6, got {parts}"):
            stage.split(batch, parts)


def test_training_times_follow_the_crop_in_use(tiny: SimpleNamespace) -> None:
    settings = {"model__diffusion__time_shift": 2.0, "model__diffusion__reference_cells": 16}
    times: dict[int, Tensor] = {}
    for name, cells, changes in (
        ("crop", 8, {"denoiser__crop_probability": 1.0}),
        ("whole", 64, {"denoiser__crop_probability": 0.0}),
    ):
        plain = training(tiny, **changes).batch(0)
        batch = training(tiny, **changes, **settings).batch(0)
        assert batch.x_0 is not None and batch.x_0[0, 0].numel() == cells, name
        shift = 2.0 * (cells / 16) ** 0.5  # an addition of its logarithm on the logit axis
        torch.testing.assert_close(batch.t.logit() - plain.t.logit(), torch.full((6,), shift).log(), rtol=0, atol=1e-4)
        times[cells] = batch.t
    assert (times[64] > times[8]).all()


def test_a_batch_without_a_reference_is_what_it_was(tiny: SimpleNamespace) -> None:
    """Times are a draw of each key alone, whatever the crop."""
    stage = training(tiny, denoiser__crop_probability=1.0)
    batch = stage.batch(4)
    for key, t in zip(batch.keys, batch.t, strict=True):
        expected = torch.sigmoid(torch.randn(1, generator=key.torch_generator(purpose=3)))
        assert torch.equal(t, expected[0])
