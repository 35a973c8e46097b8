"""Tables and pictures of what was counted as files, and what counts it again outside napari."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import RecipeError
from napari_vqldm.recipe import FileInput
from napari_vqldm.recipe.shell import join_commands

if TYPE_CHECKING:
    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.plugin.tabs.codebook.channel_work import Channels
    from napari_vqldm.plugin.tabs.codebook.state import Found

PROGRAM = "napari-vqldm"
MEASURED = "What the codes paint that were looked at, those that filaments use most first"
REPORT = "codebook-report"  # folder in the working folder
NO_FILE = "what was counted lies in no file as it is: save the layer to a file first, or count a folder"


@dataclass(frozen=True)
class Counting:
    """What a count took: a model by name or path, and a folder or files; empty where a layer lies in no file."""

    model: str
    folder: Path | None = None
    files: tuple[FileInput | None, ...] = ()

    def command(self) -> str:
        """Return the command that writes a report of the same counts.

        Raises
        ------
        RecipeError
            If a layer lies in no file, or several files need choices of their own.
        """
        words = [PROGRAM, "codebook", *self._paths(), "--model", self.model, *self._choices(), "--report", REPORT]
        return join_commands([words])

    def python(self, *, is_continuous: bool) -> str:
        """Return the Python program that counts the same; errors as `command`.

        Parameters
        ----------
        is_continuous : bool
            Channels of an ``ldm`` instead of codes.
        """
        choices = self._one_choice()
        chosen = "".join(f", {name}={value!r}" for name, value in choices.items())
        module, name = ("inside.channels", "channel_report") if is_continuous else ("codebook", "codebook_usage")
        files = f"list_volumes({str(self.folder)!r})" if self.folder is not None else repr(self._paths())
        shown = "kl_nats" if is_continuous else "to_dict()"
        return "\n".join(
            (
                "from napari_vqldm import load, read_volume",
                *(("from napari_vqldm.files import list_volumes",) if self.folder is not None else ()),
                f"from napari_vqldm.{module} import {name}",
                "",
                f"model = load({self.model!r})",
                f"found = {name}(model, {files}, read=lambda path: read_volume(path{chosen}))",
                f"print(found.{shown})",
                "",
            )
        )

    def _paths(self) -> list[str]:
        if self.folder is not None:
            return [str(self.folder)]
        if not self.files or any(file is None or file.box is not None for file in self.files):
            raise RecipeError(NO_FILE)
        return [file.path for file in self.files if file is not None]

    def _choices(self) -> list[str]:
        """Options that choose a volume in each file."""
        words: list[str] = []
        for name, value in self._one_choice().items():
            option = "--voxel-size" if name == "voxel_size_um" else f"--{name}"
            words += [option, *(map(repr, value) if isinstance(value, tuple) else (str(value),))]
        return words

    def _one_choice(self) -> dict[str, Any]:
        """Return the choices that all files share, as `read_volume` takes them."""
        found = [(f.channel, f.time, f.voxel_size_um) for f in self.files if f is not None]
        if len(set(found)) > 1:
            raise RecipeError("the files need different channels, time points or voxel sizes: count them one by one")
        names = ("channel", "time", "voxel_size_um")
        return {name: value for one in found[:1] for name, value in zip(names, one, strict=True) if value is not None}


def save_usage_csv(path: str | Path, found: Found, *, force: bool = False) -> None:
    """Write one line for every code; `FileError` if the file exists and ``force`` is not set."""
    from napari_vqldm.report.codebook_page import usage_csv

    _write(path, usage_csv(found.usage).encode(), force)


def save_channels_csv(path: str | Path, channels: Channels, *, force: bool = False) -> None:
    """Write one line for every channel; errors as `save_usage_csv`."""
    from napari_vqldm.report.codebook_page import channels_csv

    _write(path, channels_csv(channels.report).encode(), force)


def save_png(path: str | Path, found: Found, atoms: Sequence[Atom], *, force: bool = False) -> None:
    """Write a picture of how the codes are used, and below it the atoms, if any; errors as `save_usage_csv`."""
    import numpy as np

    from napari_vqldm.pictures import png_bytes
    from napari_vqldm.report.codebook_page import atom_sheet, usage_picture

    parts = [usage_picture(found.usage), *([atom_sheet(atoms, MEASURED)] if atoms else [])]
    width = max(part.shape[1] for part in parts)
    sheets = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=part[0, -1]) for part in parts]
    _write(path, png_bytes(np.concatenate(sheets)), force)


def _write(path: str | Path, data: bytes, force: bool) -> None:
    from napari_vqldm.files import atomic_path

    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)
