"""Scripts and commands for a way: from its records, or from the request before anything ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_vqldm.card import Header
from napari_vqldm.errors import RecipeError
from napari_vqldm.files.provenance import make_provenance
from napari_vqldm.recipe import FileInput, command_words, join_commands, python_script

_MARK = 0.123456789  # a t that no slider gives: it stands where the frames go


def seeds_record(header: Header, request: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Return the record that a frame between two seeds will have, as far as it can be told before.

    Parameters
    ----------
    header : Header
        Of the model.
    request : mapping
        Keyword arguments of `napari_vqldm.interpolate`.
    precision : str
        Of the model.
    """
    diffusion = header.config.diffusion
    defaults = {
        "steps": diffusion.steps,
        "sampler": diffusion.sampler,
        "guidance_scale": diffusion.guidance_scale,
    }
    sampling: dict[str, Any] = {
        name: default if request[name] is None else request[name] for name, default in defaults.items()
    }
    return make_provenance(
        "interpolate",
        model=header.card.name,
        family=header.card.family,
        weights_sha256=header.card.weights_sha256,
        t=request["t"],
        kind=request["kind"],
        snap=request["snap"],
        seeds=[request["a"], request["b"]],
        condition=request["condition"],
        camera=None,
        precision=precision,
        **sampling,
    )


def frames_script(
    record: Mapping[str, Any],
    ts: Sequence[float],
    stem: str,
    files: Mapping[str, FileInput],
    models: Mapping[str, str],
) -> str:
    """Return the script that computes all frames of a way and writes each to a file.

    Parameters
    ----------
    record : mapping
        Of one frame.
    ts : sequence of float
        Frames.
    stem : str
        Files are called ``STEM-000.ome.tif`` and so on.
    files, models : mapping
        See `napari_vqldm.recipe.python_script`.

    Raises
    ------
    RecipeError
        If the record cannot be turned into a script.
    """
    script = _replaced(python_script(_at(record, _MARK), files=files, models=models), f"t={_MARK!r}", f"t={list(ts)!r}")
    loop = f'for index, frame in enumerate(volume):\n    nv.write_volume(f"{stem}-{{index:03d}}.ome.tif", frame)\n'
    return f"{script.rstrip()}\n{loop}"


def frames_command(
    record: Mapping[str, Any], num: int, stem: str, files: Mapping[str, FileInput], models: Mapping[str, str]
) -> str:
    """Return the commands that compute evenly spaced frames of a way into a folder; errors as `frames_script`."""
    *before, last = command_words(_at(record, _MARK), files=files, models=models, out=f"{stem}.ome.tif")
    place = last.index("--t")
    return join_commands([*before, [*last[:place], "--frames", str(num), *last[place + 2 : -1], stem]])


def _at(record: Mapping[str, Any], t: float) -> dict[str, Any]:
    return {**record, "request": {**record["request"], "t": t}}


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise RecipeError("this way cannot be written as one script: copy its frames one by one")
    return text.replace(old, new)
