"""The benchmark of the bundled models: its verdicts, its page, and that it runs from checkpoint to page."""

import copy
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_vqldm.checkpoint import save_checkpoint
from napari_vqldm.config import AutoencoderConfig, DenoiserConfig, DiffusionConfig, ModelConfig, QuantizerConfig
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.simulate import tier

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def amount(value):
    return {"value": value, "low": value, "high": value}


def row(decibel):
    return {"psnr_unit_range_db": amount(decibel), "pearson": amount(0.9)}


def scored_set(density=0.3, length=4.0, spectrum=0.2, distance=0.02, spread=0.9):
    return {
        "length_density_um_per_um3": amount(density), "median_length_um": amount(length),
        "length_weighted_median_um": amount(length), "filaments_per_volume": 50.0, "spectrum_distance_db": spectrum,
        "intensity_w1_per_sd": distance, "diversity": spread,
    }  # fmt: skip


SIMULATED = {
    "gaussian_sigma_voxels": [0.5, 0.8, 0.8],
    "fidelity": {"blank": row(17.0), "noisy": row(27.0), "gaussian": row(34.0), "pooled": row(29.0)},
    "reference": scored_set(spectrum=0.0, distance=0.0),
    "second": scored_set(),
    "tracer": {
        "length_bias": -0.05, "length_bias_by_organisation": {"free": 0.02}, "spearman_true_traced": 0.98,
        "truth": scored_set(),
    },
}  # fmt: skip
GOOD = {
    "name": "ldm", "family": "ldm", "preset": "ldm", "parameters": 9_000_000, "file_mib": 18.0, "latent_channels": 4,
    "downsampling_factor": [2, 4, 4], "training_steps": {"denoiser": 10}, "training_minutes": {},
    "training_device": "cpu", "sampler": "euler", "steps": 30, "weights_sha256": "0" * 64,
    "fidelity": {"model": row(36.0), "model_estimated_intensity": row(35.9)},
    "generated": scored_set(0.33, 3.5, 0.5, 0.05, 0.85),
    "memorization": {
        "generated": {"mean": 0.51, "low": 0.5, "high": 0.52, "max": 0.7},
        "held_out": {"mean": 0.5, "low": 0.49, "high": 0.51, "max": 0.7}, "training_volumes": 1500,
    },
    "control": {"levels": [0.1, 0.5], "traced_mean": [0.1, 0.4], "spearman_volumes": 0.9, "spearman_levels": 1.0},
}  # fmt: skip


def spec():
    return json.loads((BENCHMARKS / "data" / "standard64.json").read_text())


def failed(load, **changes):
    model = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = model
        for parent in parents:
            place = place[parent]
        place[last] = value
    gates = load("scores").model_gates(spec(), SIMULATED, model)
    return {name for name, verdict in gates.items() if not verdict["passed"]}


def test_a_good_model_passes_every_gate(load):
    assert failed(load) == set()


@pytest.mark.parametrize(
    "changes, gates",
    [
        ({"fidelity__model": row(35.4)}, {"psnr_above_gaussian_db"}),
        ({"latent_channels": 9}, {"latent_channels"}),
        ({"downsampling_factor": [1, 4, 4]}, {"latent_voxel_per_2_4_4"}),
        ({"parameters": 16_000_001}, {"parameters"}),
        ({"file_mib": 32.1}, {"file_mib"}),
        ({"generated__length_density_um_per_um3": amount(0.38)}, {"length_density_um_per_um3_relative_error"}),
        ({"generated__median_length_um": amount(2.9)}, {"median_length_um_relative_error"}),
        ({"generated__spectrum_distance_db": 0.61}, {"spectrum_distance_db_floors"}),
        ({"generated__intensity_w1_per_sd": 0.061}, {"intensity_w1_per_sd_floors"}),
        ({"generated__diversity": 0.71}, {"diversity_ratio"}),
        ({"generated__diversity": math.nan}, {"diversity_ratio"}),
        ({"memorization__generated": {"mean": 0.53}}, {"memorization_excess"}),
        ({"control__spearman_volumes": 0.79}, {"control_spearman"}),
        ({"family": "vq-ldm", "fidelity__model": row(32.9)}, {"psnr_above_pooled_db"}),
        ({"family": "vq-ldm", "fidelity__model": row(33.1)}, set()),
    ],
)
def test_each_gate_fails_alone(load, changes, gates):
    assert failed(load, **changes) == gates


def test_the_sets_share_no_seed():
    parts = spec()
    seeds = [
        value for part in parts.values() if isinstance(part, dict) for name, value in part.items() if "seed" in name
    ]
    assert len(seeds) == len(set(seeds)) == 11
    cameras = sorted(parts[name]["camera_seed"] for name in ("reference", "second", "generated", "control"))
    assert np.diff(cameras).min() > 64


def test_the_page_shows_every_gate_and_says_when_it_proves_nothing(load):
    model = copy.deepcopy(GOOD) | {"gates": load("scores").model_gates(spec(), SIMULATED, GOOD), "passed": True}
    where = {
        "device_name": "CPU",
        "device": "cpu",
        "created": "2026-01-01",
        "python": "3.11",
        "versions": {"torch": "2"},
    }
    result = {
        "quick": True,
        "spec": spec(),
        "simulated": SIMULATED,
        "models": [model],
        "seconds": {},
        "environment": where,
    }
    render = load("render")
    page = render.render([result])
    assert all(render.GATE_NAMES[name] in page for name in model["gates"])
    assert "prove nothing" in page
    assert "prove nothing" not in render.render([result | {"quick": False}])
    with pytest.raises(SystemExit, match="one specification"):
        render.render([result, result | {"spec": {}}])


def tiny_checkpoint(folder, family):
    quantizer = QuantizerConfig(codebook_size=16) if family == "vq-ldm" else None
    config = ModelConfig(
        family=family,
        name=family,
        autoencoder=AutoencoderConfig(
            widths=(4, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0), latent_channels=2, quantizer=quantizer
        ),
        denoiser=DenoiserConfig(
            channels=(8, 8),
            blocks=(1, 1),
            strides=((2, 2, 2),),
            attention=(False, False),
            head_channels=8,
            norm_groups=4,
        ),
        diffusion=DiffusionConfig(steps=2),
        simulation=tier("standard"),
    )
    torch.manual_seed(0)
    autoencoder = Autoencoder(config.autoencoder)
    space = LatentSpace(autoencoder, torch.zeros(2), torch.ones(2))
    denoiser = Denoiser(config.denoiser, 2)
    return save_checkpoint(folder / f"{family}.safetensors", config=config, space=space, denoiser=denoiser)


@pytest.mark.slow
def test_both_families_run_from_checkpoint_to_page(load, tmp_path, capsys):
    models = [str(tiny_checkpoint(tmp_path, family)) for family in ("ldm", "vq-ldm")]
    out, page = tmp_path / "result.json", tmp_path / "bundled.md"
    options = ["--quick", "--count", "2", "--bank", "2", "--out", str(out), "--pictures", str(tmp_path / "pictures")]
    assert load("bundled").main([*models, *options, "--device", "cpu"]) == 0
    assert "FAIL" in capsys.readouterr().out  # untrained networks are no good
    result = json.loads(out.read_text())
    assert [m["name"] for m in result["models"]] == ["ldm", "vq-ldm"]
    for model in result["models"]:
        assert {"generated", "memorization", "control", "fidelity", "gates"} <= model.keys()
    usage = result["models"][1]["code_usage"]
    assert usage["filament"]["cells"] + usage["background"]["cells"] == 2 * 16 * 32 * 32
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4
    assert load("render").main([str(out), "--out", str(page)]) == 0
    assert "Code usage" in page.read_text()


def test_a_wrong_request_is_one_line_and_exit_code_two(load, tmp_path, capsys):
    assert load("bundled").main([str(tmp_path / "missing.safetensors"), "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
