"""`generate`: new volumes from a model."""

from __future__ import annotations

import time
from pathlib import Path

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, volume_targets

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
    photons: opt.Photons = None,
    background: opt.Background = None,
    read_noise: opt.ReadNoise = None,
    offset: opt.Offset = None,
    blur: opt.Blur = None,
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
    stems = [f"{name}-seed{seed}-{index:03d}" for index in range(start, start + count)]
    targets = iter(volume_targets(out, stems, force=force))
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
        start=start,
    )
    written = []
    for step in reporter.track(request, "generating"):
        for volume in step.volumes or ():
            target = next(targets)
            make_folder(target.parent)
            written.append((write_volume(target, volume, force=force), volume))
    seconds = time.perf_counter() - began
    rows = [(path, volume.shape, volume.voxel_size_um, start + i) for i, (path, volume) in enumerate(written)]
    reporter.table("", ("file", "shape", "voxel size um", "index"), rows)
    reporter.line(f"{count} volumes of seed {seed} in {seconds:.1f} s; {_unit(camera is not None)}")
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
                    "index": start + i,
                    "shape": volume.shape,
                    "voxel_size_um": volume.voxel_size_um,
                    "provenance": dict(volume.provenance),
                }
                for i, (path, volume) in enumerate(written)
            ],
        }
    )


def _unit(through_camera: bool) -> str:
    if through_camera:
        return "intensities are camera gray values"
    return "intensities are the noise-free expectation, 1 = peak of one filament"
