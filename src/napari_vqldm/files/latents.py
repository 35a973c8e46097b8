"""Latent files: what an encoder returns, in one `.safetensors` file, enough to decode it in another process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from napari_vqldm.errors import FileError, ShapeError, VolumeError
from napari_vqldm.files import provenance as records
from napari_vqldm.files.atomic import atomic_path

HEADER_KEY = "napari_vqldm_latent"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class LatentFile:
    """Content of a latent file.

    Attributes
    ----------
    family : str
        ``"ldm"`` or ``"vq-ldm"``.
    weights_sha256 : str
        Fingerprint of the weights that encoded it; other weights decode it to nonsense.
    model_name : str
        For messages.
    latent : ndarray or None
        Standardized latent, float32, (C, d, h, w). Exactly one of ``latent`` and ``codes`` is given.
    codes : ndarray or None
        Code indices, int32, (d, h, w).
    meta : mapping
        JSON-compatible: everything that is needed to return to the grid and the units of the source.
    """

    family: str
    weights_sha256: str
    model_name: str
    latent: npt.NDArray[np.float32] | None = None
    codes: npt.NDArray[np.int32] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.latent is None) == (self.codes is None):
            got = "neither" if self.latent is None else "both"
            raise VolumeError(f"expected either a latent or codes, got {got}")
        if self.latent is not None:
            if self.latent.ndim != 4 or self.latent.dtype != np.float32:
                raise ShapeError(f"expected a float32 latent (C, d, h, w), got {self.latent.dtype} {self.latent.shape}")
            if not np.isfinite(self.latent).all():
                raise VolumeError("expected a finite latent, got NaN or infinite values")
        if self.codes is not None:
            if self.codes.ndim != 3 or self.codes.dtype != np.int32:
                raise ShapeError(f"expected int32 codes (d, h, w), got {self.codes.dtype} {self.codes.shape}")
            if self.codes.size and self.codes.min() < 0:
                raise VolumeError(f"expected code indices of 0 or more, got {self.codes.min()}")


def save_latent(path: str | os.PathLike[str], content: LatentFile, force: bool = False) -> Path:
    """Write a latent file. Floats are stored bit for bit; codes as uint16 where they fit, which halves the file.

    Raises
    ------
    FileError
        If ``path`` does not end in ``.safetensors``, exists and ``force`` is not set, or writing fails.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise FileError(f"{path}: a latent file ends in .safetensors")
    arrays: dict[str, npt.NDArray[Any]] = {}
    if content.latent is not None:
        arrays["latent"] = np.ascontiguousarray(content.latent)
    if content.codes is not None:
        small = not content.codes.size or content.codes.max() < 2**16
        arrays["codes"] = np.ascontiguousarray(content.codes, dtype=np.uint16 if small else np.int32)
    header = {
        "version": FORMAT_VERSION,
        "family": content.family,
        "weights_sha256": content.weights_sha256,
        "model_name": content.model_name,
        "meta": dict(content.meta),
    }
    blob = save(arrays, metadata={HEADER_KEY: records.encode(header)})
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(blob)
    return path


def load_latent(path: str | os.PathLike[str]) -> LatentFile:
    """Read a latent file.

    Raises
    ------
    FileError
        If it is missing, truncated, no latent file of this package, or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: {'is a folder: give one file' if path.is_dir() else 'no such file'}")
    try:
        with safe_open(path, framework="numpy") as stream:
            text = (stream.metadata() or {}).get(HEADER_KEY)
            if text is None:
                raise FileError(f"{path}: not a latent file of napari-vqldm: make one with `napari-vqldm encode`")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FileError(
            f"{path}: truncated or no .safetensors file: expected a latent file from `napari-vqldm encode`: "
            "copy the file again, or encode the volume again"
        ) from error
    except OSError as error:
        raise FileError(f"{path}: cannot read: {error.strerror or error}") from None
    return _content(path, text, arrays)


def _content(path: Path, text: str, arrays: Mapping[str, npt.NDArray[Any]]) -> LatentFile:
    """Check header and arrays against each other."""
    try:
        header = json.loads(text)
        version = int(header["version"])
        if version > FORMAT_VERSION:
            raise FileError(f"{path}: latent format {version} is newer than {FORMAT_VERSION}: update napari-vqldm")
        latent, codes = arrays.get("latent"), arrays.get("codes")
        if codes is not None and codes.dtype.kind not in "ui":
            raise ShapeError(f"expected integer codes, got {codes.dtype}")
        return LatentFile(
            family=str(header["family"]),
            weights_sha256=str(header["weights_sha256"]),
            model_name=str(header["model_name"]),
            latent=latent,
            codes=None if codes is None else codes.astype(np.int32),
            meta=dict(header["meta"]),
        )
    except (ShapeError, VolumeError) as error:
        raise FileError(f"{path}: damaged latent file: {error}: encode the volume again") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileError(f"{path}: damaged latent file: its header is incomplete: encode the volume again") from error
