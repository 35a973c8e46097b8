"""`interpolate`: a path between two volumes or two seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.inputs import read_input
from napari_vqldm.cli.targets import make_folder, stem_of, volume_targets
from napari_vqldm.errors import ConfigError

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.interpolate import InterpolationStep
    from napari_vqldm.reconstruct import Latent

DEFAULT_OUT = Path("interpolated")
PATH = "Path"
MAX_SEED_DIGITS = 200


def interpolate(
    model: opt.Model,
    a: Annotated[
        str, typer.Option("--a", metavar="FILE|SEED", help="Start: volume, latent file or seed.", rich_help_panel=PATH)
    ],
    b: Annotated[str, typer.Option("--b", metavar="FILE|SEED", help="End: of the same sort.", rich_help_panel=PATH)],
    out: opt.Out = DEFAULT_OUT,
    frames: Annotated[
        int,
        typer.Option("--frames", min=2, max=opt.MAX_COUNT, help="Frames, both ends included.", rich_help_panel=PATH),
    ] = 5,
    t: Annotated[
        float | None,
        typer.Option(
            "--t", min=0.0, max=1.0, help="One frame alone, 0 is --a, 1 is --b; no --frames.", rich_help_panel=PATH
        ),
    ] = None,
    kind: Annotated[
        Literal["linear", "slerp"],
        typer.Option("--kind", help="slerp turns the direction and interpolates the norm.", rich_help_panel=PATH),
    ] = "linear",
    no_snap: Annotated[
        bool, typer.Option("--no-snap", help="vq-ldm: leave frames between codes.", rich_help_panel=PATH)
    ] = False,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    condition: opt.Condition = None,
    guidance: opt.Guidance = None,
    precision: opt.Precision = "fp32",
    max_voxels: opt.MaxVoxels = None,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    crop: opt.Crop = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Interpolate between two encoded volumes, or between the initial noise of two seeds."""
    reporter = Reporter(as_json)
    wanted = opt.parse_condition(condition)
    ends = (_seed(a), _seed(b))
    if (ends[0] is None) != (ends[1] is None):
        raise ConfigError(f"--a {a} --b {b}: one is a seed and one a file: give two files, or two seeds")
    from_seeds = ends[0] is not None
    if from_seeds and not all(choice is None for choice in (channel, time, voxel_size, crop, max_voxels)):
        raise ConfigError(
            "--channel, --time, --voxel-size, --crop and --max-voxels are for files: seeds are not read from anywhere, "
            "and frames between them have the size of the model's window"
        )
    is_sampled = steps is not None or sampler is not None or wanted or guidance is not None or precision != "fp32"
    if not from_seeds and is_sampled:
        raise ConfigError(
            "--steps, --sampler, --condition, --guidance and --precision are for seeds: encoded volumes are not sampled"
        )
    ts = [float(place) for place in np.linspace(0.0, 1.0, frames)] if t is None else [t]
    names = (f"seed{a}", f"seed{b}") if from_seeds else (stem_of(Path(a)), stem_of(Path(b)))
    stems = [f"{names[0]}-to-{names[1]}-{index:03d}" for index in range(len(ts))]
    targets = volume_targets(out, stems, force=force)

    from napari_vqldm.cli.models import load_model
    from napari_vqldm.files import write_volume
    from napari_vqldm.interpolate import interpolate_steps

    loaded = load_model(model, device, reporter)
    reading: dict[str, Any] = {"channel": channel, "time": time, "voxel_size_um": voxel_size}
    reading["box"] = opt.parse_box(crop)
    _, most = opt.split_coding(opt.coding_of(None, max_voxels))
    start, end = (
        seed if seed is not None else _latent(Path(word), loaded, reading, most, reporter)
        for seed, word in zip(ends, (a, b), strict=True)
    )
    sampling: dict[str, Any] = {}
    if from_seeds:
        sampling = {"steps": steps, "sampler": sampler, "condition": wanted or None, "guidance_scale": guidance}
        sampling["precision"] = precision
    rows: list[tuple[Path, float]] = []

    def remaining(most: int) -> Iterator[InterpolationStep]:
        """Frames that are not written yet: what ran out of memory starts again with the frame that did not fit."""
        tiles: dict[str, Any] = {} if from_seeds else {"max_voxels": most}
        return interpolate_steps(loaded, start, end, ts[len(rows) :], kind, not no_snap, **tiles, **sampling)

    doing = "interpolating"
    steps_left = reporter.track(remaining(most), doing) if from_seeds else reporter.track_tiles(remaining, most, doing)
    for step in steps_left:
        if step.volume is not None:
            target = targets[len(rows)]
            make_folder(target.parent)
            rows.append((write_volume(target, step.volume, force=force), step.t))
    reporter.table("", ("file", "t"), rows)
    reporter.result(
        {
            "verb": "interpolate",
            "model": loaded.name,
            "a": a,
            "b": b,
            "kind": kind,
            "snap": not no_snap,
            "frames": [{"file": path, "t": place} for path, place in rows],
        }
    )


def _seed(word: str) -> int | None:
    """A plain number is a seed, unless a file has that name."""
    if word.startswith("-") and word[1:].isdecimal() and not Path(word[:MAX_SEED_DIGITS]).exists():
        raise ConfigError(f"expected a seed from 0 to 2**64 - 1, got {word[:MAX_SEED_DIGITS]}")
    if not word.isdecimal():
        return None
    if len(word) > MAX_SEED_DIGITS:  # also longer than a file name may be
        raise ConfigError(f"expected a seed from 0 to 2**64 - 1, got a number of {len(word)} digits")
    return None if Path(word).exists() else int(word)


def _latent(path: Path, model: Model, reading: dict[str, Any], most: int, reporter: Reporter) -> Latent:
    """Load a latent file, or read and encode a volume, ``most`` voxels at once."""
    from napari_vqldm.reconstruct import Latent, encode_steps

    if path.suffix.lower() == ".safetensors":
        return Latent.load(path)
    volume = read_input(path, **reading)
    steps = reporter.track_tiles(lambda n: encode_steps(model, volume, max_voxels=n), most, f"encoding {path.name}")
    return next(s.latent for s in steps if s.latent is not None)
