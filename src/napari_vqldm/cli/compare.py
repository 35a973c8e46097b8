"""`compare`: a reconstruction beside its input, in numbers and as a residual."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, stem_of, volume_targets

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison


def compare(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="The volume that was reconstructed.")],
    reconstruction: Annotated[Path, typer.Argument(metavar="RECONSTRUCTION", help="On the same grid, in its units.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write the residual, input minus reconstruction, here.", rich_help_panel=opt.OUTPUT
        ),
    ] = None,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Compare a reconstruction with its input: PSNR, SSIM, correlation, and the PSNR that noise allows.

    --channel, --time and --voxel-size are for INPUT.
    """
    reporter = Reporter(as_json)
    from napari_vqldm.files import read_volume, write_volume

    volume = read_volume(source, channel=channel, time=time, voxel_size_um=voxel_size)
    other = read_volume(reconstruction)
    target = None if out is None else volume_targets(out, [f"{stem_of(source)}-residual"], force=force)[0]

    from napari_vqldm.compare import compare as compare_volumes
    from napari_vqldm.compare import residual

    found = compare_volumes(volume, other)
    if target is not None:
        difference = residual(volume, other)
        make_folder(target.parent)
        write_volume(target, difference, force=force)
    reporter.table(f"{reconstruction} against {source}", ("", ""), _rows(found))
    for name, reason in found.missing.items():
        reporter.line(f"{name}: not told: {reason}")
    if target is not None:
        reporter.line(f"residual: {target}")
    reporter.result(
        {
            "verb": "compare",
            "file": source,
            "reconstruction": reconstruction,
            "residual": target,
            "shape": volume.shape,
            "voxel_size_um": volume.voxel_size_um,
            **found.to_dict(),
        }
    )


def _rows(found: Comparison) -> list[tuple[str, str]]:
    return [
        ("PSNR", _decibel(found.psnr_db)),
        ("PSNR that the noise of the input allows", _decibel(found.noise_ceiling_db)),
        ("PSNR per plane, lowest", _decibel(None if found.psnr_per_z_db is None else float(found.psnr_per_z_db.min()))),
        ("SSIM", "-" if found.ssim is None else f"{found.ssim:.4f}"),
        ("correlation", f"{found.pearson:.4f}"),
        ("mean absolute error", f"{found.mean_absolute_error:.4g}"),
        ("noise of the input (sd)", f"{found.noise.mean_sd:.4g}" if found.noise.is_measurable else "-"),
    ]


def _decibel(value: float | None) -> str:
    if value is None:
        return "-"
    return "identical" if value == float("inf") else f"{value:.2f} dB"
