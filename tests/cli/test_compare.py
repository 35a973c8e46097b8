"""`compare`, `uncertainty` and `record` do what their Python twins do; mistakes are one line and leave nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_vqldm as nv
from napari_vqldm.config import CameraConfig
from napari_vqldm.files import read_volume, write_volume

Command = Callable[..., Any]
MakeStack = Callable[..., Path]


@pytest.fixture
def generated(ldm: Path, tmp_path: Path) -> Path:
    (volume,) = nv.generate(nv.load(ldm), seed=3, start=2)
    return write_volume(tmp_path / "generated.ome.tif", volume)


def test_compare_tells_the_numbers_and_writes_the_residual(
    command: Command, stack: Path, ldm: Path, tmp_path: Path
) -> None:
    volume = read_volume(stack)
    output = nv.reconstruct(nv.load(ldm), volume)
    other = write_volume(tmp_path / "output.ome.tif", output)
    target = tmp_path / "new" / "residual.ome.tif"
    report = command("compare", stack, other, "--out", target, "--json").json
    expected = nv.compare(volume, output)
    assert report["psnr_db"] == pytest.approx(expected.psnr_db)
    assert report["pearson"] == pytest.approx(expected.pearson)
    assert len(report["psnr_per_z_db"]) == volume.shape[0]
    assert "ssim" in report["missing"]  # 9 planes
    written = read_volume(target)
    assert np.array_equal(written.data, nv.residual(volume, output).data)
    assert written.provenance["verb"] == "residual" and report["residual"] == str(target)
    shown = command("compare", stack, other)
    assert shown.code == 0 and f"{expected.psnr_db:.2f} dB" in shown.out and "ssim: not told" in shown.out


def test_compare_calls_identical_volumes_identical(command: Command, stack: Path) -> None:
    assert "identical" in command("compare", stack, stack).out
    report = command("compare", stack, stack, "--json").json
    assert report["is_identical"] and report["psnr_db"] is None  # JSON has no infinity


def test_compare_refuses_what_does_not_fit(command: Command, make_stack: MakeStack, tmp_path: Path) -> None:
    stack, other = make_stack("a.ome.tif"), make_stack("b.ome.tif", shape=(8, 18, 14))
    target = tmp_path / "new" / "residual.ome.tif"
    command("compare", stack, other, "--out", target).refused("one shape")
    command("compare", stack, tmp_path / "missing.tif", "--out", target).refused("no such file")
    assert not target.parent.exists()
    command("compare", stack, stack, "--out", other).refused("exists already")


@pytest.mark.parametrize("kind", ["noise", "posterior"])
def test_uncertainty_writes_what_python_computes(
    command: Command, stack: Path, ldm: Path, tmp_path: Path, kind: str
) -> None:
    words = [
        "uncertainty",
        stack,
        "--model",
        ldm,
        "--draws",
        3,
        "--seed",
        5,
        "--kind",
        kind,
        "--json",
        "--device",
        "cpu",
    ]
    report = command(*words, "--out", tmp_path / "maps").json
    expected = nv.uncertainty(nv.load(ldm), read_volume(stack), 3, 5, kind)
    assert np.array_equal(read_volume(report["output"]).data, expected.data)
    assert report["mean_standard_deviation"] == pytest.approx(float(expected.data.mean()), rel=1e-5)
    mean = command(*words, "--statistic", "mean", "--out", tmp_path / "mean.ome.tif").json
    assert read_volume(mean["output"]).provenance["request"]["statistic"] == "mean"


def test_uncertainty_refuses_what_cannot_be_drawn(
    command: Command, stack: Path, vq_ldm: Path, generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    words = ["--model", vq_ldm, "--out", out]
    command("uncertainty", stack, *words, "--kind", "posterior").refused("no posterior")
    command("uncertainty", stack, *words, "--draws", 1).refused("--draws")
    command("uncertainty", tmp_path / "missing.tif", *words).refused("no such file")
    assert not out.exists()


def test_record_is_generate_with_the_camera(command: Command, generated: Path, ldm: Path, tmp_path: Path) -> None:
    camera = ("--photons", 30, "--read-noise", 2, "--offset", 50)
    report = command("record", generated, *camera, "--out", tmp_path / "recorded.ome.tif", "--json").json
    direct = nv.generate(nv.load(ldm), seed=3, start=2, camera=CameraConfig(photons=30, read_noise_e=2, offset_adu=50))[
        0
    ]
    recorded = read_volume(report["output"])
    assert np.array_equal(recorded.data, direct.data)
    command("record", report["output"], "--out", tmp_path / "twice").refused("noise already")
    assert not (tmp_path / "twice").exists()
    assert command("record", generated, *camera, "--out", tmp_path / "recorded").code == 0
    assert [path.name for path in (tmp_path / "recorded").iterdir()] == ["generated-recorded.ome.tif"]


def test_record_takes_a_seed_and_refuses_impossible_cameras(command: Command, generated: Path, tmp_path: Path) -> None:
    targets = [tmp_path / f"{seed}.ome.tif" for seed in (1, 2)]
    for seed, target in zip((1, 2), targets, strict=True):
        assert command("record", generated, "--seed", seed, "--out", target).code == 0
    first, second = (read_volume(target).data for target in targets)
    assert not np.array_equal(first, second)
    command("record", generated, "--photons", -3, "--out", tmp_path / "x.ome.tif").refused("photons")
    command("record", generated, "--blur", 90, "--out", tmp_path / "x.ome.tif").refused("wider than the volume")
    assert not (tmp_path / "x.ome.tif").exists()
