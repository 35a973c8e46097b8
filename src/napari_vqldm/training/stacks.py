"""Stacks of a user as training volumes: read, brought to filament units and one voxel size, split by stack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ConfigError, FileError, VolumeError
from napari_vqldm.files import list_volumes, read_volume
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.resample import resample
from napari_vqldm.tiles import pad_to_multiple
from napari_vqldm.training.config import FolderData
from napari_vqldm.training.draws import Key
from napari_vqldm.training.folder import read_json, save_array, write_json
from napari_vqldm.volume import Float3, Int3, Volume


@dataclass(frozen=True)
class StackStep:
    """Progress of the preparation; ``message`` says what was done with a stack."""

    index: int
    total: int
    message: str


@dataclass(frozen=True)
class StackSet:
    """Prepared stacks on disk: ``inputs-000.npy`` and, where given, ``clean-000.npy``, float32, filament units."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """Names, split, voxel size and intensity of every stack."""
        record: dict[str, Any] = json.loads((self.folder / "stacks.json").read_text(encoding="utf-8"))
        return record

    @property
    def voxel_size_um(self) -> Float3:
        """Common voxel size (z, y, x), micrometres."""
        z, y, x = self.record["voxel_size_um"]
        return z, y, x

    def indices(self, part: str) -> list[int]:
        """Return the stacks of "train" or "held_out"."""
        return [i for i, stack in enumerate(self.record["stacks"]) if stack["part"] == part]

    def volume(self, index: int, kind: str = "inputs") -> npt.NDArray[np.float32]:
        """Return a memory-mapped stack (Z, Y, X), filament units; ``kind`` is "inputs" or "clean"."""
        data: npt.NDArray[np.float32] = np.load(self.folder / f"{kind}-{index:03d}.npy", mmap_mode="r")
        return data


def stack_files(config: FolderData) -> list[Path]:
    """Return the stacks of the folder.

    Raises
    ------
    ConfigError
        If the folder is missing or has fewer than two stacks.
    """
    folder = Path(config.folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.folder: {folder} is no folder")
    files = list_volumes(folder)
    if len(files) < 2:
        raise ConfigError(f"data.folder: expected at least 2 stacks in {folder} (one is held out), got {len(files)}")
    return files


def stack_set(cache: Path, config: FolderData, minimum: Int3, seed: int) -> StackSet:
    """Return the place of the prepared stacks; its name changes with the files, the configuration and the seed.

    Raises
    ------
    ConfigError
        If the run in this cache began with other files: going on would mix held-out stacks into training.
    """
    digest = hashlib.sha256(f"{config.model_dump_json()} {minimum} {seed}".encode())
    for path in stack_files(config):
        paths = [path]
        if config.clean_folder is not None:
            paths.append(Path(config.clean_folder).expanduser() / path.name)
        for file in paths:
            status = file.stat() if file.exists() else None
            size, changed = (status.st_size, status.st_mtime_ns) if status else (0, 0)
            digest.update(f"{file.name} {size} {changed}".encode())
    name = f"stacks-{digest.hexdigest()[:12]}"
    record = cache / "stacks.json"
    known = read_json(record)
    if known is None:
        write_json(record, {"folder": name})
    elif known["folder"] != name:
        raise ConfigError(
            f"data.folder: the stacks in {config.folder} are not those with which this run began: restore them, "
            "give another --out, or start again with --fresh"
        )
    return StackSet(cache / name)


def split_by_stack(names: list[str], held_out_fraction: float, seed: int) -> list[str]:
    """Return "train" or "held_out" for each stack; at least one of each."""
    count = min(max(1, round(held_out_fraction * len(names))), len(names) - 1)
    order = Key(seed, "split").rng().permutation(len(names))
    held_out = {int(i) for i in order[:count]}
    return ["held_out" if i in held_out else "train" for i in range(len(names))]


def prepare_stacks(
    stacks: StackSet, config: FolderData, minimum: Int3, seed: int, check: Callable[[], None]
) -> Iterator[StackStep]:
    """Read, normalize, resample and store all stacks; nothing is done when they are stored already."""
    if read_json(stacks.folder / "stacks.json") is not None:
        return
    files = stack_files(config)
    total = len(files)
    target = config.voxel_size_um or _median_voxel_size([_read(path, config).voxel_size_um for path in files])
    parts = split_by_stack([path.name for path in files], config.held_out_fraction, seed)
    entries = []
    for index, (path, part) in enumerate(zip(files, parts, strict=True)):
        check()
        volume = _read(path, config)  # one stack in memory at a time
        try:
            scale = estimate_intensity(volume.data)
        except VolumeError as error:
            raise VolumeError(f"{path.name}: {error}") from None
        _store(
            stacks.folder / f"inputs-{index:03d}.npy", scale.apply(volume.data), volume.voxel_size_um, target, minimum
        )
        if config.clean_folder is not None:
            clean = _read_clean(path, config, volume)
            # The truth has its own background and gain; what it calls 1 is what the input calls 1.
            _store(
                stacks.folder / f"clean-{index:03d}.npy",
                estimate_intensity(clean.data).apply(clean.data),
                clean.voxel_size_um,
                target,
                minimum,
            )
        entries.append(
            {
                "name": path.name,
                "part": part,
                "background": scale.background,
                "scale": scale.scale,
                "source_voxel_size_um": list(volume.voxel_size_um),
            }
        )
        yield StackStep(
            index + 1, total, f"{path.name}: {part}, one filament = {scale.scale:.4g} above {scale.background:.4g}"
        )
    write_json(stacks.folder / "stacks.json", {"voxel_size_um": list(target), "stacks": entries})


def _read(path: Path, config: FolderData) -> Volume:
    return read_volume(path, channel=config.channel, time=config.time, voxel_size_um=config.stack_voxel_size_um)


def _read_clean(path: Path, config: FolderData, volume: Volume) -> Volume:
    clean_path = Path(config.clean_folder or "").expanduser() / path.name
    if not clean_path.exists():
        raise FileError(f"{clean_path}: missing: the clean stack of {path.name} needs the same file name")
    clean = _read(clean_path, config)
    if clean.shape != volume.shape:
        raise VolumeError(f"{clean_path}: expected the shape {volume.shape} of its input, got {clean.shape}")
    return clean


def _median_voxel_size(sizes: list[Float3]) -> Float3:
    z, y, x = (float(v) for v in np.median(sizes, axis=0))
    return z, y, x


def _store(path: Path, data: npt.NDArray[np.float32], source_um: Float3, target_um: Float3, minimum: Int3) -> None:
    """Resample, pad to at least ``minimum`` voxels and write."""
    padded, _ = pad_to_multiple(resample(data, source_um, target_um), (1, 1, 1), minimum)
    save_array(path, np.ascontiguousarray(padded, dtype=np.float32))
