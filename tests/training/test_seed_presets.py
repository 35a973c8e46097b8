"""The seed's presets hold what the seed's document says; what cannot work is refused before anything is simulated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_vqldm.errors import ConfigError
from napari_vqldm.models.build import make_autoencoder, make_denoiser
from napari_vqldm.models.checkpointing import recompute_blocks
from napari_vqldm.training.__main__ import main
from napari_vqldm.training.config import load_train_config, merged, parse_setting
from napari_vqldm.training.latent_statistics import scalar_statistics


@pytest.mark.parametrize("name", ["seed-ldm", "seed-vq-ldm"])
def test_what_both_presets_have_in_common(name: str) -> None:
    config = load_train_config(name)
    diffusion, stage = config.model.diffusion, config.autoencoder
    assert (diffusion.objective, diffusion.num_train_timesteps, diffusion.time_sampling) == ("epsilon", 1000, "uniform")
    assert config.denoiser.loss_weighting == "none"
    assert config.latents.normalization == "scalar"
    assert stage.reconstruction == "l1" and stage.l1_weight == 1.0
    denoiser = config.model.denoiser
    assert denoiser is not None and denoiser.network == "monai-unet" and denoiser.condition is None


def test_the_ldm_has_all_four_terms() -> None:
    stage = load_train_config("seed-ldm").autoencoder
    weights = (stage.kl_weight, stage.perceptual_weight, stage.adversarial_weight, stage.feature_matching_weight)
    assert all(weight > 0 for weight in weights)
    assert load_train_config("seed-ldm").model.autoencoder.network == "monai-kl"


def test_the_vq_ldm_has_the_two_terms_of_the_codebook_and_nothing_else() -> None:
    config = load_train_config("seed-vq-ldm")
    quantizer, stage = config.model.autoencoder.quantizer, config.autoencoder
    assert quantizer is not None and config.model.autoencoder.network == "monai-vq"
    assert (quantizer.kind, quantizer.codebook_weight, quantizer.commitment_weight) == ("gradient", 1.0, 0.25)
    assert not (stage.perceptual_weight or stage.adversarial_weight or stage.feature_matching_weight)
    assert config.model.diffusion.requantize is False


def test_the_scalar_scale_is_the_std_of_all_values_together() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([[0.3], [-1.0], [2.0]], [[0.5], [1.5], [0.1]], (3, 1000))  # channels, values
    found = scalar_statistics(values.mean(axis=1).tolist(), values.std(axis=1).tolist())
    assert found["mean"] == [0.0] * 3
    np.testing.assert_allclose(found["scale"], [values.std()] * 3, rtol=1e-12)


@pytest.mark.parametrize("name", ["seed-ldm", "seed-vq-ldm"])
def test_recomputed_blocks_give_the_same_gradients_with_fewer_saved_tensors(name: str, tiny: Any) -> None:
    config = tiny.shrunk(name).model
    volumes, t = torch.randn(1, 1, 8, 16, 16), torch.tensor([0.4])

    def run(recompute: bool) -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(0)
        networks = [make_autoencoder(config.autoencoder), make_denoiser(config.denoiser, 4)]
        saved = [0]

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved[0] += tensor.numel()
            return tensor

        for network in networks:
            for parameter in network.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, std=0.1)
            if recompute:
                recompute_blocks(network)
        autoencoder, denoiser = networks
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            latent = autoencoder.encode(volumes).mean
            loss = autoencoder.decode(latent).square().mean() + denoiser(latent, t).square().mean()
        loss.backward()
        gradients = [p.grad for network in networks for p in network.parameters() if p.grad is not None]
        return gradients, saved[0]

    (plain, plain_saved), (again, again_saved) = run(False), run(True)
    assert len(plain) == len(again) and all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert again_saved < 0.8 * plain_saved


@pytest.mark.parametrize(
    "preset, setting, message",
    [
        ("seed-ldm", "model.diffusion.steps=2000", "at most num_train_timesteps = 1000, got 2000"),
        ("seed-ldm", "model.diffusion.beta_end=1.5", "beta_end < 1"),
        ("seed-ldm", "model.diffusion.beta_start=0.5", "beta_start <= beta_end"),
        ("seed-ldm", "autoencoder.betas=[0.9, 1.0]", r"autoencoder\.betas"),
        ("seed-ldm", "autoencoder.adversarial_start=6000", "never be asked"),
        ("seed-ldm", "autoencoder.l1_weight=0", "nothing would be reconstructed"),
        ("seed-ldm", "autoencoder.crop=[4, 4, 4]", "crop"),
        ("seed-ldm", "autoencoder.perceptual='monai'", "perceptual_weights"),
        ("seed-ldm", "denoiser.ema_lengths=[0.1, 0.1]", "different lengths"),
        ("seed-vq-ldm", "autoencoder.kmeans_after=4000", "codebook would never start"),
    ],
)
def test_what_cannot_work_is_refused_by_a_dry_run(
    preset: str, setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([preset, "--out", str(tmp_path / "run"), "--set", setting, "--dry-run"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.search(message, said[0])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "steps", "=3", "a.b="])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_setting(text)


def test_settings_are_toml_or_words_and_replace_what_was_there() -> None:
    assert parse_setting("a.b = [1, 2]") == {"a": {"b": [1, 2]}}
    assert parse_setting("data.folder=my stacks") == {"data": {"folder": "my stacks"}}
    old = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merged(old, {"a": {"c": {"d": 5}}}) == {"a": {"b": 1, "c": {"d": 5}}, "e": 3}
    assert old["a"]["c"]["d"] == 2
