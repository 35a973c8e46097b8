"""Weights of an extractor: written in half precision, released into the package under a version that never changes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_vqldm.errors import CheckpointError
from napari_vqldm.metrics import features
from napari_vqldm.metrics.feature_net import FeatureNet


def save_weights(net: FeatureNet, path: Path, origin: dict[str, int]) -> str:
    """Write float16 weights with ``origin`` in the header; returns the SHA-256 of the file."""
    tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in net.state_dict().items()}
    temporary = path.with_name(f".{path.name}.part")
    save_file(tensors, temporary, {"mtfeat": json.dumps(origin, sort_keys=True)})
    os.replace(temporary, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def release(source: Path, version: str) -> str:
    """Copy a weights file into the package and enter its SHA-256 under ``version``; returns the hash.

    Raises
    ------
    CheckpointError
        If the file is no weights file of the extractor, or the version exists with other weights.
    """
    loaded = features.load_extractor(weights=source)
    registry = json.loads(features.REGISTRY.read_text(encoding="utf-8")) if features.REGISTRY.is_file() else {}
    if version in registry and registry[version]["sha256"] != loaded.sha256:
        raise CheckpointError(f"{version} is released with other weights: a version never changes, choose the next one")
    with safe_open(str(source), framework="pt") as file:
        origin = json.loads((file.metadata() or {}).get("mtfeat", "{}"))
    features.DATA.mkdir(exist_ok=True)
    target = features.DATA / f"{version}.safetensors"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.write_bytes(source.read_bytes())
    registry[version] = {"sha256": loaded.sha256, "bytes": source.stat().st_size, **origin}
    features.REGISTRY.write_text(json.dumps(registry, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return loaded.sha256
