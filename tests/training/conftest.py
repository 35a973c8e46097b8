"""A complete run in a few seconds: tiny volumes, tiny networks, a handful of steps."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from napari_vqldm.config import read_toml
from napari_vqldm.training.config import TrainConfig, merged, parse_train_config, preset_paths
from napari_vqldm.training.run import run_training

TINY: dict[str, Any] = {
    "name": "tiny",
    "gate": "record",
    "threads": 1,
    "model": {
        "family": "ldm",
        "window": [8, 16, 16],
        "simulation": {"length_density_um_per_um3": [2.0, 4.0]},
        "autoencoder": {"widths": [4, 8], "encoder_blocks": [0, 1], "decoder_blocks": [0, 1], "latent_channels": 2},
        "denoiser": {
            "channels": [8, 16],
            "blocks": [1, 1],
            "strides": [[2, 2, 2]],
            "attention": [False, False],
            "head_channels": 8,
            "norm_groups": 4,
        },
        "diffusion": {"steps": 2},
    },
    "data": {"num_volumes": 6, "held_out": 2},
    "autoencoder": {
        "steps": 7,
        "batch_size": 2,
        "kmeans_after": 2,
        "kl_warmup_steps": 4,
        "warmup_steps": 2,
        "crop": [4, 8, 8],
        "log_every": 1,
        "check_every": 4,
        "save_every": 2,
        "picture_every": 100,
        "ema_decay": 0.9,
    },
    "latents": {"augmentations": 2, "batch_size": 2, "chunk": 4},
    "denoiser": {
        "steps": 7,
        "batch_size": 2,
        "warmup_steps": 2,
        "crop": [2, 2, 2],
        "crop_probability": 0.5,
        "log_every": 1,
        "check_every": 4,
        "save_every": 2,
        "picture_every": 100,
        "ema_decay": 0.9,
    },
}
FAMILIES = ("ldm", "vq-ldm")
SHRINK = Path(__file__).with_name("shrink.toml")


def tiny_values(family: str = "ldm", **changes: Any) -> dict[str, Any]:
    """TOML content of the tiny run; ``changes`` are dotted keys with "__" for the dot."""
    values = copy.deepcopy(TINY)
    values["model"]["family"] = family
    if family == "vq-ldm":
        values["model"]["autoencoder"]["quantizer"] = {"codebook_size": 16, "restart_after": 2}
    for key, value in changes.items():
        place = values
        *path, last = key.split("__")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return values


def tiny_config(family: str = "ldm", **changes: Any) -> TrainConfig:
    """Validated tiny configuration."""
    return parse_train_config(tiny_values(family, **changes))


def shrunk_config(preset: str, **changes: Any) -> TrainConfig:
    """Return a preset as shrink.toml shrinks it, without weights to start from; ``changes`` as in `tiny_values`."""
    tables, values = read_toml(SHRINK), read_toml(preset_paths()[preset])
    model = values["model"]
    networks = {
        "all",
        model["family"],
        model["autoencoder"].get("network", "norm-free"),
        model["denoiser"].get("network", "unet"),
    }
    for name, table in tables.items():
        if name in networks:
            values = merged(values, table)
    for stage in ("autoencoder", "denoiser"):
        values[stage].pop("init_from", None)
    for key, value in changes.items():
        values = merged(values, nested(key.split("__"), value))
    return parse_train_config({"name": preset, **values})


def nested(path: list[str], value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} of ["a", "b"]."""
    return {path[0]: nested(path[1:], value) if len(path) > 1 else value}


def write_toml(path: Path, values: dict[str, Any]) -> Path:
    """Write nested values as TOML (inline tables below the top level)."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{key} = {text(v)}" for key, v in value.items()) + " }"
        return json.dumps(value)

    path.write_text("".join(f"{key} = {text(value)}\n" for key, value in values.items()), encoding="utf-8")
    return path


def quiet_run(config: TrainConfig | Path, out: Path, **options: Any) -> Path | None:
    """`run_training` without output."""
    return run_training(config, out, console=Console(quiet=True), **options)


def weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint."""
    return load_file(path)


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal names and equal bits."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"{len(different)} tensors differ, first {different[:3]}"


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The helpers above, for test modules, which cannot import each other."""
    return SimpleNamespace(
        values=tiny_values,
        config=tiny_config,
        shrunk=shrunk_config,
        write_toml=write_toml,
        run=quiet_run,
        weights=weights,
        assert_same_bits=assert_same_bits,
    )


@pytest.fixture(scope="session")
def bank_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated volumes shared by all tiny runs."""
    return tmp_path_factory.mktemp("bank")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, bank_cache: Path) -> dict[str, Path]:
    """Run folder of an uninterrupted tiny run of each family."""
    folders = {}
    for family in FAMILIES:
        folders[family] = tmp_path_factory.mktemp("runs") / family
        quiet_run(tiny_config(family), folders[family], cache=bank_cache)
    return folders
