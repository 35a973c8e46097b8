"""The benchmark of the bundled models: its verdicts, its page, and that it runs from checkpoint to page."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import load_checkpoint, save_checkpoint
from napari_vqldm.config import AutoencoderConfig, DenoiserConfig, DiffusionConfig, ModelConfig, QuantizerConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.files import read_volume
from napari_vqldm.files.samples import sample_path
from napari_vqldm.generate import plan_sampling
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.report.scorecard import GATES, gate_title
from napari_vqldm.simulate import tier
from napari_vqldm.zoo import available

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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
    "training_device": "cpu", "sampler": "euler", "steps": 30, "sampling_precision": "fp32",
    "weights_sha256": "0" * 64,
    "fidelity": {"model": row(36.0), "model_estimated_intensity": row(35.9)},
    "generated": scored_set(0.33, 3.5, 0.5, 0.05, 0.85),
    "memorization": {
        "generated": {"mean": 0.51, "low": 0.5, "high": 0.52, "max": 0.7},
        "held_out": {"mean": 0.5, "low": 0.49, "high": 0.51, "max": 0.7}, "training_volumes": 800,
        "generated_volumes": 24, "held_out_volumes": 24,
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
        ({"fidelity__model_estimated_intensity": row(35.4)}, {"psnr_above_gaussian_db"}),
        ({"fidelity__model_estimated_intensity": row(math.nan)}, {"psnr_above_gaussian_db"}),
        ({"family": "vq-ldm", "fidelity__model_estimated_intensity": row(32.9)}, {"psnr_above_pooled_db"}),
        ({"family": "vq-ldm", "downsampling_factor": [2, 4, 2]}, {"latent_voxel_per_2_4_4"}),
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
    page = render.render([result], predicted_minutes={model["name"]: "12.5 (one GPU)"})
    assert model["gates"].keys() <= GATES.keys()
    assert all(f"| {gate_title(name)} | " in page for name in model["gates"])
    assert "prove nothing" in page
    assert "1.9 (intensity known 2, estimated 1.9)" in page
    assert "| minutes predicted | 12.5 (one GPU) |" in page
    assert "24 and 24" in page
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


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_samples_can_be_drawn_on_one_machine_and_scored_on_another(load, tmp_path, family):
    checkpoint, samples = tiny_checkpoint(tmp_path, family), load("samples")
    bundled, copies = load("bundled"), load("copies")
    words = [str(checkpoint), "--quick", "--count", "2", "--bank", "2", "--device", "cpu"]
    assert bundled.main([*words, "--keep-samples", str(tmp_path / "kept")]) == 0
    standard = load("standard64").load_standard(2, quick=True)
    model, part = load_checkpoint(checkpoint), standard.spec["generated"]
    conditions = load("standard64").drawn_conditions(standard, model, part["condition_seed"], part["count"])
    file, control = bundled.kept_files(tmp_path / "kept", model)
    found = copies.copies_file(tmp_path / "kept", model)
    assert sorted((tmp_path / "kept").iterdir()) == sorted([file, control, found])

    def volumes(seed, kept):
        return np.stack([*samples.generated_volumes(model, seed, conditions, 4, "fp32", kept)])

    drawn, kept = volumes(part["seed"], None), volumes(part["seed"], file)
    assert drawn.std() > 0 and np.abs(drawn - kept).max() < 0.01 * np.ptp(drawn)  # kept in half precision
    with pytest.raises(ConfigError, match="made with other seed"):
        volumes(1, file)
    with pytest.raises(ConfigError, match="--keep-samples"):
        volumes(part["seed"], tmp_path / "nowhere")

    about = samples.describe(model, part["seed"], conditions, "fp32")
    known, again = (
        copies.kept_copies(found, about, 2, 2),
        copies.copies_scores(model, standard, list(kept), 2, "cpu", None),
    )
    assert known["generated"]["mean"] == pytest.approx(again["generated"]["mean"], abs=1e-3, nan_ok=True)
    assert known["held_out"] == again["held_out"] and known["held_out"]["mean"] > 0.2
    other_seed = samples.describe(model, 1, conditions, "fp32")
    for wrong, words in (((other_seed, 2, 2), "other seed"), ((about, 1, 2), "wanted 1 and"), ((about, 2, 3), "and 3")):
        with pytest.raises(ConfigError, match=words):
            copies.kept_copies(found, *wrong)
    found.write_text("{}")
    with pytest.raises(ConfigError, match="damaged"):
        copies.kept_copies(found, about, 2, 2)


def test_scores_go_into_the_card_and_change_no_weight(load, tmp_path, capsys):
    checkpoint, write_card = tiny_checkpoint(tmp_path, "ldm"), load("write_card")
    before = load_checkpoint(checkpoint)
    model = GOOD | {
        "weights_sha256": before.weights_sha256,
        "gates": load("scores").model_gates(spec(), SIMULATED, GOOD),
    }
    result = {"quick": False, "spec": spec(), "environment": {"created": "2026-01-01"}, "models": [model]}
    out = tmp_path / "result.json"
    out.write_text(json.dumps(result))
    assert write_card.main([str(out), str(checkpoint)]) == 0
    after = load_checkpoint(checkpoint)
    assert after.weights_sha256 == before.weights_sha256 and after.header.training == before.header.training
    assert after.config == before.config and after.header.latent == before.header.latent
    unchanged = after.header.card.model_copy(update={"scorecard": {}, "memorization": {}})
    assert unchanged == before.header.card
    assert after.header.card.scorecard["gates"].keys() == model["gates"].keys()
    assert after.header.card.memorization == GOOD["memorization"]
    for wrong in ({"quick": True}, {"models": [GOOD]}):
        out.write_text(json.dumps(result | wrong))
        assert write_card.main([str(out), str(checkpoint)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert load_checkpoint(checkpoint).header == after.header


@pytest.mark.parametrize("name", ["ldm", "vq-ldm"])
def test_results_and_cards_are_of_the_bundled_weights(name):
    card = read_header(available()[name]).card
    (scored,) = json.loads((BENCHMARKS / "results" / f"bundled-{name}.json").read_text())["models"]
    assert scored["weights_sha256"] == card.weights_sha256
    assert {gate: v["value"] for gate, v in scored["gates"].items()} == {
        gate: v["value"] for gate, v in card.scorecard["gates"].items()
    }
    assert card.memorization == scored["memorization"]
    stacks = json.loads((BENCHMARKS / "results" / "real_stacks.json").read_text())["stacks"]
    assert {s["weights_sha256"] for s in stacks if s["model"] == name} == {card.weights_sha256}


@pytest.mark.slow
def test_ways_to_sample_are_compared_in_one_table(load, tmp_path):
    checkpoint, out = str(tiny_checkpoint(tmp_path, "ldm")), tmp_path / "table.md"
    words = [
        "--sampler",
        "euler",
        "heun",
        "--steps",
        "1",
        "2",
        "--count",
        "1",
        "--precision",
        "fp32",
        "--device",
        "cpu",
    ]
    assert load("sampler_choice").main([checkpoint, *words, "--workers", "1", "--out", str(out)]) == 0
    names = [line.split(" | ")[0] for line in out.read_text().splitlines()]
    assert names[1:3] == ["| simulated", "| others simulated"]
    assert names[3:] == [f"| {s}, {n} steps, guidance 1" for s in ("euler", "heun") for n in (1, 2)]
    chosen = load("sampler_choice").Choice(7, 1.5, "euler").of(load_checkpoint(checkpoint))
    sampling = plan_sampling(chosen, None, None, None, None, None, "fp32")
    assert (sampling.steps, sampling.guidance_scale, sampling.sampler) == (7, 1.5, "euler")


def test_real_stacks_become_a_section_without_any_path(load):
    rows = {"reconstruction": 0.95, "identity-resample": 0.99, "gaussian": 0.97, "pooled": 0.8}
    stack = {
        "stack": "spindle", "model": "vq-ldm", "grid": [40, 100, 100], "voxel_size_um": [0.5, 0.225, 0.225],
        "dtype": "uint16", "correlation": rows, "gated": True, "passed": True, "same_bits": True, "same_geometry": True,
        "latent_bytes": 4321, "near_ties": 0, "cells": 5000, "seconds": 1.25,
    }  # fmt: skip
    poor = stack | {"stack": "other", "passed": False, "same_bits": False, "near_ties": None}
    result = {
        "minimum_correlation": 0.9,
        "stacks": [stack, poor],
        "refused": [{"stack": "neuron", "exit_code": 2, "message": "neuron.tif: give --voxel-size Z Y X"}],
    }
    lines = load("render_real").real_stacks_section(result)
    table = [line for line in lines if line.startswith("| spindle") or line.startswith("| other")]
    assert len(table) == 4
    assert "0.9500 | 0.9900 | 0.9700 | 0.8000 | >= 0.9: yes" in table[0] and "**no**" in table[1]
    assert "4321 | 0 of 5000 | yes | yes | 1.2" in table[2] and "no codes | **no**" in table[3]
    assert any("exit code 2" in line and "--voxel-size" in line for line in lines)


@pytest.mark.slow
def test_real_stacks_run_through_both_families(load, tmp_path, monkeypatch, capsys):
    real = load("real_stacks")
    sample = sample_path("spindle_morph_volume00")
    tifffile.imwrite(tmp_path / "bare.tif", read_volume(sample).data[:8, :40, :40])  # states no voxel size
    (tmp_path / "whole.tif").write_bytes(sample.read_bytes())
    stacks = (real.RealStack("whole", True), real.RealStack("bare", False, (0.4, 0.2, 0.2)))
    monkeypatch.setattr(real, "STACKS", stacks)
    models = [word for f in ("ldm", "vq-ldm") for word in ("--model", str(tiny_checkpoint(tmp_path, f)))]
    assert real.main([str(tmp_path), *models, "--out", str(tmp_path / "real.json")]) == 1  # untrained networks
    text = (tmp_path / "real.json").read_text()
    result = json.loads(text)
    assert str(tmp_path) not in text
    assert [(s["stack"], s["model"]) for s in result["stacks"]] == [
        (n, f) for f in ("ldm", "vq-ldm") for n in ("whole", "bare")
    ]
    assert all(s["same_bits"] and s["same_geometry"] and s["latent_bytes"] > 0 for s in result["stacks"])
    assert result["stacks"][3]["voxel_size_um"] == [0.4, 0.2, 0.2]
    (refused,) = result["refused"]
    assert refused["exit_code"] == 2 and "--voxel-size" in refused["message"]
    assert real.main([str(tmp_path / "empty"), *models, "--out", str(tmp_path / "no.json")]) == 2
    assert "expected whole.tif" in capsys.readouterr().err


def test_a_wrong_request_is_one_line_and_exit_code_two(load, tmp_path, capsys):
    assert load("bundled").main([str(tmp_path / "missing.safetensors"), "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
