"""Names of the files that a verb writes, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from napari_vqldm.errors import FileError

VOLUME_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr")


def volume_targets(out: Path, stems: Sequence[str], *, force: bool) -> list[Path]:
    """Return one OME-TIFF path per stem.

    ``out`` is a folder, made when missing, or, for one volume, a file name that ends like a volume.

    Raises
    ------
    FileError
        If ``out`` names one file for several volumes, has the suffix of something else, cannot be written, or a
        target exists and ``force`` is not set.
    """
    if is_volume_name(out):
        if len(stems) != 1:
            raise FileError(f"--out {out}: one file name for {len(stems)} volumes: name a folder")
        targets = [out]
    else:
        folder_target(out, "a folder or a volume name ending in .ome.tif or .zarr")
        targets = [out / f"{stem}.ome.tif" for stem in stems]
    return check_targets(targets, force=force)


def file_target(out: Path, stem: str, suffix: str, *, force: bool) -> Path:
    """Return ``out`` when it ends in ``suffix``, else ``out/stem + suffix``; checked like `volume_targets`."""
    if not out.name.lower().endswith(suffix):
        out = folder_target(out, f"a folder or a file name ending in {suffix}") / f"{stem}{suffix}"
    return check_targets([out], force=force)[0]


def check_targets(targets: Sequence[Path], *, force: bool) -> list[Path]:
    """Refuse targets that exist (without ``force``) or cannot be written; make their folders."""
    existing = [path for path in targets if os.path.lexists(path)]
    if existing and not force:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise FileError(f"{existing[0]}{others}: exists already: choose another --out or pass --force")
    for folder in {path.parent for path in targets}:
        make_folder(folder)
    return list(targets)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; refuse where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileError(f"{folder}: is a file, not a folder: choose another --out") from None
    except OSError as error:
        raise FileError(f"{folder}: cannot make this folder: {error.strerror}: choose another --out") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{folder}: no permission to write there: choose another --out")


def is_volume_name(path: Path) -> bool:
    """Tell whether a path ends like a file that a volume is written to."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def stem_of(path: Path) -> str:
    """Return a file's name without the endings of volume and latent files."""
    name = path.name
    for suffix in (*VOLUME_SUFFIXES, ".latent.safetensors", ".safetensors", ".npy"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return path.stem or name


def folder_target(out: Path, wanted: str = "a folder") -> Path:
    """Return ``out`` as a folder; a new path with a letter suffix is meant as a file: no folder ``result.png``."""
    if out.suffix[1:].isalpha() and not out.is_dir():
        raise FileError(f"--out {out}: expected {wanted}")
    return out
