"""Tiny models with random weights, saved and loaded as real checkpoints: every path of the verbs, no training."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from napari_vqldm.checkpoint import Model, load_checkpoint, save_checkpoint
from napari_vqldm.config import (
    AutoencoderConfig,
    DenoiserConfig,
    DiffusionConfig,
    ModelConfig,
    QuantizerConfig,
    SimulationConfig,
)
from napari_vqldm.latent import LatentSpace
from napari_vqldm.metrics.distribution import Spectrum
from napari_vqldm.metrics.morphology import Morphology
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.report.profile import EDGES, Profile
from napari_vqldm.simulation import simulate
from napari_vqldm.volume import Volume

WINDOW = (8, 32, 32)


def tiny_config(family: str) -> ModelConfig:
    quantizer = QuantizerConfig(codebook_size=32) if family == "vq-ldm" else None
    return ModelConfig(
        family=family,  # type: ignore[arg-type]
        name=f"tiny-{family}",
        autoencoder=AutoencoderConfig(
            widths=(4, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), latent_channels=3, quantizer=quantizer
        ),
        denoiser=DenoiserConfig(
            channels=(8, 16),
            blocks=(1, 1),
            strides=((2, 2, 2),),
            attention=(False, True),
            head_channels=8,
            norm_groups=4,
        ),
        diffusion=DiffusionConfig(steps=3),
        window=WINDOW,
        voxel_size_range_um=((0.18, 0.09, 0.09), (0.22, 0.11, 0.11)),
        simulation=SimulationConfig(shape=WINDOW, voxel_size_jitter=0.1),
    )


def randomize(module: nn.Module, seed: int) -> None:
    """Random weights everywhere: what starts at zero (residual gains, output layers) would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
        scale = 0.8 / fan_in**0.5 if parameter.ndim > 1 else 0.3
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)


def tiny_networks(config: ModelConfig, seed: int = 1) -> tuple[LatentSpace, Denoiser | None]:
    """Random networks of ``config``, the codebook and the statistics measured on random volumes."""
    autoencoder = Autoencoder(config.autoencoder)
    randomize(autoencoder, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        raw = autoencoder.encode(torch.randn(4, 1, *WINDOW, generator=generator).abs()).mean
        vectors = raw.movedim(1, -1).reshape(-1, raw.shape[1])
        if autoencoder.quantizer is not None:
            autoencoder.quantizer.initialize(vectors, generator)
    space = LatentSpace(autoencoder, vectors.mean(0), vectors.std(0))
    if config.denoiser is None:
        return space, None
    denoiser = Denoiser(config.denoiser, config.autoencoder.latent_channels)
    randomize(denoiser, seed + 2)
    return space, denoiser


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoint files of both families."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = {}
    for family in ("ldm", "vq-ldm"):
        config = tiny_config(family)
        space, denoiser = tiny_networks(config)
        files[family] = save_checkpoint(
            folder / f"{family}.safetensors",
            config=config,
            space=space,
            denoiser=denoiser,
            card_fields={"description": "random weights", "limits": "knows nothing"},
        )
    return files


@pytest.fixture(scope="session", params=["ldm", "vq-ldm"])
def model(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Model:
    """A loaded tiny model; tests that use it run for both families."""
    return load_checkpoint(checkpoints[request.param])


@pytest.fixture(scope="session")
def ldm(checkpoints: dict[str, Path]) -> Model:
    return load_checkpoint(checkpoints["ldm"])


@pytest.fixture(scope="session")
def vq_ldm(checkpoints: dict[str, Path]) -> Model:
    return load_checkpoint(checkpoints["vq-ldm"])


@pytest.fixture(scope="session")
def stack() -> Volume:
    """A small noisy simulated stack whose axes are no multiples of the downsampling factor."""
    noisy = simulate(1, seed=3, config=SimulationConfig(shape=(9, 37, 42)))[0].noisy
    assert noisy is not None
    return noisy.with_data(noisy.data * 40 + 120, name="stack")


@pytest.fixture
def build() -> Callable[[str], tuple[ModelConfig, LatentSpace, Denoiser]]:
    """Configuration and fresh random networks of a family, in memory."""

    def networks(family: str) -> tuple[ModelConfig, LatentSpace, Denoiser]:
        config = tiny_config(family)
        space, denoiser = tiny_networks(config)
        assert denoiser is not None
        return config, space, denoiser

    return networks


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of ``benchmarks/``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="session")
def draw_profile() -> Callable[..., Profile]:
    """Draw what would be measured in one volume, without a volume; ``shift`` moves the first of its features."""
    frequency = np.linspace(0.2, 5.0, 60)

    def draw(rng: np.random.Generator, shift: float = 0.0) -> Profile:
        features = rng.normal(size=64) / np.sqrt(1.0 + np.arange(64) / 4.0)
        features[0] += shift
        intensities = rng.gamma(1.5, 0.2 * np.exp(0.2 * rng.normal()), size=2000)
        power = np.exp(-frequency + 0.3 * rng.normal() + 0.1 * rng.normal(size=60))
        q = np.abs(rng.normal(1.0, 0.2, size=8))
        found = Morphology(
            num_filaments=10, length_um=30.0, length_density_um_per_um3=0.3 * float(np.exp(0.3 * rng.normal())),
            median_length_um=3.0, mean_curvature_per_um=q[0], persistence_length_um=20.0 * q[1],
            persistence_error_um=1.0, persistence_reason="",
            orientation=((0.2, 0.0, 0.0), (0.0, 0.4, 0.0), (0.0, 0.0, 0.4)), z_alignment=0.2 * q[2],
            nematic_order=0.3 * q[3], director_degrees=0.0, junctions_per_um3=0.1 * q[4],
            median_branch_length_um=2.0 * q[5], ends_per_um3=0.1 * q[6],
        )  # fmt: skip
        return Profile(
            features=features.astype(np.float32),
            lateral=Spectrum(frequency, power),
            axial=Spectrum(frequency, power),
            histogram=np.histogram(intensities, EDGES)[0] / 2000.0,
            mean=float(intensities.mean()),
            mean_square=float((intensities**2).mean()),
            lengths_um=rng.exponential(3.0, size=12),
            morphology=found,
            width_lateral_um=0.25,
            width_axial_um=0.6,
        )

    return draw
