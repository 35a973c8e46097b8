"""Options that several verbs share, written once: names, units and help do not drift apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_vqldm.errors import ConditionError, ConfigError

if TYPE_CHECKING:
    from napari_vqldm.config import CameraConfig

MAX_COUNT = 1_000_000  # volumes of one request: each has a name that is checked before the work
INPUT, MODEL, SAMPLING, CAMERA, OUTPUT = "Input", "Model", "Sampling", "Camera after sampling", "Output"

# --- types of the verbs' parameters -----------------------------------------------------------------------------------

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="NAME|FILE", help="ldm, vq-ldm or a .safetensors checkpoint.", rich_help_panel=MODEL
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:1, ... (auto: the GPU where there is one).", rich_help_panel=MODEL
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="File or folder to write; folders are made.", rich_help_panel=OUTPUT)
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.", rich_help_panel=OUTPUT)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout; messages stay on stderr.", rich_help_panel=OUTPUT),
]
VoxelSize = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        "--voxel-size",
        metavar="Z Y X",
        help="Voxel size in micrometres, where the file has none or a wrong one.",
        rich_help_panel=INPUT,
    ),
]
Channel = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="INDEX|NAME",
        help="Channel of a file with several: its name, else its index (from 0).",
        rich_help_panel=INPUT,
    ),
]
Time = Annotated[
    int | None,
    typer.Option("--time", metavar="INDEX", help="Time point of a file with several (from 0).", rich_help_panel=INPUT),
]
Crop = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="Z0:Z1,Y0:Y1,X0:X1",
        help="Take this box alone, in voxels from 0, the ends not included.",
        rich_help_panel=INPUT,
    ),
]
Intensity = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--intensity",
        metavar="BACKGROUND SCALE",
        help="Intensity of empty space, and how much one filament peaks above it; by default estimated.",
        rich_help_panel=INPUT,
    ),
]
MaxVoxels = Annotated[
    int | None,
    typer.Option(
        "--max-voxels",
        min=1,
        help="Voxels that go through the network at once: fewer take less memory; by default 2097152.",
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option("--precision", help="bf16 is faster on some devices and less exact.", rich_help_panel=MODEL),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        help="Volumes at once; by default 1 on the CPU, 8 on a GPU. The last bits depend on it.",
        rich_help_panel=SAMPLING,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Volume i of a seed is always the same.", rich_help_panel=SAMPLING)
]
Count = Annotated[
    int, typer.Option("--count", "-n", min=1, max=MAX_COUNT, help="How many volumes.", rich_help_panel=SAMPLING)
]
Start = Annotated[
    int, typer.Option("--start", min=0, help="Index of the first volume of the seed.", rich_help_panel=SAMPLING)
]
Shape = Annotated[
    tuple[int, int, int] | None,
    typer.Option(
        "--shape", metavar="Z Y X", help="Voxels per axis; by default the trained window.", rich_help_panel=SAMPLING
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Sampling steps; by default the checkpoint's.", rich_help_panel=SAMPLING),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        rich_help_panel=SAMPLING,
        help="euler, heun, dpmpp_2m or dpmpp_2m_sde for flow models, ddim, ddpm or dpmpp_2m for epsilon and v; by "
        "default the checkpoint's.",
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", min=0.0, help="1 is none; by default the checkpoint's.", rich_help_panel=SAMPLING),
]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        rich_help_panel=SAMPLING,
        help="Fix what is otherwise drawn per volume, e.g. length_density_um_per_um3=0.3 or organisation=aster; "
        "repeatable. `info MODEL` lists the names.",
    ),
]
Photons = Annotated[
    float | None,
    typer.Option("--photons", help="Expected photons at the peak of one filament.", rich_help_panel=CAMERA),
]
Background = Annotated[
    float | None, typer.Option("--background", help="Constant background, in filament peaks.", rich_help_panel=CAMERA)
]
ReadNoise = Annotated[
    float | None, typer.Option("--read-noise", help="Standard deviation, electrons.", rich_help_panel=CAMERA)
]
Offset = Annotated[float | None, typer.Option("--offset", help="Camera offset, gray values.", rich_help_panel=CAMERA)]
Blur = Annotated[
    float | None,
    typer.Option("--blur", help="Extra Gaussian blur before the camera, sigma in um.", rich_help_panel=CAMERA),
]

# --- meaning ----------------------------------------------------------------------------------------------------------


def parse_condition(words: Sequence[str] | None) -> dict[str, float | str]:
    """Return ``NAME=VALUE`` words as a mapping; numbers become floats.

    Raises
    ------
    ConditionError
        If a word has no ``=``, no name or no value, or a name comes twice.
    """
    values: dict[str, float | str] = {}
    for word in words or ():
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (equals and name and text):
            raise ConditionError(
                f"expected --condition NAME=VALUE, got {word!r}: write e.g. --condition organisation=aster"
            )
        if name in values:
            raise ConditionError(f"condition {name!r} was given twice: keep one")
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = text
    return values


def parse_box(text: str | None) -> tuple[tuple[int, int], ...] | None:
    """Return ``z0:z1,y0:y1,x0:x1`` as three (start, stop); None for None.

    Raises
    ------
    ConfigError
        If the text has another form.
    """
    if text is None:
        return None
    parts = [tuple(part.split(":")) for part in text.replace(" ", "").split(",")]
    if len(parts) != 3 or not all(len(ends) == 2 and all(end.isdecimal() for end in ends) for ends in parts):
        raise ConfigError(f"expected --crop Z0:Z1,Y0:Y1,X0:X1 in voxels, such as 0:32,10:138,10:138, got {text!r}")
    return tuple((int(start), int(stop)) for start, stop in parts)


def coding_of(intensity: tuple[float, float] | None, max_voxels: int | None) -> dict[str, Any]:
    """Return how a stack is coded, as keywords of `encode`: those that were given alone."""
    from napari_vqldm.intensity import IntensityScale

    given: dict[str, Any] = {} if max_voxels is None else {"max_voxels": max_voxels}
    return given if intensity is None else {**given, "intensity": IntensityScale(*intensity)}


def split_coding(coding: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return what `coding_of` gave without the voxels at once, and these, or their default."""
    from napari_vqldm.tiles import MAX_VOXELS

    return {name: value for name, value in coding.items() if name != "max_voxels"}, coding.get("max_voxels", MAX_VOXELS)


def camera_of(
    photons: float | None, background: float | None, read_noise: float | None, offset: float | None, blur: float | None
) -> CameraConfig | None:
    """Return the camera that the options describe, or None when none was given: the noise-free expectation."""
    from napari_vqldm.config import CameraConfig, validate

    given = {
        "photons": photons,
        "background": background,
        "read_noise_e": read_noise,
        "offset_adu": offset,
        "blur_um": blur,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return validate(CameraConfig, chosen, "camera options") if chosen else None


def pick_device(name: str) -> str:
    """Return a device that PyTorch can use.

    Raises
    ------
    ConfigError
        If the name is unknown or this machine has no such device.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"expected --device auto, cpu, cuda or cuda:N, got {name!r}") from None
    count = torch.cuda.device_count() if has_cuda else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"--device {name}: this machine has {count} CUDA devices; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise ConfigError(f"--device {name}: not available on this machine; use --device cpu")
    return name
