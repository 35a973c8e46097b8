"""`evaluate` from end to end, on a tiny model with random weights and on folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.checkpoint import Model, load_checkpoint, save_checkpoint
from napari_vqldm.cli.console import to_json_text
from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.files import write_volume
from napari_vqldm.metrics.features import load_extractor
from napari_vqldm.report.attach import attach
from napari_vqldm.report.evaluate import Effort, evaluate, evaluate_steps
from napari_vqldm.report.evaluation_page import evaluation_page
from napari_vqldm.report.featured import featured
from napari_vqldm.report.page import render_html
from napari_vqldm.report.samples import model_samples
from napari_vqldm.report.sets import VOXEL_SIZE_UM, parse_against
from napari_vqldm.simulate.mt_sim import mt_sim_split, mt_sim_volumes
from napari_vqldm.volume import Volume

SMALL = Effort("small", 6, 2, 3, 2)


@pytest.fixture
def wide_model(tmp_path: Path, build: Callable[..., Any]) -> Model:
    """The tiny model with the benchmark's window; it was "trained" on three volumes."""
    config, space, denoiser = build("ldm")
    simulation = SimulationConfig(shape=(32, 128, 128))
    config = config.model_copy(update={"window": (32, 128, 128), "simulation": simulation})
    path = save_checkpoint(tmp_path / "wide.safetensors", config=config, space=space, denoiser=denoiser)
    return load_checkpoint(path)


def volumes_to(folder: Path, count: int, split: str = "train") -> Path:
    folder.mkdir()
    for index, volume in enumerate(mt_sim_volumes(mt_sim_split("standard", split), range(count))):
        write_volume(folder / f"{index}.ome.tif", Volume(volume.recorded, (0.2, 0.1, 0.1)))
    return folder


def test_what_would_fail_after_minutes_is_refused_at_once(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="half of the window in which sets are compared"):
        next(evaluate_steps(model, parse_against("standard"), SMALL))
    with pytest.raises(ConfigError, match="expected at most 500"):
        next(evaluate_steps(tmp_path, parse_against("standard"), Effort("x", 501, 1, 1, 1)))
    with pytest.raises(ConfigError, match="it would be compared with itself"):
        next(evaluate_steps(tmp_path, tmp_path, SMALL))


@pytest.mark.slow
def test_samples_and_features_of_a_batch_are_those_of_one_at_a_time(wide_model: Model) -> None:
    asked: list[dict[str, float | str]] = [{"length_density_um_per_um3": d} for d in (0.1, 0.3, 0.4)]
    one = list(model_samples(wide_model, 5, asked, 1))
    several = list(model_samples(wide_model, 5, asked, 1, at_once=2))
    assert len(several) == 3
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
    assert not np.allclose(one[0], one[1], atol=1e-2)  # each has its own noise
    extractor = load_extractor()
    known, batch = list(featured(one, extractor)), list(featured(iter(one), extractor, at_once=2))
    for (volume, row), (same, close), given in zip(known, batch, one, strict=True):
        assert volume is given and same is given
        np.testing.assert_array_equal(row, extractor([given], VOXEL_SIZE_UM)[0])
        np.testing.assert_allclose(close, row, atol=1e-3 * np.abs(row).max())


@pytest.mark.slow  # measures some fifty volumes of full size
def test_a_model_is_evaluated_page_and_card_included(wide_model: Model) -> None:
    steps = list(evaluate_steps(wide_model, parse_against("standard"), SMALL))
    assert [s.index for s in steps] == list(range(len(steps))) and steps[-1].total == len(steps)
    found = steps[-1].result
    assert found is not None and all(s.result is None for s in steps[:-1])
    scores = json.loads(to_json_text(found.scores))
    rows = scores["rows"]
    assert rows["candidate"]["verdicts"]["frechet_sds"] == "poor"  # random weights
    assert rows["noise only"]["verdicts"]["length_density_sds"] == "poor"
    for name, value in rows["another seed"]["scorecard"].items():
        assert value is None or abs(value) < 5, name
    assert set(scores["reconstruction"]["rows"]) == {"model", "noisy", "gaussian", "pooled", "blank", "clean"}
    assert scores["reconstruction"]["scorecard"]["psnr_clean_above_gaussian_db"] < 0
    assert scores["memorization"]["training_volumes_searched"] == 3
    assert scores["candidate"]["steps"] == 3 and scores["volumes_per_set"] == 6
    page = render_html(evaluation_page(found))
    for text in ("Scorecard", "Spectra", "Filaments, in micrometres", "Uncertainty", "Copies of training", "<svg"):
        assert text in page
    assert ">nan" not in page
    again = evaluate(wide_model, parse_against("standard"), SMALL, workers=2)
    differing = ("created", "seconds", "workers")
    assert json.loads(to_json_text(again.scores)) | {name: scores[name] for name in differing} == scores
    assert scores["seconds"] > 0 and (scores["workers"], again.scores["workers"]) == (1, 2)
    attach(wide_model.path, found.scores)
    after = load_checkpoint(wide_model.path)
    assert after.weights_sha256 == wide_model.weights_sha256
    assert list(after.header.card.scorecard["evaluation"]) == ["MT-Sim v1, standard tier, test split"]


@pytest.mark.slow
def test_simulated_files_pass_as_simulated_and_scrambled_ones_do_not(tmp_path: Path) -> None:
    folder = volumes_to(tmp_path / "mine", 8)
    found = evaluate(folder, parse_against("standard"), Effort("small", 16, 1, 1, 1))
    assert found.scores["volumes_per_set"] == 8  # as many as there are
    card = found.scores["rows"]["candidate"]["scorecard"]
    assert all(value is None or abs(value) < 8 for value in card.values()), card
    scrambled = found.scores["rows"]["phases scrambled"]
    assert scrambled["verdicts"]["frechet_sds"] == "poor", scrambled["scorecard"]
    # Scaled up to filament units of their own, they have many short pieces: the length density alone may look right.
    assert scrambled["scorecard"]["median_length_sds"] > 5, scrambled["scorecard"]
    assert "reconstruction" not in found.scores


@pytest.mark.slow
def test_a_folder_against_real_stacks_is_another_track(tmp_path: Path) -> None:
    real, mine = volumes_to(tmp_path / "real", 12, "val"), volumes_to(tmp_path / "mine", 6)
    found = evaluate(mine, real, SMALL)
    assert found.scores["track"] == "real stacks"
    assert {"other half", "the simulator itself"} <= set(found.scores["rows"])
    assert np.isfinite(found.scores["floors"]["mean"]["frechet"])
