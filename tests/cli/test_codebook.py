"""`codebook`: folders are worked through, reports hold what was counted, an ldm reports its channels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import blob

from napari_vqldm.inside.quantization import quantization_error
from napari_vqldm.quantizers import CodebookQuantizer
from napari_vqldm.zoo import load

Command = Callable[..., Any]
MakeStack = Callable[..., Path]


@pytest.fixture(scope="module")
def varied(vq_ldm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with codes where its encoder puts the cells of a stack, so that it uses many of them."""
    import torch

    from napari_vqldm.checkpoint import save_checkpoint

    model = load(vq_ldm)
    found = quantization_error(model, blob())
    vectors = torch.from_numpy(found.unquantized.reshape(3, -1).T.copy())
    model.space.quantizer.initialize(vectors, torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("varied") / "varied.safetensors"
    return save_checkpoint(path, config=model.config, space=model.space, denoiser=model.denoiser)


@pytest.fixture
def folder(tmp_path: Path, make_stack: MakeStack) -> Path:
    """Two stacks and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    make_stack(folder / "a.ome.tif"), make_stack(folder / "b.ome.tif", 1)
    (folder / "broken.tif").write_bytes(b"II*\0 and no more")
    return folder


def test_a_folder_counts_what_its_files_count(command: Command, varied: Path, folder: Path) -> None:
    done = command("codebook", folder, "--model", varied, "--json")
    assert done.code == 0 and "left out" in done.err and "broken.tif" in done.err
    found = done.json
    files = [folder / name for name in ("a.ome.tif", "b.ome.tif")]
    named = command("codebook", *files, "--model", varied, "--json").json
    assert found["everywhere"] == named["everywhere"] and found["filament"] == named["filament"]
    assert [Path(path).name for path in found["files"]] == ["a.ome.tif", "b.ome.tif", "broken.tif"]
    assert len(found["skipped"]) == 1 and named["skipped"] == []


def test_a_named_file_must_be_readable(command: Command, vq_ldm: Path, folder: Path) -> None:
    good = folder / "a.ome.tif"
    command("codebook", good, folder / "broken.tif", "--model", vq_ldm).refused("broken.tif")
    command("codebook", good, folder / "none.tif", "--model", vq_ldm).refused("none.tif", "no such file")
    (folder / "a.ome.tif").unlink(), (folder / "b.ome.tif").unlink()
    command("codebook", folder, "--model", vq_ldm).refused("broken.tif")


def test_a_report_has_table_pictures_page_and_numbers(
    command: Command, varied: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    words = ("codebook", folder, "--model", varied, "--report", out, "--atoms", 2)
    shown = command(*words, "--json").json
    assert {path.name for path in out.iterdir()} == {
        "codes.csv", "usage.png", "atoms.png", "report.html", "report.json",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((out / "codes.csv").read_text())))
    assert len(rows) == shown["codebook_size"] == 16
    counts = np.array([int(row["filament_cells"]) + int(row["background_cells"]) for row in rows])
    assert counts.sum() == shown["everywhere"]["cells"]
    assert sorted(int(row["rank"]) for row in rows) == list(range(1, 17))
    assert sum(int(row["is_dead"]) for row in rows) == shown["everywhere"]["dead_codes"]
    numbers = json.loads((out / "report.json").read_text())
    assert [code["rank"] for code in numbers["codes"]] == [int(row["rank"]) for row in rows]
    assert [atom["code"] for atom in numbers["atoms"]] == [atom["code"] for atom in shown["atoms"]]
    on_filaments = [int(row["filament_cells"]) for row in rows]
    by_use = sorted(range(16), key=lambda code: (-on_filaments[code], -counts[code], code))
    background = shown["atoms"][0]["background_code"]
    assert [atom["code"] for atom in shown["atoms"]] == [code for code in by_use if code != background][:2]
    page = (out / "report.html").read_text()
    assert page.count("<figure>") == 2 and "broken.tif" in page and f"code {shown['atoms'][0]['code']}" in page
    for name in ("usage.png", "atoms.png"):
        assert np.asarray(Image.open(out / name)).std() > 1
    command(*words).refused("exists already", "--report", "--force")
    assert command(*words[:-1], 0, "--force").code == 0  # no atoms now: their picture would be of the report before
    (out / "mine.txt").write_text("not of a report")
    assert not (out / "atoms.png").exists() and (out / "usage.png").exists()
    assert command(*words, "--force").code == 0
    assert (out / "atoms.png").exists() and (out / "mine.txt").exists()


def test_an_ldm_reports_its_channels(command: Command, ldm: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = command("codebook", folder, "--model", ldm, "--report", out, "--json")
    found = done.json
    assert {path.name for path in out.iterdir()} == {"channels.csv", "report.html", "report.json"}
    rows = list(csv.DictReader(io.StringIO((out / "channels.csv").read_text())))
    channels = load(ldm).space.autoencoder.latent_channels
    assert len(rows) == channels == len(found["kl_nats"])
    assert [float(row["sd"]) for row in rows] == pytest.approx(found["sd"], rel=1e-6)
    assert len(found["skipped"]) == 1 and json.loads((out / "report.json").read_text())["num_cells"] > 0
    assert "nats per cell" in (out / "report.html").read_text()
    assert "active" in command("codebook", folder, "--model", ldm, "--report", tmp_path / "again").out
    command("codebook", folder, "--model", ldm).refused("no codebook")
    both = ("--report", tmp_path / "both", "--out", tmp_path / "codes.csv")
    command("codebook", folder, "--model", ldm, *both).refused("--out", "leave it out")


def test_implicit_codes_are_named_as_such(
    command: Command, vq_ldm: Path, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("codebook", stack, "--model", vq_ldm, "--report", tmp_path / "out")
    monkeypatch.setattr(CodebookQuantizer, "is_implicit", True)
    assert "16 implicit codes, 1 volumes" in command(*words).out
    assert "implicit codes" in (tmp_path / "out" / "report.html").read_text()
    monkeypatch.setattr(CodebookQuantizer, "is_implicit", False)
    assert "implicit" not in command(*words, "--force").out


def test_one_code_for_everything_has_no_atoms(command: Command, vq_ldm: Path, stack: Path, tmp_path: Path) -> None:
    shown = command("codebook", stack, "--model", vq_ldm, "--report", tmp_path / "out", "--json").json
    assert shown["everywhere"]["codes_used"] == 1 and shown["atoms"] == []
    assert "No atoms" in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "atoms.png").exists()


def test_a_refused_report_leaves_no_folder(command: Command, vq_ldm: Path, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command("codebook", stack, "--model", "nosuch", "--report", out).refused("nosuch")
    command("codebook", tmp_path / "none.tif", "--model", vq_ldm, "--report", out).refused("none.tif")
    assert not out.parent.exists()
    command("codebook", stack, "--model", vq_ldm, "--report", tmp_path / "page.html").refused("expected a folder")
