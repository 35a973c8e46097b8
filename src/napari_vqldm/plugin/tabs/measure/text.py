"""The same measurements outside napari: a Python program, or one command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_vqldm.errors import RecipeError
from napari_vqldm.recipe import join_commands

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.measure.volumes_box import Result
    from napari_vqldm.recipe import FileInput

FOLDER = "measured"  # of the tables that the command writes


def measure_script(results: Sequence[Result]) -> str:
    """Return the program that measures the same volumes, and compares group A with group B where both have some.

    Parameters
    ----------
    results : sequence of Result
        Measured layers.

    Raises
    ------
    RecipeError
        If nothing was measured, or a layer lies in no file.
    """
    a, b = _groups(results)
    lines = ["import napari_vqldm as nv", "", *_list("a", a)]
    if b:
        lines += [*_list("b", b), "for row in nv.compare_measurements(a, b).rows:", "    print(row.sentence)"]
    else:
        lines += ["for found in a:", "    print(found.name, found.numbers())"]
    return "\n".join(lines) + "\n"


def measure_command(results: Sequence[Result]) -> str:
    """Return the command that does the same and writes tables and centre lines; parameters as `measure_script`.

    Raises
    ------
    RecipeError
        Also if the files need different choices: a command has one channel, time point and voxel size for all.
    """
    a, b = _groups(results)
    choices = {(file.channel, file.time, file.voxel_size_um) for file in (*a, *b)}
    if len(choices) > 1:
        raise RecipeError(
            "the files differ in channel, time point or stated voxel size, and a command has one for all: copy the "
            "Python program instead"
        )
    ((channel, time, size),) = choices
    words = ["napari-vqldm", "measure", *(file.path for file in a)]
    words += [word for file in b for word in ("--against", file.path)]
    words += [] if channel is None else ["--channel", str(channel)]
    words += [] if time is None else ["--time", str(time)]
    words += [] if size is None else ["--voxel-size", *map(repr, size)]
    return join_commands([[*words, "--swc", "--out", FOLDER]])


def _groups(results: Sequence[Result]) -> tuple[list[FileInput], list[FileInput]]:
    """Files of group A and group B; all as group A where they are not compared."""
    a, b = ([result for result in results if result.group == group] for group in "AB")
    if not (a and b):
        a, b = list(results), []
    if not a:
        raise RecipeError("nothing is measured yet: measure a layer first")
    return _files(a), _files(b)


def _files(results: Sequence[Result]) -> list[FileInput]:
    files = []
    for result in results:
        if result.file is None:
            raise RecipeError(
                f"{result.found.name!r} lies in no file as it was measured: save the layer, open the file, and measure "
                "that"
            )
        files.append(result.file)
    return files


def _list(name: str, files: Sequence[FileInput]) -> list[str]:
    """Lines that measure files into a list."""
    lines = [f"{name} = ["]
    for file in files:
        choices = {"channel": file.channel, "time": file.time, "voxel_size_um": file.voxel_size_um}
        words = [repr(file.path), *(f"{key}={value!r}" for key, value in choices.items() if value is not None)]
        lines.append(f"    nv.measure(nv.read_volume({', '.join(words)})),")
    return [*lines, "]"]
