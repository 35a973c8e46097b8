"""On the command line: work goes on in smaller tiles when memory runs out; a model is timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_vqldm import coding
from napari_vqldm.files import read_volume
from napari_vqldm.latent import LatentSpace
from napari_vqldm.self_test import SelfTest

LIMIT = 2**16


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding blocks of more than LIMIT voxels runs out of memory."""
    plain = coding.encode_block

    def encode(space: LatentSpace, volumes: Tensor) -> coding.Coding:
        if volumes.numel() > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(space, volumes)

    monkeypatch.setattr(coding, "encode_block", encode)


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
def test_work_goes_on_in_smaller_tiles_and_says_so(
    command: Callable[..., Any], ldm: Path, make_stack: Callable[..., Path], tmp_path: Path
) -> None:
    stack = make_stack("long.ome.tif", 0, (8, 64, 512))
    done = command("reconstruct", stack, "--model", ldm, "--device", "cpu", "--out", tmp_path / "a.ome.tif")
    assert done.code == 0 and "starting again in tiles of 65,536 voxels" in done.err
    small = ("--max-voxels", LIMIT, "--out", tmp_path / "b.ome.tif")
    done = command("reconstruct", stack, "--model", ldm, "--device", "cpu", *small)
    assert done.code == 0 and "starting again" not in done.err
    a, b = (read_volume(tmp_path / name) for name in ("a.ome.tif", "b.ome.tif"))
    np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-3 * float(np.ptp(b.data)))
    done = command("encode", stack, "--model", ldm, "--device", "cpu", "--out", tmp_path / "c.safetensors")
    assert done.code == 0 and "starting again" in done.err and (tmp_path / "c.safetensors").is_file()


@pytest.mark.slow
def test_frames_go_on_in_smaller_tiles_and_those_before_stay(
    command: Callable[..., Any],
    ldm: Path,
    make_stack: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory for whole volumes runs out after the first frame; as if another program took it."""
    plain, decoded = LatentSpace.decode, []

    def decode(space: LatentSpace, latent: Tensor) -> Tensor:
        decoded.append(latent[0, 0].numel())
        if len(decoded) > 1 and latent[0, 0].numel() > decoded[0] // 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(space, latent)

    monkeypatch.setattr(LatentSpace, "decode", decode)
    ends = ("--a", make_stack("a.ome.tif", 0, (8, 64, 128)), "--b", make_stack("b.ome.tif", 1, (8, 64, 128)))
    verb = ("interpolate", "--model", ldm, "--device", "cpu", *ends, "--max-voxels", 2**17)
    done = command(*verb, "--frames", 3, "--out", tmp_path / "way")
    assert done.code == 0 and "starting again in tiles of 65,536 voxels" in done.err
    found = [read_volume(tmp_path / "way" / f"a-to-b-{index:03d}.ome.tif") for index in range(3)]
    requests = [volume.provenance["request"] for volume in found]
    assert [request["t"] for request in requests] == [0.0, 0.5, 1.0]
    sizes = [request["max_voxels"] for request in requests]
    assert sizes[0] == 2**17 and sizes[1] == sizes[2] < 2**17
    monkeypatch.undo()
    whole = ("interpolate", "--model", ldm, "--device", "cpu", *ends, "--t", 0.5, "--max-voxels", sizes[1])
    assert command(*whole, "--out", tmp_path / "half.ome.tif").code == 0
    np.testing.assert_array_equal(found[1].data, read_volume(tmp_path / "half.ome.tif").data)


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
def test_what_never_fits_is_one_line(
    command: Callable[..., Any], ldm: Path, make_stack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(coding, "encode_block", refuse)
    stack = make_stack("stack.ome.tif")
    done = command("encode", stack, "--model", ldm, "--device", "cpu")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("error: expected memory for")


def test_info_times_a_model(command: Callable[..., Any], vq_ldm: Path) -> None:
    done = command("info", vq_ldm, "--self-test", "--device", "cpu")
    assert done.code == 0 and "denoise:" in done.out and "million voxels per second" in done.out
    found = command("info", vq_ldm, "--self-test", "--device", "cpu", "--json").json
    assert found.pop("kind") == "self-test"
    result = SelfTest.from_dict(found)
    assert result.model == "tiny-vq-ldm" and result.encode_seconds_per_voxel > 0


def test_only_models_are_timed(command: Callable[..., Any], stack: Path) -> None:
    command("info", stack, "--self-test").refused("not a model")
