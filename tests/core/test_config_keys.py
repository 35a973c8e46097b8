"""An unknown key is answered with the keys of its section, those of a scene as well as those of a training run."""

from __future__ import annotations

from typing import Any

import pytest

from napari_vqldm.config import AutoencoderConfig, CameraConfig, SimulationConfig, validate
from napari_vqldm.config_base import Config
from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config import AutoencoderStage, FolderData, SimulatedData, TrainConfig, parse_train_config

MODEL = {"family": "ldm", "name": "m", "simulation": {}}
CASES: dict[str, tuple[type[Config], dict[str, Any], type[Config], str]] = {
    "a scene": (SimulationConfig, {"shap": 3}, SimulationConfig, "shape"),
    "a section": (SimulationConfig, {"camera": {"phtons": 1}}, CameraConfig, "photons"),
    "a stage": (TrainConfig, {"autoencoder": {"stepz": 3}}, AutoencoderStage, "steps"),
    "two sections down": (TrainConfig, {"model": {"autoencoder": {"width": [4]}}}, AutoencoderConfig, "widths"),
    "an optional section": (TrainConfig, {"model": {"simulation": {"photon": 1}}}, SimulationConfig, "photons"),
    "the default of a union": (TrainConfig, {"data": {"heldout": 3}}, SimulatedData, "held_out"),
    "a member of a union": (
        TrainConfig,
        {"data": {"kind": "folder", "folder": "x", "clean_foldr": "y"}},
        FolderData,
        "clean_folder",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_unknown_key_names_the_known_ones(case: str) -> None:
    kind, values, section, meant = CASES[case]
    with pytest.raises(ConfigError) as error:
        if kind is TrainConfig:
            parse_train_config({"name": "r", **values, "model": MODEL | values.get("model", {})}, "run.toml")
        else:
            validate(kind, values, "scene.toml")
    told = str(error.value)
    assert f"did you mean {meant!r}?" in told
    assert told.endswith(f"expected one of {', '.join(section.model_fields)}")
    assert "docs/" not in told


def test_a_key_like_no_other_is_not_guessed() -> None:
    with pytest.raises(ConfigError, match="unknown key 'qqqq': expected one of photons, background"):
        validate(CameraConfig, {"qqqq": 1})
