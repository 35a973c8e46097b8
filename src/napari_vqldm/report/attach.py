"""Write an evaluation into a checkpoint's card. The weights stay as they are, bit for bit, and so does their hash."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from napari_vqldm.card import METADATA_KEY, read_header
from napari_vqldm.errors import ConfigError
from napari_vqldm.files import atomic_path


def card_entry(scores: dict[str, Any]) -> dict[str, Any]:
    """Return what a card keeps of an evaluation: verdicts with their numbers, floors, and how it was measured.

    Judged numbers have the ends ``low`` and ``high`` of their 95 % interval, None where too few volumes can say; cards
    written from scores without intervals have none.
    """
    entry: dict[str, Any] = {
        "created": scores["created"],
        "setting": scores["effort"],
        "volumes_per_set": scores["volumes_per_set"],
        "features": scores["extractor"]["version"],
        "sampling": {k: v for k, v in scores["candidate"].items() if k in ("sampler", "steps", "seed", "device")},
        "floors": {"mean": scores["floors"]["mean"], "sd": scores["floors"]["sd"]},
    }
    if "candidate" in scores["rows"]:
        row = scores["rows"]["candidate"]
        entry["generation"] = _judged(row)
        entry["relative_to_reference"] = row["relative_to_reference"]
        if "relative_intervals" in row:
            entry["relative_intervals"] = row["relative_intervals"]
    if "reconstruction" in scores:
        entry["reconstruction"] = _judged(scores["reconstruction"])
    if "memorization" in scores:
        entry["memorization"] = dict(scores["memorization"])
    return entry


def attach(path: Path, scores: dict[str, Any]) -> None:
    """Put `card_entry` under ``evaluation`` of the card's scorecard, by what it was against; replaces an earlier one.

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
        scorecard = content["card"].get("scorecard", {})
        earlier = scorecard.get("evaluation", {})
        entries = {**earlier, scores["against"]: _plain(card_entry(scores))}
        content["card"]["scorecard"] = {**scorecard, "evaluation": entries}
        table["__metadata__"][METADATA_KEY] = json.dumps(content, allow_nan=False)
        text = json.dumps(table, allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 8)  # weights stay aligned
        weights = source.read()
    with atomic_path(path, True) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + weights)
        read_header(temporary)  # what was written is read again before it takes the place of the old file


def _judged(part: dict[str, Any]) -> dict[str, Any]:
    around = part.get("scorecard_intervals", {})
    return {
        name: {"value": value, **around.get(name, {}), "verdict": part["verdicts"][name]}
        for name, value in part["scorecard"].items()
    }


def _plain(value: Any) -> Any:
    """Make values fit for strict JSON: what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
