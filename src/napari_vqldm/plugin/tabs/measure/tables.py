"""The files that measured volumes are saved to: all of them, or none where one exists already."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_vqldm.errors import FileError

if TYPE_CHECKING:
    from napari_vqldm.measure import GroupComparison, Measurement

_LINES = re.compile(r"\d{2,}-.+\.swc")


class Tables:
    """Tables, remarks and centre lines of some measurements in one folder.

    Parameters
    ----------
    folder : Path
        It must be there.
    found : sequence of Measurement
        In the order of the rows.
    comparison : GroupComparison or None
        Of two groups of them.
    """

    def __init__(self, folder: Path, found: Sequence[Measurement], comparison: GroupComparison | None) -> None:
        self.folder, self.found, self.comparison = folder, list(found), comparison

    def existing(self) -> list[Path]:
        """Return the files that would be replaced, and those of an earlier save, which would be removed.

        Raises
        ------
        FileError
            If the folder is not there or cannot be looked into.
        """
        try:
            if not self.folder.is_dir():
                raise FileError(f"{self.folder}: expected a folder that is there: choose another one")
            names = set(os.listdir(self.folder))
            found = [path for path in self._writers() if path.name in names]
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be looked into: {error.strerror}: choose another folder") from None
        return found + self._earlier(names)

    def write(self, *, force: bool = False) -> None:
        """Write everything.

        Parameters
        ----------
        force : bool
            Replace what `existing` returns.

        Raises
        ------
        FileError
            If a file exists and ``force`` is not set: nothing is written then. If the folder or a file refuses.
        """
        if (existing := self.existing()) and not force:
            others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
            raise FileError(f"{existing[0]}{others}: exists already: choose another folder")
        writers = self._writers()
        for path, write in writers.items():
            write(path, force)
        for path in set(existing) - set(writers):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(f"{path}: cannot remove the file of an earlier save: {error.strerror}") from None

    def _earlier(self, names: set[str]) -> list[Path]:
        """Files of an earlier save that this one does not write: beside new tables they would be taken for theirs."""
        if not {"filaments.csv", "volumes.csv", "remarks.txt"} <= names:
            return []
        written = {path.name for path in self._writers()}
        left = (name for name in names - written if name == "comparison.csv" or _LINES.fullmatch(name))
        return [self.folder / name for name in sorted(left)]

    def _writers(self) -> dict[Path, Callable[[Path, bool], object]]:
        """What writes each file."""
        from napari_vqldm.files import write_centre_lines
        from napari_vqldm.measure import write_comparison, write_filaments, write_remarks, write_volumes

        found, comparison = self.found, self.comparison
        writers: dict[str, Callable[[Path, bool], object]] = {
            "filaments.csv": lambda path, force: write_filaments(path, found, force=force),
            "volumes.csv": lambda path, force: write_volumes(path, found, force=force),
        }
        if comparison is not None:
            writers["comparison.csv"] = lambda path, force: write_comparison(path, comparison, force=force)
        writers["remarks.txt"] = lambda path, force: write_remarks(path, found, comparison, force=force)
        for number, one in enumerate(found, 1):
            if one.lines:
                name = "".join(c if c.isalnum() or c in "-_." else "-" for c in one.name)[:80]
                writers[f"{number:02d}-{name}.swc"] = lambda path, force, lines=one.lines: write_centre_lines(  # type: ignore[misc]
                    path, lines, force=force
                )
        return {self.folder / name: write for name, write in writers.items()}
