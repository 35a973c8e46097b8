"""Names of the files that a verb writes: checked before anything is computed, their folders made when it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from napari_vqldm.errors import FileError

OUT = "--out"  # the option by which nearly every verb takes a target
VOLUME_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr")


def volume_targets(out: Path, stems: Sequence[str], *, force: bool) -> list[Path]:
    """Return one OME-TIFF path per stem.

    ``out`` is a folder, existing or not, or, for one volume, a file name that ends like a volume.

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


def check_targets(targets: Sequence[Path], *, force: bool, option: str = OUT) -> list[Path]:
    """Refuse targets that exist (without ``force``) or cannot be written. Nothing is made: see `make_folder`.

    ``option`` is what the user named them by.
    """
    existing = [path for path in targets if os.path.lexists(path)]
    if existing and not force:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise FileError(f"{existing[0]}{others}: exists already: choose another {option} or pass --force")
    for folder in {os.path.dirname(path) for path in targets}:  # as text: a million paths take their time
        check_folder(Path(folder), option)
    return list(targets)


def check_folder(folder: Path, option: str = OUT) -> None:
    """Refuse a folder that cannot be written, or cannot be made where it is missing.

    ``option`` is what the user is told to choose another of.
    """
    nearest = folder
    while not _is_there(nearest, folder, option):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise FileError(f"{nearest}: is a file, not a folder: choose another {option}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        wanted = "" if nearest == folder else f"{folder}: cannot make this folder: "
        raise FileError(f"{wanted}{nearest}: no permission to write there: choose another {option}")


def make_folder(folder: Path, option: str = OUT) -> None:
    """Make a folder and its parents. Called right before the first write: a refused request leaves no empty folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileError(f"{folder}: is a file, not a folder: choose another {option}") from None
    except OSError as error:
        raise FileError(f"{folder}: cannot make this folder: {error.strerror}: choose another {option}") from None


def _is_there(path: Path, folder: Path, option: str) -> bool:
    """Tell whether a path exists; refuse one that never can, such as too long a name."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return path == path.parent  # a root: there is nothing above it to look at
    except OSError as error:
        raise FileError(f"{folder}: cannot make this folder: {error.strerror}: choose another {option}") from None
    return True


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


def folder_target(out: Path, wanted: str = "a folder", option: str = OUT) -> Path:
    """Return ``out`` as a folder; a new path with a letter suffix is meant as a file: no folder ``result.png``."""
    if out.suffix[1:].isalpha() and not out.is_dir():
        raise FileError(f"{option} {out}: expected {wanted}")
    return out
