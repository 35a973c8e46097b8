"""`evaluate`: what it writes, prints and attaches, and what it refuses; the scores themselves are tested elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import Model
from napari_vqldm.metrics.distribution import Spectrum
from napari_vqldm.metrics.morphology import Morphology
from napari_vqldm.report import evaluate as module
from napari_vqldm.report.evaluate import Effort, Evaluation, EvaluationStep
from napari_vqldm.report.profile import EDGES, Profile
from napari_vqldm.report.scores import score_rows
from napari_vqldm.report.sets import VolumeSet
from napari_vqldm.report.standards import GENERATION

Command = Callable[..., Any]
ROWS = ("reference", "candidate", "another seed")


def profile(rng: np.random.Generator) -> Profile:
    """Draw what would be measured in one volume, without a volume."""
    frequency = np.linspace(0.2, 5.0, 20)
    spectra = [Spectrum(frequency, np.exp(-frequency + 0.3 * rng.normal())) for _ in range(2)]
    intensities = rng.gamma(1.5, 0.2, size=500)
    q = rng.uniform(0.5, 1.5, size=6)
    found = Morphology(
        num_filaments=9, length_um=30.0, length_density_um_per_um3=0.3 * q[0], median_length_um=3.0 * q[1],
        mean_curvature_per_um=q[2], persistence_length_um=20.0, persistence_error_um=1.0, persistence_reason="",
        orientation=((0.2, 0.0, 0.0), (0.0, 0.4, 0.0), (0.0, 0.0, 0.4)), z_alignment=0.2 * q[3], nematic_order=0.3,
        director_degrees=0.0, junctions_per_um3=0.1 * q[4], median_branch_length_um=2.0, ends_per_um3=0.1 * q[5],
    )  # fmt: skip
    return Profile(
        features=rng.normal(size=64).astype(np.float32), lateral=spectra[0], axial=spectra[1],
        histogram=np.histogram(intensities, EDGES)[0] / intensities.size, mean=float(intensities.mean()),
        mean_square=float((intensities**2).mean()), lengths_um=rng.exponential(3.0, size=9), morphology=found,
        width_lateral_um=0.25, width_axial_um=0.6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Profile]]:
    rng = np.random.default_rng(1)
    return {name: [profile(rng) for _ in range(6)] for name in ROWS}


@pytest.fixture(scope="module")
def scored(measured: dict[str, list[Profile]]) -> dict[str, Any]:
    return score_rows(measured, "another seed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, measured: dict[str, list[Profile]], scored: dict[str, Any]) -> list[Effort]:
    """Replace the evaluation by a tiny one; returns how much was asked for, one entry a call."""
    efforts: list[Effort] = []

    def steps(candidate: Model | Path, against: Any, effort: Effort, **options: Any) -> Iterator[EvaluationStep]:
        efforts.append(effort)
        name, sha = str(candidate), ""
        if isinstance(candidate, Model):
            name, sha = candidate.name, candidate.weights_sha256
        yield EvaluationStep(0, 2, "measuring")
        scores = scored | {
            "candidate": {"name": name, "weights_sha256": sha}, "against": f"{against.tier}, {against.name}",
            "track": "simulated", "effort": effort.name, "volumes_per_set": effort.count, "created": "2026-01-01",
            "extractor": {"version": "none"}, "notes": [], "tracer_bias": ["no bias"],
        }  # fmt: skip
        sets = {row: VolumeSet(row, [np.zeros((4, 16, 16), np.float32)] * 6, "simulated") for row in ROWS}
        yield EvaluationStep(1, 2, "done", Evaluation(scores, sets, measured))

    monkeypatch.setattr(module, "evaluate_steps", steps)
    return efforts


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_scores_and_page_are_written_and_told(command: Command, asked: list[Effort], mine: Path) -> None:
    out = mine.parent / "new" / "report"
    told = command("evaluate", mine, "--report", out, "--count", 7)
    assert told.code == 0, told.err
    assert [(effort.name, effort.count) for effort in asked] == [("quick", 7)]
    scores = json.loads((out / "scores.json").read_text())
    assert scores["candidate"]["name"] == str(mine) and scores["volumes_per_set"] == 7
    assert f"Evaluation of {mine}" in (out / "report.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "scores.json"]
    assert str(out / "report.html") in told.err
    # A row of the table: the number, what the candidate has, its verdict, what another draw has.
    verdicts = scores["rows"]["candidate"]["verdicts"]
    head, *lines = told.out.splitlines()
    assert head.split() == ["candidate", "verdict", "another", "seed"]
    rows = dict(line.split(maxsplit=1) for line in lines[: len(GENERATION)])
    assert {name: row.split()[1] for name, row in rows.items()} == verdicts
    assert lines[-1].startswith("Generated volumes: ")
    assert "not measured: morphology" in lines[-1]  # six volumes are too few for it


def test_reports_are_overwritten_with_force_alone(command: Command, asked: list[Effort], mine: Path) -> None:
    out = mine.parent / "report"
    words = ("evaluate", mine, "--report", out)
    assert command(*words).code == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    command(*words, "--full").refused("scores.json and 1 more: exists already: choose another --report or pass --force")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert len(asked) == 1
    assert command(*words, "--full", "--force").code == 0
    assert json.loads((out / "scores.json").read_text())["effort"] == "full"
    assert "full" in (out / "report.html").read_text()


def test_json_is_all_of_stdout(command: Command, asked: list[Effort], mine: Path) -> None:
    out = mine.parent / "report"
    told = command("evaluate", mine, "--report", out, "--against", "hard:val", "--json")
    report = told.json
    assert (report["verb"], report["attached"], report["against"]) == ("evaluate", False, "hard, val")
    assert report["scores_file"] == str(out / "scores.json") and report["page"] == str(out / "report.html")
    written = json.loads((out / "scores.json").read_text())
    assert {name: report[name] for name in written} == written


def test_scores_are_attached_to_the_model_that_was_asked_for(
    command: Command, asked: list[Effort], ldm: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(ldm, tmp_path / "copy.safetensors"))
    before = copy.read_bytes()
    plain = command("evaluate", copy, "--report", tmp_path / "a")
    assert plain.code == 0 and copy.read_bytes() == before
    told = command("evaluate", copy, "--report", tmp_path / "b", "--attach")
    assert told.code == 0 and f"into the card of {copy}" in told.err
    header = read_header(copy)
    entry = header.card.scorecard["evaluation"]["standard, test"]
    scores = json.loads((tmp_path / "b" / "scores.json").read_text())
    given = {name: judged["verdict"] for name, judged in entry["generation"].items()}
    assert given == scores["rows"]["candidate"]["verdicts"]
    assert header.card.weights_sha256 == read_header(ldm).card.weights_sha256
    assert "evaluation" not in read_header(ldm).card.scorecard


def test_what_cannot_be_attached_is_refused_first(
    command: Command, asked: list[Effort], mine: Path, ldm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = mine.parent / "report"
    command("evaluate", mine, "--report", out, "--attach").refused("--attach", "give a model, not a folder")
    monkeypatch.setattr("napari_vqldm.cli.targets.os.access", lambda path, mode: Path(path) != ldm.parent)
    command("evaluate", ldm, "--report", out, "--attach").refused("no permission", "another place for the model")
    assert not asked and not out.exists()


def test_references_that_are_none_are_refused(command: Command, mine: Path) -> None:
    out = mine.parent / "report"

    def refused(against: object, *words: str) -> None:
        command("evaluate", mine, "--report", out, "--against", against).refused(*words)
        assert not out.exists()

    refused("medium", "--against medium", "sparse, standard, hard")
    refused("hard:training", "unknown split 'training'", "train, val, test, extractor")
    refused(mine.parent / "nowhere", f"--against {mine.parent / 'nowhere'}", "a folder of volumes")
    refused(mine, "another folder than that of --against")
    refused(mine / ".." / "mine", "another folder than that of --against")


def test_messages_about_the_report_name_its_option(
    command: Command, asked: list[Effort], mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine.parent / "taken").write_text("")

    def refused(report: Path, *words: str) -> None:
        told = command("evaluate", mine, "--report", report)
        told.refused("--report", *words)
        assert "--out" not in told.err

    refused(mine.parent / "out.txt", f"--report {mine.parent / 'out.txt'}: expected a folder")
    refused(mine.parent / "taken", "is a file, not a folder: choose another --report")
    refused(mine.parent / ("x" * 300), "cannot make this folder", "choose another --report")
    monkeypatch.setattr("napari_vqldm.cli.targets.os.access", lambda path, mode: False)
    refused(mine.parent / "new", "no permission to write there: choose another --report")
    assert not asked


@pytest.mark.parametrize("name", ["one.npy", "one.TIF", "one.ome.tif", "one.ome.zarr"])
def test_a_single_volume_is_neither_folder_nor_model(command: Command, stack: Path, ldm: Path, name: str) -> None:
    volume = stack.parent / name
    if name.endswith(".zarr"):
        volume.mkdir()
    elif name.endswith(".npy"):
        np.save(volume, np.ones((4, 8, 8), np.float32))
    else:
        shutil.copy(stack, volume)
    out = stack.parent / "out"
    command("evaluate", volume, "--report", out).refused(f"{volume}: a volume: give the folder that holds it")
    told = (f"{volume}: a volume, not a model", ".safetensors checkpoint")
    command("generate", "--model", volume, "--out", out).refused(*told)
    command("reconstruct", stack, "--model", volume, "--out", out).refused(*told)
    command("codebook", stack, "--model", volume).refused(*told)
    assert not out.exists()
