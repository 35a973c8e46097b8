"""`crop`: a box of a volume, or one channel and time point of a file with several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.inputs import read_input
from napari_vqldm.cli.targets import make_folder, stem_of, volume_targets

HERE = Path()


def crop(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A volume.")],
    out: opt.Out = HERE,
    box: opt.Crop = None,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write a part of a volume, bit for bit, with its voxel size and record; without --crop the chosen whole."""
    reporter = Reporter(as_json)
    limits = opt.parse_box(box)
    volume = read_input(source, limits, channel=channel, time=time, voxel_size_um=voxel_size)
    (target,) = volume_targets(out, [f"{stem_of(source)}-crop"], force=force)
    from napari_vqldm.files import write_volume

    make_folder(target.parent)
    write_volume(target, volume, force=force)
    reporter.line(f"{target}: {volume.shape} voxels of {volume.voxel_size_um} um")
    reporter.result(
        {"verb": "crop", "file": target, "shape": volume.shape, "voxel_size_um": volume.voxel_size_um, "box": limits}
    )
