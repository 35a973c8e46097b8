"""Checkpoints with other weights, runs and scripts for tests of the Sample tab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import napari_vqldm as nv

SHAPE = (4, 8, 8)


def changed_model(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """Write a checkpoint again with other weights."""
    import torch

    from napari_vqldm.checkpoint import save_checkpoint

    model = nv.load(source)
    with torch.no_grad():
        for parameter in [*model.space.autoencoder.parameters(), *model.denoiser.parameters()]:
            change(parameter)
    return save_checkpoint(target, config=model.config, space=model.space, denoiser=model.denoiser)


def run(tab, wait_until) -> None:
    tab.button.click()
    assert not tab.button.isEnabled()
    wait_until(lambda: not tab.desk.runner.is_busy and tab.button.isEnabled())


def names(desk) -> list[str]:
    return [layer.name for layer in desk.viewer.layers]


def script_bits(text: str, tmp_path) -> np.ndarray:
    """Run a script in a new process and return the voxels that it computes."""
    path = tmp_path / "script.py"
    path.write_text(f"{text}\nimport numpy\nnumpy.save({str(tmp_path / 'bits.npy')!r}, volume.data)\n")
    subprocess.run([sys.executable, str(path)], check=True, timeout=120)
    return np.load(tmp_path / "bits.npy")
