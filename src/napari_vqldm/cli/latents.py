"""`encode` and `decode`: a stack to its latent file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.inputs import read_input
from napari_vqldm.cli.targets import file_target, make_folder, stem_of, volume_targets

HERE = Path()


def encode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A volume.")],
    model: opt.Model,
    out: opt.Out = HERE,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    crop: opt.Crop = None,
    intensity: opt.Intensity = None,
    max_voxels: opt.MaxVoxels = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Encode a volume: one small file that `decode` turns back into exactly what `reconstruct` gives."""
    reporter = Reporter(as_json)
    from napari_vqldm.cli.models import load_model, model_stem

    box, coding = opt.parse_box(crop), opt.coding_of(intensity, max_voxels)
    volume = read_input(file, box, channel=channel, time=time, voxel_size_um=voxel_size)
    target = file_target(out, f"{stem_of(file)}-{model_stem(model)}", ".safetensors", force=force)
    loaded = load_model(model, device, reporter)

    from napari_vqldm.reconstruct import encode_steps

    rest, most = opt.split_coding(coding)
    steps = reporter.track_tiles(lambda n: encode_steps(loaded, volume, **rest, max_voxels=n), most, "encoding")
    for step in steps:
        if step.latent is not None:
            latent = step.latent
            make_folder(target.parent)
            latent.save(target, force=force)
    size, voxels = target.stat().st_size, volume.data.size
    content = "code indices" if latent.codes is not None else "standardized latent"
    reporter.line(
        f"{target}: {content} on a grid of {latent.grid}, {size} bytes for {voxels} voxels "
        f"({8 * size / voxels:.3g} bits per voxel)"
    )
    reporter.result(
        {
            "verb": "encode",
            "file": target,
            "bytes": size,
            "bits_per_voxel": 8 * size / voxels,
            "model": loaded.name,
            "family": latent.family,
            "grid": latent.grid,
            "coded_shape": latent.coded_shape,
            "coded_voxel_size_um": latent.coded_voxel_size_um,
            "num_ties": latent.num_ties,
            "background": latent.intensity.background,
            "scale": latent.intensity.scale,
        }
    )


def decode(
    file: Annotated[Path, typer.Argument(metavar="LATENT", help="A file written by `encode`.")],
    model: opt.Model,
    out: opt.Out = HERE,
    max_voxels: opt.MaxVoxels = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Decode a latent file onto the grid and into the units of the volume that was encoded."""
    reporter = Reporter(as_json)
    from napari_vqldm.cli.models import load_model
    from napari_vqldm.files import write_volume
    from napari_vqldm.reconstruct import Latent, decode_steps

    latent = Latent.load(file)
    (target,) = volume_targets(out, [f"{stem_of(file)}-decoded"], force=force)
    loaded = load_model(model, device, reporter)
    _, most = opt.split_coding(opt.coding_of(None, max_voxels))
    steps = reporter.track_tiles(lambda n: decode_steps(loaded, latent, max_voxels=n), most, "decoding")
    for step in steps:
        if step.volume is not None:
            make_folder(target.parent)
            write_volume(target, step.volume, force=force)
    reporter.line(f"{target}: {latent.shape} voxels of {latent.voxel_size_um} um")
    reporter.result(
        {
            "verb": "decode",
            "file": target,
            "shape": latent.shape,
            "voxel_size_um": latent.voxel_size_um,
            "model": loaded.name,
        }
    )
