"""Latents sampled on one machine and scored on another: one safetensors file per model and set.

A GPU samples all of them within seconds, the scores take a CPU an hour: that need not be one machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from standard64 import Array
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import Precision
from napari_vqldm.conditions import check_conditions
from napari_vqldm.errors import ConfigError
from napari_vqldm.generate import decode_start, draw_start, plan_sampling
from napari_vqldm.report.samples import sampled_latents

Conditions = Sequence[dict[str, float | str]]


def generated_volumes(
    model: Model, seed: int, conditions: Conditions, batch: int, precision: Precision, kept: Path | None = None
) -> Iterator[Array]:
    """Noise-free volumes of `sampled_latents`, or of the latents in the file ``kept``.

    Raises
    ------
    ConfigError
        If the file was made with other weights, seeds, conditions or sampling.
    """
    sampling = plan_sampling(model, None, None, None, None, None, precision)
    if kept is None:
        pairs = sampled_latents(model, seed, conditions, sampling, batch)
    else:
        latents = _read(kept, describe(model, seed, conditions, precision))
        checked = (check_conditions(model.config, c) for c in conditions)
        pairs = ((draw_start(model, seed, i, c), latents[i]) for i, c in enumerate(checked))
    for start, latent in pairs:
        yield decode_start(model, latent.to(model.device), start, sampling, {}, f"sample-{start.index}").data


def keep_latents(path: Path, model: Model, seed: int, conditions: Conditions, batch: int, precision: Precision) -> None:
    """Sample and write the latents in half precision; code vectors are moved to their nearest codes before."""
    sampling = plan_sampling(model, None, None, None, None, None, precision)
    latents = torch.stack([latent for _, latent in sampled_latents(model, seed, conditions, sampling, batch)])
    if model.config.family == "vq-ldm" and model.config.diffusion.requantize:
        latents = model.space.snap(latents)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"latents": latents.half().cpu().contiguous()}, path, describe(model, seed, conditions, precision))


def describe(model: Model, seed: int, conditions: Conditions, precision: Precision) -> dict[str, str]:
    """Say all that decides what the samples are."""
    sampling = plan_sampling(model, None, None, None, None, None, precision)
    values = {
        "weights": model.weights_sha256,
        "seed": seed,
        "conditions": list(conditions),
        "diffusion": model.config.diffusion.model_dump(mode="json"),
        "sampling": sampling.to_dict(),
    }
    return {"samples": json.dumps(values, sort_keys=True)}


def differences(known: str, wanted: str) -> list[str]:
    """Names of what differs between two results of `describe`; drawn numbers may differ in their last digits.

    Two machines need not agree in the last bit of a logarithm.
    """

    def alike(a: object, b: object) -> bool:
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(alike, a, b))
        if isinstance(a, float) and isinstance(b, float):
            return math.isclose(a, b, rel_tol=1e-9)
        return a == b

    found, expected = json.loads(known), json.loads(wanted)
    return [key for key, value in expected.items() if not alike(found.get(key), value)]


def _read(path: Path, wanted: dict[str, str]) -> Tensor:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: make it with --keep-samples")
    with safe_open(str(path), framework="pt") as file:
        different = differences((file.metadata() or {}).get("samples", "{}"), wanted["samples"])
        if different:
            raise ConfigError(f"{path}: made with other {', '.join(different)}: make it again with --keep-samples")
        latents: Tensor = file.get_tensor("latents").float()
        return latents
