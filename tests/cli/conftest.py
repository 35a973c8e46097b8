"""Tiny checkpoints with random weights, and small stacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny_model import tiny_model

from napari_vqldm.cli import run
from napari_vqldm.files import write_volume
from napari_vqldm.volume import Volume


@pytest.fixture(scope="session")
def ldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-ldm.safetensors", "ldm", steps=2)


@pytest.fixture(scope="session")
def vq_ldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-vq-ldm.safetensors", "vq-ldm", steps=2)


def blob(seed: int = 0, shape: tuple[int, int, int] = (9, 18, 14)) -> Volume:
    """A noisy stack with two bright lines, 0.3/0.1/0.1 um."""
    data = np.random.default_rng(seed).normal(100, 2, shape)
    data[shape[0] // 2, :, shape[2] // 2] += 60
    data[shape[0] // 3, shape[1] // 2, :] += 50
    return Volume(data, (0.3, 0.1, 0.1), {}, "blob")


@pytest.fixture
def make_stack(tmp_path: Path) -> Callable[..., Path]:
    """Write a small stack: ``make_stack(name, seed, shape)``."""

    def make(name: str, seed: int = 0, shape: tuple[int, int, int] = (9, 18, 14)) -> Path:
        return write_volume(tmp_path / name, blob(seed, shape))

    return make


@pytest.fixture
def stack(make_stack: Callable[..., Path]) -> Path:
    return make_stack("stack.ome.tif")


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, *words: str) -> None:
        """Check the form of a refusal: exit 2, one line on stderr with these words, nothing on stdout."""
        assert self.code == 2, (self.code, self.err)
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0]
        assert "Traceback" not in self.err
        assert self.out == ""
        for word in words:
            assert word in lines[0]


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
