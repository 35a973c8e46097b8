"""Noise of a folder's volumes: the estimate finds what was added, and another camera is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.errors import ShapeError
from napari_vqldm.files import write_volume
from napari_vqldm.metrics.noise import noise_sd
from napari_vqldm.report import evaluate as module
from napari_vqldm.report.evaluate import Effort, evaluate_steps
from napari_vqldm.report.evaluation_tables import scorecard_section
from napari_vqldm.report.noise import Noise, compared_noise, noise_note, noise_of
from napari_vqldm.report.sets import VolumeSet
from napari_vqldm.simulate.mt_sim import mt_sim_split, mt_sim_volumes
from napari_vqldm.simulation import simulate

QUIET = Noise(0.05, 0.045, 0.055)


@pytest.mark.parametrize("sd", [0.01, 0.1, 2.0])
def test_the_estimate_is_the_noise_that_was_added_to_filaments(sd: float) -> None:
    lines = np.zeros((16, 64, 64), np.float32)
    lines[8, 10:-10:12] = 1.0
    lines += np.linspace(0, 3, 64, dtype=np.float32)  # a gradient is no noise
    noise = np.random.default_rng(0).normal(0, sd, lines.shape).astype(np.float32)
    assert noise_sd(lines + noise) == pytest.approx(sd, rel=0.03)
    assert noise_sd(lines) < 1e-6


def test_flat_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least 3 voxels along y and x"):
        noise_sd(np.zeros((4, 2, 8), np.float32))


def test_only_another_noise_is_told() -> None:
    assert noise_note(QUIET, QUIET) is None
    assert noise_note(Noise(0.061, 0.055, 0.066), QUIET) is None  # 1.22 times
    told = noise_note(Noise(0.1, 0.09, 0.11), QUIET)
    assert told is not None and told.startswith("Their noise is 2 times that of the set (1.8 to 2.2)")
    assert noise_note(Noise(0.039, 0.036, 0.042), QUIET) is not None
    spread = noise_note(Noise(0.05, 0.03, 0.08), QUIET)  # the same median, 2.7 times from low to high against 1.2
    assert spread is not None and "1 times that of the set (0.6 to 1.6)" in spread
    assert noise_note(Noise(0.05, 0.0, 0.06), QUIET) is not None  # some files without any
    assert noise_note(QUIET, Noise(0.0, 0.0, 0.0)) is None  # nothing to compare with


@pytest.mark.slow
def test_a_camera_per_volume_is_told_from_the_one_of_the_set() -> None:
    volumes = list(mt_sim_volumes(mt_sim_split("standard", "val"), range(8)))
    reference = [v.recorded for v in mt_sim_volumes(mt_sim_split("standard", "test"), range(8))]
    drawn = compared_noise([v.noisy for v in volumes], reference)
    assert "distances measure the camera too" in drawn["note"]
    assert drawn["reference"] == noise_of(reference).to_dict()
    assert compared_noise([v.recorded for v in volumes], reference)["note"] is None


class Measuring(Exception):
    """All sets are there; what would be measured next is no matter here."""


@pytest.mark.slow
def test_simulated_files_with_cameras_of_their_own_are_told_and_their_clean_twins_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def stop(run: Any) -> Iterator[Any]:
        runs.append(run)
        raise Measuring
        yield

    monkeypatch.setattr(module._Run, "measure", stop)
    monkeypatch.setattr(module, "denser", lambda split, size, workers: VolumeSet("more", [], "simulated"))
    monkeypatch.setattr(module, "degraded", lambda reference, split, workers: {})
    volumes = simulate(8, seed=3, config="standard")
    for kind in ("noisy", "clean"):
        (tmp_path / kind).mkdir()
        for number, volume in enumerate(volumes):
            write_volume(tmp_path / kind / f"{number}-{kind}.ome.tif", getattr(volume, kind))
        with pytest.raises(Measuring):
            list(evaluate_steps(tmp_path / kind, mt_sim_split("standard", "test"), Effort("small", 8, 1, 1, 1)))
    noisy, clean = runs
    told = noisy.scores["noise"]["note"]
    assert "distances measure the camera too" in told and noisy.notes[-1] == f"Candidate: {told}"
    assert "noise" not in clean.scores
    ours, reference = noise_of(clean.rows["candidate"].volumes), noise_of(clean.reference.volumes)
    assert noise_note(ours, reference) is None  # recorded by the tier's camera
    page = scorecard_section({"rows": {}, "noise": noisy.scores["noise"]})
    assert page.missing == (f"Candidate: {told}",)
    assert scorecard_section({"rows": {}, "noise": {"note": None}}).missing == ()
