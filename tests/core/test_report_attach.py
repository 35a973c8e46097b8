"""Scores go into a checkpoint's header; the bytes of its weights stay, whatever their type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import load_checkpoint, save_checkpoint
from napari_vqldm.errors import ConfigError
from napari_vqldm.report.attach import attach, card_entry


def scores_of(sha: str) -> dict[str, Any]:
    return {
        "candidate": {"kind": "model", "weights_sha256": sha, "steps": 4},
        "against": "MT-Sim v1, standard tier, test split",
        "created": "2026-01-01T00:00:00+00:00",
        "effort": "quick",
        "volumes_per_set": 16,
        "extractor": {"version": "v1", "sha256": "0" * 64},
        "floors": {"mean": {"frechet": 3.0}, "sd": {"frechet": 0.5}},
        "rows": {
            "candidate": {
                "scorecard": {"frechet_sds": float("inf")},
                "verdicts": {"frechet_sds": "poor"},
                "relative_to_reference": {"length_density": -0.1, "curvature": None},
            }
        },
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_weights_keep_their_bytes(tmp_path: Path, build: Callable[..., Any], dtype: Any) -> None:
    config, space, denoiser = build("vq-ldm")
    path = save_checkpoint(tmp_path / "m.safetensors", config=config, space=space, denoiser=denoiser, dtype=dtype)
    before, header = path.read_bytes(), read_header(path)
    attach(path, scores_of(header.card.weights_sha256))
    after = read_header(path)
    assert path.read_bytes()[after.data_offset :] == before[header.data_offset :]
    assert after.data_offset % 8 == 0
    assert after.card.weights_sha256 == header.card.weights_sha256 == load_checkpoint(path).weights_sha256
    (entry,) = after.card.scorecard["evaluation"].values()
    assert entry["generation"]["frechet_sds"] == {"value": None, "verdict": "poor"}
    assert after.config == header.config and after.training == header.training
    assert entry["sampling"] == {"steps": 4}
    attach(path, scores_of(header.card.weights_sha256) | {"effort": "full"})
    attach(path, scores_of(header.card.weights_sha256) | {"against": "real"})
    entries = read_header(path).card.scorecard["evaluation"]
    assert {name: entry["setting"] for name, entry in entries.items()} == {
        "MT-Sim v1, standard tier, test split": "full",
        "real": "quick",
    }


def test_other_entries_of_the_card_stay(tmp_path: Path, build: Callable[..., Any]) -> None:
    config, space, denoiser = build("ldm")
    path = save_checkpoint(
        tmp_path / "m.safetensors", config=config, space=space, denoiser=denoiser,
        card_fields={"scorecard": {"gates": {"a": 1}}, "memorization": {"b": 2}},
    )  # fmt: skip
    attach(path, scores_of(read_header(path).card.weights_sha256))
    card = read_header(path).card
    assert card.scorecard["gates"] == {"a": 1} and card.memorization == {"b": 2}


def test_scores_of_other_weights_are_refused(tmp_path: Path, build: Callable[..., Any]) -> None:
    config, space, denoiser = build("ldm")
    path = save_checkpoint(tmp_path / "m.safetensors", config=config, space=space, denoiser=denoiser)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="of other weights"):
        attach(path, scores_of("1" * 64))
    assert path.read_bytes() == before
    assert torch.is_tensor(load_checkpoint(path).space.autoencoder.state_dict().popitem()[1])


def test_judged_numbers_keep_the_ends_of_their_intervals(tmp_path: Path, build: Callable[..., Any]) -> None:
    config, space, denoiser = build("ldm")
    path = save_checkpoint(tmp_path / "m.safetensors", config=config, space=space, denoiser=denoiser)
    scores = scores_of(read_header(path).card.weights_sha256)
    row = scores["rows"]["candidate"]
    row["scorecard"] = {"frechet_sds": 3.0, "kid_sds": 1.0}
    row["verdicts"] = {"frechet_sds": "acceptable", "kid_sds": "excellent"}
    assert card_entry(scores)["generation"]["kid_sds"] == {"value": 1.0, "verdict": "excellent"}  # of older scores
    assert "relative_intervals" not in card_entry(scores)
    row["scorecard_intervals"] = {"frechet_sds": {"low": 1.5, "high": 4.5}, "kid_sds": {"low": None, "high": None}}
    row["relative_intervals"] = {"length_density": {"low": -0.2, "high": 0.0}}
    scores["reconstruction"] = {
        "scorecard": {"ssim": 0.97},
        "verdicts": {"ssim": "acceptable"},
        "scorecard_intervals": {"ssim": {"low": 0.96, "high": 0.98}},
    }
    attach(path, scores)
    (entry,) = read_header(path).card.scorecard["evaluation"].values()
    assert entry["generation"]["frechet_sds"] == {"value": 3.0, "low": 1.5, "high": 4.5, "verdict": "acceptable"}
    assert entry["generation"]["kid_sds"]["low"] is None
    assert entry["reconstruction"]["ssim"] == {"value": 0.97, "low": 0.96, "high": 0.98, "verdict": "acceptable"}
    assert entry["relative_to_reference"]["length_density"] == -0.1
    assert entry["relative_intervals"] == {"length_density": {"low": -0.2, "high": 0.0}}
