"""`codebook`: which codes of a vq-ldm a set of volumes uses."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import file_target, make_folder

if TYPE_CHECKING:
    from napari_vqldm.codebook import CodebookUsage


def codebook(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Volumes whose codes are counted.")],
    model: opt.Model = "vq-ldm",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV file with the counts of every code.", rich_help_panel=opt.OUTPUT),
    ] = None,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Count codes, perplexity and dead codes, over filament cells and background cells apart."""
    reporter = Reporter(as_json)
    target = None if out is None else file_target(out, "codebook", ".csv", force=force)
    from napari_vqldm.cli.models import load_model
    from napari_vqldm.files import atomic_path, read_volume

    volumes = [read_volume(path, channel=channel, time=time, voxel_size_um=voxel_size) for path in files]
    loaded = load_model(model, device, reporter)

    from napari_vqldm.codebook import codebook_steps

    for step in reporter.track(codebook_steps(loaded, volumes), "counting codes"):
        usage = step.usage
    size = len(usage.filament.counts)
    parts = usage.to_dict()
    reporter.table(
        f"{size} codes, {len(files)} volumes",
        ("cells", "count", "codes used", "dead codes", "perplexity"),
        [(name, p["cells"], p["codes_used"], p["dead_codes"], f"{p['perplexity']:.1f}") for name, p in parts.items()],
    )
    if target is not None:
        make_folder(target.parent)
        with atomic_path(target, force) as temporary:
            temporary.write_text(_counts_as_csv(usage), encoding="utf-8")
        reporter.note(f"counts of every code: {target}")
    reporter.result(
        {
            "verb": "codebook",
            "model": loaded.name,
            "codebook_size": size,
            "files": files,
            **parts,
            "counts_file": target,
        }
    )


def _counts_as_csv(usage: CodebookUsage) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("code", "filament_cells", "background_cells"))
    writer.writerows(enumerate_counts(usage))
    return stream.getvalue()


def enumerate_counts(usage: CodebookUsage) -> list[tuple[int, int, int]]:
    """Return (code, filament cells, background cells) of every code."""
    pairs = zip(usage.filament.counts.tolist(), usage.background.counts.tolist(), strict=True)
    return [(code, filament, background) for code, (filament, background) in enumerate(pairs)]
