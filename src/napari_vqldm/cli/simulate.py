"""`simulate`: microtubule volumes with exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter, to_json_text
from napari_vqldm.cli.targets import check_targets, folder_target, is_volume_name, make_folder
from napari_vqldm.errors import ConfigError

if TYPE_CHECKING:
    from napari_vqldm.config import SimulationConfig
    from napari_vqldm.simulation import SimulatedVolume

DEFAULT_OUT = Path("simulated")


def simulate(
    out: opt.Out = DEFAULT_OUT,
    count: opt.Count = 1,
    seed: opt.Seed = 0,
    start: opt.Start = 0,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="TIER|FILE.toml",
            help="Distribution of scenes; by default the tier standard.",
            rich_help_panel=opt.SAMPLING,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="spindle or interphase: tuned on real images; or a tier: sparse, standard, hard. Instead of --config; "
            "the options below win over it.",
            rich_help_panel=opt.SAMPLING,
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            "--density", help="Length of filament per volume, um/um3, instead of a range.", rich_help_panel=opt.SAMPLING
        ),
    ] = None,
    shape: opt.Shape = None,
    voxel_size: opt.VoxelSize = None,
    photons: opt.Photons = None,
    background: opt.Background = None,
    read_noise: opt.ReadNoise = None,
    offset: opt.Offset = None,
    blur: opt.Blur = None,
    part: Annotated[
        Literal["clean", "noisy"] | None,
        typer.Option(
            "--part", help="Write this image of one volume alone, to the file --out.", rich_help_panel=opt.OUTPUT
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write instance labels (OME-TIFF, int32), too.", rich_help_panel=opt.OUTPUT)
    ] = False,
    swc: Annotated[
        bool, typer.Option("--swc", help="Write centre lines as SWC (x y z, um), too.", rich_help_panel=opt.OUTPUT)
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write centre lines as CSV (um), too.", rich_help_panel=opt.OUTPUT)
    ] = False,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Simulate microtubules: per volume a clean and a noisy OME-TIFF, and centre lines and parameters as JSON.

    The noisy volume is in filament units (1 = peak of one filament), with photons and background drawn per volume.
    With a camera option it is in camera gray values of that camera. Labels and centre lines number filaments alike.
    """
    reporter = Reporter(as_json)
    camera = opt.camera_of(photons, background, read_noise, offset, blur)
    distribution = _configuration(config, preset, density, shape, voxel_size)
    target = None if part is None else _single_target(out, count, labels or swc or csv, force)
    folder = Path() if part is not None else folder_target(out)
    stems = [f"simulated-seed{seed}-{index:03d}" for index in range(start, start + count)]

    from napari_vqldm.simulation import simulate_steps

    steps = simulate_steps(count, seed, distribution, camera, True, start, opt.pick_device(device))
    if part is not None and target is not None:
        _write_part(next(iter(reporter.track(steps, "simulating"))).result, part, target, force, reporter)
        return
    chosen = [name for name, wanted in (("labels", labels), ("swc", swc), ("csv", csv)) if wanted]
    endings = (*ENDINGS, *(EXTRA_ENDINGS[name] for name in chosen))
    check_targets([folder / f"{stem}{ending}" for stem in stems for ending in endings], force=force)
    volumes = []
    for step, stem in zip(reporter.track(steps, "simulating"), stems, strict=True):
        volumes.append(
            _write(step.result, folder / stem, force) | _write_truth(step.result, folder / stem, chosen, force)
        )
    reporter.table(
        "",
        ("file", "organisation", "length density um/um3", "persistence length um", "voxel size um"),
        [
            (
                v["clean"],
                p["organisation"],
                p["length_density_um_per_um3"],
                p["persistence_length_um"],
                p["voxel_size_um"],
            )
            for v in volumes
            for p in [v["parameters"]]
        ],
    )
    reporter.result(
        {
            "verb": "simulate",
            "seed": seed,
            "volumes": volumes,
            "unit": "peak of one filament"
            if camera is None
            else "clean: peak of one filament; noisy: camera gray values",
        }
    )


ENDINGS = ("-clean.ome.tif", "-noisy.ome.tif", "-truth.json")
EXTRA_ENDINGS = {"labels": "-labels.ome.tif", "swc": "-lines.swc", "csv": "-lines.csv"}


def _single_target(out: Path, count: int, wants_truth: bool, force: bool) -> Path:
    """Return the file of one image; refuse what does not go into it."""
    if count != 1 or wants_truth or not is_volume_name(out):
        raise ConfigError(
            "--part writes one image of one volume: leave out --count, --labels, --swc and --csv, and give --out FILE "
            "that ends in .ome.tif or .zarr"
        )
    return check_targets([out], force=force)[0]


def _write_part(result: SimulatedVolume, part: str, target: Path, force: bool, reporter: Reporter) -> None:
    """Write one image and say so."""
    from napari_vqldm.files import write_volume

    volume = result.noisy if part == "noisy" and result.noisy is not None else result.clean
    make_folder(target.parent)
    write_volume(target, volume, force=force)
    parameters = result.parameters.to_dict()
    reporter.line(f"{target}: {part}, {volume.shape} voxels of {volume.voxel_size_um} um")
    reporter.result({"verb": "simulate", "part": part, "file": target, "parameters": parameters})


def _write(result: SimulatedVolume, stem: Path, force: bool) -> dict[str, Any]:
    """Write one simulated volume; return the files and parameters for the report."""
    from napari_vqldm.files import atomic_path, write_volume

    make_folder(stem.parent)
    clean, noisy, truth = (stem.with_name(stem.name + ending) for ending in ENDINGS)
    write_volume(clean, result.clean, force=force)
    if result.noisy is not None:
        write_volume(noisy, result.noisy, force=force)
    parameters = result.parameters.to_dict()
    lines = [line.round(5) for line in result.centre_lines]  # 10 pm: far below any meaning, a third of the file
    content = {"parameters": parameters, "centre_lines_um_zyx": lines, "instances": result.instances}
    with atomic_path(truth, force) as temporary:
        temporary.write_text(to_json_text(content, indent=None))
    return {"clean": clean, "noisy": noisy, "truth": truth, "shape": result.clean.shape, "parameters": parameters}


def _write_truth(result: SimulatedVolume, stem: Path, chosen: Sequence[str], force: bool) -> dict[str, Path]:
    """Write the chosen of labels, SWC and CSV; return their files by name."""
    from napari_vqldm.files import write_centre_lines, write_labels

    files = {name: stem.with_name(stem.name + EXTRA_ENDINGS[name]) for name in chosen}
    for name, path in files.items():
        if name == "labels":
            write_labels(path, result.labels, replace(result.clean, name=f"{stem.name}-labels"), force=force)
        else:
            write_centre_lines(path, result.centre_lines, result.instances, force=force)
    return files


def _configuration(
    config: str | None,
    preset_name: str | None,
    density: float | None,
    shape: tuple[int, int, int] | None,
    voxel_size: tuple[float, float, float] | None,
) -> SimulationConfig:
    """Read a tier, preset or TOML file and replace density, shape and voxel size where they were given."""
    from napari_vqldm.config import SimulationConfig, read_toml, validate
    from napari_vqldm.simulate import preset, tier

    if config is not None and preset_name is not None:
        raise ConfigError(f"expected --config or --preset, got both ({config} and {preset_name}): leave one out")
    name = preset_name or config or "standard"
    if preset_name is not None:
        values = preset(preset_name).model_dump()
    else:
        values = read_toml(Path(name)) if name.endswith(".toml") else tier(name).model_dump()
    if density is not None:
        values["length_density_um_per_um3"] = (density, density)
    if shape is not None:
        values["shape"] = shape
    if voxel_size is not None:
        values |= {"voxel_size_um": voxel_size, "voxel_size_jitter": 0.0}
    return validate(SimulationConfig, values, name)
