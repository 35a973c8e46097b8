"""`generate`: new volumes from a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, volume_targets
from napari_vqldm.errors import ConfigError

DEFAULT_OUT = Path("generated")


def generate(
    model: opt.Model,
    out: opt.Out = DEFAULT_OUT,
    count: opt.Count = 1,
    seed: opt.Seed = 0,
    start: opt.Start = 0,
    shape: opt.Shape = None,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    condition: opt.Condition = None,
    guidance: opt.Guidance = None,
    batch: opt.Batch = None,
    only: Annotated[
        int | None,
        typer.Option(
            "--only",
            metavar="INDEX",
            help="Write the volume of this index alone; the others of its batch are computed with it.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    photons: opt.Photons = None,
    background: opt.Background = None,
    read_noise: opt.ReadNoise = None,
    offset: opt.Offset = None,
    blur: opt.Blur = None,
    precision: opt.Precision = "fp32",
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Generate volumes: noise-free, in units of one filament's peak, or through a camera."""
    reporter = Reporter(as_json)
    wanted = opt.parse_condition(condition)
    camera = opt.camera_of(photons, background, read_noise, offset, blur)
    from napari_vqldm.cli.models import load_model, model_stem

    name = model_stem(model)
    indices = range(start, start + count)
    if only is not None and only not in indices:
        raise ConfigError(f"--only {only}: expected an index from {start} to {start + count - 1}, see --start, --count")
    wanted_indices = [index for index in indices if only in (None, index)]
    stems = [f"{name}-seed{seed}-{index:03d}" for index in wanted_indices]
    targets = dict(zip(wanted_indices, volume_targets(out, stems, force=force), strict=True))
    loaded = load_model(model, device, reporter)

    from napari_vqldm.files import write_volume
    from napari_vqldm.generate import generate_steps

    began = time.perf_counter()
    request = generate_steps(
        loaded,
        count=count,
        shape=shape,
        seed=seed,
        steps=steps,
        sampler=sampler,
        condition=wanted or None,
        guidance_scale=guidance,
        camera=camera,
        batch=batch,
        start=start,
        precision=precision,
    )
    written = []
    finished = (volume for step in reporter.track(request, "generating") for volume in step.volumes or ())
    for index, volume in zip(indices, finished, strict=True):
        if index in targets:
            make_folder(targets[index].parent)
            written.append((write_volume(targets[index], volume, force=force), volume, index))
    seconds = time.perf_counter() - began
    rows = [(path, volume.shape, volume.voxel_size_um, index) for path, volume, index in written]
    reporter.table("", ("file", "shape", "voxel size um", "index"), rows)
    reporter.line(f"{len(written)} volumes of seed {seed} in {seconds:.1f} s; {_unit(camera is not None)}")
    reporter.result(
        {
            "verb": "generate",
            "model": loaded.name,
            "seed": seed,
            "seconds": seconds,
            "unit": "camera gray values" if camera is not None else "peak of one filament",
            "volumes": [
                {
                    "file": path,
                    "index": index,
                    "shape": volume.shape,
                    "voxel_size_um": volume.voxel_size_um,
                    "provenance": dict(volume.provenance),
                }
                for path, volume, index in written
            ],
        }
    )


def _unit(through_camera: bool) -> str:
    if through_camera:
        return "intensities are camera gray values"
    return "intensities are the noise-free expectation, 1 = peak of one filament"
