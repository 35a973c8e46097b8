"""From a finished run to a checkpoint: card, gate, training curve, and the range of voxel sizes trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_vqldm.card import GateResult, TrainingSummary, downsample_curve, read_header
from napari_vqldm.checkpoint import save_checkpoint
from napari_vqldm.config import Float3, ModelConfig
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.build import AnyDenoiser
from napari_vqldm.training.config import FolderData, StageName, TrainConfig
from napari_vqldm.training.context import Run
from napari_vqldm.training.folder import git_hash, read_metrics
from napari_vqldm.training.resume import load_record
from napari_vqldm.training.warm_start import find_checkpoint

CURVES = ("loss", "l1", "kl", "perplexity_batch", "held_out_psnr_unit_range_db", "held_out_loss")
LIMITS = (
    "Trained for filaments, voxel sizes and the window named in the configuration and for nothing else. "
    "Generated volumes show what the training volumes look like; they are no evidence of biology."
)


def save_result(
    run: Run, path: Path, model: ModelConfig, space: LatentSpace, denoiser: AnyDenoiser | None, gate: GateResult
) -> None:
    """Write a checkpoint with card, gate and curve."""
    config = run.config
    lines = read_metrics(run.folder.metrics)
    curve: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for quantity in CURVES:
            if quantity in line:
                curve.setdefault(f"{line['stage']}/{quantity}", []).append((line["step"], line[quantity]))
    trained: tuple[StageName, ...] = ("autoencoder", "denoiser")
    records = {stage: load_record(run.folder.state(stage)) for stage in trained}
    done = {stage: record for stage, record in records.items() if record is not None}
    before = _taken_over(config)
    minutes = {stage: round(record["seconds"] / 60, 2) for stage, record in done.items()}
    steps = {stage: int(record["step"]) for stage, record in done.items()}
    summary = TrainingSummary(
        preset=config.name,
        seed=config.seed,
        git=git_hash(),
        device=device_name(run.device),
        minutes=before.minutes | minutes,
        steps=before.steps | steps,
        curve=before.curve | {name: downsample_curve(points) for name, points in curve.items()},
        num_volumes=0 if isinstance(config.data, FolderData) else config.data.num_volumes,
    )
    space.cpu()
    save_checkpoint(
        path,
        config=model,
        space=space,
        denoiser=None if denoiser is None else denoiser.cpu(),
        card_fields={
            "name": config.name,
            "description": config.description,
            "data": _data_text(config),
            "limits": LIMITS,
            "gates": {"autoencoder": gate},
        },
        training=summary,
        force=True,
    )
    space.to(run.device)


def _taken_over(config: TrainConfig) -> TrainingSummary:
    """What the header of another checkpoint says of an autoencoder that was taken from it as it is."""
    stage = config.autoencoder
    path = find_checkpoint(stage.init_from, "autoencoder") if stage.steps == 0 and stage.init_from else None
    if path is None:
        return TrainingSummary()
    known = read_header(path).training
    return TrainingSummary(
        minutes={name: value for name, value in known.minutes.items() if name == "autoencoder"},
        steps={name: value for name, value in known.steps.items() if name == "autoencoder"},
        curve={name: points for name, points in known.curve.items() if name.startswith("autoencoder/")},
    )


def final_model(config: TrainConfig, voxel_size_um: Float3) -> ModelConfig:
    """Return the model configuration with the range of voxel sizes that was trained on."""
    jitter = 1.0 + (config.model.simulation.voxel_size_jitter if config.model.simulation is not None else 0.0)
    low = tuple(size / jitter for size in voxel_size_um)
    high = tuple(size * jitter for size in voxel_size_um)
    return config.model.model_copy(update={"voxel_size_range_um": (low, high), "name": config.name})


def device_name(device: torch.device) -> str:
    """Return the name of a device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _data_text(config: TrainConfig) -> str:
    if isinstance(config.data, FolderData):
        return f"stacks of a user's folder, target {config.model.target}"
    return f"{config.data.num_volumes} simulated volumes, seed {config.seed}, target {config.model.target}"
