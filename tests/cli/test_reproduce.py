"""`reproduce` says whether a file is what its record computes; options that recipes need do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_vqldm as nv
from napari_vqldm.files import write_series
from napari_vqldm.volume import hash_voxels

Command = Callable[..., Any]


@pytest.fixture
def generated(command: Command, ldm: Path, tmp_path: Path) -> Path:
    path = tmp_path / "generated.ome.tif"
    assert command("generate", "--model", ldm, "--seed", 3, "--device", "cpu", "--out", path).code == 0
    return path


def test_a_generated_file_is_identical(command: Command, ldm: Path, generated: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.ome.tif"
    done = command("reproduce", generated, "--model", ldm, "--out", again)
    assert done.code == 0 and done.out == f"{generated}: identical to the last bit\n"
    assert hash_voxels(nv.read_volume(again)) == hash_voxels(nv.read_volume(generated))
    result = command("reproduce", generated, "--model", ldm, "--json")
    assert result.code == 0 and result.json["is_equal"] and result.json["differences"] == []


def test_a_changed_file_is_not(command: Command, ldm: Path, generated: Path, tmp_path: Path) -> None:
    volume = nv.read_volume(generated)
    nv.write_volume(generated, volume.with_data(volume.data + 0.5), force=True)
    done = command("reproduce", generated, "--model", ldm)
    assert done.code == 2 and "the voxels were changed after they were computed" in done.out
    assert done.err.splitlines()[-1] == f"not identical: {generated}"
    assert command("reproduce", generated, "--model", ldm, "--json").json["is_changed"]


@pytest.mark.slow
def test_inputs_are_read_as_they_were(command: Command, ldm: Path, tmp_path: Path) -> None:
    """Channel and time are in the record of the stack, the voxel size in that of the encoding."""
    rng = np.random.default_rng(0)
    movie = rng.normal(100, 5, (2, 9, 2, 18, 14)).astype(np.float32)
    movie[:, 4, :, :, 7] += 80
    path, out = tmp_path / "movie.ome.tif", tmp_path / "out.ome.tif"
    tifffile.imwrite(path, movie, ome=True, metadata={"axes": "TZCYX"})
    choices = ("--channel", 1, "--time", 1, "--voxel-size", 0.3, 0.1, 0.1, "--device", "cpu")
    assert command("reconstruct", path, "--model", ldm, *choices, "--out", out).code == 0
    command("reproduce", out, "--model", ldm).refused("'movie.ome.tif' (channel 1, time 1)", "is needed")
    done = command("reproduce", out, "--model", ldm, "--input", path)
    assert done.code == 0 and "identical to the last bit" in done.out
    script = command("reproduce", out, "--model", ldm, "--input", path, "--script", "--out", tmp_path / "new.ome.tif")
    assert script.code == 0
    assert all(word in script.out for word in ("channel=1", "time=1", "voxel_size_um=(0.3, 0.1, 0.1)"))
    done = subprocess.run([sys.executable, "-c", script.out], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert hash_voxels(nv.read_volume(tmp_path / "new.ome.tif")) == hash_voxels(nv.read_volume(out))


def test_mistakes_are_one_line(command: Command, ldm: Path, vq_ldm: Path, generated: Path, stack: Path) -> None:
    command("reproduce", stack).refused("was read from the file 'stack.ome.tif' and not computed")
    command("reproduce", generated).refused("tiny-ldm", "neither bundled nor given")
    command("reproduce", generated, "--model", vq_ldm).refused("neither bundled nor given")
    command("reproduce", generated, "--script").refused("tiny-ldm", "give the checkpoint file")
    command("reproduce", generated, "--model", ldm, "--device", "tpu").refused("--device")
    command("reproduce", generated.with_name("none.tif")).refused("no such file")


# --- options that recipes need ----------------------------------------------------------------------------------------


def test_one_volume_of_a_batch(command: Command, ldm: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.ome.tif"
    words = ("generate", "--model", ldm, "--device", "cpu", "--count", 3, "--batch", 3, "--out")
    assert command(*words, out, "--only", 2).code == 0
    assert command(*words, tmp_path / "all").code == 0
    assert len(list((tmp_path / "all").iterdir())) == 3
    three = nv.read_volume(tmp_path / "all" / "tiny-ldm-seed0-002.ome.tif")
    one = nv.read_volume(out)
    assert hash_voxels(one) == hash_voxels(three)
    assert one.provenance["request"]["batch"] == {"start": 0, "size": 3}
    command(*words, tmp_path / "none.ome.tif", "--only", 3).refused("--only 3", "from 0 to 2")


def test_a_box_of_a_stack(command: Command, ldm: Path, stack: Path, tmp_path: Path) -> None:
    words = ("--crop", "1:9,0:18,2:14", "--device", "cpu")
    part, direct, twice = (tmp_path / f"{name}.ome.tif" for name in ("part", "direct", "twice"))
    assert command("crop", stack, "--crop", "1:9,0:18,2:14", "--out", part).code == 0
    whole = nv.read_volume(stack)
    assert np.array_equal(nv.read_volume(part).data, whole.data[1:9, 0:18, 2:14])
    assert command("reconstruct", stack, "--model", ldm, *words, "--out", direct).code == 0
    assert command("reconstruct", part, "--model", ldm, "--device", "cpu", "--out", twice).code == 0
    assert hash_voxels(nv.read_volume(direct)) == hash_voxels(nv.read_volume(twice))
    for text in ("1:9", "1:9,0:18,a:b", "1,0:18,2:14", "1:9,0:18,2:-1"):
        command("crop", stack, "--crop", text, "--out", tmp_path / "no.ome.tif").refused("Z0:Z1,Y0:Y1,X0:X1")
    command("crop", stack, "--crop", "0:90,0:18,2:14", "--out", tmp_path / "no.ome.tif").refused("inside the volume")
    assert not (tmp_path / "no.ome.tif").exists()


def test_one_frame_of_a_path(command: Command, ldm: Path, tmp_path: Path, make_stack: Callable[..., Path]) -> None:
    out = tmp_path / "frame.ome.tif"
    words = ("--model", ldm, "--device", "cpu", "--out", out)
    assert command("interpolate", "--a", 3, "--b", 4, "--t", 0.37, "--precision", "fp32", *words).code == 0
    expected = nv.interpolate(nv.load(ldm), 3, 4, t=0.37)
    assert hash_voxels(nv.read_volume(out)) == hash_voxels(expected)
    command("interpolate", "--a", 3, "--b", 4, "--t", 1.5, *words, "--force").refused("--t")
    a, b = make_stack("a.ome.tif", 1), make_stack("b.ome.tif", 2)
    command("interpolate", "--a", a, "--b", b, "--precision", "bf16", *words, "--force").refused("--precision")
    command("interpolate", "--a", 3, "--b", 4, "--crop", "0:8,0:8,0:8", *words, "--force").refused("--crop")


@pytest.mark.slow
def test_background_brightness_and_tiles_can_be_given(command: Command, ldm: Path, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.tif"
    words = ("--intensity", 101.5, 44.25, "--max-voxels", 1024, "--device", "cpu", "--out")
    assert command("reconstruct", stack, "--model", ldm, *words, out).code == 0
    from napari_vqldm.intensity import IntensityScale

    model, volume = nv.load(ldm), nv.read_volume(stack)
    expected = nv.reconstruct(model, volume, intensity=IntensityScale(101.5, 44.25), max_voxels=1024)
    assert hash_voxels(nv.read_volume(out)) == hash_voxels(expected)
    latent, decoded = tmp_path / "latent.safetensors", tmp_path / "decoded.ome.tif"
    assert command("encode", stack, "--model", ldm, *words, latent).code == 0
    assert (
        command("decode", latent, "--model", ldm, "--max-voxels", 1024, "--device", "cpu", "--out", decoded).code == 0
    )
    assert hash_voxels(nv.read_volume(decoded)) == hash_voxels(expected)
    command("reconstruct", stack, "--model", ldm, "--intensity", 1, 0, "--out", tmp_path / "no.ome.tif").refused(
        "scale"
    )


def test_one_image_of_a_simulation(command: Command, tmp_path: Path) -> None:
    words = ("simulate", "--shape", 8, 24, 24, "--seed", 2, "--device", "cpu")
    out = tmp_path / "clean.ome.tif"
    assert command(*words, "--part", "clean", "--out", out).code == 0
    assert command(*words, "--out", tmp_path / "all").code == 0
    both = nv.read_volume(tmp_path / "all" / "simulated-seed2-000-clean.ome.tif")
    assert hash_voxels(nv.read_volume(out)) == hash_voxels(both)
    command(*words, "--part", "noisy", "--out", tmp_path / "folder").refused("--part", "--out FILE")
    command(*words, "--part", "noisy", "--count", 2, "--out", tmp_path / "a.ome.tif").refused("--part", "--count")
    assert not (tmp_path / "folder").exists() and not (tmp_path / "a.ome.tif").exists()


def test_one_volume_of_a_series(command: Command, ldm: Path, tmp_path: Path) -> None:
    model, path = nv.load(ldm), tmp_path / "way.ome.tif"
    size = {"voxel_size_z_um": 0.2, "voxel_size_xy_um": 0.1}
    frames = nv.interpolate(model, 3, 4, t=[0.0, 0.5, 1.0], steps=2, condition=size)
    write_series(path, frames)
    command("reproduce", path, "--model", ldm).refused("3 time points", "--time 0..2")
    done = command("reproduce", path, "--model", ldm, "--time", 1, "--out", tmp_path / "again.ome.tif")
    assert done.code == 0 and "identical to the last bit" in done.out
    assert hash_voxels(nv.read_volume(tmp_path / "again.ome.tif")) == hash_voxels(frames[1])
    told = command("info", path)
    assert told.code == 0 and "3 records, one of each time point" in told.out and "weights_sha256" not in told.out
    assert len(command("info", path, "--json").json["provenance"]["frames"]) == 3
