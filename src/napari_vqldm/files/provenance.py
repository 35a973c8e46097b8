"""Record where a volume comes from, as JSON that travels inside the file."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel

from napari_vqldm import __version__
from napari_vqldm.errors import VolumeError
from napari_vqldm.volume import Volume, hash_voxels

NAMESPACE = "napari-vqldm"  # of the OME annotation and of the OME-Zarr attribute
SERIES = "series"  # verb of the record of several volumes in a row, which holds one of each
_FAR = 1e30  # what lies further away on the axis of a series is damage; also NaN, and integers beyond float
_PACKAGES = ("torch", "monai", "numpy", "scipy", "tifffile")


@dataclass(frozen=True)
class SeriesAxis:
    """The axis along which the volumes of a series lie.

    Attributes
    ----------
    step : float
        Distance of two volumes, in ``unit``; not 0.
    start : float
        Place of the first, in ``unit``.
    unit : str
        ``"second"`` for time; ``"pixel"`` for positions without a unit.
    label : str
        ``"t"``, or what else napari is to call it.
    """

    step: float = 1.0
    start: float = 0.0
    unit: str = "pixel"
    label: str = "t"


def make_provenance(verb: str, *, environment: Mapping[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """Describe one run: who made the data, when, with which versions, from which request.

    Parameters
    ----------
    verb : str
        What was done, e.g. ``"generate"``.
    environment : mapping, optional
        From `napari_vqldm.environment.describe_environment`, on the thread that computed. None: left out.
    **request
        Everything that is needed to do it again. Paths, tuples, NumPy values and configurations become plain JSON.

    Returns
    -------
    dict
        JSON-compatible: it compares equal after a round trip through a file. No torch is imported for the versions.
    """
    record = {
        "software": NAMESPACE,
        "version": __version__,
        "verb": verb,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _installed(name)) is not None},
        "request": to_jsonable(request),
    }
    return record if environment is None else {**record, "environment": to_jsonable(environment)}


def describe_input(volume: Volume, role: str = "source") -> dict[str, Any]:
    """Return what a request says of a volume that it takes, to be given to `make_provenance`.

    Parameters
    ----------
    volume : Volume
        The input as it was used.
    role : str
        Its name in the request.

    Returns
    -------
    dict
        ``role``: its own record; ``role_sha256``: see `napari_vqldm.volume.hash_voxels`; ``role_voxel_size_um``.
    """
    return {
        role: dict(volume.provenance),
        f"{role}_sha256": hash_voxels(volume),
        f"{role}_voxel_size_um": list(volume.voxel_size_um),
    }


def series_record(frames: Sequence[Mapping[str, Any]], axis: SeriesAxis | None = None) -> dict[str, Any]:
    """Return the record of several volumes in a row, from the record of each and the axis that they lie on."""
    record = {"software": NAMESPACE, "verb": SERIES, "frames": [dict(frame) for frame in frames]}
    return record if axis is None else {**record, "axis": asdict(axis)}


def axis_of(record: Mapping[str, Any]) -> SeriesAxis:
    """Return the axis of a series; what its record does not say, or says wrongly, is as `SeriesAxis` has it."""
    entries = record.get("axis")
    if not is_series(record) or not isinstance(entries, Mapping):
        return SeriesAxis()
    numbers = {
        key: float(value)
        for key in ("step", "start")
        if isinstance(value := entries.get(key), int | float) and abs(value) < _FAR and (value or key == "start")
    }
    words = {key: value for key in ("unit", "label") if isinstance(value := entries.get(key), str) and value}
    return SeriesAxis(**numbers, **words)  # type: ignore[arg-type]


def is_series(record: Mapping[str, Any] | None) -> bool:
    """Tell whether a record is of several volumes in a row."""
    return record is not None and record.get("verb") == SERIES


def frame_record(record: Mapping[str, Any], time: int | None) -> Mapping[str, Any]:
    """Return the record of one volume of a series, empty where it has none; any other record is that of the volume."""
    if not is_series(record):
        return record
    frames = record.get("frames") or ()
    return frames[time] if time is not None and 0 <= time < len(frames) else {}


def encode(provenance: Mapping[str, Any]) -> str:
    """Serialize as ASCII JSON with sorted keys: equal records give equal text, and any XML can hold it."""
    return json.dumps(to_jsonable(provenance), sort_keys=True, ensure_ascii=True, allow_nan=False)


def decode(text: str | None) -> dict[str, Any] | None:
    """Return the record in ``text``, or None when it is not a JSON object: foreign files hold anything."""
    try:
        record = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def to_jsonable(value: Any) -> Any:
    """Turn nested values into plain JSON types; values without a JSON form become text.

    Raises
    ------
    VolumeError
        If two keys of a mapping become the same text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, BaseModel):
        return to_jsonable(value.model_dump(mode="json"))
    if isinstance(value, np.generic | np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, Mapping):
        plain = {str(key): to_jsonable(entry) for key, entry in value.items()}
        if len(plain) != len(value):
            raise VolumeError(f"expected provenance keys that differ as text, got {list(value)}")
        return plain
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [to_jsonable(entry) for entry in items]
    return value.as_posix() if isinstance(value, PurePath) else str(value)


def _installed(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
