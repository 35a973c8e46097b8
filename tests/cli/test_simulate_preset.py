"""`simulate --preset`: used, named in the provenance, overruled by options, refused when unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import napari_vqldm as nv
from napari_vqldm.files import read_volume
from napari_vqldm.simulate import preset


def test_a_preset_is_used_and_options_win(command: Callable[..., Any], tmp_path: Path) -> None:
    small = ["--shape", 8, 40, 40, "--density", 0.25]
    words = ["simulate", "--preset", "interphase", "--seed", 4, *small, "--out", tmp_path, "--json"]
    (entry,) = command(*words).json["volumes"]
    parameters = entry["parameters"]
    assert parameters["has_cell"] and parameters["has_nucleus"] and parameters["haze_level"] >= 1.5
    assert abs(parameters["length_density_um_per_um3"] - 0.25) < 1e-9 and entry["shape"] == [8, 40, 40]
    assert parameters["voxel_size_um"] == [0.2, 0.1, 0.1]
    config = preset("interphase").model_copy(update={"shape": (8, 40, 40), "length_density_um_per_um3": (0.25, 0.25)})
    (expected,) = nv.simulate(1, 4, config=config)
    assert expected.noisy is not None
    np.testing.assert_array_equal(read_volume(entry["noisy"]).data, expected.noisy.data)


def test_a_voxel_size_wins_over_the_preset(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--preset", "spindle", "--density", 0.1, "--voxel-size", 1.5, 0.5, 0.5, "--shape", 12, 34, 34]
    (entry,) = command("simulate", *words, "--out", tmp_path, "--json").json["volumes"]
    assert entry["parameters"]["voxel_size_um"] == [1.5, 0.5, 0.5]
    assert entry["parameters"]["organisation"] == "spindle" and not entry["parameters"]["has_nucleus"]


def test_an_unknown_preset_is_refused_with_the_list(command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "none"
    command("simulate", "--preset", "anaphase", "--out", out).refused(
        "unknown preset 'anaphase'", "spindle, interphase, sparse, standard, hard"
    )
    command("simulate", "--preset", "spindle", "--config", "hard", "--out", out).refused("--config or --preset")
    command("simulate", "--preset", "spindle", "--density", 0, "--out", out).refused("length_density_um_per_um3")
    assert not out.exists()


def test_a_density_applies_to_a_tier(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["simulate", "--density", 0.6, "--shape", 8, 24, 24, "--out", tmp_path, "--json"]
    (entry,) = command(*words).json["volumes"]
    assert abs(entry["parameters"]["length_density_um_per_um3"] - 0.6) < 1e-9


def test_help_names_the_presets(command: Callable[..., Any]) -> None:
    text = " ".join(command("simulate", "--help").out.split())
    assert "--preset" in text and "spindle" in text and "interphase" in text
