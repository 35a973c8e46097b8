"""`record`: photograph a noise-free volume with a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, stem_of, volume_targets

DEFAULT_OUT = Path("recorded")


def record(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A noise-free volume, in peaks of one filament.")],
    out: opt.Out = DEFAULT_OUT,
    photons: opt.Photons = None,
    background: opt.Background = None,
    read_noise: opt.ReadNoise = None,
    offset: opt.Offset = None,
    blur: opt.Blur = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Of the noise; by default that of the generated volume, else 0.",
            rich_help_panel=opt.CAMERA,
        ),
    ] = None,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Record a noise-free volume with a camera: gray values, same grid and voxel size.

    A generated volume gets the same bits as `generate` with these camera options. Volumes that hold noise are refused.
    """
    reporter = Reporter(as_json)
    camera = opt.camera_of(photons, background, read_noise, offset, blur)
    from napari_vqldm.config import CameraConfig
    from napari_vqldm.files import read_volume, write_volume

    volume = read_volume(source, channel=channel, time=time, voxel_size_um=voxel_size)
    (target,) = volume_targets(out, [f"{stem_of(source)}-recorded"], force=force)

    from napari_vqldm.record import record as record_volume

    camera = camera or CameraConfig()
    recorded = record_volume(volume, camera, seed)
    make_folder(target.parent)
    write_volume(target, recorded, force=force)
    reporter.line(f"{target}: gray values of a camera with {camera.photons:g} photons at the peak of one filament")
    reporter.result(
        {
            "verb": "record",
            "file": source,
            "output": target,
            "shape": recorded.shape,
            "voxel_size_um": recorded.voxel_size_um,
            "unit": "camera gray values",
            "provenance": dict(recorded.provenance),
        }
    )
