"""The header of a checkpoint: model card, configuration, latent statistics. Read and checked without torch.

A checkpoint is one safetensors file. Its first 8 bytes are the length of a JSON text that names every tensor; the entry
``__metadata__`` of that text holds one key of ours, ``napari_vqldm``, itself JSON. Everything here treats the file as
hostile: sizes are capped and compared with the length of the file before anything is read or allocated.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NoReturn, Self

from pydantic import Field, model_validator

from napari_vqldm.config import Config, Family, ModelConfig, validate
from napari_vqldm.errors import CheckpointError, ConfigError

FORMAT_VERSION = 1
METADATA_KEY = "napari_vqldm"

# Far above any real checkpoint (a header is below 100 KiB, a bundled file below 32 MiB), far below what hurts.
MAX_HEADER_BYTES = 8 * 2**20
MAX_FILE_BYTES = 8 * 2**30
MAX_TENSORS = 4096
MAX_AXES = 8
MAX_CURVE_POINTS = 200
FLOAT32_MAX, FLOAT32_TINY = 3.4028234663852886e38, 1.1754943508222875e-38

# Weights are floats; counters of a codebook are integers. Nothing else belongs into a checkpoint of ours.
DTYPE_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I32": 4, "I64": 8}

_PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

GateKind = Literal["full", "smoke", "record"]


class GateResult(Config):
    """Outcome of one quality gate of training. Anything but a passed ``full`` gate marks the checkpoint."""

    kind: GateKind
    passed: bool
    details: dict[str, float] = Field(default_factory=dict)


class Card(Config):
    """What a user should know before trusting a checkpoint."""

    name: str
    family: Family
    description: str = ""
    license: str = "BSD-3-Clause"
    created: str = ""  # ISO 8601, UTC
    package_version: str = ""
    data: str = ""  # what it was trained on
    limits: str = ""  # what it cannot do
    parameters: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)  # part -> count
    gates: dict[str, GateResult] = Field(default_factory=dict)
    scorecard: dict[str, Any] = Field(default_factory=dict)
    memorization: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @property
    def fully_gated(self) -> bool:
        """True when every gate is of kind ``full`` and was passed; False without any gate."""
        return bool(self.gates) and all(gate.kind == "full" and gate.passed for gate in self.gates.values())


Curve = Annotated[list[tuple[int, float]], Field(max_length=MAX_CURVE_POINTS)]


class TrainingSummary(Config):
    """How the weights came to be; the curve has at most 200 points per quantity."""

    preset: str = ""
    seed: int = 0
    git: str = ""
    device: str = ""
    minutes: dict[str, float] = Field(default_factory=dict)  # stage -> wall minutes
    steps: dict[str, int] = Field(default_factory=dict)  # stage -> optimizer steps
    curve: dict[str, Curve] = Field(default_factory=dict)  # quantity -> (step, value)
    num_volumes: Annotated[int, Field(ge=0)] = 0  # simulated volumes trained on, indices from 0; 0: not recorded


class LatentStatistics(Config):
    """Per-channel mean and standard deviation of the raw latents over the whole training cache; float32 can hold them.

    Beyond the largest float32 a mean is infinite, and below the smallest a scale is 0.
    """

    mean: list[Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]]
    scale: list[Annotated[float, Field(ge=FLOAT32_TINY, le=FLOAT32_MAX)]]


class HeaderContent(Config):
    """What the metadata entry of a checkpoint holds."""

    format_version: int = FORMAT_VERSION
    config: ModelConfig
    card: Card
    training: TrainingSummary = TrainingSummary()
    latent: LatentStatistics

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.card.family != self.config.family:
            raise ValueError(f"the card says family {self.card.family!r}, the configuration {self.config.family!r}")
        channels = self.config.autoencoder.latent_channels
        if not len(self.latent.mean) == len(self.latent.scale) == channels:
            raise ValueError(
                f"latent statistics: expected {channels} means and scales, one per latent channel, "
                f"got {len(self.latent.mean)} and {len(self.latent.scale)}"
            )
        return self


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file: type, shape and bytes [begin, end) relative to the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """Everything that a checkpoint says about itself; no weight has been read."""

    format_version: int
    config: ModelConfig
    card: Card
    training: TrainingSummary
    latent: LatentStatistics
    tensors: Mapping[str, TensorEntry]
    data_offset: int  # first byte of the weights in the file

    @property
    def data_bytes(self) -> int:
        """Bytes of all weights together."""
        return max((entry.end for entry in self.tensors.values()), default=0)


def downsample_curve(points: Sequence[tuple[int, float]], limit: int = MAX_CURVE_POINTS) -> list[tuple[int, float]]:
    """Keep at most ``limit`` points of a training curve, evenly spaced, the first and the last among them."""
    if len(points) <= limit:
        return [(int(step), float(value)) for step, value in points]
    chosen = [round(i * (len(points) - 1) / (limit - 1)) for i in range(limit)]
    return [(int(points[i][0]), float(points[i][1])) for i in chosen]


def read_header(path: str | Path) -> Header:
    """Read and check the header of a checkpoint; the weights are not touched and torch is not needed.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` checkpoint of this package.

    Returns
    -------
    Header
        Validated configuration, card, training summary, latent statistics and the table of tensors.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, inconsistent or written by a newer version.
    """
    path = Path(path)
    with open_checkpoint(path) as (file, size):
        return parse_header(file, size, path)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and yield it with its length in bytes; problems become `CheckpointError`."""
    try:
        status = path.stat()  # before opening: a pipe would block
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "special file"
            _fail(path, f"expected a .safetensors checkpoint, got a {kind}: give the file itself")
        with path.open("rb") as file:
            yield file, status.st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror}") from None


def parse_header(file: BinaryIO, size: int, path: Path) -> Header:
    """Parse the header of an open checkpoint of ``size`` bytes; ``path`` is for messages. See `read_header`."""
    text, data_offset = _read_header_text(file, size, path)
    entries = _strict_json(text, path, "header")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        _fail(
            path,
            "a safetensors file, but not a napari-vqldm checkpoint (no model card in its header): "
            "give a file written by napari-vqldm train",
        )
    content = _parse_content(metadata[METADATA_KEY], path)
    tensors = _parse_tensors(entries, size - data_offset, path)
    return Header(
        content.format_version, content.config, content.card, content.training, content.latent, tensors, data_offset
    )


def _read_header_text(file: BinaryIO, size: int, path: Path) -> tuple[bytes, int]:
    """Return the JSON text and the offset of the first weight."""
    start = file.read(8)
    if len(start) < 8:
        _fail(path, f"expected a safetensors file, got {size} bytes: the file is truncated, copy it again")
    if size > MAX_FILE_BYTES:
        _fail(path, f"expected a checkpoint of at most {MAX_FILE_BYTES} bytes, got {size}")
    (length,) = struct.unpack("<Q", start)
    # A header length may begin with the same two bytes, but then the file is as long as it says.
    if start[:2] in _PICKLE_STARTS and not 8 + length <= min(size, 8 + MAX_HEADER_BYTES):
        _fail(
            path, "a pickle or zip file, which is never opened because it can run code: give a .safetensors checkpoint"
        )
    if not 2 <= length <= MAX_HEADER_BYTES:
        _fail(
            path,
            f"not a safetensors checkpoint: its header would be {length} bytes long (allowed: 2 to {MAX_HEADER_BYTES})",
        )
    if 8 + length > size:
        _fail(path, f"the header needs {8 + length} bytes but the file has {size}: it is truncated, copy it again")
    text = file.read(length)
    if len(text) != length:
        _fail(path, "the file changed or ended while its header was read: copy it again")
    return text, 8 + length


def _strict_json(text: bytes | str, path: Path, what: str) -> dict[str, Any]:
    """Parse a JSON object; repeated keys, NaN, deep nesting and anything but an object are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key occurs twice")
        return result

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        result = json.loads(decoded, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # ValueError covers JSON, Unicode and over-long integers
        _fail(path, f"not a safetensors checkpoint: its {what} is not valid JSON ({str(error)[:100] or 'too deep'})")
    if not isinstance(result, dict):
        _fail(path, f"not a safetensors checkpoint: its {what} is a JSON {type(result).__name__}, expected an object")
    return result


def _parse_content(text: str, path: Path) -> HeaderContent:
    """Validate our metadata entry, the version first: a newer file may hold keys that we do not know."""
    values = _strict_json(text, path, "model card")
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        _fail(path, f"expected format_version {FORMAT_VERSION} in its header, got {version!r:.40}")
    if version > FORMAT_VERSION:
        _fail(path, f"written in format {version}, this version reads up to {FORMAT_VERSION}: upgrade napari-vqldm")
    try:
        return validate(HeaderContent, values, "its header")
    except (ConfigError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a valid checkpoint: {error}") from None


def _parse_tensors(entries: Mapping[str, Any], available: int, path: Path) -> dict[str, TensorEntry]:
    """Check every tensor: known type, its bytes match its shape, all bytes of the file used once and without gap."""
    if not 1 <= len(entries) <= MAX_TENSORS:
        _fail(path, f"expected 1 to {MAX_TENSORS} tensors, got {len(entries)}")
    tensors = {name: _parse_entry(name, entry, path) for name, entry in entries.items()}
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            problem = "overlaps the one before" if entry.begin < position else "leaves a gap"
            _fail(path, f"tensor {name!r:.80} {problem} (starts at byte {entry.begin}, expected {position})")
        position = entry.end
    if position != available:
        problem = "is truncated, copy it again" if position > available else "has bytes that belong to no tensor"
        _fail(path, f"the tensors need {position} bytes but the file holds {available}: it {problem}")
    return tensors


def _parse_entry(name: str, entry: Any, path: Path) -> TensorEntry:
    """Return one line of the tensor table, or say what is wrong with it."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _fail(path, f"tensor {name!r:.80}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        _fail(path, f"tensor {name!r:.80}: expected one of {', '.join(DTYPE_BYTES)}, got dtype {dtype!r:.40}")
    if not _are_counts(shape) or len(shape) > MAX_AXES:
        _fail(path, f"tensor {name!r:.80}: expected a shape of at most {MAX_AXES} axes, got {shape!r:.60}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _fail(path, f"tensor {name!r:.80}: expected data_offsets [begin, end], got {offsets!r:.60}")
    needed = DTYPE_BYTES[dtype]
    for extent in shape:
        needed *= extent
    if needed != offsets[1] - offsets[0]:
        _fail(
            path,
            f"tensor {name!r:.80}: shape {shape!r:.60} of {dtype} needs {needed} bytes, "
            f"its data_offsets hold {offsets[1] - offsets[0]}",
        )
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_counts(values: Any) -> bool:
    """True for a list of integers from 0 to 2^62; booleans are not integers here."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**62 for v in values)


def _fail(path: Path, problem: str) -> NoReturn:
    raise CheckpointError(f"{path}: {problem}")
