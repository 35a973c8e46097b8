"""`reconstruct`: real stacks through the autoencoder of a model, one file or a folder of them."""

from __future__ import annotations

import json
import time as clock
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter, to_json_text
from napari_vqldm.cli.inputs import read_input
from napari_vqldm.cli.targets import check_folder, folder_target, is_volume_name, make_folder, stem_of, volume_targets
from napari_vqldm.errors import FileError, VqldmError
from napari_vqldm.memory import is_out_of_memory

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model

VERB = "reconstruct"
OUTPUT_VERBS = (VERB, "decode")  # in the record of a file: what is not reconstructed again
DEFAULT_OUT = Path("reconstructed")


def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A volume, or a folder of volumes.")],
    model: opt.Model,
    out: opt.Out = DEFAULT_OUT,
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
    """Reconstruct volumes: same grid, units and voxel size as the input.

    A folder is worked through to its end: unreadable files are reported, existing outputs are skipped without --force.
    What is reported is also written to report-MODEL.json beside the outputs. Outputs inside the folder are no inputs.
    """
    reporter = Reporter(as_json)
    reading: dict[str, Any] = {"channel": channel, "time": time, "voxel_size_um": voxel_size}
    reading["box"] = opt.parse_box(crop)
    coding = opt.coding_of(intensity, max_voxels)
    from napari_vqldm.cli.models import load_model, model_stem
    from napari_vqldm.files import list_volumes
    from napari_vqldm.files.atomic import is_zarr_folder

    if source.is_dir() and not is_zarr_folder(source):
        files = list_volumes(source)
        folder = folder_target(out)
        check_folder(folder)
        listed = len(files)
        inside = folder.is_dir() and source.samefile(folder)  # also under another spelling
        if inside:
            files = [path for path in files if not _is_output(path)]
        targets = [folder / f"{stem}-{model_stem(model)}.ome.tif" for stem in _stems(files)]
        if inside:
            files, targets = _without_targets(files, targets, reporter)
            _say_left_out(source, listed - len(files), listed, reporter)
        record = folder / f"report-{model_stem(model)}.json"
        before = earlier_report(record, force)
        report = _batch(files, targets, load_model(model, device, reporter), reading, coding, force, reporter)
        _write_report(record, report, before)
        _show_batch(report, reporter)
        reporter.note(f"report: {record}")
        if any(entry["status"] == "failed" for entry in report):
            raise typer.Exit(2)
        return
    read_input(source, **reading)  # before torch and the model are loaded: a wrong file is answered at once
    (target,) = volume_targets(out, [f"{stem_of(source)}-{model_stem(model)}"], force=force)
    entry = reconstruct_file(load_model(model, device, reporter), source, target, reading, coding, force, reporter)
    _show_one(entry, reporter)


def reconstruct_file(
    model: Model,
    source: Path,
    target: Path,
    reading: dict[str, Any],
    coding: dict[str, Any],
    force: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    """Reconstruct one file and return what is to be said about it.

    Raises
    ------
    VqldmError
        If the file cannot be read, reconstructed or written.
    """
    from napari_vqldm.cli.baselines import compare_to_input
    from napari_vqldm.files import write_volume
    from napari_vqldm.reconstruct import TIE_MARGIN, decode_steps, encode_steps

    began = clock.perf_counter()
    volume = read_input(source, **reading)
    rest, most = opt.split_coding(coding)
    steps = reporter.track_tiles(
        lambda n: encode_steps(model, volume, **rest, max_voxels=n), most, f"encoding {source.name}"
    )
    latent = next(step.latent for step in steps if step.latent is not None)
    steps = reporter.track_tiles(lambda n: decode_steps(model, latent, max_voxels=n), most, f"decoding {source.name}")
    output = next(step.volume for step in steps if step.volume is not None)
    seconds = clock.perf_counter() - began
    make_folder(target.parent)
    write_volume(target, output, force=force)
    entry: dict[str, Any] = {
        "status": "done",
        "file": source,
        "output": target,
        "model": model.name,
        "family": model.config.family,
        "shape": volume.shape,
        "voxel_size_um": volume.voxel_size_um,
        "coded_shape": latent.coded_shape,
        "coded_voxel_size_um": latent.coded_voxel_size_um,
        "latent_grid": latent.grid,
        "background": latent.intensity.background,
        "scale": latent.intensity.scale,
        "correlation": compare_to_input(
            volume, output, latent.coded_shape, model.space.autoencoder.downsampling_factor
        ),
        "seconds": seconds,
    }
    if model.config.family == "vq-ldm":
        z, y, x = latent.grid
        entry |= {"near_ties": latent.num_ties, "near_tie_margin": TIE_MARGIN, "cells": z * y * x}
    return entry


def _batch(
    files: Sequence[Path],
    targets: Sequence[Path],
    model: Model,
    reading: dict[str, Any],
    coding: dict[str, Any],
    force: bool,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Reconstruct many files; a failure is noted and the next file follows."""
    report: list[dict[str, Any]] = []
    for number, (source, target) in enumerate(zip(files, targets, strict=True), 1):
        if target.exists() and not force:
            report.append({"status": "skipped", "file": source, "output": target, "reason": "output exists (--force)"})
            continue
        reporter.note(f"[{number}/{len(files)}] {source.name}")
        try:
            report.append(reconstruct_file(model, source, target, reading, coding, force, reporter))
        except VqldmError as error:
            report.append({"status": "failed", "file": source, "reason": str(error)})
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            report.append({"status": "failed", "file": source, "reason": "not enough memory"})
    return report


def earlier_report(path: Path, force: bool) -> dict[str, dict[str, Any]]:
    """Return what an earlier run over the folder reported, by name of output; empty where there was none.

    Raises
    ------
    FileError
        If ``path`` exists, is no report of ours and ``force`` is not set.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["verb"] == VERB:
            return {Path(entry["output"]).name: entry for entry in found["files"] if "correlation" in entry}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    if not force:
        raise FileError(f"{path}: exists already and is no report of this program: move it away or pass --force")
    return {}


def _write_report(path: Path, report: Sequence[dict[str, Any]], before: dict[str, dict[str, Any]]) -> None:
    """Write the report of a folder; of skipped files it keeps what was found when their outputs were made."""
    from napari_vqldm.files import atomic_path

    files = [
        {**before.get(entry["output"].name, {}), **entry} if entry["status"] == "skipped" else entry for entry in report
    ]
    make_folder(path.parent)
    with atomic_path(path, True) as temporary:
        text = to_json_text({"verb": VERB, **_counts(report), "files": files})
        temporary.write_text(text + "\n", encoding="utf-8")


def _counts(report: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {status: sum(e["status"] == status for e in report) for status in ("done", "skipped", "failed")}


def _show_one(entry: dict[str, Any], reporter: Reporter) -> None:
    from napari_vqldm.cli.baselines import ROWS

    reporter.result({"verb": VERB, **entry})
    rows: list[tuple[str, object]] = [
        ("output", entry["output"]),
        ("grid (Z, Y, X)", entry["shape"]),
        ("voxel size um (z, y, x)", entry["voxel_size_um"]),
        ("coded on", f"{_words(entry['coded_shape'])} voxels of {_words(entry['coded_voxel_size_um'])} um"),
        ("latent grid", entry["latent_grid"]),
        ("intensity", f"background {entry['background']:.4g}, one filament {entry['scale']:.4g}"),
    ]
    if "near_ties" in entry:
        share = 100 * entry["near_ties"] / entry["cells"]
        rows.append(
            (
                "codes at a near tie",
                f"{entry['near_ties']} of {entry['cells']} ({share:.4f} %), margin below {entry['near_tie_margin']:g}",
            )
        )
    rows.append(("seconds", f"{entry['seconds']:.1f}"))
    reporter.table(f"{entry['file']} with {entry['model']}", ("", ""), rows)
    correlations = entry["correlation"]
    reporter.table(
        "",
        ("row", "correlation to the input", "what it is"),
        [(name, f"{correlations[name]:.4f}", text) for name, text in ROWS.items()],
    )


def _show_batch(report: Sequence[dict[str, Any]], reporter: Reporter) -> None:
    rows = []
    for entry in report:
        found = entry.get("correlation", {})
        numbers = [f"{found[name]:.4f}" if name in found else None for name in COLUMNS]
        rows.append((entry["file"].name, entry["status"], *numbers, entry.get("reason", entry.get("output"))))
    counts = _counts(report)
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    reporter.table(f"{summary}; correlation to the input", ("file", "status", *COLUMNS, "output or reason"), rows)
    if reporter.as_json and counts["failed"]:
        reporter.note(summary)
    reporter.result({"verb": VERB, **counts, "files": list(report)})


COLUMNS = ("reconstruction", "identity-resample", "gaussian", "pooled")


def _stems(files: Sequence[Path]) -> list[str]:
    """Names for outputs; files that differ in their ending alone keep it."""
    stems = [stem_of(path) for path in files]
    often = Counter(stems)
    return [path.name if often[stem] > 1 else stem for path, stem in zip(files, stems, strict=True)]


def _is_output(path: Path) -> bool:
    """Tell from its record whether a file came out of `reconstruct` or `decode`; names are the user's to change."""
    from napari_vqldm.files import open_stack

    if not is_volume_name(path):
        return False
    try:
        return open_stack(path).provenance.get("verb") in OUTPUT_VERBS
    except VqldmError:
        return False  # the report will say what is wrong with it


def _without_targets(
    files: Sequence[Path], targets: Sequence[Path], reporter: Reporter
) -> tuple[list[Path], list[Path]]:
    """Leave out files that this run would write, and name them: outputs that lost their record in another program."""
    names = {target.name for target in targets}
    for path in files:
        if path.name in names:
            reporter.note(f"left out for its name, which is that of an output: {path.name}")
    kept = [(path, target) for path, target in zip(files, targets, strict=True) if path.name not in names]
    return [path for path, _ in kept], [target for _, target in kept]


def _say_left_out(source: Path, count: int, listed: int, reporter: Reporter) -> None:
    """Say how many files of the folder are taken for outputs; refuse a folder of nothing else."""
    if count == listed:
        raise FileError(
            f"{source}: holds only outputs of earlier runs: give a folder of stacks, or one file by its name"
        )
    if count:
        reporter.note(f"left out as outputs of earlier runs: {count} of the {listed} volumes in {source}")


def _words(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
