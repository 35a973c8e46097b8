"""The volumes of the benchmark: no seed twice, the parameters asked for, all training volumes and no others."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from napari_vqldm.card import TrainingSummary
from napari_vqldm.config import DenoiserConfig, ModelConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator, tier
from napari_vqldm.training.bank import VolumeBank, bank_name, build_bank


def test_the_sets_share_no_seed(load):
    parts = load("standard64").load_standard().spec
    seeds = [
        value for part in parts.values() if isinstance(part, dict) for name, value in part.items() if "seed" in name
    ]
    assert len(seeds) == len(set(seeds)) == 11
    cameras = sorted(parts[name]["camera_seed"] for name in ("reference", "second", "generated", "control"))
    assert np.diff(cameras).min() > 64


def test_samples_of_another_machine_may_differ_in_the_last_digit(load):
    differences = load("samples").differences
    words = [json.dumps({"conditions": [{"a": value, "b": "free"}], "seed": 1}) for value in (0.1, 0.1 + 1e-16, 0.11)]
    assert words[0] != words[1] and differences(words[0], words[1]) == []
    assert differences(words[0], words[2]) == ["conditions"] and differences("{}", words[0]) == ["conditions", "seed"]


def test_training_volumes_come_from_the_cache_of_a_run_or_from_the_simulator(load, tmp_path):
    bank_of, config = load("standard64").training_bank, tier("standard")
    header = SimpleNamespace(training=TrainingSummary(num_volumes=3, seed=5))
    model = SimpleNamespace(name="model", config=SimpleNamespace(simulation=config), header=header)
    with pytest.raises(ConfigError, match="holds no volumes of model"):
        bank_of(model, 3, "cpu", tmp_path)
    bank = VolumeBank(tmp_path / bank_name(config, 5), 3, 0)
    list(build_bank(bank, config, 5, "cpu", lambda: None))
    with pytest.raises(ConfigError, match="fewer than 4 training volumes"):
        bank_of(model, 4, "cpu", tmp_path)
    kept, made = list(bank_of(model, 3, "cpu", tmp_path)), list(bank_of(model, 3, "cpu"))
    assert len(kept) == len(made) == 3
    for a, b in zip(kept, made, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_held_out_twins_have_the_parameters_that_samples_are_asked_for(load):
    benchmark = load("standard64")
    standard = benchmark.load_standard(quick=True)
    model = SimpleNamespace(config=ModelConfig(family="ldm", denoiser=DenoiserConfig(), simulation=tier("standard")))
    asked = benchmark.drawn_conditions(standard, model, 11, 2)
    twins = benchmark.simulated_twins(standard, 11, 2)
    for index, (conditions, twin) in enumerate(zip(asked, twins, strict=True)):
        batch = Simulator(standard.simulation).sample(11, [index], noisy=False)
        values = batch.parameters[0].condition_values()
        assert conditions and all(values[name] == value for name, value in conditions.items())
        assert np.array_equal(twin, batch.clean[0, 0].numpy())


def trained_on(number):
    return SimpleNamespace(name="model", header=SimpleNamespace(training=TrainingSummary(num_volumes=number)))


def test_exactly_the_training_volumes_are_searched(load):
    bank_size = load("standard64").bank_size
    assert bank_size(trained_on(800), None, False) == bank_size(trained_on(800), 800, False) == 800
    assert bank_size(trained_on(0), 700, False) == 700
    for quick in (False, True):
        with pytest.raises(ConfigError, match="trained on 800 volumes, got --bank 801"):
            bank_size(trained_on(800), 801, quick)
    with pytest.raises(ConfigError, match="got --bank 799"):
        bank_size(trained_on(800), 799, False)
    with pytest.raises(ConfigError, match=r"does not record.*--bank N"):
        bank_size(trained_on(0), None, False)
    assert bank_size(trained_on(800), None, True) == 24 and bank_size(trained_on(5), None, True) == 5
