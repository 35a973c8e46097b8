"""Write an evaluation into a checkpoint's card. The weights stay as they are, bit for bit, and so does their hash."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

from napari_vqldm.card import METADATA_KEY, read_header
from napari_vqldm.errors import ConfigError
from napari_vqldm.files import atomic_path


def card_entry(scores: dict[str, Any]) -> dict[str, Any]:
    """Return what a card keeps of an evaluation: verdicts with their numbers, floors, and how it was measured."""
    entry: dict[str, Any] = {
        "against": scores["against"],
        "created": scores["created"],
        "setting": scores["effort"],
        "volumes_per_set": scores["volumes_per_set"],
        "features": scores["extractor"]["version"],
        "floors": scores["floors"]["mean"],
    }
    if "candidate" in scores["rows"]:
        entry["generation"] = _judged(scores["rows"]["candidate"])
    if "reconstruction" in scores:
        entry["reconstruction"] = _judged(scores["reconstruction"])
    if "memorization" in scores:
        entry["memorization"] = dict(scores["memorization"])
    return entry


def attach(path: Path, scores: dict[str, Any]) -> None:
    """Put `card_entry` under ``evaluation`` of the card's scorecard, replacing an earlier one.

    Only the header is written anew; the bytes of the weights are copied, whatever their type. Atomic: the file is the
    old one or the new one at any moment.

    Raises
    ------
    ConfigError
        If the scores are of other weights than those of the file.
    CheckpointError
        If the file is no checkpoint.
    """
    header = read_header(path)
    if scores["candidate"].get("weights_sha256") != header.card.weights_sha256:
        raise ConfigError(f"{path}: these scores are of other weights: evaluate this file")
    with path.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        table = json.loads(source.read(length))
        content = json.loads(table["__metadata__"][METADATA_KEY])
        content["card"]["scorecard"] = {
            **content["card"].get("scorecard", {}),
            "evaluation": _plain(card_entry(scores)),
        }
        table["__metadata__"][METADATA_KEY] = json.dumps(content, allow_nan=False)
        text = json.dumps(table, allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 8)  # weights stay aligned
        with atomic_path(path, True) as temporary, temporary.open("wb") as target:
            target.write(struct.pack("<Q", len(text)) + text)
            shutil.copyfileobj(source, target)
    read_header(path)  # what was written is read again before anything is called done


def _judged(part: dict[str, Any]) -> dict[str, Any]:
    return {name: {"value": value, "verdict": part["verdicts"][name]} for name, value in part["scorecard"].items()}


def _plain(value: Any) -> Any:
    """Make values fit for strict JSON: what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
