"""`measure` writes what its Python twin computes; mistakes are one line and leave nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy import ndimage
from typer.testing import CliRunner

from napari_vqldm.cli.measure import measure as verb
from napari_vqldm.errors import FileError, VqldmError
from napari_vqldm.files import read_centre_lines, read_volume, write_volume
from napari_vqldm.measure import measure
from napari_vqldm.volume import Volume

VOXEL = (0.2, 0.1, 0.1)


def lines(rows: tuple[int, ...], seed: int) -> Volume:
    """A noisy stack with filaments along x in these rows."""
    data = np.zeros((12, 64, 64))
    for row in rows:
        data[6, row, 8:56] = 1.0
    data = ndimage.gaussian_filter(data, (1.0, 0.9, 0.9))
    noise = np.random.default_rng(seed).normal(0.0, 2.0, data.shape)
    return Volume(100.0 + 100.0 * data / data.max() + noise, VOXEL, {}, "lines")


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(verb)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    folder = tmp_path / "dense"
    folder.mkdir()
    for seed in (1, 2):
        write_volume(folder / f"{seed}.ome.tif", lines((12, 24, 36, 48), seed))
    return folder


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    folder = tmp_path / "sparse"
    folder.mkdir()
    for seed in (3, 4):
        write_volume(folder / f"{seed}.ome.tif", lines((20, 40), seed))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_file_is_measured_as_in_python(run: Callable[..., Any], dense: Path, tmp_path: Path) -> None:
    path, out = dense / "1.ome.tif", tmp_path / "new" / "tables"
    outcome = run(path, "--out", out, "--swc", "--json")
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(outcome.stdout)
    expected = measure(read_volume(path))
    (entry,) = report["files"]
    assert entry["status"] == "done" and entry["num_filaments"] == len(expected.filaments) == 4
    assert entry["length_um"] == pytest.approx(expected.number("length_um"))
    assert [row["volume"] for row in table(out / "filaments.csv")] == ["1"] * 4
    assert float(table(out / "volumes.csv")[0]["length_um"]) == expected.number("length_um")
    back = read_centre_lines(out / "1.swc")
    assert len(back.lines) == 4 and np.allclose(back.lines[0], expected.lines[0], atol=1e-6)
    assert "Tracer version" in (out / "remarks.txt").read_text()
    assert not (out / "comparison.csv").exists()
    assert sorted(Path(name).name for name in report["written"]) == sorted(p.name for p in out.iterdir())


def test_folders_are_compared(run: Callable[..., Any], dense: Path, sparse: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    outcome = run(dense, "--against", sparse, "--out", out, "--json")
    assert outcome.exit_code == 0, outcome.output
    comparison = json.loads(outcome.stdout)["comparison"]
    density = next(row for row in comparison["rows"] if row["name"] == "length_density_um_per_um3")
    assert density["ratio_low"] < 2.0 < density["ratio_high"] or density["ratio"] == pytest.approx(2.0, rel=0.05)
    assert {row["volume"] for row in table(out / "volumes.csv")} == {"1", "2", "3", "4"}
    assert "Length density: A has" in (out / "remarks.txt").read_text()
    assert table(out / "comparison.csv")[0]["name"] == comparison["rows"][0]["name"]
    shown = run(dense, "--against", sparse / "3.ome.tif", "--against", sparse / "4.ome.tif")
    assert "group A, 2 volumes, against group B, 2" in shown.stdout and "Length density: A has" in shown.stdout


def test_files_of_one_name_are_told_apart(run: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_volume(tmp_path / name / "cell.ome.tif", lines((20, 40), 0))
    outcome = run(tmp_path / "a", "--against", tmp_path / "b", "--out", tmp_path / "out", "--swc")
    assert outcome.exit_code == 0, outcome.output
    assert {row["volume"] for row in table(tmp_path / "out" / "volumes.csv")} == {"a-cell.ome.tif", "b-cell.ome.tif"}
    assert len(list((tmp_path / "out").glob("*.swc"))) == 2


def test_a_bad_file_does_not_stop_the_others(run: Callable[..., Any], dense: Path, tmp_path: Path) -> None:
    (dense / "0.tif").write_bytes(b"no picture")
    outcome = run(dense, "--out", tmp_path / "tables", "--swc", "--json")
    assert outcome.exit_code == 2
    report = json.loads(outcome.stdout)
    assert [entry["status"] for entry in report["files"]] == ["failed", "done", "done"]
    assert (report["done"], report["failed"]) == (2, 1)
    assert not (tmp_path / "tables" / "0.swc").exists() and (tmp_path / "tables" / "1.swc").exists()
    assert not any(name.endswith("0.swc") for name in report["written"])


def test_mistakes_are_told_before_anything_is_written(run: Callable[..., Any], dense: Path, tmp_path: Path) -> None:
    path, out = dense / "1.ome.tif", tmp_path / "tables"
    assert isinstance(run(path, "--swc").exception, FileError)
    assert isinstance(run(tmp_path / "missing.tif", "--out", out).exception, VqldmError)
    assert not out.exists()
    assert run(path, "--out", out).exit_code == 0
    again = run(path, "--out", out)
    assert isinstance(again.exception, FileError) and "exists already" in str(again.exception)
    assert run(path, "--out", out, "--force").exit_code == 0


def test_one_side_that_cannot_be_read_is_no_comparison(run: Callable[..., Any], dense: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no picture")
    outcome = run(dense, "--against", bad, "--json")
    assert outcome.exit_code == 2
    report = json.loads(outcome.stdout)
    assert report["comparison"] is None and report["done"] == 2
