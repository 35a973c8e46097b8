"""``training/bundled.py`` trains two models, the second from the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from napari_vqldm.checkpoint import load_checkpoint

SCRIPT = Path(__file__).parents[2] / "training" / "bundled.py"


@pytest.mark.slow
def test_two_models_are_trained_and_the_second_starts_from_the_first(tmp_path: Path, tiny: SimpleNamespace) -> None:
    rate = {"autoencoder__learning_rate": 1e-9, "denoiser__learning_rate": 1e-9, "autoencoder__init_from": "ldm"}
    first = tiny.write_toml(tmp_path / "first.toml", tiny.values("ldm", name="first"))
    second = tiny.write_toml(
        tmp_path / "second.toml", tiny.values("vq-ldm", name="second", denoiser__init_from="ldm", **rate)
    )
    words = [sys.executable, SCRIPT, tmp_path / "runs", "--presets", first, second, "--denoiser-steps", "5", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    models = [load_checkpoint(tmp_path / "runs" / name / "checkpoint.safetensors") for name in ("first", "second")]
    assert [model.header.training.steps["denoiser"] for model in models] == [5, 3]
    # a learning rate of nothing: the second is still the first
    a, b = (model.denoiser.state_dict() for model in models)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["bank", "first", "second"]
    assert not list((tmp_path / "runs/second/cache").glob("bank-*"))  # both share one
    assert [model.name for model in models] == ["first", "second"]


@pytest.mark.slow
def test_autoencoders_can_stay_as_they_are(tmp_path: Path, tiny: SimpleNamespace, finished: dict[str, Path]) -> None:
    files = [
        tiny.write_toml(tmp_path / f"{name}.toml", tiny.values(family, name=name))
        for family, name in (("ldm", "first"), ("vq-ldm", "second"))
    ]
    sources = [finished[family] / "checkpoint.safetensors" for family in ("ldm", "vq-ldm")]
    words = [sys.executable, SCRIPT, tmp_path / "runs", "--presets", *files, "--autoencoders", *sources]
    done = subprocess.run([*words, "--denoiser-steps", "1", "1"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for source, name in zip(sources, ("first", "second"), strict=True):
        old, new = load_checkpoint(source), load_checkpoint(tmp_path / "runs" / name / "checkpoint.safetensors")
        tiny.assert_same_bits(new.space.autoencoder.state_dict(), old.space.autoencoder.state_dict())
        assert new.header.training.steps == {"autoencoder": 7, "denoiser": 1}


@pytest.mark.slow
def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    words = [sys.executable, SCRIPT, tmp_path / "runs", "--presets", "smoke-ldm", "no-such-preset"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no-such-preset" in done.stderr
    assert not (tmp_path / "runs").exists()
