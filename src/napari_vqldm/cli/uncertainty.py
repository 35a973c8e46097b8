"""`uncertainty`: how far a reconstruction moves when noise, or the posterior, is drawn again."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, stem_of, volume_targets

DEFAULT_OUT = Path("uncertainty")
DRAWS = "Draws"


def uncertainty(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A volume.")],
    model: opt.Model,
    out: opt.Out = DEFAULT_OUT,
    draws: Annotated[
        int, typer.Option("--draws", min=2, max=opt.MAX_COUNT, help="How many reconstructions.", rich_help_panel=DRAWS)
    ] = 8,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Draw i of a seed is always the same.", rich_help_panel=DRAWS)
    ] = 0,
    kind: Annotated[
        Literal["noise", "posterior"],
        typer.Option(
            "--kind",
            help="noise: the input with fresh noise of its own level; posterior: what the encoder leaves open (ldm).",
            rich_help_panel=DRAWS,
        ),
    ] = "noise",
    statistic: Annotated[
        Literal["standard_deviation", "mean"],
        typer.Option("--statistic", help="What to write of the draws, voxel by voxel.", rich_help_panel=DRAWS),
    ] = "standard_deviation",
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    intensity: opt.Intensity = None,
    max_voxels: opt.MaxVoxels = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Map the standard deviation of a reconstruction over draws, in the units of the input."""
    reporter = Reporter(as_json)
    reading: dict[str, Any] = {"channel": channel, "time": time, "voxel_size_um": voxel_size}
    from napari_vqldm.cli.models import load_model, model_stem
    from napari_vqldm.files import read_volume, write_volume

    volume = read_volume(source, **reading)  # before torch and the model are loaded: a wrong file is answered at once
    ending = "uncertainty" if statistic == "standard_deviation" else "uncertainty-mean"
    (target,) = volume_targets(out, [f"{stem_of(source)}-{model_stem(model)}-{ending}"], force=force)
    loaded = load_model(model, device, reporter)

    from napari_vqldm.uncertainty import uncertainty_steps

    began = clock.perf_counter()
    rest, most = opt.split_coding(opt.coding_of(intensity, max_voxels))
    tracked = reporter.track_tiles(
        lambda n: uncertainty_steps(loaded, volume, draws, seed, kind, **rest, max_voxels=n),
        most,
        f"drawing {source.name}",
    )
    result = next(step.result for step in tracked if step.result is not None)
    seconds = clock.perf_counter() - began
    shown = result.mean if statistic == "mean" else result.standard_deviation
    make_folder(target.parent)
    write_volume(target, shown, force=force)
    deviation = result.standard_deviation.data
    mean_sd, highest_sd = float(deviation.mean()), float(deviation.max())
    reporter.table(
        f"{source} with {loaded.name}",
        ("", ""),
        [
            ("output", target),
            ("draws", f"{draws} of seed {seed}, {kind}"),
            ("mean standard deviation", f"{mean_sd:.4g}"),
            ("highest standard deviation", f"{highest_sd:.4g}"),
            ("seconds", f"{seconds:.1f}"),
        ],
    )
    reporter.result(
        {
            "verb": "uncertainty",
            "file": source,
            "output": target,
            "model": loaded.name,
            "family": loaded.config.family,
            "draws": draws,
            "seed": seed,
            "kind": kind,
            "statistic": statistic,
            "mean_standard_deviation": mean_sd,
            "highest_standard_deviation": highest_sd,
            "seconds": seconds,
            "provenance": dict(shown.provenance),
        }
    )
