"""`info`: what a checkpoint, a volume file or a latent file is. Checkpoints are described without importing torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.errors import ChoiceError

if TYPE_CHECKING:
    from napari_vqldm.config import SimulationConfig
    from napari_vqldm.files.stack import Stack

LATENT_MARK = b'"napari_vqldm_latent"'
HEADER_PEEK_BYTES = 1 << 20  # the metadata of a safetensors file comes first


def info(
    target: Annotated[
        str, typer.Argument(metavar="MODEL|FILE", help="A model name, checkpoint, volume or latent file.")
    ],
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Time the model on this machine instead: a few seconds.")
    ] = False,
    device: opt.Device = "auto",
    as_json: opt.AsJson = False,
) -> None:
    """Describe a model (its card), a volume file or a latent file."""
    reporter = Reporter(as_json)
    path = Path(target)
    if self_test:
        time_model(target, device, reporter)
        return
    if path.suffix.lower() == ".safetensors" and _is_latent(path):
        _show(reporter, describe_latent(path))
    elif path.suffix.lower() == ".safetensors" or not (path.suffix or path.exists()):
        from napari_vqldm.zoo import resolve  # a bare word is a model's name

        _show(reporter, describe_checkpoint(resolve(target)))
    else:
        _show(reporter, describe_volume(path, channel, time, voxel_size))


def time_model(name: str, device: str, reporter: Reporter) -> None:
    """Load a model, time its pieces and print how fast they are.

    Raises
    ------
    CheckpointError
        If ``name`` is neither a model nor a checkpoint.
    """
    from napari_vqldm.cli.models import load_model

    model = load_model(name, device, reporter)
    from napari_vqldm.self_test import self_test_steps

    steps = reporter.track(self_test_steps(model), "timing")
    found = next(step.result for step in steps if step.result is not None)
    for line in found.lines():
        reporter.line(line)
    reporter.result({"kind": "self-test", **found.to_dict()})


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return the card, the configuration in short and the training summary of a checkpoint, without torch."""
    from napari_vqldm.card import read_header

    header = read_header(path)
    card, config, training = header.card, header.config, header.training
    low, high = config.voxel_size_range_um
    condition = config.denoiser.condition if config.denoiser is not None else None
    quantizer = config.autoencoder.quantizer
    return {
        "kind": "checkpoint",
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "format_version": header.format_version,
        **card.model_dump(mode="json"),
        "fully_gated": card.fully_gated,
        "window": config.window,
        "voxel_size_low_um": low,
        "voxel_size_high_um": high,
        "target": config.target,
        "latent_channels": config.autoencoder.latent_channels,
        "downsampling_factor": config.autoencoder.downsampling_factor,
        "codebook_size": quantizer.codebook_size if quantizer is not None else None,
        "generates": config.denoiser is not None,
        "objective": config.diffusion.objective,
        "sampler": config.diffusion.sampler,
        "steps": config.diffusion.steps,
        "conditions": [*condition.names, "organisation"] if condition is not None else [],
        "condition_ranges": _ranges(config.simulation)
        if condition is not None and config.simulation is not None
        else {},
        "training": training.model_dump(mode="json"),
    }


def _ranges(simulation: SimulationConfig) -> dict[str, Any]:
    """Return the trained ranges of the conditions that the card can tell; the PSF width needs the optics' numbers."""
    stretch = 1.0 + simulation.voxel_size_jitter
    z, _, xy = simulation.voxel_size_um
    return {
        "length_density_um_per_um3": simulation.length_density_um_per_um3,
        "persistence_length_um": simulation.persistence_length_um,
        "voxel_size_z_um": (z / stretch, z * stretch),
        "voxel_size_xy_um": (xy / stretch, xy * stretch),
        "organisation": [name for name, weight in simulation.organisation.items() if weight > 0],
    }


def describe_latent(path: Path) -> dict[str, Any]:
    """Return what a latent file holds and where it comes from."""
    from napari_vqldm.files.latents import load_latent

    latent = load_latent(path)
    grid = latent.codes.shape if latent.codes is not None else latent.latent.shape if latent.latent is not None else ()
    return {
        "kind": "latent",
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "family": latent.family,
        "model_name": latent.model_name,
        "weights_sha256": latent.weights_sha256,
        "content": "code indices" if latent.codes is not None else "standardized latent",
        "latent_shape": grid,
        "meta": dict(latent.meta),
    }


def describe_volume(
    path: Path, channel: int | str | None, time: int | None, voxel_size_um: tuple[float, float, float] | None
) -> dict[str, Any]:
    """Return grid, voxel size, intensities and provenance of a volume file.

    Of a file with several volumes, or without a voxel size, what it holds: the other commands ask for the choice.
    """
    import numpy as np

    from napari_vqldm.files import open_stack, read_volume

    try:
        volume = read_volume(path, channel=channel, time=time, voxel_size_um=voxel_size_um)
    except ChoiceError as error:
        needed = str(error).removeprefix(f"{path}: ")
        return _describe_stack(path, open_stack(path), voxel_size_um, needed)
    low, median, high = (float(v) for v in np.percentile(volume.data, (0.1, 50, 99.9)))
    return {
        "kind": "volume",
        "file": str(path),
        "file_bytes": path.stat().st_size if path.is_file() else None,
        "shape": volume.shape,
        "voxel_size_um": volume.voxel_size_um,
        "extent_um": volume.extent_um,
        "minimum": float(volume.data.min()),
        "p0.1": low,
        "median": median,
        "p99.9": high,
        "maximum": float(volume.data.max()),
        "zero_fraction": float((volume.data == 0).mean()),
        "provenance": dict(volume.provenance),
    }


def _describe_stack(path: Path, stack: Stack, given: tuple[float, float, float] | None, needed: str) -> dict[str, Any]:
    """Return what a file says of itself before a volume is chosen, and what the other commands need to know."""
    sizes = dict(zip(stack.axes, stack.shape, strict=True))
    return {
        "kind": "volume",
        "file": str(path),
        "file_bytes": path.stat().st_size if path.is_file() else None,
        "format": stack.format,
        "axes": stack.axes,
        "shape": stack.shape,
        "dtype": stack.dtype.name,
        "channels": sizes.get("C", 1),
        "channel_names": stack.channel_names if any(stack.channel_names) else (),
        "time_points": sizes.get("T", 1),
        "voxel_size_um": given or stack.voxel_size_um,
        "needed": needed,
        "provenance": dict(stack.provenance),
    }


def _show(reporter: Reporter, values: dict[str, Any]) -> None:
    """Print all entries: JSON as they are, otherwise two columns with nested entries spelled out, scores by name."""
    from napari_vqldm.files.provenance import is_series

    reporter.result(values)
    if values["kind"] == "volume" and None in values["voxel_size_um"]:
        known = " ".join("?" if size is None else f"{size:.6g}" for size in values["voxel_size_um"])
        stated = "not stated" if known == "? ? ?" else f"{known}, not stated in full"
        values = values | {"voxel_size_um": f"{stated}: give --voxel-size Z Y X to the other commands"}
    if (record := values.get("provenance")) and is_series(record):
        told = f"{len(record.get('frames', ()))} records, one of each time point: --json shows them"
        values = values | {"provenance": {**record, "frames": told}}
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if key == "scorecard":
            rows += _score_rows(value)
        else:
            rows += _stated({key: value})
    reporter.table("", ("", ""), rows)


def _score_rows(scorecard: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a scorecard: by what they measure, with names and units, then what has another form."""
    from napari_vqldm.report.scorecard import group_scores, read_scores, untold

    rows: list[tuple[str, str]] = []
    for group in group_scores(read_scores(scorecard)):
        rows += [(group.heading, group.note), *((f"  {title}", text) for title, text in group.rows)]
    return rows + _stated({"scorecard": untold(scorecard)})


def _stated(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Flat rows of what is known."""
    return [(name, text) for name, text in _flatten(values) if text != ""]


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += _flatten(value, f"{name}.")
        elif prefix == "training.curve.":
            rows.append((name, f"{len(value)} points, last {value[-1][1]:.4g}" if value else ""))
        else:
            rows.append((name, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return str(value)


def _is_latent(path: Path) -> bool:
    """Tell a latent file from a checkpoint by its metadata; unreadable files are left to the readers' errors."""
    try:
        with path.open("rb") as file:
            return LATENT_MARK in file.read(HEADER_PEEK_BYTES)
    except OSError:
        return False
