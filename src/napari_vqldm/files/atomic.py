"""Write a file so that the target holds either the old content, or all of the new content, and never half of it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_vqldm.errors import FileError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "permission denied: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOENT: "the folder does not exist: create it first",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder: give a file name",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file is too big for this file system",
}


@contextmanager
def atomic_path(target: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``target``; on success it becomes ``target``.

    The body creates a file or a folder at the yielded path. It is flushed to disk and renamed. If anything fails, a
    stop by the user included, the temporary path is removed and ``target`` stays as it was.

    Parameters
    ----------
    target : path
        Final path, in an existing folder.
    force : bool
        Replace an existing target.

    Raises
    ------
    FileError
        If ``target`` exists and ``force`` is not set, or writing fails: disk full, no permission, missing folder.
    """
    target = Path(target)
    _check_target(target, force)
    # The leading dot and the suffix keep a half-written file out of folder listings and of `list_volumes`.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        _flush(temporary)
        _move(temporary, target, force)
    except OSError as error:
        raise FileError(f"{target}: cannot write: {_reason(error, target.parent)}") from None
    finally:
        _remove(temporary)


def _check_target(target: Path, force: bool) -> None:
    """Refuse early, before anything is computed or written."""
    try:
        if target.is_dir() and not is_zarr_folder(target) and target.suffix != ".zarr":
            raise FileError(f"{target}: cannot write: it is a folder: give a file name")
        if os.path.lexists(target) and not force:
            raise FileError(f"{target} exists already: choose another name or give --force to replace it")
        if not target.parent.is_dir():
            raise FileError(f"{target}: cannot write: {_REASONS[errno.ENOENT]}")
    except OSError as error:
        raise FileError(f"{target}: cannot write: {_reason(error, target.parent)}") from None


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder holds the metadata of a Zarr group, version 2 or 3."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


def _flush(path: Path) -> None:
    """Force the content to disk: a rename that survives a crash must not point to unwritten blocks."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _move(temporary: Path, target: Path, force: bool) -> None:
    """Rename to the target, and make the rename itself durable."""
    if temporary.is_dir():
        _move_folder(temporary, target, force)
    elif force:
        temporary.replace(target)
    else:
        try:
            # Unlike a rename, a link fails when another process created the target in the meantime.
            target.hardlink_to(temporary)
        except FileExistsError:
            raise FileError(f"{target} exists already: choose another name or give --force to replace it") from None
        except OSError:  # a file system without hard links
            temporary.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
                raise
        finally:
            os.close(folder)


def _move_folder(temporary: Path, target: Path, force: bool) -> None:
    """Rename a folder; an old one is set aside first, because a folder cannot be replaced in one step."""
    if not (force and os.path.lexists(target)):
        temporary.rename(target)
        return
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(aside)
    try:
        temporary.rename(target)
    except OSError:
        aside.rename(target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _reason(error: OSError, folder: Path) -> str:
    """Explain an operating system error in words of the user."""
    if error.errno in _REASONS:
        return _REASONS[error.errno]
    # NumPy reports a short write without an error number.
    if error.errno is None and folder.is_dir() and shutil.disk_usage(folder).free < 2**20:
        return _REASONS[errno.ENOSPC]
    return error.strerror or str(error)
